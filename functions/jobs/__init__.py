"""The code that runs in SageMaker containers in script mode."""

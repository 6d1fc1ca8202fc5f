"""What runs inside a SageMaker container in script mode: the whole package is its source archive."""

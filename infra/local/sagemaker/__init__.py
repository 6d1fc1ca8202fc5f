"""A SageMaker endpoint for the local stack, because the emulator has none. It runs jobs as processes."""

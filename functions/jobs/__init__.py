"""Runs trainings and evaluations in SageMaker containers in script mode."""

"""Runs trainings and evaluations in SageMaker containers."""

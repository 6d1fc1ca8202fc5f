"""What an operator runs against a deployed stage: ``python -m infra.operations --help``."""

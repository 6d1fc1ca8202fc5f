"""Commands of an operator for a deployed stage: ``python -m infra.operations --help``."""

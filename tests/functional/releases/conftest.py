import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-release", action="store_true", help="store what this release writes")

"""Fixtures of the tests of customers."""

from tests.functional.insights.conftest import create_action

__all__ = ["create_action"]

"""Fixtures of the tests of clusters."""

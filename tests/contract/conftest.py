"""Makes the fixtures of the functional tests' tenants available here."""

from tests.functional.conftest import scoring_model, upstreams

__all__ = ["scoring_model", "upstreams"]

"""What the tenants of the functional tests are made of."""

from tests.functional.conftest import scoring_model, upstreams

__all__ = ["scoring_model", "upstreams"]

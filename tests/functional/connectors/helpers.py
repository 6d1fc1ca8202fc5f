"""Helpers of the tests of connectors."""

from typing import Any

from tests.fixtures.connectors import Lab

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


KEYS: dict[str, Any] = {
    "bucket": "customer",
    "region": "us-east-1",
    "prefix": "in",
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": SECRET,
}


def files_of_a_job(lab: Lab, connector_id: str) -> list[str | None]:
    """Returns what a training on the connector would read."""
    return [file.name for file in lab.dataset(connector_id).files]


def column(name: str, kind: str, minimum: float, maximum: float, quantiles: dict[str, float]) -> dict[str, Any]:
    """Returns what the catalog says of one without nulls and personal data, and with two values."""
    counts = {"nulls": 0, "distinct": 2, "min": minimum, "max": maximum, "quantiles": quantiles}
    found = {"distinct_is_estimate": False, "top_values": [], "personal_data": None, "formats": []}
    return {"name": name, "type": kind, **counts, **found}

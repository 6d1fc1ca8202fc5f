"""The OpenAPI document follows the published contract."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.api import build_api
from shared.http.app import describe
from shared.propensity.architectures.registry import ARCHITECTURES

# The variable selects another folder with a newer contract.
CONTRACT = Path(os.environ.get("CONTRACT_FOLDER", Path(__file__).parent / "published"))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return describe(build_api())


def published_operations() -> list[tuple[str, str]]:
    contract = yaml.safe_load((CONTRACT / "contract.yaml").read_text())
    return [(group, entry["op"]) for group, entries in contract["operations"].items() for entry in entries]


def documented_operations(document: dict[str, Any]) -> list[str]:
    return [f"{verb.upper()} {path}" for path, item in document["paths"].items() for verb in item]


@pytest.mark.row("C-17")
def test_every_operation_follows_the_contract(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    result = subprocess.run(
        [sys.executable, str(CONTRACT / "check.py"), str(tmp_path / "openapi.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.row("C-17")
def test_operations_have_the_order_of_the_contract_and_our_own_operations_follow(document: dict[str, Any]) -> None:
    published = [operation for _, operation in published_operations()]
    documented = documented_operations(document)
    places = [published.index(operation) for operation in documented if operation in published]
    assert places == sorted(places)
    published_paths = {operation.split()[1] for operation in published}
    beyond = [operation.split()[1] not in published_paths for operation in documented]
    assert beyond == sorted(beyond)


def test_every_operation_documents_its_purpose_and_its_errors(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            where = f"{verb} {path}"
            assert operation.get("description") or operation.get("summary"), where
            if "security" in operation:
                assert {"400", "401"} <= set(operation["responses"]), where
            assert "422" not in operation["responses"], where
    identifiers = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(identifiers) == len(set(identifiers))


def test_the_configuration_of_each_architecture_is_published(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = schemas["TrainingCreate"]["properties"]["configuration"]["anyOf"]
    published = [schemas[reference["$ref"].rpartition("/")[2]] for reference in references]
    assert len(published) == len(ARCHITECTURES)
    for schema in published:
        assert schema["additionalProperties"] is False
        assert all(field.get("description") for field in schema["properties"].values())

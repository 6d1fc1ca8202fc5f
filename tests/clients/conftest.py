"""Generates our own client once."""

import json
from pathlib import Path
from typing import Any

import pytest

from functions.api import build_api
from infra.client.build import build
from shared.http.app import describe


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    return describe(build_api())


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> Path:
    """Returns a folder with the generated client and its wheel."""
    folder = tmp_path_factory.mktemp("client")
    described = folder / "openapi.json"
    described.write_text(json.dumps(document))
    build(folder / "built", described)
    return folder / "built"

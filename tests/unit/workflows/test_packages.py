"""Packages beside a function's layers are unpacked once, from the archive of the deployment."""

import importlib
import io
import sys
import zipfile
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from functions.workflows.packages import load_packages

SETTINGS = {"TABLE_NAME": "entities", "BUCKET_NAME": "data", "OIDC_ISSUER": "https://a.test", "OIDC_AUDIENCE": "a"}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Stores an archive with one package, and returns its address."""
    monkeypatch.setattr("functions.workflows.packages.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("python/package_of_a_test/__init__.py", "ANSWER = 42")
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="assets")
    s3.put_object(Bucket="assets", Key="0a1b.zip", Body=content.getvalue())
    return "s3://assets/0a1b.zip"


@mock_aws
def test_packages_are_unpacked_once_and_can_be_imported(request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue("archive")
    load_packages({**SETTINGS, "PACKAGES_URI": address})
    assert importlib.import_module("package_of_a_test").ANSWER == 42
    boto3.client("s3").delete_object(Bucket="assets", Key="0a1b.zip")
    load_packages({**SETTINGS, "PACKAGES_URI": address})


def test_a_deployment_without_layers_unpacks_nothing() -> None:
    before = [*sys.path]
    load_packages(SETTINGS)
    assert sys.path == before

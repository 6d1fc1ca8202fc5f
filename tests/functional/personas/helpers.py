"""Helpers of the tests of personas."""

from typing import Any

import boto3
from fastapi.testclient import TestClient

from tests.fixtures.aws import BUCKET

ADA = {"name": "Ada Lovelace", "birthdate": "1815-12-10", "notes": "Likes engines.", "data": {"city": "London"}}


GRACE = {"name": "Grace Hopper", "birthdate": "1906-12-09", "notes": "Likes compilers."}


MARY = {"name": "Mary Somerville", "birthdate": "1780-12-26", "notes": "Likes planets."}


def csv_file(*people: dict[str, Any]) -> bytes:
    rows = [f"{each['name']},{each['birthdate']},{each['notes']},Paris" for each in people]
    return "\n".join(["name,birthdate,notes,city", *rows, ""]).encode()


def upload(client: TestClient, *files: bytes | tuple[str, bytes]) -> Any:
    named = [("people.csv", file) if isinstance(file, bytes) else file for file in files]
    return client.post("/personas/upload", files=[("files", each) for each in named])


def confirm(client: TestClient, token: str, resolution: str | None = None) -> Any:
    body = {} if resolution is None else {"conflict_resolution": resolution}
    return client.post(f"/personas/upload/{token}/confirm", json=body)


def all_personas(client: TestClient) -> list[dict[str, Any]]:
    """Reads every page and returns all personas, the newest first."""
    personas: list[dict[str, Any]] = []
    has_more = True
    while has_more:
        after = personas[-1]["id"] if personas else ""
        page = client.get("/personas", params={"limit": 100, "after": after}).json()
        personas += page["data"]
        has_more = page["has_more"]
    assert page["count"] == len(personas) == len({persona["id"] for persona in personas})
    return personas


def names(client: TestClient) -> list[str]:
    return [persona["name"] for persona in all_personas(client)]


def stored_files() -> list[str]:
    return [each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])]

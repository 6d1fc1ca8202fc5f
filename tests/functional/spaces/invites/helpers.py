"""Helpers of the tests of invites."""

from typing import Any

from fastapi.testclient import TestClient

from tests.fixtures.trainings import space_of

SENDER = "invites@inference.test"


ROLES = ["trainings:get", "trainings:list"]


def invite(client: TestClient, *emails: str, roles: list[str] = ROLES) -> Any:
    return client.post(f"/spaces/{space_of(client)}/invite", json={"emails": list(emails), "roles": roles})


def accept(client: TestClient) -> Any:
    return client.post("/users/invites/accept")


def spaces_of(client: TestClient) -> dict[str, list[str]]:
    me = client.get("/me", headers={"X-Space-Id": ""}).json()
    return {space["id"]: space["permissions"] for space in me["spaces"]}

"""Tests of sending and revoking invites."""

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fastapi.testclient import TestClient
from moto.ses.models import ses_backends

from shared.dynamodb.table import Table
from shared.models.space import UserPermission
from shared.resources import Resources
from tests.fixtures.aws import ACCOUNT, REGION
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker, same_caller
from tests.functional.spaces.invites.helpers import ROLES, SENDER, accept, invite, spaces_of


def mails() -> list[Any]:
    return list(ses_backends[ACCOUNT][REGION].sent_messages)


def recipients() -> list[str]:
    return [mail.destinations["ToAddresses"][0] for mail in mails()]


def invites(client: TestClient) -> dict[str, dict[str, Any]]:
    page = client.get(f"/spaces/{space_of(client)}/invites", params={"limit": 100}).json()
    assert page["count"] == len(page["data"])
    return {each["email"]: each for each in page["data"]}


@pytest.mark.row("SP-3")
def test_each_address_is_normalised_and_gets_one_invite_and_one_mail(client: TestClient) -> None:
    response = invite(client, " Bob@Example.com", "carol@example.com ", "BOB@example.COM")
    assert response.status_code == 200, response.text
    assert response.json()["emails"] == ["bob@example.com", "carol@example.com"]
    assert recipients() == ["bob@example.com", "carol@example.com"]
    [first, _] = mails()
    assert first.source == SENDER
    for expected in ("alice@example.com", "'Alice's'", "https://app.test", "bob@example.com"):
        assert expected in first.body
    found = invites(client)
    assert set(found) == {"bob@example.com", "carol@example.com"}
    for each in found.values():
        assert (each["state"], each["mail"], each["roles"]) == ("pending", "sent", ROLES)
        assert each["invited_by"] == client.get("/me").json()["id"]


@pytest.mark.row("SP-3")
@pytest.mark.parametrize(
    "body",
    [
        {"emails": ["ok@example.com", "not-an-address"], "roles": ROLES},
        {"emails": ["ok@example.com", "a@b@example.com"], "roles": ROLES},
        {"emails": ["ok@example.com", "a@example.com\nBcc: all@example.com"], "roles": ROLES},
        {"emails": ["ok@example.com", "a b@example.com"], "roles": ROLES},
        {"emails": ["ok@example.com", "a@localhost"], "roles": ROLES},
        {"emails": ["ok@example.com", "a..b@example.com"], "roles": ROLES},
        {"emails": ["ok@example.com", f"{'a' * 65}@example.com"], "roles": ROLES},
        {"emails": ["ok@example.com", f"a@{'b.' * 130}com"], "roles": ROLES},
        {"emails": ["ok@example.com"], "roles": ["trainings:get", "owner"]},
        {"emails": ["ok@example.com"]},
        {"emails": [], "roles": ROLES},
        {"emails": [f"a{number}@example.com" for number in range(41)], "roles": ROLES},
        {"roles": ROLES},
    ],
)
def test_no_invite_is_sent_when_one_address_or_role_is_invalid(client: TestClient, body: dict[str, Any]) -> None:
    response = client.post(f"/spaces/{space_of(client)}/invite", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["details"][0]["field"].startswith("body.")
    assert (invites(client), mails()) == ({}, [])


@pytest.mark.row("SP-3")
def test_one_request_invites_the_largest_allowed_number_of_addresses(client: TestClient) -> None:
    emails = [f"a{number}@example.com" for number in range(40)]
    for _ in range(2):
        assert invite(client, *emails).json()["emails"] == emails
        assert set(invites(client)) == set(emails)


@pytest.mark.row("SP-3")
def test_only_the_owner_sends_and_sees_invites(
    client: TestClient, sign_in: ClientMaker, other_client: TestClient, table: Table
) -> None:
    carol = sign_in("carol")
    add_member(table, carol, space_of(client), [each.value for each in UserPermission])
    invite_id = invite(client, "dave@example.com").json()["invites"][0]["id"]
    path = f"/spaces/{space_of(client)}"
    for stranger, status in ((carol, 403), (other_client, 404)):
        attempts = (
            stranger.post(f"{path}/invite", json={"emails": ["carol@example.com"], "roles": ROLES}),
            stranger.get(f"{path}/invites"),
            stranger.delete(f"{path}/invites/{invite_id}"),
        )
        assert [response.status_code for response in attempts] == [status] * 3
    assert recipients() == ["dave@example.com"]


@pytest.mark.row("SP-3")
def test_a_second_invite_renews_the_time_and_the_permissions_and_sends_another_mail(
    client: TestClient, sign_in: ClientMaker, clock: MovableClock
) -> None:
    [first] = invite(client, "bob@example.com", roles=["trainings:get"]).json()["invites"]
    clock.now += timedelta(days=6)
    [again] = invite(client, "bob@example.com", roles=["data-models:list"]).json()["invites"]
    assert (again["id"], again["roles"]) == (first["id"], ["data-models:list"])
    assert again["valid_until"] > first["valid_until"]
    assert recipients() == ["bob@example.com"] * 2

    clock.now += timedelta(days=6)
    assert accept(sign_in("bob")).json() == {"error": "", "spaces": [space_of(client)]}
    assert spaces_of(sign_in("bob")) == {space_of(client): ["data-models:list"]}


@pytest.mark.row("X-14")
def test_invites_show_their_state_and_can_be_revoked(
    client: TestClient, sign_in: ClientMaker, clock: MovableClock
) -> None:
    path = f"/spaces/{space_of(client)}/invites"
    invite(client, "old@example.com")
    clock.now += timedelta(days=7)
    emails = ("bob@example.com", "carol@example.com", "dave@example.com")
    invite(client, *emails)
    found = invites(client)
    assert accept(sign_in("bob")).status_code == 200
    assert client.delete(f"{path}/{found['carol@example.com']['id']}").json() == {
        "id": found["carol@example.com"]["id"]
    }
    assert {email: each["state"] for email, each in invites(client).items()} == {
        "old@example.com": "expired",
        "bob@example.com": "accepted",
        "carol@example.com": "revoked",
        "dave@example.com": "pending",
    }
    assert accept(sign_in("carol")).status_code == 404
    assert client.delete(f"{path}/{found['carol@example.com']['id']}").status_code == 404
    assert client.delete(f"{path}/{found['bob@example.com']['id']}").status_code == 409
    assert client.delete(f"{path}/unknown").status_code == 404

    invite(client, "carol@example.com")
    assert accept(sign_in("carol")).status_code == 200
    listed, after = [], ""
    while True:
        page = client.get(path, params={"limit": 1, "after": after}).json()
        listed += [each["email"] for each in page["data"]]
        after = page["data"][-1]["id"]
        if not page["has_more"]:
            break
    assert listed == [*reversed(emails), "old@example.com"]


class FailingSes:
    """Fake SES that raises an error for one address."""

    def __init__(self, error: Exception, email: str) -> None:
        self.sent: list[str] = []
        self._error = error
        self._email = email

    def send_email(self, **request: Any) -> None:
        [email] = request["Destination"]["ToAddresses"]
        if email == self._email:
            raise self._error
        self.sent.append(email)


REFUSED = ClientError({"Error": {"Code": "MessageRejected", "Message": "Address is suppressed."}}, "SendEmail")


UNREACHABLE = EndpointConnectionError(endpoint_url="https://email.test")


@pytest.mark.row("SP-3")
@pytest.mark.parametrize(
    ("error", "outcomes"),
    [(REFUSED, ["sent", "failed", "sent"]), (UNREACHABLE, ["sent", "failed", "failed"])],
    ids=["refused", "unreachable"],
)
def test_an_invite_is_valid_and_the_failure_is_reported_when_its_mail_fails(
    client: TestClient, sign_in: ClientMaker, resources: Resources, error: Exception, outcomes: list[str]
) -> None:
    ses = FailingSes(error, "carol@example.com")
    response = invite(
        same_caller(client, Resources(resources.settings, ses=ses)),
        "bob@example.com",
        "carol@example.com",
        "dave@example.com",
    )
    assert response.status_code == 200
    assert [each["mail"] for each in response.json()["invites"]] == outcomes
    assert "carol@example.com could not be sent" in response.json()["message"].replace(", dave@example.com", "")
    assert [each["mail"] for each in reversed(invites(client).values())] == outcomes
    assert invites(client)["carol@example.com"]["mail_error"]
    assert accept(sign_in("carol")).status_code == 200

    invite(client, "dave@example.com")
    assert recipients() == ["dave@example.com"]
    assert invites(client)["dave@example.com"]["mail"] == "sent"
    assert invites(client)["dave@example.com"]["mail_error"] is None


@pytest.mark.row("SP-3")
def test_an_invite_is_valid_without_a_sender_and_the_response_states_that_no_mail_was_sent(
    client: TestClient, sign_in: ClientMaker, resources: Resources
) -> None:
    silent = Resources(resources.settings.model_copy(update={"email_sender": None}))
    response = invite(same_caller(client, silent), "bob@example.com").json()
    assert response["invites"][0]["mail"] == "off"
    assert "sends no mail" in response["message"]
    assert mails() == []
    assert accept(sign_in("bob")).status_code == 200


def test_the_name_of_a_space_cannot_add_lines_to_the_mail(client: TestClient) -> None:
    name = "Free money'\n\nClick https://evil.test\n" + "x" * 150
    assert client.put(f"/spaces/{space_of(client)}", json={"name": name}).status_code == 200
    assert invite(client, "bob@example.com").status_code == 200
    [line] = [line for line in mails()[0].body.splitlines() if "evil" in line]
    assert line.startswith("alice@example.com invites you to the space 'Free money' Click")
    assert len(line) < 180

"""Invites: stored before they are mailed, accepted once and by the right address only."""

import itertools
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from fastapi.testclient import TestClient
from moto.ses.models import ses_backends

from shared.dynamodb.table import Table
from shared.models.space import UserPermission
from shared.resources import Resources
from shared.settings import Settings
from shared.spaces.invites import Invites
from shared.spaces.members import Members
from tests.fixtures.aws import ACCOUNT, REGION
from tests.fixtures.clocks import MovableClock
from tests.fixtures.evaluations import add_member
from tests.fixtures.trainings import space_of
from tests.functional.conftest import ClientMaker, same_caller

SENDER = "invites@inference.test"
ROLES = ["trainings:get", "trainings:list"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"email_sender": SENDER, "sign_in_url": "https://app.test"})


@pytest.fixture(autouse=True)
def sender(aws: None) -> None:
    boto3.client("sesv2").create_email_identity(EmailIdentity=SENDER)


def mails() -> list[Any]:
    return list(ses_backends[ACCOUNT][REGION].sent_messages)


def addressed() -> list[str]:
    return [mail.destinations["ToAddresses"][0] for mail in mails()]


def invite(client: TestClient, *emails: str, roles: list[str] = ROLES) -> Any:
    return client.post(f"/spaces/{space_of(client)}/invite", json={"emails": list(emails), "roles": roles})


def invites(client: TestClient) -> dict[str, dict[str, Any]]:
    page = client.get(f"/spaces/{space_of(client)}/invites", params={"limit": 100}).json()
    assert page["count"] == len(page["data"])
    return {each["email"]: each for each in page["data"]}


def accept(client: TestClient) -> Any:
    return client.post("/users/invites/accept")


def spaces_of(client: TestClient) -> dict[str, list[str]]:
    me = client.get("/me", headers={"X-Space-Id": ""}).json()
    return {space["id"]: space["permissions"] for space in me["spaces"]}


@pytest.mark.row("SP-3")
def test_each_address_is_normalised_invited_once_and_written_to(client: TestClient) -> None:
    answer = invite(client, " Bob@Example.com", "carol@example.com ", "BOB@example.COM")
    assert answer.status_code == 200, answer.text
    assert answer.json()["emails"] == ["bob@example.com", "carol@example.com"]
    assert addressed() == ["bob@example.com", "carol@example.com"]
    [first, _] = mails()
    assert first.source == SENDER
    for words in ("alice@example.com", "'Alice's'", "https://app.test", "bob@example.com"):
        assert words in first.body
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
def test_one_bad_address_or_role_is_400_and_nobody_is_invited_or_written_to(
    client: TestClient, body: dict[str, Any]
) -> None:
    answer = client.post(f"/spaces/{space_of(client)}/invite", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["field"].startswith("body.")
    assert (invites(client), mails()) == ({}, [])


@pytest.mark.row("SP-3")
def test_as_many_as_one_request_takes_are_invited_in_one_go(client: TestClient) -> None:
    emails = [f"a{number}@example.com" for number in range(40)]
    for _ in range(2):
        assert invite(client, *emails).json()["emails"] == emails
        assert set(invites(client)) == set(emails)


@pytest.mark.row("SP-3")
def test_only_the_owner_invites_and_sees_invites(
    client: TestClient, sign_in: ClientMaker, other_client: TestClient, table: Table
) -> None:
    carol = sign_in("carol")
    add_member(table, carol, space_of(client), [each.value for each in UserPermission])
    invite_id = invite(client, "dave@example.com").json()["invites"][0]["id"]
    place = f"/spaces/{space_of(client)}"
    for stranger, status in ((carol, 403), (other_client, 404)):
        attempts = (
            stranger.post(f"{place}/invite", json={"emails": ["carol@example.com"], "roles": ROLES}),
            stranger.get(f"{place}/invites"),
            stranger.delete(f"{place}/invites/{invite_id}"),
        )
        assert [answer.status_code for answer in attempts] == [status] * 3
    assert addressed() == ["dave@example.com"]


@pytest.mark.row("SP-3")
def test_inviting_again_renews_the_time_and_the_roles_and_writes_again(
    client: TestClient, sign_in: ClientMaker, clock: MovableClock
) -> None:
    [first] = invite(client, "bob@example.com", roles=["trainings:get"]).json()["invites"]
    clock.now += timedelta(days=6)
    [again] = invite(client, "bob@example.com", roles=["data-models:list"]).json()["invites"]
    assert (again["id"], again["roles"]) == (first["id"], ["data-models:list"])
    assert again["valid_until"] > first["valid_until"]
    assert addressed() == ["bob@example.com"] * 2

    clock.now += timedelta(days=6)
    assert accept(sign_in("bob")).json() == {"error": "", "spaces": [space_of(client)]}
    assert spaces_of(sign_in("bob")) == {space_of(client): ["data-models:list"]}


@pytest.mark.row("X-14")
def test_invites_tell_their_state_and_can_be_revoked(
    client: TestClient, sign_in: ClientMaker, clock: MovableClock
) -> None:
    place = f"/spaces/{space_of(client)}/invites"
    invite(client, "old@example.com")
    clock.now += timedelta(days=7)
    emails = ("bob@example.com", "carol@example.com", "dave@example.com")
    invite(client, *emails)
    found = invites(client)
    assert accept(sign_in("bob")).status_code == 200
    assert client.delete(f"{place}/{found['carol@example.com']['id']}").json() == {
        "id": found["carol@example.com"]["id"]
    }
    assert {email: each["state"] for email, each in invites(client).items()} == {
        "old@example.com": "expired",
        "bob@example.com": "accepted",
        "carol@example.com": "revoked",
        "dave@example.com": "pending",
    }
    assert accept(sign_in("carol")).status_code == 404
    assert client.delete(f"{place}/{found['carol@example.com']['id']}").status_code == 404
    assert client.delete(f"{place}/{found['bob@example.com']['id']}").status_code == 409
    assert client.delete(f"{place}/unknown").status_code == 404

    invite(client, "carol@example.com")
    assert accept(sign_in("carol")).status_code == 200
    walked, after = [], ""
    while True:
        page = client.get(place, params={"limit": 1, "after": after}).json()
        walked += [each["email"] for each in page["data"]]
        after = page["data"][-1]["id"]
        if not page["has_more"]:
            break
    assert walked == [*reversed(emails), "old@example.com"]


class BrokenMails:
    """An SES that refuses some addresses, or can't be reached from then on."""

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
def test_a_mail_that_can_not_be_sent_loses_no_invite_and_is_told_of(
    client: TestClient, sign_in: ClientMaker, resources: Resources, error: Exception, outcomes: list[str]
) -> None:
    ses = BrokenMails(error, "carol@example.com")
    answer = invite(
        same_caller(client, Resources(resources.settings, ses=ses)),
        "bob@example.com",
        "carol@example.com",
        "dave@example.com",
    )
    assert answer.status_code == 200
    assert [each["mail"] for each in answer.json()["invites"]] == outcomes
    assert "carol@example.com could not be sent" in answer.json()["message"].replace(", dave@example.com", "")
    assert [each["mail"] for each in reversed(invites(client).values())] == outcomes
    assert invites(client)["carol@example.com"]["mail_error"]
    assert accept(sign_in("carol")).status_code == 200

    invite(client, "dave@example.com")
    assert addressed() == ["dave@example.com"]
    assert invites(client)["dave@example.com"]["mail"] == "sent"
    assert invites(client)["dave@example.com"]["mail_error"] is None


@pytest.mark.row("SP-3")
def test_without_a_sender_the_invite_holds_and_the_answer_says_so(
    client: TestClient, sign_in: ClientMaker, resources: Resources
) -> None:
    silent = Resources(resources.settings.model_copy(update={"email_sender": None}))
    answer = invite(same_caller(client, silent), "bob@example.com").json()
    assert answer["invites"][0]["mail"] == "off"
    assert "sends no mail" in answer["message"]
    assert mails() == []
    assert accept(sign_in("bob")).status_code == 200


def test_what_users_chose_can_not_pose_as_a_part_of_the_mail(client: TestClient) -> None:
    name = "Free money'\n\nClick https://evil.test\n" + "x" * 150
    assert client.put(f"/spaces/{space_of(client)}", json={"name": name}).status_code == 200
    assert invite(client, "bob@example.com").status_code == 200
    [line] = [line for line in mails()[0].body.splitlines() if "evil" in line]
    assert line.startswith("alice@example.com invites you to the space 'Free money' Click")
    assert len(line) < 180


@pytest.mark.row("US-4")
def test_accepting_lets_the_invited_into_the_space_with_the_roles(client: TestClient, sign_in: ClientMaker) -> None:
    invite(client, "bob@example.com")
    bob = sign_in("bob", email="BOB@example.com")
    answer = accept(bob)
    assert answer.status_code == 200
    assert answer.json()["error"] == ""
    assert spaces_of(bob) == {space_of(client): ROLES}
    assert bob.get("/trainings").status_code == 200
    assert bob.get("/spaces").json()["count"] == 1
    again = accept(bob)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert again.json()["error"]


@pytest.mark.row("US-4")
def test_an_invite_is_for_a_verified_address_its_own_and_a_week(
    client: TestClient, sign_in: ClientMaker, clock: MovableClock
) -> None:
    invite(client, "bob@example.com")
    for claims in ({"email_verified": False}, {"email_verified": None}, {"email": None}, {"email_verified": "no"}):
        unverified = accept(sign_in("bob", **claims))
        assert (unverified.status_code, unverified.json()["code"]) == (403, "permission_denied")
    nobody = accept(sign_in("mallory"))
    assert (nobody.status_code, nobody.json()["code"]) == (404, "not_found")
    clock.now += timedelta(days=7)
    late = accept(sign_in("bob"))
    assert (late.status_code, late.json()["code"]) == (410, "gone")
    for answer in (unverified, nobody, late):
        assert answer.json()["error"]
    assert spaces_of(sign_in("bob")) == {}


@pytest.mark.row("US-4")
def test_all_invites_to_the_address_are_accepted_at_once_but_those_to_deleted_spaces(
    client: TestClient, other_client: TestClient, sign_in: ClientMaker
) -> None:
    gone = sign_in("erin")
    gone.headers["X-Space-Id"] = gone.post("/spaces", json={"name": "Gone", "description": ""}).json()["id"]
    for owner in (client, other_client, gone):
        assert invite(owner, "carol@example.com").status_code == 200
    place = f"/spaces/{space_of(gone)}"
    gone.delete(place)
    carol = sign_in("carol")
    assert set(accept(carol).json()["spaces"]) == {space_of(client), space_of(other_client)}
    assert set(spaces_of(carol)) == {space_of(client), space_of(other_client)}
    gone.post(f"{place}/restore")
    assert accept(carol).json()["spaces"] == [space_of(gone)]


@pytest.mark.row("US-4")
def test_an_invite_of_a_member_adds_permissions_and_takes_none(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), ["data-models:get"])
    invite(client, "bob@example.com", "alice@example.com", roles=["trainings:get"])
    accept(bob)
    accept(client)
    assert spaces_of(bob) == {space_of(client): ["trainings:get", "data-models:get"]}
    assert len(spaces_of(client)[space_of(client)]) == len(UserPermission)
    assert client.get(f"/spaces/{space_of(client)}/members").json()["count"] == 2


class InterruptedTable(Table):
    """Lets something else happen before the first transaction."""

    def __init__(self, table: Table, meanwhile: Any) -> None:
        super().__init__(table._client, table.name)
        self._meanwhile = iter([meanwhile])

    def transact(self, actions: Any) -> None:
        for meanwhile in self._meanwhile:
            meanwhile()
        super().transact(actions)


@pytest.mark.row("US-4")
def test_accepting_twice_at_once_gives_one_membership(client: TestClient, sign_in: ClientMaker, table: Table) -> None:
    invite(client, "bob@example.com")
    bob = sign_in("bob")
    user_id = bob.get("/me").json()["id"]
    [(space_id, found)] = Invites(table).of("bob@example.com")
    slow = Invites(InterruptedTable(table, lambda: accept(bob)))
    assert slow.accept(space_id, found, user_id) is False
    assert Members(table).memberships.count(user_id) == 1
    assert client.get(f"/spaces/{space_id}/members").json()["count"] == 2
    assert spaces_of(bob) == {space_id: ROLES}


@pytest.mark.row("US-4", "SP-2")
def test_a_space_deleted_or_a_member_made_meanwhile_is_noticed(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    invite(client, "bob@example.com", "carol@example.com")
    bob, carol = sign_in("bob"), sign_in("carol")
    [(space_id, found)] = Invites(table).of("bob@example.com")
    bob_id, carol_id = (each.get("/me").json()["id"] for each in (bob, carol))
    joins = InterruptedTable(table, lambda: add_member(table, bob, space_id, ["data-models:get"]))
    assert Invites(joins).accept(space_id, found, bob_id)
    assert spaces_of(bob) == {space_id: [*ROLES, "data-models:get"]}

    [(_, found)] = Invites(table).of("carol@example.com")
    ends = InterruptedTable(table, lambda: client.delete(f"/spaces/{space_id}"))
    assert Invites(ends).accept(space_id, found, carol_id) is False
    assert Members(table).memberships.count(carol_id) == 0


# --- members


@pytest.mark.row("X-14")
def test_members_are_listed_and_may_be_removed_or_leave(client: TestClient, sign_in: ClientMaker) -> None:
    place = f"/spaces/{space_of(client)}/members"
    names = ("bob", "carol", "dave")
    invite(client, *(f"{name}@example.com" for name in names))
    people = {name: sign_in(name) for name in names}
    for person in people.values():
        accept(person)
    ids = {name: person.get("/me").json()["id"] for name, person in people.items()}
    page = people["bob"].get(place, params={"limit": 100}).json()
    assert page["count"] == 4
    assert {(each["email"], each["is_owner"], tuple(each["permissions"])) for each in page["data"]} == {
        ("alice@example.com", True, ()),
        *((f"{name}@example.com", False, tuple(ROLES)) for name in names),
    }
    walked: list[str] = []
    for size in itertools.repeat(1, 4):
        walked += [
            e["id"] for e in client.get(place, params={"limit": size, "after": "".join(walked[-1:])}).json()["data"]
        ]
    assert walked == [each["id"] for each in page["data"]]

    assert people["bob"].delete(f"{place}/{ids['carol']}").status_code == 403
    assert client.delete(f"{place}/{ids['carol']}").json() == {"id": ids["carol"]}
    assert client.delete(f"{place}/{ids['carol']}").status_code == 404
    assert people["dave"].delete(f"{place}/{ids['dave']}").status_code == 200
    assert people["carol"].get("/trainings", headers={"X-Space-Id": space_of(client)}).status_code == 404
    assert (spaces_of(people["carol"]), spaces_of(people["dave"])) == ({}, {})
    assert client.get(place).json()["count"] == 2

    owner_id = client.get("/me").json()["id"]
    owner_leaves = client.delete(f"{place}/{owner_id}")
    assert (owner_leaves.status_code, owner_leaves.json()["code"]) == (409, "conflict")
    assert people["bob"].delete(f"{place}/{owner_id}").status_code == 403

    invite(client, "carol@example.com")
    assert accept(people["carol"]).status_code == 200
    assert client.get(place).json()["count"] == 3


# --- permissions


@pytest.mark.row("US-3")
def test_the_owner_adds_to_what_a_member_may_do_and_takes_nothing(
    client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), ["trainings:get"])
    bob_id = bob.get("/me").json()["id"]
    place = f"/users/{bob_id}/permissions"
    for permissions, wanted in (
        (["data-models:list", "trainings:list"], ["trainings:get", "trainings:list", "data-models:list"]),
        (["data-models:list", "data-models:list"], ["trainings:get", "trainings:list", "data-models:list"]),
        ([], ["trainings:get", "trainings:list", "data-models:list"]),
    ):
        answer = client.post(place, json={"permissions": permissions})
        assert (answer.status_code, answer.json()) == (200, {"permissions": wanted})
    assert bob.get("/me").json()["permissions"] == wanted
    assert bob.get("/data-models").status_code == 200
    assert client.post(place, json={"permissions": ["spaces:own"]}).status_code == 400
    owner = client.post(f"/users/{client.get('/me').json()['id']}/permissions", json={"permissions": []})
    assert owner.json() == {"permissions": [each.value for each in UserPermission]}


@pytest.mark.row("US-3")
def test_nobody_raises_their_own_rights(
    client: TestClient, other_client: TestClient, sign_in: ClientMaker, table: Table
) -> None:
    mallory, bob = sign_in("mallory"), sign_in("bob")
    add_member(table, mallory, space_of(client), ["trainings:get"])
    mallory_id, owner_id = (each.get("/me").json()["id"] for each in (mallory, client))
    everything = {"permissions": [each.value for each in UserPermission]}
    forged = {**everything, "is_owner": True, "role": "owner", "user_id": owner_id, "space_id": space_of(client)}
    own_space = mallory.post("/spaces", json={"name": "Mine", "description": ""}).json()["id"]

    # In the space where they are no owner, for themselves, for others, and with what they wish they were.
    for target in (mallory_id, owner_id, bob.get("/me").json()["id"]):
        refused = mallory.post(f"/users/{target}/permissions", json=forged)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    # As the owner of another space, which is not where the rights would count.
    inside = mallory.post(f"/users/{mallory_id}/permissions", json=forged, headers={"X-Space-Id": own_space})
    assert inside.status_code == 200
    # Through somebody who owns another space, and through a space they do not belong to.
    assert other_client.post(f"/users/{mallory_id}/permissions", json=everything).status_code == 404
    outside = mallory.post(
        f"/users/{mallory_id}/permissions", json=everything, headers={"X-Space-Id": space_of(other_client)}
    )
    assert outside.status_code == 404
    # Through one's own profile, and by inviting oneself.
    mallory.put("/me", json=forged)
    assert invite(mallory, "mallory@example.com").status_code == 403

    assert spaces_of(mallory)[space_of(client)] == ["trainings:get"]
    assert mallory.put(f"/spaces/{space_of(client)}", json={"name": "Mine"}).status_code == 403
    assert client.post("/users/unknown/permissions", json=everything).status_code == 404


@pytest.mark.row("US-3")
def test_two_additions_at_once_are_both_kept(client: TestClient, sign_in: ClientMaker, table: Table) -> None:
    bob = sign_in("bob")
    add_member(table, bob, space_of(client), [])
    bob_id = bob.get("/me").json()["id"]

    class Slow(Table):
        def write(self, action: Any) -> Any:
            client.post(f"/users/{bob_id}/permissions", json={"permissions": ["trainings:get"]})
            return super().write(action)

    slow = Members(Slow(table._client, table.name))
    slow.add_permissions(space_of(client), bob_id, [UserPermission.TRAININGS_LIST])
    assert bob.get("/me").json()["permissions"] == ["trainings:get", "trainings:list"]

"""Clients that send random requests while calls to AWS fail, and compare the final state with their responses.

A client repeats a request that failed with 5xx with the same Idempotency-Key, as the documentation requires. The final
state must match its last response. If a request got no response, the state before and the state after are both valid.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

from fastapi.testclient import TestClient

from shared.clock import utc_now
from shared.insights.ledger import Report, state_of
from shared.models.contact import ContactStatus
from tests.faults.boundary import DEATHS, Boundary

ATTEMPTS = 8
# API Gateway returns this status for a killed worker.
KILLED = 502

Body = dict[str, Any]


@dataclass(frozen=True)
class EntityKind:
    """A kind of entities with a name. Each client creates its own."""

    path: str
    body: Callable[[str], Body]
    can_change: bool = True


KINDS = (
    EntityKind("/data-models", lambda name: {"name": name}),
    EntityKind("/action-groups", lambda name: {"name": name, "description": ""}),
    EntityKind("/experts", lambda name: {"name": name, "description": "", "context": f"Knows {name}."}),
    EntityKind("/personas", lambda name: {"name": name, "birthdate": "1990-01-01", "notes": ""}),
)
# An API key must not create these.
KEYS = EntityKind("/api-keys", lambda name: {"name": name, "scopes": ["read"]})
CONNECTORS = EntityKind("/connectors", lambda name: {"name": name, "type": "aws-s3"}, can_change=False)
FACTS: Body = {"client": {"name": "Anna"}, "insight_spec": {"insight": "Travels"}, "product": {"name": "Card"}}
REVIEWS = ("waiting_review", "reviewing", "success")
# The customers about whom all clients report contacts, and for whom all reserve them, and how many may be reserved.
REPORTED, OFFERED, CONTACT_LIMIT = "reported", "offered", 2
DAYS_AGO = utc_now() - timedelta(days=10)


@dataclass
class ExpectedEntity:
    """A created entity. ``names`` are its valid names; ``None`` means that it may be deleted."""

    kind: EntityKind
    id: str
    names: set[str | None]


@dataclass
class StormClient:
    """One user of one worker. ``broken`` collects wrong responses."""

    name: str
    http: TestClient
    boundary: Boundary
    dice: random.Random
    space_id: str
    training: Body
    offered: list[str]
    # Evaluations that all clients request.
    wanted: list[Body]
    has_key: bool = False
    # Clients of the same user at other workers, with a token.
    others: list[TestClient] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    entities: list[ExpectedEntity] = field(default_factory=list)
    trainings: dict[str, bool] = field(default_factory=dict)
    # The valid states of each argument's review; ``None`` means that the argument may be deleted.
    arguments: dict[str, set[str | None]] = field(default_factory=dict)
    chats: list[str] = field(default_factory=list)
    comments: list[tuple[str, str]] = field(default_factory=list)
    evaluations: set[str] = field(default_factory=set)
    uploaded: list[str] = field(default_factory=list)
    # The reports about each contact; ``None`` means that another one may be stored.
    reports: dict[str, set[Report | None]] = field(default_factory=lambda: defaultdict(set))
    reserved: set[str] = field(default_factory=set)
    invited: set[str] = field(default_factory=set)
    acknowledged: int = 0
    given_up: int = 0
    made: int = 0

    def work(self, requests: int) -> None:
        """Sends random requests, one after the other."""
        actions = [self.create] * 3 + [self.change, self.delete, self.train, self.stop, self.react, self.chat]
        actions += [self.chat, self.forget, self.report, self.report, self.reserve]
        actions += [self.argue, self.review, self.comment, self.evaluate, self.upload]
        actions += [] if self.has_key else [self.invite]
        for _ in range(requests):
            self.dice.choice(actions)()

    def send(self, method: str, path: str, body: Body | None = None, **more: Any) -> tuple[int, Any, int]:
        """Repeats a request until it succeeds. Returns the last status, its body and the number of attempts."""
        self.made += 1
        headers = {"Idempotency-Key": f"{self.name}-{self.made}"} if method == "POST" else {}
        status, response = 0, None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.boundary.process():
                    found = self.http.request(method, path, json=body, headers=headers, **more)
                status, response = found.status_code, found.json() if found.content else None
                if status >= 500 and status != KILLED and "Retry-After" not in found.headers:
                    self.broken.append(f"{method} {path} returned {status} without Retry-After: {response}")
            except* DEATHS:
                # A kill of several concurrent tasks raises a group of errors.
                status = KILLED
            if status < 500:
                self.acknowledged += 1
                self._repeat_elsewhere(method, path, body, headers, status, response)
                return status, response, attempt
        self.given_up += 1
        return status, response, ATTEMPTS

    def _repeat_elsewhere(
        self, method: str, path: str, body: Body | None, headers: Body, status: int, response: Any
    ) -> None:
        """Sends a successful request again to another worker, which must not create a second entity."""
        if status != 201 or path == KEYS.path or not self.others or self.dice.random() > 0.2:
            return
        try:
            with self.boundary.process():
                found = self.dice.choice(self.others).request(method, path, json=body, headers=headers)
            if found.status_code < 500 and (found.status_code, found.json().get("id")) != (status, response.get("id")):
                self.broken.append(f"{method} {path} was sent twice, and returned {found.text} after {response}")
        except* DEATHS:
            pass

    def create(self) -> None:
        kind = self.dice.choice(KINDS if self.has_key else (*KINDS, KEYS, CONNECTORS))
        name = f"{self.name} {len(self.entities)} {self.made}"
        status, response, _ = self.send("POST", kind.path, kind.body(name))
        if status == 201:
            self.entities.append(ExpectedEntity(kind, response["id"], {name}))
        elif status < 500:
            self.broken.append(f"POST {kind.path} was refused: {response}")

    def change(self) -> None:
        entity = self._own(lambda each: each.kind.can_change and None not in each.names)
        if entity is None:
            return
        name = f"{self.name} changed {self.made}"
        status, response, attempts = self.send("PUT", f"{entity.kind.path}/{entity.id}", {"name": name})
        if status == 200:
            entity.names = {name}
        elif status >= 500:
            entity.names.add(name)
        else:
            self.broken.append(f"PUT {entity.kind.path} was refused after {attempts} attempts: {response}")

    def delete(self) -> None:
        entity = self._own(lambda each: None not in each.names)
        if entity is None:
            return
        status, response, attempts = self.send("DELETE", f"{entity.kind.path}/{entity.id}")
        if status in (200, 204) or (status == 404 and attempts > 1):
            entity.names = {None}
        elif status >= 500:
            entity.names.add(None)
        else:
            self.broken.append(f"DELETE {entity.kind.path} was refused after {attempts} attempts: {response}")

    def train(self) -> None:
        status, response, _ = self.send("POST", "/trainings", {**self.training, "name": f"{self.name} {self.made}"})
        if status == 201:
            self.trainings[response["id"]] = True
        elif status < 500:
            self.broken.append(f"POST /trainings was refused: {response}")

    def stop(self) -> None:
        present = [training_id for training_id, is_present in self.trainings.items() if is_present]
        if present:
            training_id = self.dice.choice(present)
            status, response, attempts = self.send("DELETE", f"/trainings/{training_id}")
            if status == 200 or (status == 404 and attempts > 1):
                self.trainings[training_id] = False
            elif status >= 500:
                del self.trainings[training_id]
            else:
                self.broken.append(f"DELETE /trainings was refused after {attempts} attempts: {response}")

    def react(self) -> None:
        """Reacts to one of the insights that all clients share."""
        insight_id = self.dice.choice(self.offered)
        reaction = self.dice.choice(("accepted", "rejected", "ignored"))
        status, response, _ = self.send("POST", f"/insights/{insight_id}/reactions", {"reaction": reaction})
        if 400 <= status < 500:
            self.broken.append(f"a reaction was refused: {response}")

    def report(self) -> None:
        """Reports about one of a few contacts, in any order, with the customer whose ledger all clients share."""
        contact_id, status = f"{self.name} {self.dice.randrange(2)}", self.dice.choice([*ContactStatus])
        happened = DAYS_AGO + timedelta(minutes=self.dice.randrange(60))
        body = {"client_key": REPORTED, "contact_id": contact_id, "status": status, "occurred_at": str(happened)}
        answer, response, _ = self.send("POST", "/contacts", body)
        if answer == 201:
            self.reports[contact_id].add(Report(status, happened))
        elif answer >= 500:
            self.reports[contact_id].add(None)
        else:
            self.broken.append(f"a report was refused: {response}")

    def reserve(self) -> None:
        """Decides about the customer whom all clients share, and takes the contact if there is one left."""
        body = {"client": {"customer_id": OFFERED}, "reserve": True, "wording": "none"}
        status, response, _ = self.send("POST", "/insights", body)
        if status == 201 and response["reserved_until"]:
            self.reserved.add(response["id"])
        elif 400 <= status < 500:
            self.broken.append(f"a decision was refused: {response}")

    def chat(self) -> None:
        status, response, _ = self.send("POST", "/chats", {"messages": [{"role": "user", "content": "Hello"}]})
        if status == 201:
            self.chats.append(response["id"])
        elif 400 <= status < 500:
            self.broken.append(f"a chat was refused: {response}")

    def forget(self) -> None:
        """Deletes one of the client's chats, with its messages and answers."""
        if self.chats:
            chat_id = self.chats.pop()
            status, response, attempts = self.send("DELETE", f"/chats/{chat_id}")
            if 400 <= status < 500 and (status, attempts > 1) != (404, True):
                self.broken.append(f"the deletion of a chat was refused: {response}")

    def argue(self) -> None:
        status, response, _ = self.send("POST", "/arguments", {**FACTS, "model": "small"})
        if status == 201:
            self.arguments[response["id"]] = {response["review"]["status"]}
        elif status < 500:
            self.broken.append(f"an argument was refused: {response}")

    def review(self) -> None:
        """Moves an argument's review one step forward, or deletes the argument after the last step."""
        known = [each for each, states in self.arguments.items() if len(states) == 1 and None not in states]
        if not known:
            return
        argument_id = self.dice.choice(known)
        [current] = self.arguments[argument_id]
        following = dict(pairwise(REVIEWS)).get(str(current))
        if following is None:
            status, response, attempts = self.send("DELETE", f"/arguments/{argument_id}")
        else:
            body = {"review": {"status": following}}
            status, response, attempts = self.send("PUT", f"/arguments/{argument_id}", body)
        # A repeated request may find its own result.
        if status == 200 or (status in (404, 409) and attempts > 1):
            self.arguments[argument_id] = {following}
        elif status >= 500:
            self.arguments[argument_id].add(following)
        else:
            self.broken.append(f"a review was refused after {attempts} attempts: {response}")

    def comment(self) -> None:
        known = [each for each, states in self.arguments.items() if None not in states]
        if known:
            argument_id, text = self.dice.choice(known), f"{self.name} {self.made}"
            status, response, _ = self.send("POST", f"/arguments/{argument_id}/comments", {"text": text})
            if status == 201:
                self.comments.append((argument_id, text))
            elif status < 500:
                self.broken.append(f"a comment was refused: {response}")

    def evaluate(self) -> None:
        status, response, _ = self.send("POST", "/evaluations", self.dice.choice(self.wanted))
        if status == 201:
            self.evaluations.add(response["id"])
        elif status < 500:
            self.broken.append(f"an evaluation was refused: {response}")

    def upload(self) -> None:
        """Uploads new persons. Only another attempt of the same upload may have created them before."""
        people = [f"{self.name} person {self.made}-{number}" for number in range(3)]
        rows = "".join(f"{name},1990-01-01,Some notes\n" for name in people)
        files = {"files": ("people.csv", f"name,birthdate,notes\n{rows}".encode())}
        status, response, _ = self.send("POST", "/personas/upload", files=files)
        while status == 200 and response["status"] != "completed":
            path = f"/personas/upload/{response['upload_token']}/confirm"
            status, confirmed, _ = self.send("POST", path, {"conflict_resolution": "skip"})
            response = {**response, **confirmed}
        if status == 200:
            self.uploaded += people
        elif status < 500:
            self.broken.append(f"an upload was refused: {response}")

    def invite(self) -> None:
        """Invites one of a few addresses that all clients share."""
        email = f"guest{self.dice.randrange(3)}@example.com"
        body = {"emails": [email], "roles": ["trainings:get"]}
        status, response, _ = self.send("POST", f"/spaces/{self.space_id}/invite", body)
        if status == 200:
            self.invited.add(email)
        elif status < 500:
            self.broken.append(f"an invite was refused: {response}")

    def _own(self, wanted: Callable[[ExpectedEntity], bool]) -> ExpectedEntity | None:
        found = [entity for entity in self.entities if wanted(entity)]
        return self.dice.choice(found) if found else None

    def problems(self) -> list[str]:
        """Returns wrong responses and differences between responses and the final state."""
        found = list(self.broken)
        for entity in self.entities:
            response = self.http.get(f"{entity.kind.path}/{entity.id}")
            name = response.json()["name"] if response.status_code == 200 else None
            if name not in entity.names:
                found.append(f"{entity.kind.path} {entity.id} is {name!r}, expected was one of {entity.names}")
        for training_id, is_present in self.trainings.items():
            if (self.http.get(f"/trainings/{training_id}").status_code == 200) != is_present:
                found.append(f"training {training_id} {'is lost' if is_present else 'is not deleted'}")
        for argument_id, states in self.arguments.items():
            response = self.http.get(f"/arguments/{argument_id}")
            status = response.json()["review"]["status"] if response.status_code == 200 else None
            if status not in states:
                found.append(f"the review of {argument_id} is {status!r}, expected was one of {states}")
        for argument_id, text in self.comments:
            response = self.http.get(f"/arguments/{argument_id}/comments", params={"limit": 100})
            if response.status_code == 200 and [each["text"] for each in response.json()["data"]].count(text) != 1:
                found.append(f"the comment {text!r} on {argument_id} is not stored exactly once")
        found += self._wrong_contacts()
        lost = (each for each in self.evaluations if self.http.get(f"/evaluations/{each}").status_code != 200)
        found += [f"evaluation {each} is lost" for each in lost]
        if self.uploaded:
            people = [each["name"] for each in self._all("/personas")]
            found += [
                f"{name!r} is stored {people.count(name)} times" for name in self.uploaded if people.count(name) != 1
            ]
        if self.invited:
            emails = [each["email"] for each in self._all(f"/spaces/{self.space_id}/invites")]
            found += [
                f"{email} is invited {emails.count(email)} times" for email in self.invited if emails.count(email) != 1
            ]
        return found

    def _wrong_contacts(self) -> Iterator[str]:
        reported, reserved = self._contacts(REPORTED), self._contacts(OFFERED)
        for contact_id, reports in self.reports.items():
            known = [each for each in reports if each]
            if known and contact_id not in reported:
                yield f"the contact {contact_id} is lost"
            elif known and None not in reports and reported[contact_id] != state_of(known).status:
                yield f"the contact {contact_id} is {reported[contact_id]} after {known}"
        yield from (f"the reserved contact {each} is lost" for each in self.reserved - reserved.keys())
        if len(reserved) > CONTACT_LIMIT:
            yield f"{len(reserved)} contacts are reserved, {CONTACT_LIMIT} are allowed"

    def _contacts(self, client_key: str) -> dict[str, str]:
        """Returns the status of each contact with a customer."""
        history = self.http.get(f"/clients/{client_key}", params={"limit": 1000}).json().get("data", [])
        return {each["id"]: each["status"] for each in history if each["kind"] == "contact"}

    def _all(self, path: str) -> Iterator[Any]:
        after = ""
        while True:
            page = self.http.get(path, params={"limit": 100, "after": after}).json()
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["data"][-1]["id"]

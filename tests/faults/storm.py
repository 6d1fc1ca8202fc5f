"""Clients at work while calls to AWS fail: what they were told, and what of it must be true afterwards.

A client repeats a request that ended in 5xx, with its Idempotency-Key, as ours are told to. What it may then find is
what it was told last; where it never got an answer, the state before is as good as the one after.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fastapi.testclient import TestClient

from tests.faults.boundary import DEATHS

ATTEMPTS = 8
# A worker that was killed answers as API Gateway then does.
KILLED = 502

Body = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A group of entities with a name, of which each client makes its own."""

    path: str
    body: Callable[[str], Body]
    can_change: bool = True


KINDS = (
    Kind("/data-models", lambda name: {"name": name}),
    Kind("/action-groups", lambda name: {"name": name, "description": ""}),
    Kind("/experts", lambda name: {"name": name, "description": "", "context": f"Knows {name}."}),
    Kind("/personas", lambda name: {"name": name, "birthdate": "1990-01-01", "notes": ""}),
    Kind("/connectors", lambda name: {"name": name, "type": "aws-s3"}, can_change=False),
)
# No API key makes another one.
KEYS = Kind("/api-keys", lambda name: {"name": name, "scopes": ["read"]})
FACTS: Body = {"client": {"name": "Anna"}, "insight_spec": {"insight": "Travels"}, "product": {"name": "Card"}}
REVIEWS = ("waiting_review", "reviewing", "success")


@dataclass
class Entity:
    """``names`` are those it may have now, ``None`` that it may be gone."""

    kind: Kind
    id: str
    names: set[str | None]


@dataclass
class Client:
    """One user at one worker. ``broken`` collects what was answered wrong."""

    name: str
    http: TestClient
    dice: random.Random
    space_id: str
    training: Body
    offered: list[str]
    # Evaluations that all clients ask for.
    wanted: list[Body]
    has_key: bool = False
    # The same user at other workers.
    others: list[TestClient] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    entities: list[Entity] = field(default_factory=list)
    trainings: dict[str, bool] = field(default_factory=dict)
    # What the review of each argument may be at, ``None`` that it may be gone.
    arguments: dict[str, set[str | None]] = field(default_factory=dict)
    comments: list[tuple[str, str]] = field(default_factory=list)
    evaluations: set[str] = field(default_factory=set)
    uploaded: list[str] = field(default_factory=list)
    invited: set[str] = field(default_factory=set)
    acknowledged: int = 0
    unanswered: int = 0
    made: int = 0

    def work(self, requests: int) -> None:
        """So many random requests, one after the other."""
        actions = [self.create] * 3 + [self.change, self.delete, self.train, self.stop, self.react, self.chat]
        actions += [self.argue, self.review, self.comment, self.evaluate, self.upload]
        actions += [] if self.has_key else [self.invite]
        for _ in range(requests):
            self.dice.choice(actions)()

    def send(self, method: str, path: str, body: Body | None = None, **more: Any) -> tuple[int, Any, int]:
        """The last status, its body and the number of attempts."""
        self.made += 1
        headers = {"Idempotency-Key": f"{self.name}-{self.made}"} if method == "POST" else {}
        status, answer = 0, None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                found = self.http.request(method, path, json=body, headers=headers, **more)
                status, answer = found.status_code, found.json() if found.content else None
                if status >= 500 and status != KILLED and "Retry-After" not in found.headers:
                    self.broken.append(f"{method} {path} was answered {status} without Retry-After: {answer}")
            except* DEATHS:
                # Where the worker had tasks at work, they die together.
                status = KILLED
            if status < 500:
                self.acknowledged += 1
                self._again(method, path, body, headers, status, answer)
                return status, answer, attempt
        self.unanswered += 1
        return status, answer, ATTEMPTS

    def _again(self, method: str, path: str, body: Body | None, headers: Body, status: int, answer: Any) -> None:
        """A request comes once more, to another worker: what it made is not made twice."""
        if status != 201 or path == KEYS.path or not self.others or self.dice.random() > 0.2:
            return
        try:
            found = self.dice.choice(self.others).request(method, path, json=body, headers=headers)
            if found.status_code < 500 and (found.status_code, found.json()["id"]) != (status, answer["id"]):
                self.broken.append(f"{method} {path} came twice, and was answered {found.text} after {answer}")
        except* DEATHS:
            pass

    def create(self) -> None:
        kind = self.dice.choice(KINDS if self.has_key else (*KINDS, KEYS))
        name = f"{self.name} {len(self.entities)} {self.made}"
        status, answer, _ = self.send("POST", kind.path, kind.body(name))
        if status == 201:
            self.entities.append(Entity(kind, answer["id"], {name}))
        elif status < 500:
            self.broken.append(f"POST {kind.path} was refused: {answer}")

    def change(self) -> None:
        entity = self._own(lambda each: each.kind.can_change and None not in each.names)
        if entity is None:
            return
        name = f"{self.name} changed {self.made}"
        status, answer, attempts = self.send("PUT", f"{entity.kind.path}/{entity.id}", {"name": name})
        if status == 200:
            entity.names = {name}
        elif status >= 500:
            entity.names.add(name)
        else:
            self.broken.append(f"PUT {entity.kind.path} was refused after {attempts} attempts: {answer}")

    def delete(self) -> None:
        entity = self._own(lambda each: None not in each.names)
        if entity is None:
            return
        status, answer, attempts = self.send("DELETE", f"{entity.kind.path}/{entity.id}")
        if status in (200, 204) or (status == 404 and attempts > 1):
            entity.names = {None}
        elif status >= 500:
            entity.names.add(None)
        else:
            self.broken.append(f"DELETE {entity.kind.path} was refused after {attempts} attempts: {answer}")

    def train(self) -> None:
        status, answer, _ = self.send("POST", "/trainings", {**self.training, "name": f"{self.name} {self.made}"})
        if status == 201:
            self.trainings[answer["id"]] = True
        elif status < 500:
            self.broken.append(f"POST /trainings was refused: {answer}")

    def stop(self) -> None:
        standing = [training_id for training_id, stands in self.trainings.items() if stands]
        if standing:
            training_id = self.dice.choice(standing)
            status, answer, attempts = self.send("DELETE", f"/trainings/{training_id}")
            if status == 200 or (status == 404 and attempts > 1):
                self.trainings[training_id] = False
            elif status >= 500:
                del self.trainings[training_id]
            else:
                self.broken.append(f"DELETE /trainings was refused after {attempts} attempts: {answer}")

    def react(self) -> None:
        """All clients react to the same insights."""
        insight_id = self.dice.choice(self.offered)
        reaction = self.dice.choice(("accepted", "rejected", "ignored"))
        status, answer, _ = self.send("POST", f"/insights/{insight_id}/reactions", {"reaction": reaction})
        if 400 <= status < 500:
            self.broken.append(f"a reaction was refused: {answer}")

    def chat(self) -> None:
        status, answer, _ = self.send("POST", "/chats", {"messages": [{"role": "user", "content": "Hello"}]})
        if 400 <= status < 500:
            self.broken.append(f"a chat was refused: {answer}")

    def argue(self) -> None:
        status, answer, _ = self.send("POST", "/arguments", {**FACTS, "model": "small"})
        if status == 201:
            self.arguments[answer["id"]] = {answer["review"]["status"]}
        elif status < 500:
            self.broken.append(f"an argument was refused: {answer}")

    def review(self) -> None:
        """Bring an argument's review a step further, or take the argument back."""
        known = [each for each, states in self.arguments.items() if len(states) == 1 and None not in states]
        if not known:
            return
        argument_id = self.dice.choice(known)
        [current] = self.arguments[argument_id]
        following = dict(pairwise(REVIEWS)).get(str(current))
        if following is None:
            status, answer, attempts = self.send("DELETE", f"/arguments/{argument_id}")
        else:
            body = {"review": {"status": following}}
            status, answer, attempts = self.send("PUT", f"/arguments/{argument_id}", body)
        # One that comes again may meet its own work.
        if status == 200 or (status in (404, 409) and attempts > 1):
            self.arguments[argument_id] = {following}
        elif status >= 500:
            self.arguments[argument_id].add(following)
        else:
            self.broken.append(f"a review was refused after {attempts} attempts: {answer}")

    def comment(self) -> None:
        known = [each for each, states in self.arguments.items() if None not in states]
        if known:
            argument_id, text = self.dice.choice(known), f"{self.name} {self.made}"
            status, answer, _ = self.send("POST", f"/arguments/{argument_id}/comments", {"text": text})
            if status == 201:
                self.comments.append((argument_id, text))
            elif status < 500:
                self.broken.append(f"a comment was refused: {answer}")

    def evaluate(self) -> None:
        status, answer, _ = self.send("POST", "/evaluations", self.dice.choice(self.wanted))
        if status == 201:
            self.evaluations.add(answer["id"])
        elif status < 500:
            self.broken.append(f"an evaluation was refused: {answer}")

    def upload(self) -> None:
        """Persons of whom nobody knows, but for an attempt of this very upload."""
        people = [f"{self.name} person {self.made}-{number}" for number in range(3)]
        rows = "".join(f"{name},1990-01-01,Some notes\n" for name in people)
        files = {"files": ("people.csv", f"name,birthdate,notes\n{rows}".encode())}
        status, answer, _ = self.send("POST", "/personas/upload", files=files)
        while status == 200 and answer["status"] != "completed":
            confirmed = f"/personas/upload/{answer['upload_token']}/confirm"
            status, told, _ = self.send("POST", confirmed, {"conflict_resolution": "skip"})
            answer = {**answer, **told}
        if status == 200:
            self.uploaded += people
        elif status < 500:
            self.broken.append(f"an upload was refused: {answer}")

    def invite(self) -> None:
        """All clients invite the same few."""
        email = f"guest{self.dice.randrange(3)}@example.com"
        body = {"emails": [email], "roles": ["trainings:get"]}
        status, answer, _ = self.send("POST", f"/spaces/{self.space_id}/invite", body)
        if status == 200:
            self.invited.add(email)
        elif status < 500:
            self.broken.append(f"an invite was refused: {answer}")

    def _own(self, wanted: Callable[[Entity], bool]) -> Entity | None:
        found = [entity for entity in self.entities if wanted(entity)]
        return self.dice.choice(found) if found else None

    def untruths(self) -> list[str]:
        """What this client was told and now finds otherwise, and everything that was answered wrong."""
        found = list(self.broken)
        for entity in self.entities:
            answer = self.http.get(f"{entity.kind.path}/{entity.id}")
            name = answer.json()["name"] if answer.status_code == 200 else None
            if name not in entity.names:
                found.append(f"{entity.kind.path} {entity.id} is {name!r}, the client was told {entity.names}")
        for training_id, stands in self.trainings.items():
            if (self.http.get(f"/trainings/{training_id}").status_code == 200) != stands:
                found.append(f"training {training_id} {'is lost' if stands else 'came back'}")
        for argument_id, states in self.arguments.items():
            answer = self.http.get(f"/arguments/{argument_id}")
            status = answer.json()["review"]["status"] if answer.status_code == 200 else None
            if status not in states:
                found.append(f"the review of {argument_id} is {status!r}, the client was told {states}")
        for argument_id, text in self.comments:
            answer = self.http.get(f"/arguments/{argument_id}/comments", params={"limit": 100})
            if answer.status_code == 200 and [each["text"] for each in answer.json()["data"]].count(text) != 1:
                found.append(f"the comment {text!r} on {argument_id} is not there once")
        lost = (each for each in self.evaluations if self.http.get(f"/evaluations/{each}").status_code != 200)
        found += [f"evaluation {each} is lost" for each in lost]
        if self.uploaded:
            people = [each["name"] for each in self._all("/personas")]
            found += [
                f"{name!r} is there {people.count(name)} times" for name in self.uploaded if people.count(name) != 1
            ]
        if self.invited:
            emails = [each["email"] for each in self._all(f"/spaces/{self.space_id}/invites")]
            found += [
                f"{email} is invited {emails.count(email)} times" for email in self.invited if emails.count(email) != 1
            ]
        return found

    def _all(self, path: str) -> Iterator[Any]:
        after = ""
        while True:
            page = self.http.get(path, params={"limit": 100, "after": after}).json()
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["data"][-1]["id"]

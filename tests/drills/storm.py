"""Clients at work while calls to AWS fail: what they were told, and what of it must be true afterwards.

A client repeats a request that ended in 5xx, with its Idempotency-Key, as ours are told to. What it may then find is
what it was told last; where it never got an answer, the state before is as good as the one after.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi.testclient import TestClient

from tests.drills.boundary import KilledError

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
    training: Body
    offered: list[str]
    broken: list[str] = field(default_factory=list)
    entities: list[Entity] = field(default_factory=list)
    trainings: dict[str, bool] = field(default_factory=dict)
    acknowledged: int = 0
    unanswered: int = 0
    made: int = 0

    def work(self, requests: int) -> None:
        """So many random requests, one after the other."""
        actions = (self.create, self.create, self.change, self.delete, self.train, self.stop, self.react, self.chat)
        for _ in range(requests):
            self.dice.choice(actions)()

    def send(self, method: str, path: str, body: Body | None = None) -> tuple[int, Any, int]:
        """The last status, its body and the number of attempts."""
        self.made += 1
        headers = {"Idempotency-Key": f"{self.name}-{self.made}"} if method == "POST" else {}
        status, answer = 0, None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                found = self.http.request(method, path, json=body, headers=headers)
                status, answer = found.status_code, found.json() if found.content else None
                if status >= 500 and status != KILLED and "Retry-After" not in found.headers:
                    self.broken.append(f"{method} {path} was answered {status} without Retry-After: {answer}")
            except* KilledError:
                # Where the worker had tasks at work, they die together.
                status = KILLED
            if status < 500:
                self.acknowledged += 1
                return status, answer, attempt
        self.unanswered += 1
        return status, answer, ATTEMPTS

    def create(self) -> None:
        kind = self.dice.choice(KINDS)
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
        return found

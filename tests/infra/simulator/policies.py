"""Finds requests that the policies of a stage deny, and permissions that no request uses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tests.infra.conftest import listed
from tests.infra.simulator.deployment import Deployment, Policy, Request, owner_of, simulate, simulation


class Permission(NamedTuple):
    """An allowed action. ``holder`` is the logical id of a role, or the ARN of a resource that has a policy."""

    holder: str
    action: str
    statement: int


@dataclass
class Policies:
    """The policies of each role by its logical id, and of each resource by its ARN."""

    identity: dict[str, list[Policy]]
    resource: dict[str, Policy]

    @classmethod
    def of(cls, stage: Deployment) -> "Policies":
        return cls(stage.identity_policies(), stage.resource_policies())

    def denied(self, requests: Iterable[Request]) -> list[tuple[str, Request]]:
        """Returns the decision about each request that is not allowed."""
        asked = sorted({*requests})
        decisions = simulate([self._simulation(one) for one in asked])
        return [(decision, one) for decision, one in zip(decisions, asked, strict=True) if decision != "Allowed"]

    def unused(self, requests: Iterable[Request]) -> list[Permission]:
        """Returns the permissions that allow none of the requests, each taken alone."""
        asked, tried = {*requests}, []
        permissions = [*self._permissions()]
        for permission, statement in permissions:
            alone = {"Version": "2012-10-17", "Statement": [{**statement, "Action": permission.action}]}
            for one in asked:
                if fnmatchcase(one.action, permission.action):
                    if one.principal == permission.holder:
                        tried.append((permission, self._simulation(one, identity=[alone])))
                    elif owner_of(one.resource, [permission.holder]):
                        # A key trusts the policies of roles where its own policy says so. Others need no word of it.
                        own: list[Policy] | None = None if ":kms:" in permission.holder else []
                        tried.append((permission, self._simulation(one, identity=own, resource=alone)))
        decisions = simulate([simulated for _, simulated in tried])
        used = {permission for (permission, _), decision in zip(tried, decisions, strict=True) if decision == "Allowed"}
        return sorted({permission for permission, _ in permissions} - used)

    def _simulation(
        self, one: Request, identity: list[Policy] | None = None, resource: Policy | None = None
    ) -> dict[str, Any]:
        identity = self.identity.get(one.principal, []) if identity is None else identity
        return simulation(one, identity, resource or self.resource.get(owner_of(one.resource, self.resource) or ""))

    def _permissions(self) -> Iterator[tuple[Permission, dict[str, Any]]]:
        policies = [(role, one) for role, documents in self.identity.items() for one in documents]
        for number, (holder, policy) in enumerate([*policies, *self.resource.items()]):
            for place, statement in enumerate(policy["Statement"]):
                if statement["Effect"] == "Allow":
                    for action in listed(statement["Action"]):
                        yield Permission(holder, action, 100 * number + place), statement

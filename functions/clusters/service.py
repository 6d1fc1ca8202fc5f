"""Rules of clusters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anyio.to_thread import run_sync as in_thread
from boto3.dynamodb.conditions import Attr
from pydantic import SecretStr

from shared.clock import Clock
from shared.dynamodb.repository import ConditionNotMetError, Idempotency
from shared.errors import ConflictError, NotFoundError, ValidationFailedError
from shared.llm.addresses import base_address
from shared.llm.clusters import Clusters
from shared.llm.targets import Targets
from shared.llm.token_cleaner import TokenCleaner
from shared.models.base import Deleted
from shared.models.cluster import Cluster, ClusterAnswer, ClusterCreate, ClusterStatus, ClusterUpdate, masked
from shared.network.address_guard import AddressGuard
from shared.spaces.members import SpaceContext

if TYPE_CHECKING:
    from functions.clusters.registration import Served

_TOKENS = ("token", "manager_token")
# A change of any of these makes the stored lists and failures of the cluster wrong.
_WHEREABOUTS = {"ingress_url", "manager_url", *_TOKENS}
_NEW = "new"
# A change of any of these may end in a server that serves something else.
_ASKED_ANEW = {"ingress_url", "token"}


class ClusterService:
    """Rules of clusters. A space has one cluster, and the cluster's id is the space's."""

    def __init__(
        self, clusters: Clusters, targets: Targets, cleaner: TokenCleaner, guard: AddressGuard, clock: Clock
    ) -> None:
        self._clusters = clusters
        self._targets = targets
        self._cleaner = cleaner
        self._guard = guard
        self._clock = clock

    async def create(
        self, context: SpaceContext, request: ClusterCreate, idempotency: Idempotency | None
    ) -> ClusterAnswer:
        """Stores a cluster, and asks its server what it serves.

        Raises ForbiddenAddressError for a private address, ValidationFailedError for a server that has its API at
        another address, and ConflictError for a second cluster.
        """
        request.ingress_url = base_address(request.ingress_url)
        await in_thread(self._check_addresses, request.model_dump(include={"ingress_url", "manager_url"}))
        token = request.token.get_secret_value() if request.token else None
        served = await self._served(request.ingress_url, token)
        return _with(await in_thread(self._create, context, request, idempotency), served)

    def _create(self, context: SpaceContext, request: ClusterCreate, idempotency: Idempotency | None) -> ClusterAnswer:
        now = self._clock()
        with self._keeping(context, {name: getattr(request, name) for name in _TOKENS}) as kept:
            cluster = Cluster(
                id=context.space_id,
                created_at=now,
                updated_at=now,
                **request.model_dump(exclude=set(_TOKENS)),
                **kept,
            )
            try:
                stored = self._clusters.clusters.create(context.space_id, cluster, idempotency=idempotency)
            except ConflictError:
                raise ConflictError(
                    "The space has a cluster already. Update it with PUT /clusters, or delete it first."
                ) from None
        self._clusters.changed(context.space_id)
        return _answer(stored, request.token.get_secret_value() if request.token else None)

    async def status(self, context: SpaceContext) -> ClusterStatus:
        """Returns the status of all parts, also of unreachable ones. Raises NotFoundError."""
        from functions.clusters.probes import ClusterProbes

        state = await in_thread(self._clusters.state, context.space_id)
        if state.cluster is None:
            raise _no_cluster()
        cluster = state.cluster
        token = await in_thread(self._read, cluster.token_parameter)
        manager_token = await in_thread(self._read, cluster.manager_token_parameter) or token
        upstream = await in_thread(self._targets.upstream, cluster.ingress_url, cluster.token_parameter)
        probes = ClusterProbes(self._targets.sessions, state, cluster, upstream)
        status = await probes.status(token, manager_token)
        await in_thread(self._clusters.record_seen, context.space_id, probes.seen)
        return status

    async def update(
        self, context: SpaceContext, request: ClusterUpdate, expected_version: int | None
    ) -> ClusterAnswer:
        """Sets the fields that are sent, and removes a token that is ``null``. Calls use the changes a second later.

        It asks a new server, or the server with its new token, what it serves.

        Raises ValidationFailedError if a stored token would be sent to a new address: a user who changes the address
        has to know the token. Raises ConflictError when another request changes the cluster at the same time.
        """
        if "ingress_url" in request.model_fields_set:
            request.ingress_url = base_address(request.ingress_url)
        changes = request.changes()
        urls = {name: value for name, value in changes.items() if name.endswith("_url")}
        await in_thread(self._check_addresses, urls)
        current = await in_thread(self._get, context)
        given = {name: changes.pop(name) for name in _TOKENS if name in changes}
        _require_tokens_stay(current, changes, given)
        served = None
        if request.model_fields_set & _ASKED_ANEW:
            kept = await in_thread(self._read, current.token_parameter) if "token" not in given else None
            token = given["token"].get_secret_value() if given.get("token") else kept
            served = await self._served(changes.get("ingress_url", current.ingress_url), token)
        return _with(await in_thread(self._update, context, request, expected_version, current), served)

    def _update(
        self, context: SpaceContext, request: ClusterUpdate, expected_version: int | None, current: Cluster
    ) -> ClusterAnswer:
        changes = request.changes()
        given = {name: changes.pop(name) for name in _TOKENS if name in changes}
        removed = {f"{name}_parameter": None for name, token in given.items() if token is None}
        if "token" in given and given["token"] is None:
            removed["token_hint"] = None
        replaced = [getattr(current, f"{name}_parameter") for name in given]
        with self._keeping(context, given, *replaced) as kept:
            try:
                stored = self._clusters.clusters.update(
                    context.space_id,
                    context.space_id,
                    {**changes, **removed, **kept},
                    expected_version=expected_version,
                    condition=Attr("version").eq(current.version) if request.model_fields_set & _WHEREABOUTS else None,
                )
            except ConditionNotMetError:
                raise ConflictError("Others are changing the cluster at the same time. Try again.") from None
        self._clusters.changed(context.space_id)
        if request.model_fields_set & _WHEREABOUTS:
            self._clusters.forget(context.space_id)
        return _answer(stored, None)

    def delete(self, context: SpaceContext, expected_version: int | None) -> Deleted:
        current = self._get(context)
        with self._keeping(context, {}, current.token_parameter, current.manager_token_parameter):
            deleted = self._clusters.clusters.delete(
                context.space_id, context.space_id, expected_version=expected_version
            )
        self._clusters.forget(context.space_id)
        return deleted

    async def _served(self, url: str, token: str | None) -> "Served":
        # The HTTP client takes long to import, and most requests do not use it.
        from functions.clusters.registration import ask_what_it_serves

        return await ask_what_it_serves(self._targets.sessions, url, token)

    def _get(self, context: SpaceContext) -> Cluster:
        cluster = self._clusters.state(context.space_id).cluster
        if cluster is None:
            raise _no_cluster()
        return cluster

    def _check_addresses(self, urls: dict[str, str]) -> None:
        for field, url in urls.items():
            if url is not None:
                self._guard.check_url(url, f"body.{field}")

    @contextmanager
    def _keeping(
        self, context: SpaceContext, tokens: dict[str, SecretStr | None], *replaced: str | None
    ) -> Iterator[dict[str, Any]]:
        """Stores new tokens and yields the cluster's fields for them. Then removes tokens that no cluster names."""
        secrets = {name: secret.get_secret_value() for name, secret in tokens.items() if secret is not None}
        if not secrets and not any(replaced):
            yield {}
            return
        new = {name: self._targets.tokens.new_parameter(context.space_id) for name in secrets}
        with self._cleaner.watching(context.space_id, *new.values(), *replaced):
            for name, parameter in new.items():
                self._targets.tokens.keep(parameter, secrets[name])
            hint = {"token_hint": masked(secrets["token"])} if "token" in secrets else {}
            yield {**{f"{name}_parameter": parameter for name, parameter in new.items()}, **hint}

    def _read(self, parameter: str | None) -> str | None:
        return self._targets.tokens.read(parameter) if parameter else None


def _require_tokens_stay(current: Cluster, changes: dict[str, Any], given: dict[str, SecretStr | None]) -> None:
    after = current.model_copy(update={**changes, **{f"{name}_parameter": None for name in given}})
    if "manager_token" in given and given["manager_token"] is not None:
        after.manager_token_parameter = _NEW
    moved = _sent_to(after) - _sent_to(current)
    for parameter, field, _ in sorted(moved, key=str):
        if parameter != _NEW:
            name = "token" if parameter == current.token_parameter else "manager_token"
            reason = f"is not sent to another address than before: send it along with the new {field}, or null"
            raise ValidationFailedError.of(f"body.{name}", reason)


def _sent_to(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Returns the tokens and the addresses that they are sent to."""
    from yarl import URL

    pairs = (
        (cluster.token_parameter, "ingress_url"),
        (cluster.manager_token_parameter or cluster.token_parameter, "manager_url"),
    )
    return {(each, field, str(URL(getattr(cluster, field)).origin())) for each, field in pairs if each is not None}


def _answer(cluster: Cluster, token: str | None) -> ClusterAnswer:
    fields = {name: getattr(cluster, name) for name in ClusterAnswer.model_fields if name in Cluster.model_fields}
    return ClusterAnswer(**fields, token=token or cluster.token_hint)


def _with(answer: ClusterAnswer, served: "Served | None") -> ClusterAnswer:
    if served is None:
        return answer
    serves = None if served.warning else served.models
    return answer.model_copy(update={"serves": serves, "warning": served.warning})


def _no_cluster() -> NotFoundError:
    return NotFoundError("The space has no cluster. Register one with POST /clusters.")

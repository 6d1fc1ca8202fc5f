"""Stops calls to a server or model that just failed. All functions share these circuit breakers in the table.

Callers write the requests, so a request that fails proves nothing about the server: it only makes its space a suspect.
The next call of a suspect first sends a probe, which holds nothing of a caller. Only a failed probe, a failed list of
models and a failed connection open a circuit (docs/decisions/0045).
"""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyio.to_thread import run_sync as in_thread

from shared.clock import Clock
from shared.errors import ApiError, UpstreamError
from shared.llm.clusters import DEFAULT, LATE, Circuit, Clusters, ClusterState
from shared.llm.completions import (
    BrokenResponseError,
    OutOfTimeError,
    UnreachableError,
    UpstreamTimeoutError,
    blame_deployment,
)

if TYPE_CHECKING:
    from shared.llm.upstream import Upstream

SERVER = "server"
# The list of models has its own circuit, because the models may work even if the list fails.
MODEL_LIST = "models"
# The broken lists of models in a row that open their circuit. One call without a response opens a circuit immediately.
BROKEN_RESPONSES = 3
_SICK = (BrokenResponseError, UnreachableError, UpstreamTimeoutError)


class CircuitOpenError(UpstreamError):
    """Error raised when the circuit of the server or the model is open. ``name`` is the name of the circuit."""

    code = "circuit_open"
    name: str = ""


@dataclass(frozen=True)
class Call:
    """A call with content of a caller. ``probe`` makes a call of the same kind without it."""

    body: dict[str, Any]
    probe: Callable[[], Awaitable[Any]]

    @property
    def digest(self) -> str:
        """Returns the same text for repetitions of the same request."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()[:8]


class Circuits:
    """The circuit breakers of one cluster, in their state at the start of a request of one space."""

    def __init__(
        self, clusters: Clusters, state: ClusterState, clock: Clock, space_id: str, upstream: "Upstream"
    ) -> None:
        self._clusters = clusters
        self._owner = state.owner
        self._known = dict(state.circuits)
        self._clock = clock
        self._space_id = space_id
        self._upstream = upstream

    @property
    def _is_shared(self) -> bool:
        return self._owner == DEFAULT

    @asynccontextmanager
    async def around(self, part: str, call: Call | None = None) -> AsyncIterator[None]:
        """Allows a call of one part of the server, and records whether it fails. Without ``call`` it is a probe itself.

        Raises CircuitOpenError while the circuit of the part or of the server is open.
        """
        try:
            await self._require_closed(part, call.probe if call else None)
            await self._require_closed(SERVER, self._upstream.models if call else None)
            async with self._recorded(part, call):
                yield
        except (CircuitOpenError, UnreachableError) as error:
            if self._is_shared:
                blame_deployment(error)
            raise

    @asynccontextmanager
    async def _recorded(self, part: str, call: Call | None) -> AsyncIterator[None]:
        try:
            yield
        except OutOfTimeError:  # says nothing about the server
            raise
        except UnreachableError as error:
            # An open connection may break because of its age, or of the request.
            if not error.was_connected:
                await self._fail(SERVER, BROKEN_RESPONSES)
            else:
                await self._suspect(SERVER, call)
            raise
        except (BrokenResponseError, UpstreamTimeoutError) as error:
            is_late = isinstance(error, UpstreamTimeoutError)
            # Silence costs every caller a long wait. A server of the space's own is then left alone immediately.
            if call is None or (is_late and not self._is_shared):
                await self._fail(part, BROKEN_RESPONSES if is_late else 1)
            else:
                await self._suspect(part, call, is_late=is_late)
            if not is_late:
                await self._clear(SERVER)
            raise
        except ApiError:  # the server works; it may refuse because another process replaced the token
            self._clusters.changed(self._owner)
            await self._clear(SERVER, part)
            raise
        await self._clear(SERVER, part)

    async def _require_closed(self, name: str, probe: Callable[[], Awaitable[Any]] | None) -> None:
        circuit = self._known.get(name)
        if circuit is None:
            return
        if circuit.failures >= BROKEN_RESPONSES:
            wait = (circuit.retry_at - self._clock()).total_seconds()
            if wait > 0 or not await self._claims(circuit) or not await self._is_well(name, probe):
                raise _circuit_open(name, wait)
        elif probe is not None and circuit.is_suspected_by(self._space_id) and circuit.retry_at <= self._clock():
            if await self._claims(circuit):
                if not await self._is_well(name, probe):
                    await self._fail(name, BROKEN_RESPONSES)
                    raise _circuit_open(name, 0)
            elif not self._is_shared:  # another call of the space is probing its server
                raise _circuit_open(name, 0)

    async def _claims(self, circuit: Circuit) -> bool:
        return await in_thread(self._clusters.may_try, self._owner, circuit)

    async def _is_well(self, name: str, probe: Callable[[], Awaitable[Any]] | None) -> bool:
        if probe is None:  # the call itself will show it
            return True
        try:
            await probe()
        except OutOfTimeError:
            raise
        except _SICK:
            return False
        except ApiError:  # the server works, but does not serve the probe
            pass
        await self._clear(name)
        return True

    async def _fail(self, name: str, weight: int) -> None:
        await in_thread(self._clusters.record_failure, self._owner, name, weight)

    async def _suspect(self, name: str, call: Call | None, *, is_late: bool = False) -> None:
        known = self._known.get(name)
        if call is not None and not (known and known.is_suspected_by(self._space_id)):
            await in_thread(
                self._clusters.record_suspicion, self._owner, name, self._space_id, LATE if is_late else call.digest
            )

    async def _clear(self, *names: str) -> None:
        """Removes what speaks against the parts; of a shared server only what the space itself did or proved."""
        for name in names:
            circuit = self._known.get(name)
            if circuit and (circuit.failures or any(space == self._space_id for space, _ in circuit.suspects)):
                del self._known[name]
                await in_thread(self._clusters.record_success, self._owner, name)


def model_circuit(model: str) -> str:
    return f"model#{model}"


def _circuit_open(name: str, wait: float) -> CircuitOpenError:
    seconds = max(1, round(wait))
    error = CircuitOpenError(
        f"The language model failed a moment ago and gets no calls for now. Try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )
    error.name = name
    return error

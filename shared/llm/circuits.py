"""Stops calls to a server or model that just failed. All functions share these circuit breakers in the table."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync as in_thread

from shared.clock import Clock
from shared.errors import ApiError, UnavailableError
from shared.llm.clusters import Clusters, ClusterState
from shared.llm.completions import BrokenResponseError, UnreachableError, UpstreamTimeoutError

SERVER = "server"
# The list of models has its own circuit, because the models may work even if the list fails.
MODEL_LIST = "models"
# A circuit opens after this number of broken responses in a row, or after one call without a response.
BROKEN_RESPONSES = 3


class CircuitOpenError(UnavailableError):
    """Error raised when the circuit of the server or the model is open. ``name`` is the name of the circuit."""

    code = "circuit_open"
    name: str = ""


class Circuits:
    """The circuit breakers of one cluster, in their state at the start of the request."""

    def __init__(self, clusters: Clusters, state: ClusterState, clock: Clock) -> None:
        self._clusters = clusters
        self._owner = state.owner
        self._known = dict(state.circuits)
        self._clock = clock

    @asynccontextmanager
    async def around(self, part: str) -> AsyncIterator[None]:
        """Allows a call of one part of the server, and records whether the call fails.

        Raises CircuitOpenError while the circuit of the part or of the server is open. After the wait, one call may
        try again.
        """
        await self._require_closed(part)
        await self._require_closed(SERVER)
        try:
            yield
        except UnreachableError as error:
            # One failure of an open connection does not open the circuit, because old connections may break.
            await self._failed(SERVER, 1 if error.was_connected else BROKEN_RESPONSES)
            raise
        except UpstreamTimeoutError:
            await self._failed(part, BROKEN_RESPONSES)
            raise
        except BrokenResponseError:
            await self._closed(SERVER)
            await self._failed(part, 1)
            raise
        except ApiError:  # the server works; it may refuse because another process replaced the token
            self._clusters.changed(self._owner)
            await self._closed(SERVER, part)
            raise
        await self._closed(SERVER, part)

    async def _require_closed(self, name: str) -> None:
        circuit = self._known.get(name)
        if circuit is None or circuit.failures < BROKEN_RESPONSES:
            return
        wait = (circuit.retry_at - self._clock()).total_seconds()
        if wait > 0 or not await in_thread(self._clusters.may_try, self._owner, circuit):
            raise _circuit_open(name, wait)

    async def _failed(self, name: str, weight: int) -> None:
        await in_thread(self._clusters.record_failure, self._owner, name, weight)

    async def _closed(self, *names: str) -> None:
        for name in names:
            if self._known.pop(name, None) is not None:
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

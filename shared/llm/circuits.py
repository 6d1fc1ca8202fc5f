"""Circuit breakers. A failing server or model gets no calls for a while. All functions share the state in the table."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync as in_thread

from shared.clock import Clock
from shared.errors import ApiError, UnavailableError
from shared.llm.answers import BrokenAnswerError, UnreachableError, UpstreamTimeoutError
from shared.llm.clusters import Clusters, ClusterState

SERVER = "server"
# The server's list of models has its own circuit: the models may work even if the list fails.
MODEL_LIST = "models"
# A circuit opens after so many broken responses in a row, or after one call without a response.
BROKEN_ANSWERS = 3


class CircuitOpenError(UnavailableError):
    """Error raised when a part that the call needs failed a moment ago; ``name`` is the circuit's name."""

    code = "circuit_open"
    name: str = ""


class Circuits:
    """The circuit breakers of one cluster, as they were when the request began."""

    def __init__(self, clusters: Clusters, state: ClusterState, clock: Clock) -> None:
        self._clusters = clusters
        self._owner = state.owner
        self._known = dict(state.circuits)
        self._clock = clock

    @asynccontextmanager
    async def around(self, part: str) -> AsyncIterator[None]:
        """Allows a call of a part of the server, and records how the call ends.

        Raises CircuitOpenError while the circuit of the part or of the server is open. Later, one call tries it again.
        """
        await self._require_closed(part)
        await self._require_closed(SERVER)
        try:
            yield
        except UnreachableError as error:
            # A connection may break only because it is old.
            await self._failed(SERVER, 1 if error.was_connected else BROKEN_ANSWERS)
            raise
        except UpstreamTimeoutError:
            await self._failed(part, BROKEN_ANSWERS)
            raise
        except BrokenAnswerError:
            await self._closed(SERVER)
            await self._failed(part, 1)
            raise
        except ApiError:  # the server works, but refuses, perhaps because another process replaced the token
            self._clusters.changed(self._owner)
            await self._closed(SERVER, part)
            raise
        await self._closed(SERVER, part)

    async def _require_closed(self, name: str) -> None:
        circuit = self._known.get(name)
        if circuit is None or circuit.failures < BROKEN_ANSWERS:
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
        f"The language model failed a moment ago and is left alone. Try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )
    error.name = name
    return error

"""Circuit breakers. A failing server or model gets no calls for a while. All functions share the state in the table."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync as in_thread

from shared.clock import Clock
from shared.errors import ApiError, UnavailableError
from shared.llm.answers import BrokenAnswerError, UnreachableError, UpstreamTimeoutError
from shared.llm.clusters import Clusters, ClusterState

SERVER = "server"
# The server's list of models has a circuit of its own: without a list, its models may answer all the same.
MODEL_LIST = "models"
# What breaks its answers so often in a row is left alone; silence alone is enough.
BROKEN_ANSWERS = 3


class CircuitOpenError(UnavailableError):
    """What the call needs failed a moment ago; ``name`` is the circuit's."""

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
        """Lets a call of a part of the server through, and note how it ends.

        Raises CircuitOpenError while the part or the server is left alone; then one call is let through, to try it.
        """
        await self._require_closed(part)
        await self._require_closed(SERVER)
        try:
            yield
        except UnreachableError as error:
            # A connection that breaks may only have been an old one.
            await self._failed(SERVER, 1 if error.was_connected else BROKEN_ANSWERS)
            raise
        except UpstreamTimeoutError:
            await self._failed(part, BROKEN_ANSWERS)
            raise
        except BrokenAnswerError:
            await self._closed(SERVER)
            await self._failed(part, 1)
            raise
        except ApiError:  # an answer, if only to refuse: perhaps because of a token that was replaced elsewhere
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

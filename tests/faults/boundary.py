"""Injects faults between botocore and AWS: calls are lost, refused or interrupted, and all our code runs unchanged.

The boundary is the client's ``before-send`` handler, in place of the network. The emulated DynamoDB forgets the tokens
of transactions, so the boundary keeps them. A transaction with a known token gets its first response and is not
executed again, as in DynamoDB for ten minutes. Calls are executed one at a time, because races within a call need a
real AWS.
"""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from io import BytesIO
from typing import Any
from unittest.mock import patch

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from moto.core.models import botocore_stubber


class Fault(StrEnum):
    """A fault of a call. A fault in ``LATE`` comes after the execution of the call."""

    THROTTLED = "throttled"
    BROKEN = "5xx before it took effect"
    LATE_BROKEN = "5xx after it took effect"
    REFUSED = "no connection"
    LOST = "timed out before it took effect"
    LATE_LOST = "timed out after it took effect"
    KILLED = "worker killed before it took effect"
    LATE_KILLED = "worker killed after it took effect"


LATE = {Fault.LATE_BROKEN, Fault.LATE_LOST, Fault.LATE_KILLED}
KILLS = (Fault.KILLED, Fault.LATE_KILLED)
WITHOUT_KILLS = tuple(fault for fault in Fault if fault not in KILLS)
READING = ("Get", "BatchGet", "Query", "Scan", "Describe", "List", "Head")
THROTTLING = {"dynamodb": "ThrottlingException", "s3": "SlowDown"}


class KilledError(BaseException):
    """Error raised when the process is killed. As with SIGKILL, no handler of our code may catch it."""


# A client in the same process gets one of these errors, because its wait for the response may be cancelled first.
DEATHS = (KilledError, CancelledError)


@contextmanager
def killed_early() -> Iterator[None]:
    """Raises KilledError if a kill ended the thread of the test client before the client waited for it."""
    try:
        yield
    except RuntimeError as error:
        if "portal is not running" in str(error):
            raise KilledError from error
        raise


def seeded(seed: object) -> random.Random:
    return random.Random(str(seed))  # noqa: S311 - test data


class _RawBody(BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        while chunk := self.read():
            yield chunk


class Boundary:
    """The injector of faults. ``seconds`` is the total time that the callers would have waited.

    A call gets one of ``faults`` with the probability ``rate``. With ``fault_at`` only the write with that number gets
    a fault. The first write has the number 1. After a kill the process sends no further call. With ``lasts`` each
    repetition of this write gets the fault, too. With ``about`` only calls with this text in their address or body
    count.
    """

    def __init__(self, seed: int) -> None:
        self.rate = 0.0
        self.faults: tuple[Fault, ...] = WITHOUT_KILLS
        self.fault_at: int | None = None
        self.services: frozenset[str] | None = None
        self.about = ""
        self.lasts = False
        self._last: str | None = None
        self.writes = 0
        self.seconds = 0.0
        # Answers calls of a service in place of moto: takes the operation and its body, returns a status and a body.
        self.served: dict[str, Callable[[str, Any], tuple[int, Any]]] = {}
        self.injected: Counter[tuple[str, Fault]] = Counter()
        # Of the current request: not empty after a kill.
        self._kills: ContextVar[list[Fault] | None] = ContextVar("kills", default=None)
        self._dice = seeded(seed)
        self._lock = threading.Lock()
        self._executed: dict[str, bytes] = {}

    def watch(self, client: Any) -> None:
        """Replaces the network between the client and the emulated AWS."""
        events = client.meta.events
        events.unregister("before-send", botocore_stubber)
        timeouts = client.meta.config.connect_timeout, client.meta.config.read_timeout

        def send(event_name: str, request: Any, **_: Any) -> AWSResponse:
            return self._send(event_name, request, *timeouts)

        events.register("before-send", send)

    @contextmanager
    def failing(
        self,
        *faults: Fault,
        rate: float = 1.0,
        at: int | None = None,
        services: frozenset[str] | None = None,
        about: str = "",
        lasts: bool = False,
    ) -> Iterator[None]:
        """Makes calls fail within the block, and numbers the writes from 1."""
        self.lasts, self._last = lasts, None
        self.faults, self.rate, self.fault_at, self.services, self.about = faults, rate, at, services, about
        self.writes = 0
        try:
            yield
        finally:
            self.rate = 0.0

    @contextmanager
    def process(self) -> Iterator[None]:
        """Makes the block a process of its own: after a kill, it sends no further call from any thread."""
        token = self._kills.set([])
        try:
            with killed_early():
                yield
        finally:
            self._kills.reset(token)

    @contextmanager
    def without_pauses(self) -> Iterator[None]:
        """Adds up the pauses of the SDK and the store instead of waiting."""

        class CountedPauses:
            @staticmethod
            def sleep(seconds: float) -> None:
                self.seconds += seconds

        with patch("botocore.endpoint.time", CountedPauses), patch("shared.dynamodb.table.time", CountedPauses):
            yield

    def _send(self, event_name: str, request: Any, connect_seconds: float, read_seconds: float) -> AWSResponse:
        _, service, operation = event_name.split(".")
        with self._lock:
            fault = self._next(service, operation, request)
            if fault is None or fault in LATE:
                response = self._deliver(event_name, request)
            if fault is None:
                return response
            self.injected[service, fault] += 1
        match fault:
            case Fault.KILLED | Fault.LATE_KILLED:
                if (kills := self._kills.get()) is not None:
                    kills.append(fault)
                raise KilledError
            case Fault.REFUSED:
                self.seconds += connect_seconds
                raise ConnectTimeoutError(endpoint_url=request.url)
            case Fault.LOST | Fault.LATE_LOST:
                self.seconds += read_seconds
                raise ReadTimeoutError(endpoint_url=request.url)
            case Fault.THROTTLED:
                return _refusal(service, request, 503 if service == "s3" else 400, _throttling(service))
        return _refusal(service, request, 500, "InternalError" if service == "s3" else "InternalServerError")

    def _next(self, service: str, operation: str, request: Any) -> Fault | None:
        if self._kills.get():
            return Fault.KILLED
        if not self.rate or (self.services is not None and service not in self.services):
            return None
        if self.about and self.about not in f"{request.url} {request.body!r}":
            return None
        fault = self._dice.choice(self.faults)
        if self.fault_at is None:
            return fault if self._dice.random() < self.rate else None
        is_writing = not operation.startswith(READING)
        sent = f"{request.url} {request.body!r}"
        if self.lasts and is_writing and sent == self._last:
            return fault
        self.writes += is_writing
        if self.writes == self.fault_at and is_writing:
            self._last = sent
            return fault
        # A killed process sends no further call.
        return Fault.KILLED if self.writes >= self.fault_at and fault in KILLS else None

    def _deliver(self, event_name: str, request: Any) -> AWSResponse:
        token = None
        if event_name.endswith(".TransactWriteItems"):
            token = json.loads(request.body)["ClientRequestToken"]
            if token in self._executed:
                return AWSResponse(request.url, 200, HTTPHeaders(), _RawBody(self._executed[token]))
        _, service, operation = event_name.split(".")
        if service in self.served:
            status, body = self.served[service](operation, json.loads(request.body))
            return AWSResponse(request.url, status, HTTPHeaders(), _RawBody(json.dumps(body).encode()))
        response = botocore_stubber(event_name, request)
        if response is None:
            raise RuntimeError(f"the emulated AWS does not know {event_name}")
        if token is not None and response.status_code == 200:
            self._executed[token] = response.content
            response.raw.seek(0)
        return response


def _throttling(service: str) -> str:
    return THROTTLING.get(service, "ThrottlingException")


def _refusal(service: str, request: Any, status: int, code: str) -> AWSResponse:
    if service == "s3":
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    else:
        body = json.dumps({"__type": code, "message": "injected"}).encode()
    return AWSResponse(request.url, status, HTTPHeaders(), _RawBody(body))

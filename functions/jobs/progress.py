"""Reports a job's metrics: as lines on stdout for SageMaker, and as progress messages to the webhook."""

import json
import math
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from functions.jobs.time_left import Stage, TimeLeft
from shared.connectors.downloads import ClientFactory, read_secret
from shared.models.base import format_timestamp
from shared.models.job import MAX_SERIES_POINTS, JobProgress, SeriesPoint
from shared.webhooks.signature import sign

POST_INTERVAL_SECONDS = 2.0
POST_TIMEOUT_SECONDS = 5.0
LINE_INTERVAL_SECONDS = 0.5

Send = Callable[[bytes], None]


class ProgressReporter:
    """A collector of a job's series. As a context manager, it also posts them, at most every two seconds."""

    def __init__(self, stop: threading.Event, send: Send | None = None, entity: tuple[str, str] = ("", "")) -> None:
        self._stop = stop
        self._send = send
        self._type, self._id = entity
        self._time_left: TimeLeft | None = None
        self._points: dict[str, list[SeriesPoint]] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._next_line: dict[str, float] = {}
        self._thread = threading.Thread(target=self._post_until_done, daemon=True)

    @property
    def stop_requested(self) -> bool:
        """Implements ``Observer``."""
        return self._stop.is_set()

    def expect(self, stages: Sequence[Stage]) -> None:
        """Sets which models with rounds are going to be fitted."""
        self._time_left = TimeLeft(stages)

    def record(self, name: str, value: float, step: int) -> None:
        """Implements ``Observer``. A value that is no number is left out, because JSON has no form for it."""
        if self._time_left:
            with self._lock:
                self._time_left.record(name, value)
        if not math.isfinite(value):
            return
        point = SeriesPoint(name=name, value=value, step=step, at=datetime.now(UTC))
        with self._lock:
            self._points.setdefault(name, []).append(point)
        now = time.monotonic()
        if now >= self._next_line.get(name, 0):
            self._next_line[name] = now + LINE_INTERVAL_SECONDS
            print(f"metric {name}={value:.6f} step={step}", flush=True)  # noqa: T201 - SageMaker reads stdout

    def series(self, limit: int = MAX_SERIES_POINTS) -> list[SeriesPoint]:
        """Returns at most ``limit`` points of all series together, with the last point of each series."""
        with self._lock:
            series = [list(points) for points in self._points.values()]
        share = max(limit // max(len(series), 1), 1)
        return [point for points in series for point in thinned(points, share)]

    def __enter__(self) -> "ProgressReporter":
        if self._send:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._send:
            self._thread.join(timeout=2 * POST_TIMEOUT_SECONDS)

    def _post_until_done(self) -> None:
        posted = -1
        while True:
            # Read before the points, so that the last points are always posted.
            finished = self._done.is_set()
            count = sum(len(points) for points in self._points.copy().values())
            if count != posted and self._send:
                self._send(self._body())
                posted = count
            if finished:
                return
            self._done.wait(POST_INTERVAL_SECONDS)

    def _body(self) -> bytes:
        with self._lock:
            estimate = self._time_left.estimate() if self._time_left else None
        message = {
            "id": self._id,
            "type": self._type,
            "event": "progress",
            "status": "running",
            "timestamp": format_timestamp(datetime.now(UTC)),
            "payload": {
                "metrics": [point.model_dump(mode="json") for point in self.series()],
                "estimate": estimate and estimate.model_dump(mode="json"),
            },
        }
        return json.dumps(message, separators=(",", ":")).encode()


def thinned(points: list[SeriesPoint], limit: int) -> list[SeriesPoint]:
    """Returns at most ``limit`` of the points, evenly spaced, with the first and the last point.

    If ``limit`` is 1, it returns the last point.
    """
    if len(points) <= limit:
        return points
    if limit == 1:
        return points[-1:]
    return [points[round(index * (len(points) - 1) / (limit - 1))] for index in range(limit)]


def webhook_sender(progress: JobProgress | None, client: ClientFactory) -> Send | None:
    """Returns a function that posts signed messages. A failed delivery is only logged, so that the job continues."""
    if progress is None:
        return None
    if urlsplit(progress.webhook_url).scheme not in ("http", "https"):
        _warn("the webhook's address must begin with http or https")
        return None
    try:
        secret = read_secret(progress.secret_parameter, progress.secret_arn, client) or ""
        sign(secret, "check", datetime.now(UTC), b"")
    except (ClientError, BotoCoreError, ValueError) as error:
        _warn(f"the webhook's secret cannot be used ({type(error).__name__})")
        return None

    def send(body: bytes) -> None:
        headers = sign(secret, f"msg_{uuid.uuid4().hex}", datetime.now(UTC), body)
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked above
            progress.webhook_url, data=body, headers={"content-type": "application/json", **headers}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=POST_TIMEOUT_SECONDS):  # noqa: S310
                pass
        except OSError as error:
            _warn(f"a progress message was not delivered ({error})")

    return send


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the container's log

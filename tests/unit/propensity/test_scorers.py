"""Loaded scorers: what is in memory comes first, the rest is loaded at the same time, each once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from botocore.response import StreamingBody

from shared.errors import ConflictError, UnavailableError
from shared.models.job import JobFile
from shared.propensity import scorers as module
from shared.propensity.checkpoints import Scorer
from shared.propensity.scorers import LOADING_BYTES, Scorers
from tests.fixtures.trained_models import packed
from tests.unit.propensity.test_log_odds import OLD

FOLDER = OLD / "lightgbm"
SIZE = sum(path.stat().st_size for path in FOLDER.iterdir())
SECONDS = 30


class Storage:
    """Storage in place of S3, with the same model under every key. ``meeting`` makes loads wait for each other."""

    def __init__(self, meeting: threading.Barrier | None = None) -> None:
        self.content = packed(FOLDER)
        self.meeting = meeting
        self.read: list[str] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        with self._counted(Key):
            if self.meeting:
                self.meeting.wait(SECONDS)
            content = b"damaged" if Key == "damaged" else self.content
            return {"ContentLength": len(content), "Body": StreamingBody(BytesIO(content), len(content))}

    @contextmanager
    def _counted(self, key: str) -> Iterator[None]:
        with self._lock:
            self.read.append(key)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        finally:
            with self._lock:
                self.at_once -= 1


def artifact(key: str, size_bytes: int = 1000) -> JobFile:
    return JobFile(bucket="models", key=key, etag="1", version_id="1", size_bytes=size_bytes)


def artifacts(*keys: str) -> dict[str, JobFile]:
    return {key: artifact(key) for key in keys}


@pytest.mark.row("ML-5")
def test_models_beyond_memory_cost_only_their_own_loading() -> None:
    storage: Any = Storage()
    scorers = Scorers(kept_bytes=2 * SIZE)
    found = dict(scorers.each(storage, artifacts("a", "b", "c")))
    assert all(isinstance(each, Scorer) for each in found.values())
    assert sorted(storage.read) == ["a", "b", "c"]

    # Two of three are in memory, so each further request loads the third alone, and not all of them in turn.
    for _ in range(3):
        storage.read.clear()
        order = [key for key, _ in scorers.each(storage, artifacts("a", "b", "c"))]
        assert storage.read == order[2:]


@pytest.mark.row("ML-5")
def test_models_are_loaded_at_the_same_time() -> None:
    storage: Any = Storage(threading.Barrier(4))
    assert len(dict(Scorers().each(storage, artifacts("a", "b", "c", "d")))) == 4
    assert len(storage.read) == storage.most_at_once == 4


def test_a_model_that_several_requests_need_is_loaded_once() -> None:
    storage, scorers = Storage(), Scorers()
    started, go_on = threading.Event(), threading.Event()
    read = storage.get_object

    def slow(**options: Any) -> Any:
        started.set()
        go_on.wait(SECONDS)
        return read(**options)

    storage.get_object = slow  # type: ignore[method-assign]
    s3: Any = storage
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(scorers.get, s3, artifact("a"))
        started.wait(SECONDS)
        others = [threads.submit(scorers.get, s3, artifact("a")) for _ in range(2)]
        go_on.set()
        assert {id(each.result(SECONDS)) for each in (first, *others)} == {id(first.result())}
    assert storage.read == ["a"]


def test_large_models_are_loaded_one_after_the_other() -> None:
    storage: Any = Storage()
    large = {key: artifact(key, LOADING_BYTES + 1) for key in "abc"}
    assert len(dict(Scorers().each(storage, large))) == 3
    assert storage.most_at_once == 1


def test_a_damaged_model_does_not_hide_the_others() -> None:
    storage: Any = Storage()
    scorers = Scorers()
    for _ in range(2):
        found = dict(scorers.each(storage, artifacts("a", "damaged", "b")))
        assert isinstance(found["damaged"], ConflictError)
        assert isinstance(found["a"], Scorer)
        assert isinstance(found["b"], Scorer)
    assert storage.read.count("damaged") == 2


def test_a_full_disk_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise UnavailableError("full")

    monkeypatch.setattr(module, "_load", full)
    s3: Any = None
    with pytest.raises(UnavailableError):
        dict(Scorers().each(s3, artifacts("a", "b")))

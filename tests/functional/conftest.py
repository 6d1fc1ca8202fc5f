"""Fixtures of the functional tests: clients of the API, language model servers and the check of grants."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.api import build_api
from shared.clock import utc_now
from shared.resources import Resources
from shared.settings import Settings
from tests.conftest import empty_aws
from tests.faults.boundary import Boundary
from tests.fixtures.aws import BUCKET, create_logs_table, create_table, settings_for
from tests.fixtures.clocks import MovableClock
from tests.fixtures.emulator import emulated_aws
from tests.fixtures.grants import MADE, MADE_FILE, NEEDED, NEEDED_FILE, Part, noted, refuse_what_is_not_granted, watched
from tests.fixtures.iam_calls import read_calls
from tests.fixtures.identity import Issuer
from tests.fixtures.tenants import World, two_tenants
from tests.fixtures.trained_models import packed, train_model
from tests.fixtures.upstream import FakeUpstream, served, well_behaved

# The emulators do not check the roles of functions.
refuse_what_is_not_granted()

FOLDER = Path(__file__).parent
# A run with one of these options of pytest leaves some tests out.
SELECTING_OPTIONS = ("collectonly", "deselect", "ignore", "ignore_glob", "keyword", "lf", "markexpr", "stepwise")


@pytest.fixture(scope="module", autouse=True)
def record_needed_grants() -> Iterator[None]:
    with noted():
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Adds the grants that the tests of a finished pytest-xdist worker needed."""
    output = getattr(node, "workeroutput", {})
    NEEDED.update(Part(*each) for each in output.get("needed", ()))
    MADE.update(read_calls(output.get("made", "[]")))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stores the grants that a whole run needed. ``tests/infra/test_needed_grants.py`` compares them with the roles."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["needed"] = [tuple(each) for each in NEEDED]
        config.workeroutput["made"] = json.dumps(sorted(MADE))
    elif session.exitstatus == pytest.ExitCode.OK and _is_complete(config):
        NEEDED_FILE.parent.mkdir(exist_ok=True)
        NEEDED_FILE.write_text(json.dumps(sorted(NEEDED)))
        MADE_FILE.write_text(json.dumps(sorted(MADE)))


def _is_complete(config: pytest.Config) -> bool:
    is_selection = any(config.getoption(name, None) for name in SELECTING_OPTIONS)
    return not is_selection and FOLDER in (Path(each).resolve() for each in config.args)


ClientMaker = Callable[..., TestClient]


@pytest.fixture(scope="session")
def scoring_model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Returns the archive of a small model that can score."""
    return packed(train_model(tmp_path_factory.mktemp("model"), "lightgbm"))


@pytest.fixture(scope="module")
def upstreams() -> Iterator[list[FakeUpstream]]:
    """Yields two language model servers with different models."""
    first, second = (
        FakeUpstream(script=well_behaved, models=[{"id": name, "object": "model", "context_length": 100_000}])
        for name in ("first-model", "second-model")
    )
    with served(first), served(second):
        yield [first, second]


@pytest.fixture(scope="module")
def world(
    aws_session: boto3.Session,
    setup_client: Callable[[str], Any],
    issuer: Issuer,
    scoring_model: bytes,
    upstreams: list[FakeUpstream],
) -> Iterator[World]:
    """Two spaces with all kinds of entities."""
    with (
        empty_aws(aws_session, setup_client),
        two_tenants(settings_for(issuer), issuer, scoring_model, upstreams) as tenants,
    ):
        yield tenants


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Returns settings that let functions call the servers of tests, which listen on loopback."""
    return settings.model_copy(update={"allow_loopback": True})


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with served(FakeUpstream()) as upstream:
        yield upstream


@pytest.fixture
def clock(movable_clock: MovableClock) -> MovableClock:
    """Returns a clock that only the test moves."""
    movable_clock.now = utc_now()
    return movable_clock


@pytest.fixture
def boundary(resources: Resources) -> Iterator[Boundary]:
    """Yields an injector of faults into the calls of the app to DynamoDB and S3. Nobody waits between retries."""
    boundary = Boundary(seed=1)
    for client in (resources.dynamodb, resources.s3):
        boundary.watch(client)
    with boundary.without_pauses():
        yield boundary


@pytest.fixture(scope="module")
def emulated() -> Iterator[None]:
    """Runs an AWS in another process, which executes one write after the other."""
    with emulated_aws() as environment, pytest.MonkeyPatch.context() as patches:
        for variable, value in environment.items():
            patches.setenv(variable, value)
        patches.setattr(boto3, "DEFAULT_SESSION", boto3.Session())
        create_table(boto3.client("dynamodb"))
        create_logs_table(boto3.client("dynamodb"))
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield


@pytest.fixture
def anonymous(resources: Resources) -> TestClient:
    return TestClient(watched(build_api(resources)))


def same_caller(client: TestClient, resources: Resources) -> TestClient:
    """Returns a client with the same headers for an API with the given resources."""
    return TestClient(watched(build_api(resources)), headers=dict(client.headers))


@pytest.fixture
def sign_in(anonymous: TestClient, issuer: Issuer) -> ClientMaker:
    """Returns a function that makes a client with the token of a user and, optionally, the id of a space."""

    def make(subject: str, *, space: str | None = None, **claims: Any) -> TestClient:
        client = TestClient(anonymous.app)
        client.headers["Authorization"] = f"Bearer {issuer.token(subject, **claims)}"
        if space:
            client.headers["X-Space-Id"] = space
        return client

    return make


@pytest.fixture
def client(sign_in: ClientMaker) -> TestClient:
    """Returns a client of Alice, who owns one space."""
    alice = sign_in("alice")
    space = alice.post("/spaces", json={"name": "Alice's", "description": ""}).json()
    alice.headers["X-Space-Id"] = space["id"]
    return alice


@pytest.fixture
def other_client(sign_in: ClientMaker) -> TestClient:
    """Returns a client of Bob, who owns another space and does not belong to Alice's space."""
    bob = sign_in("bob")
    space = bob.post("/spaces", json={"name": "Bob's", "description": ""}).json()
    bob.headers["X-Space-Id"] = space["id"]
    return bob

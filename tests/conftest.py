"""What all tests share: an AWS of their own, a sign-in service, and clients that speak to the composed app."""

import functools
import gc
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from moto import mock_aws

from shared.dynamodb.table import Table
from shared.resources import Resources
from shared.settings import Settings
from tests.fixtures.aws import ACCOUNT, REGION, create_all, settings_for
from tests.fixtures.clocks import MovableClock
from tests.fixtures.emulator import emulated_aws
from tests.fixtures.identity import Issuer
from tests.fixtures.moto import (
    answer_one_call_on_tables_at_a_time,
    copy_items_when_they_change,
    find_methods_once,
    intercept_botocore_only,
    look_attribute_values_up_directly,
    make_once,
    query_one_partition,
    refuse_roles_that_trust_others,
)

answer_one_call_on_tables_at_a_time()
look_attribute_values_up_directly()
copy_items_when_they_change()
query_one_partition()
refuse_roles_that_trust_others()
intercept_botocore_only()
find_methods_once()

# How long an example takes is the machine's business: a slow one fails no test.
hypothesis_settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Lets searches for garbage skip what was imported, and start later: they took a sixth of the time of tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_sessionfinish() -> None:
    """Collects what is left while pytest still takes the log messages of it."""
    gc.collect()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-release", action="store_true", help="store what this release writes and deploys")
    parser.addoption("--emulator", action="store_true", help="use the emulator of the local stack instead of moto")


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="session")
def aws_session() -> boto3.Session:
    """Returns one for all tests: to read the descriptions of AWS's services again takes longer than most of them."""
    return boto3.Session()


@pytest.fixture(scope="session")
def setup_client(aws_session: boto3.Session) -> Callable[[str], Any]:
    """Clients that make what every test finds: making one takes as long as all that it then makes."""

    @functools.cache
    def make(service: Any) -> Any:
        return aws_session.client(
            service, region_name=REGION, aws_access_key_id="testing", aws_secret_access_key="testing"
        )

    return make


@contextmanager
def empty_aws(session: boto3.Session, setup_client: Callable[[str], Any]) -> Iterator[None]:
    """Yields an empty AWS in this process."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        with mock_aws():
            monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
            make_once(lambda: create_all(setup_client))
            yield


@pytest.fixture(scope="session")
def emulator() -> Iterator[dict[str, str]]:
    """Yields the environment variables that select the emulator of the local stack."""
    with emulated_aws(ACCOUNT) as environment:
        yield environment


@contextmanager
def reset_emulator(environment: dict[str, str], session: boto3.Session) -> Iterator[None]:
    """Yields an empty AWS in another process."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
        reset = urllib.request.Request(f"{environment['AWS_ENDPOINT_URL']}/_ministack/reset", method="POST")  # noqa: S310
        urllib.request.urlopen(reset).close()  # noqa: S310
        create_all(session.client)
        yield


@pytest.fixture
def aws(
    request: pytest.FixtureRequest, aws_session: boto3.Session, setup_client: Callable[[str], Any]
) -> Iterator[None]:
    """Returns an AWS for one test."""
    if request.config.getoption("--emulator"):
        with reset_emulator(request.getfixturevalue("emulator"), aws_session):
            yield
    else:
        with empty_aws(aws_session, setup_client):
            yield


@pytest.fixture
def settings(issuer: Issuer) -> Settings:
    return settings_for(issuer)


@pytest.fixture
def movable_clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def resources(aws: None, settings: Settings, movable_clock: MovableClock) -> Resources:
    return Resources(settings, movable_clock)


@pytest.fixture
def table(resources: Resources) -> Table:
    return resources.table

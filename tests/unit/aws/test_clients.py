"""Each AWS client is made once, at its first use, and tests can replace it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from shared.aws.clients import Clients

THREADS = 8


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, aws: None) -> list[str]:
    """Returns the services for which clients were made."""
    services: list[str] = []
    make = boto3.client

    def recording(service: Any, **options: Any) -> Any:
        services.append(service)
        return make(service, **options)

    monkeypatch.setattr(boto3, "client", recording)
    return services


def test_a_client_is_made_at_its_first_use(made: list[str]) -> None:
    clients = Clients()
    secrets = clients.secrets_manager
    assert made == []
    assert secrets.list_secrets()["SecretList"]
    assert made == ["secretsmanager"]


def test_threads_that_use_a_client_at_the_same_time_share_it(made: list[str]) -> None:
    dynamodb = Clients().dynamodb
    with ThreadPoolExecutor(THREADS) as pool:
        tables = list(pool.map(lambda _: dynamodb.list_tables()["TableNames"], range(THREADS)))
    assert tables == [tables[0]] * THREADS
    assert made == ["dynamodb"]


def test_a_client_is_replaced_by_its_name_and_an_unknown_name_is_refused() -> None:
    fake = object()
    assert Clients(sagemaker=fake).sagemaker is fake
    with pytest.raises(TypeError, match="sage_maker"):
        Clients(sage_maker=fake)


# One region that AWS had from the start, one that every account has, and two that an account must enable.
HOSTS = {
    "us-east-1": "files.s3.amazonaws.com",
    "eu-central-1": "files.s3.eu-central-1.amazonaws.com",
    "af-south-1": "files.s3.af-south-1.amazonaws.com",
    "mx-central-1": "files.s3.mx-central-1.amazonaws.com",
}


@pytest.mark.row("OP-1")
@pytest.mark.parametrize(("region", "host"), HOSTS.items())
def test_upload_forms_name_the_host_of_the_buckets_region(
    region: str, host: str, aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    form = Clients().s3.generate_presigned_post(Bucket="files", Key="spaces/1/connectors/1/a.csv")
    assert form["url"] == f"https://{host}/"
    assert f"/{region}/s3/aws4_request" in form["fields"]["x-amz-credential"]


def test_the_emulators_address_stays_as_it_is(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    form = Clients().s3.generate_presigned_post(Bucket="files", Key="a.csv")
    assert form["url"] == "http://127.0.0.1:4566/files"

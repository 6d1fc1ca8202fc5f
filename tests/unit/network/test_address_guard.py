"""The guard refuses addresses of users that lead into our own network."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from threading import Thread

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from shared.network.address_guard import AddressGuard, ForbiddenAddressError

PUBLIC = "93.184.216.34"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not AddressGuard().allows(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(ForbiddenAddressError, match="not public"):
        AddressGuard().check_url(f"https://{host}", "endpoint_url")


@pytest.mark.parametrize(
    "url",
    [
        f"http://{PUBLIC}",
        f"ftp://{PUBLIC}",
        f"https://user:password@{PUBLIC}",
        f"https://{PUBLIC}/?x=1",
        "https://",
        "",
        "https://[::1",
        "https://a:99999",
        "https://no-such-host.invalid",
        "https://" + "a" * 300,
    ],
)
def test_a_url_that_is_not_a_plain_https_address_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenAddressError) as refused:
        AddressGuard().check_url(url, "endpoint_url")
    assert refused.value.details[0].field == "endpoint_url"


def test_public_addresses_are_allowed() -> None:
    AddressGuard().check_url(f"https://{PUBLIC}:8443", "endpoint_url")
    assert AddressGuard().allows(ip_address("2606:2800:220:1::1"))


def test_a_guard_with_loopback_allows_this_machine_without_tls_and_no_other_private_address() -> None:
    guard = AddressGuard(allow_loopback=True)
    guard.check_url("http://127.0.0.1:9000", "endpoint_url")
    with pytest.raises(ForbiddenAddressError):
        guard.check_url("http://10.0.0.1", "endpoint_url")


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Yields the port of a server on this machine, and the data that the server received."""
    server = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    received.append(connection.recv(100))
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except OSError:
                    continue

    Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1], received
    server.close()


@pytest.mark.parametrize("is_allowed", [False, True])
def test_a_name_that_resolves_to_this_machine_receives_data_only_if_loopback_is_allowed(
    listener: tuple[int, list[bytes]], is_allowed: bool
) -> None:
    port, received = listener
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"http://localhost:{port}",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=2),
    )
    AddressGuard(allow_loopback=is_allowed).guard_client(client)
    with pytest.raises(client.exceptions.ClientError if is_allowed else BotoCoreError):
        client.list_buckets()
    assert any(received) is is_allowed

"""Guards calls to addresses that users give: only public ones, checked again when the connection is made.

A name is looked up when it is checked and once more when it is connected to, and may mean something else by then; so
the guarded connections look at the peer's address before they send a byte.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

from shared.bounds import STORAGE_ANSWER
from shared.errors import Detail, ValidationFailedError

# IPv6 addresses that mean the IPv4 address in their last four bytes: mapped ones, and those of DNS64 (RFC 6052).
_EMBEDDING = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
# IANA gives out public IPv6 addresses from this block alone.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# IANA's registries of special addresses, with multicast and what is reserved. They are written out here because
# Python's own lists differ from one version to the next, and call some of these addresses global.
_SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # with Teredo, benchmarking, AMT, AS112 and both ORCHIDs
            "2001:db8::/32",
            "2002::/16",  # 6to4, which embeds an IPv4 address
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)


class ForbiddenAddressError(ValidationFailedError):
    """The address leads into our own network, or is no proper https address."""


class AddressGuard:
    """``allow_loopback`` lets this machine be called, also over plain http: for the local stage."""

    def __init__(self, *, allow_loopback: bool = False) -> None:
        self._allow_loopback = allow_loopback

    def check_url(self, url: str, field: str, *, allow_query: bool = False) -> None:
        """Raises ForbiddenAddressError, naming ``field``, unless every address of the URL's host may be called."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise self._forbidden(field, "is not a valid URL") from None
        if not host or parts.username or parts.password or parts.fragment or (parts.query and not allow_query):
            without = "user or fragment" if allow_query else "user, query or fragment"
            raise self._forbidden(field, f"must be like https://host[:port], without {without}")
        is_local = self.check_host(host, port or 443, field)
        if parts.scheme != "https" and not (is_local and parts.scheme == "http"):
            raise self._forbidden(field, "must begin with https://")

    def check_host(self, host: str, port: int, field: str) -> bool:
        """Returns whether the host is this machine. Raises as ``check_url`` does."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise self._forbidden(field, f"the host {host} can't be found") from None
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            if not self.allows(address):
                raise self._forbidden(field, f"the host {host} has an address that is not public")
        return self._allow_loopback and all(address.is_loopback for address in addresses)

    def allows(self, address: IPv4Address | IPv6Address) -> bool:
        """Returns whether the address may be called: a public one, not one of IANA's special addresses."""
        address = _embedded(address)
        if address.is_loopback:
            return self._allow_loopback
        if isinstance(address, IPv4Address):
            return not any(address in network for network in _SPECIAL_IPV4)
        return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_IPV6)

    def check_socket(self, connection: socket.socket) -> socket.socket:
        """Returns the connection. Closes it and raises OSError if its peer may not be called."""
        peer = ip_address(str(connection.getpeername()[0]).partition("%")[0])
        if not self.allows(peer):
            connection.close()
            raise OSError(f"connections to {peer} are not allowed")
        return connection

    def guard_client(self, client: Any) -> None:
        """Makes a boto3 client check the peer of each connection that it opens, and refuse answers that are too long.

        The length of files is not limited, because they are streamed.
        """
        from botocore.awsrequest import AWSHTTPConnection, AWSHTTPSConnection
        from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

        guard = self

        class GuardedConnection(AWSHTTPConnection):
            def _new_conn(self) -> socket.socket:
                return guard.check_socket(super()._new_conn())

        class GuardedTlsConnection(AWSHTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return guard.check_socket(super()._new_conn())

        class GuardedPool(HTTPConnectionPool):
            ConnectionCls: Any = GuardedConnection

        class GuardedTlsPool(HTTPSConnectionPool):
            ConnectionCls: Any = GuardedTlsConnection

        session = client._endpoint.http_session
        session._manager.pool_classes_by_scheme = {"http": GuardedPool, "https": GuardedTlsPool}
        session.send = _bounded(session.send)

    @staticmethod
    def _forbidden(field: str, message: str) -> ForbiddenAddressError:
        reason = f"{message}; give the public address of the service"
        return ForbiddenAddressError(f"{field}: {reason}", [Detail(field, reason)])


def _bounded(send: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns ``send`` of botocore's session, which reads whole answers, such that it reads no more than it may."""
    from botocore.exceptions import HTTPClientError

    def send_bounded(request: Any) -> Any:
        is_file, request.stream_output = request.stream_output, True
        response = send(request)
        request.stream_output = is_file
        if not is_file or response.status_code >= 300:
            content = response.raw.read(STORAGE_ANSWER.size_bytes + 1)
            if len(content) > STORAGE_ANSWER.size_bytes:
                response.raw.close()
                raise HTTPClientError(error=f"an answer has more than {STORAGE_ANSWER.size_bytes >> 20} MB")
            response._content = content
        return response

    return send_bounded


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Returns the IPv4 address that an IPv6 address means, or else the address."""
    if isinstance(address, IPv6Address) and any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address

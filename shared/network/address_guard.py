"""Guards calls to addresses that users give: only public ones, checked again when the connection is made.

A name is looked up when it is checked and once more when it is connected to, and may mean something else by then; so
the guarded connections look at the peer's address before they send a byte.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from shared.bounds import STORAGE_ANSWER
from shared.errors import Detail, ValidationFailedError

_NAT64 = ip_network("64:ff9b::/96")


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
        """Returns whether the address may be called: no private, link-local, shared, reserved or multicast one."""
        address = _embedded(address)
        if address.is_loopback:
            return self._allow_loopback
        return address.is_global and not address.is_multicast

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
    """Returns the IPv4 address inside one of IPv6's wrappings, if it is one."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        return inner or address
    return address

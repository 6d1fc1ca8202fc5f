"""Finds the IP address of a caller."""

import json
from ipaddress import ip_address

from starlette.requests import Request


def caller_address(request: Request) -> str:
    """Returns the IP address from which API Gateway, or else this server, got the request; empty if unknown.

    Headers of clients are not believed. Behind the Lambda Web Adapter each request comes from loopback, and the adapter
    itself sets the header that is read here.
    """
    peer = _address(request.client.host) if request.client else ""
    context = request.headers.get("x-amzn-request-context")
    if not context or not peer or not ip_address(peer).is_loopback:
        return peer
    try:
        return _address(json.loads(context)["identity"]["sourceIp"]) or peer
    except (ValueError, TypeError, KeyError):
        return peer


def _address(text: object) -> str:
    try:
        return str(ip_address(text)) if isinstance(text, str) else ""
    except ValueError:
        return ""

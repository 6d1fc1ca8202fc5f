"""The typed client of the Inference API. ``api`` and ``models`` are generated from the API's OpenAPI document."""

from .client import AuthenticatedClient, Client
from .connection import ApiError, connect

__all__ = ["ApiError", "AuthenticatedClient", "Client", "connect"]

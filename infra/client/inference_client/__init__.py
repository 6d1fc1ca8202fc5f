"""The typed client of the Inference API. ``api`` and ``models`` are generated from the API's OpenAPI document."""

from inference_client.client import AuthenticatedClient, Client
from inference_client.connection import ApiStatusError, connect

__all__ = ["ApiStatusError", "AuthenticatedClient", "Client", "connect"]

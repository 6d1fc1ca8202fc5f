"""Tells failures of AWS that pass from those that stay."""

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import UnavailableError

# AWS's codes for "ask again later". Each service has its own.
_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "IDPCommunicationError",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_STATUSES = frozenset({429, 500, 502, 503, 504})
_BROKEN = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError)


def is_transient(error: ClientError | BotoCoreError) -> bool:
    """Returns whether the same call may succeed later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return error.response.get("Error", {}).get("Code") in _CODES or status in _STATUSES
    return isinstance(error, _BROKEN) and not isinstance(error, exceptions.SSLError)


def is_outage(error: Exception) -> bool:
    """Returns whether AWS failed in a way that may pass."""
    if isinstance(error, (ClientError, BotoCoreError)):
        return is_transient(error)
    return isinstance(error, UnavailableError)

"""Stores the bearer tokens of clusters. Each token has its own encrypted parameter with its own name."""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.clock import new_id
from shared.errors import ContendedError

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

CACHED_TOKENS = 1000


class ClusterTokens:
    """A store of tokens. It can cache them by the parameter's name, because a parameter never gets another token."""

    def __init__(self, ssm: "SSMClient", parameter_prefix: str) -> None:
        self._ssm = ssm
        self._prefix = parameter_prefix
        self._read: dict[str, str] = {}

    def new_parameter(self, space_id: str) -> str:
        """Returns the name of a new parameter for a token."""
        return f"{self._prefix}/clusters/{space_id}/{new_id()}"

    def keep(self, parameter: str, token: str) -> None:
        self._ssm.put_parameter(Name=parameter, Value=token, Type="SecureString", Overwrite=False)

    def has_read(self, parameter: str) -> bool:
        """Returns whether the token is cached."""
        return parameter in self._read

    def read(self, parameter: str) -> str:
        """Returns the token. Raises ContendedError if another request has just removed it."""
        if parameter not in self._read:
            if len(self._read) >= CACHED_TOKENS:
                del self._read[next(iter(self._read))]
            try:
                found = self._ssm.get_parameter(Name=parameter, WithDecryption=True)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ParameterNotFound":
                    raise
                raise ContendedError(
                    "The cluster's token has just been replaced. Try again.", headers={"Retry-After": "1"}
                ) from None
            self._read[parameter] = found["Parameter"]["Value"]
        return self._read[parameter]

    def forget(self, *parameters: str | None) -> None:
        """Removes the tokens. It ignores tokens that no longer exist."""
        for parameter in parameters:
            if parameter is None:
                continue
            self._read.pop(parameter, None)
            try:
                self._ssm.delete_parameter(Name=parameter)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ParameterNotFound":
                    raise

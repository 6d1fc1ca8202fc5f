"""Bearer tokens of clusters, each in an encrypted parameter of its own: a new token has a new name."""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.clock import new_id
from shared.errors import UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

CACHED_TOKENS = 1000


class ClusterTokens:
    """Reads are cached by the parameter's name, which never means another token."""

    def __init__(self, ssm: "SSMClient", parameter_prefix: str) -> None:
        self._ssm = ssm
        self._prefix = parameter_prefix
        self._read: dict[str, str] = {}

    def new_parameter(self, space_id: str) -> str:
        """Returns the name of a parameter for a token that is to be kept."""
        return f"{self._prefix}/clusters/{space_id}/{new_id()}"

    def keep(self, parameter: str, token: str) -> None:
        self._ssm.put_parameter(Name=parameter, Value=token, Type="SecureString", Overwrite=False)

    def has_read(self, parameter: str) -> bool:
        """Returns whether reading it once more takes no time."""
        return parameter in self._read

    def read(self, parameter: str) -> str:
        """Raises UnavailableError for a token that has been removed since its name was read."""
        if parameter not in self._read:
            if len(self._read) >= CACHED_TOKENS:
                self._read.clear()
            try:
                found = self._ssm.get_parameter(Name=parameter, WithDecryption=True)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ParameterNotFound":
                    raise
                raise UnavailableError(
                    "The cluster's token was replaced just now. Try again.", headers={"Retry-After": "1"}
                ) from None
            self._read[parameter] = found["Parameter"]["Value"]
        return self._read[parameter]

    def forget(self, *parameters: str | None) -> None:
        """Removes tokens; those that are gone already are no matter."""
        for parameter in parameters:
            if parameter is None:
                continue
            self._read.pop(parameter, None)
            try:
                self._ssm.delete_parameter(Name=parameter)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ParameterNotFound":
                    raise

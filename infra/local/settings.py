"""Settings of the local stack: its state directory and its ports on 127.0.0.1."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
REGION = "us-east-1"


class LocalError(Exception):
    """Error that the user of this machine can correct. The message explains how."""


@dataclass(frozen=True)
class LocalSettings:
    """The ports and the state directory. ``from_environment`` reads ``LOCAL_*`` variables."""

    directory: Path = ROOT / ".local"
    api_port: int = 8000
    aws_port: int = 4566
    sagemaker_port: int = 4567
    inference_port: int = 4568
    # These name a server of language models that replaces the embedded one.
    inference_url: str | None = None
    inference_token: str | None = field(default=None, repr=False)
    stop_grace_seconds: float = 120.0
    job_environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "LocalSettings":
        """Reads ``LOCAL_DIRECTORY``, ``LOCAL_{API,AWS,SAGEMAKER,INFERENCE}_PORT``, ``LOCAL_INFERENCE_{URL,TOKEN}``."""
        source = os.environ if environment is None else environment

        def port(name: str, default: int) -> int:
            text = source.get(name) or str(default)
            if not (text.isdigit() and 0 < int(text) < 65_536):
                raise LocalError(f"{name}={text} is not a port. Use a number from 1 to 65535.")
            return int(text)

        return cls(
            directory=Path(source.get("LOCAL_DIRECTORY") or ROOT / ".local").resolve(),
            api_port=port("LOCAL_API_PORT", cls.api_port),
            aws_port=port("LOCAL_AWS_PORT", cls.aws_port),
            sagemaker_port=port("LOCAL_SAGEMAKER_PORT", cls.sagemaker_port),
            inference_port=port("LOCAL_INFERENCE_PORT", cls.inference_port),
            inference_url=source.get("LOCAL_INFERENCE_URL") or None,
            inference_token=source.get("LOCAL_INFERENCE_TOKEN") or None,
        )

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    @property
    def aws_url(self) -> str:
        return f"http://{HOST}:{self.aws_port}"

    @property
    def sagemaker_url(self) -> str:
        return f"http://{HOST}:{self.sagemaker_port}"

    def aws_environment(self) -> dict[str, str]:
        """Returns this process's environment for the emulator, without profiles or credentials of a real account."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        # Imports take 2.4 times as long without bytecode.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        return {
            **kept,
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ENDPOINT_URL_SAGEMAKER": self.sagemaker_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """Returns a boto3 client of the emulator. It ignores the environment variables."""
        return boto3.session.Session().client(
            service,  # type: ignore[call-overload]  # the stubs only accept literal names
            endpoint_url=self.sagemaker_url if service == "sagemaker" else self.aws_url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the emulator accepts any key
        )

"""The whole API in one process on this machine: ``functions.api:app`` under uvicorn, against the emulator."""

import re
import sys
from collections.abc import Mapping

from infra.local import inference_server
from infra.local.processes import Service
from infra.local.settings import HOST, LocalSettings


def service(settings: LocalSettings, outputs: Mapping[str, str]) -> Service:
    """How to start it."""
    return Service(
        name="API",
        command=[
            sys.executable,
            "-m",
            "uvicorn",
            "functions.api:app",
            "--host",
            HOST,
            "--port",
            str(settings.api_port),
            "--no-access-log",
            "--timeout-graceful-shutdown",
            "10",
        ],
        environment={**settings.aws_environment(), **variables(settings, outputs)},
        port=settings.api_port,
        health_path="/health",
        log=settings.directory / "logs/api.log",
    )


def variables(settings: LocalSettings, outputs: Mapping[str, str]) -> dict[str, str]:
    """The application's settings (shared/settings.py) from what the deployment answered."""
    named = {
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper(): value
        for name, value in outputs.items()
        # What one stack tells another is not meant for us.
        if not name.startswith("ExportsOutput")
    }
    return {
        **named,
        **inference_server.cluster_variables(settings),
        "STAGE": "local",
        "ALLOW_LOOPBACK": "true",
        # The stand-in thinks with this machine's processor, and no gateway waits in front of it.
        "UPSTREAM_TIMEOUT_SECONDS": "240",
        "WEBHOOK_URL": f"{settings.api_url}/webhooks",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }

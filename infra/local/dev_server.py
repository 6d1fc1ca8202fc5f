"""The development server: uvicorn serves the whole API (``functions.api:app``) in one process."""

import re
import sys
from collections.abc import Mapping

from infra.local import inference_server
from infra.local.processes import Service
from infra.local.settings import HOST, LocalSettings


def service(settings: LocalSettings, outputs: Mapping[str, str]) -> Service:
    """Returns the definition of the server."""
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


def sign_in_variables(aws_url: str, outputs: Mapping[str, str]) -> dict[str, str]:
    """Returns where the console signs in: the emulated pool."""
    return {
        "CONSOLE_POOL_URL": aws_url,
        "CONSOLE_POOL_ID": outputs["UserPoolId"],
        "CONSOLE_CLIENT_ID": outputs["UserPoolClientId"],
    }


def variables(settings: LocalSettings, outputs: Mapping[str, str]) -> dict[str, str]:
    """Returns the application's settings (shared/settings.py) from the outputs of the deployment."""
    settings_of_outputs = {
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper(): value
        for name, value in outputs.items()
        # These outputs only connect one stack to another.
        if not name.startswith("ExportsOutput")
    }
    return {
        **settings_of_outputs,
        **inference_server.cluster_variables(settings),
        "STAGE": "local",
        "ALLOW_LOOPBACK": "true",
        # The local model is slow, and no gateway limits the time of a request.
        "UPSTREAM_TIMEOUT_SECONDS": "240",
        "UPSTREAM_TOTAL_SECONDS": "480",
        **sign_in_variables(settings.aws_url, outputs),
        "WEBHOOK_URL": f"{settings.api_url}/webhooks",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }

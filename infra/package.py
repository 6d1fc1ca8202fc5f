"""Builds the files that the CDK app uploads. The app runs this itself; ``python -m infra.package --stage dev`` runs it
alone. Docker is not needed.

Writes below ``build/``:

- ``code/``: every function's code, the OpenAPI document and the scripts of pages
- ``sourcedir.tar.gz``: code of SageMaker jobs, with the hashes of the packages that it needs
- ``wheels.tar``: these packages, for the Python of the jobs' container, except for the local stage
- ``layers/<name>/python/``: locked third-party packages for Lambda (Python 3.13, arm64), except for the local stage
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import Requirement

from infra.groups import FUNCTIONS, Layer

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PYTHON_VERSION = "3.13"
# Lambda's Amazon Linux 2023 has glibc 2.34.
PLATFORM = "aarch64-manylinux_2_28"
# The Python of the training containers that infra.settings names. Their Amazon Linux 2023 has glibc 2.34, too.
JOB_PYTHON_VERSION = "3.12"
JOB_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(34, 16, -1)), "manylinux2014_x86_64")
# AWS's limit for the unpacked code and layers of a function.
LIMIT_BYTES = 250 * 1024 * 1024
BASE = "base"
# The service's own limit, because each cold start unpacks the base layer.
BASE_LIMIT_BYTES = 60 * 1024 * 1024
# uv's options that select the packages of each layer.
SELECTIONS = {
    BASE: ("--no-dev",),
    Layer.SCAN: ("--only-group", "scan"),
    Layer.SCORE: ("--only-group", "score"),
    Layer.LANGUAGE: ("--only-group", "language"),
    Layer.DATABASE: ("--only-group", "database"),
    Layer.CONDITIONS: ("--only-group", "conditions"),
    Layer.ALLOCATE: ("--only-group", "allocate"),
}
# The groups of packages in training containers, and uv's options that select them.
JOB_GROUPS = (Layer.SCAN, Layer.SCORE, Layer.CONDITIONS, "train")
JOB_SELECTION = ("--no-dev", *(f"--group={group}" for group in JOB_GROUPS))
# The folders to which Lambda unpacks the code and the layers.
CODE_ROOT, LAYER_ROOT = "/var/task", "/opt"
# AWS services that functions call, by botocore's names.
SERVICES = frozenset(
    {"dynamodb", "logs", "s3", "sagemaker", "secretsmanager", "sesv2", "sqs", "ssm", "stepfunctions", "sts"}
)
_WASTE = ("__pycache__", "tests", "include", "bin")
# LightGBM needs only SciPy's sparse matrices. All of SciPy would exceed the size limit of the score layer.
# FastAPI would import Pydantic's version 1 only to refuse its models.
# phonenumbers knows the places, carriers and time zones of numbers. We only ask whether a number can exist.
_UNUSED = {
    "cel_expr_python": ("ext",),
    "phonenumbers": ("carrierdata", "geodata", "tzdata"),
    "pydantic": ("v1",),
    "scipy": (
        "cluster", "datasets", "differentiate", "fftpack", "integrate", "interpolate", "io",
        "misc", "ndimage", "odr", "optimize", "signal", "spatial", "stats",
    ),
}  # fmt: skip
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


class PackagingError(Exception):
    """Error raised when something is missing or too large. The message states the remedy."""


def _run(*command: str, stdin: str | None = None, environment: dict[str, str] | None = None) -> str:
    """Runs a tool and returns its output. Raises PackagingError with the tool's error output."""
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, timeout=900
        )
    except FileNotFoundError:
        raise PackagingError(f"{command[0]} is not installed (or not on PATH)") from None
    if done.returncode:
        raise PackagingError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")
    return done.stdout


def export(*selection: str) -> list[str]:
    """Returns the requirement lines of the lock file with their markers, such as ``numpy==2.4.6``."""
    return [line for line in _exported("--no-hashes", *selection).splitlines() if line.strip()]


def _exported(*options: str) -> str:
    return _run("uv", "export", "--frozen", "--quiet", "--no-header", "--no-annotate", "--no-emit-project", *options)


def build_code(build: Path) -> Path:
    """Copies the code of the functions, without the code of SageMaker jobs."""
    code = build / "code"
    shutil.rmtree(code, ignore_errors=True)
    shutil.copytree(ROOT / "shared", code / "shared", ignore=_IGNORED)
    shutil.copytree(ROOT / "functions", code / "functions", ignore=_IGNORED)
    shutil.rmtree(code / "functions" / "jobs", ignore_errors=True)
    _add_documents(code)
    return code


def _add_documents(code: Path) -> None:
    """Adds the files from npm that the documentation group serves, and the OpenAPI document."""
    folder = code / "functions" / "documentation"
    console = code / "functions" / "console"
    for name in (console / "libraries.txt").read_text().split():
        source, target = ROOT / "node_modules" / name, console / "libraries" / name
        if not source.is_file():
            raise PackagingError("The console's libraries are missing: run `npm ci --ignore-scripts` first")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    scalar = ROOT / "node_modules" / "@scalar" / "api-reference" / "dist" / "browser"
    if not scalar.is_dir():
        raise PackagingError("Scalar is missing: run `npm ci --ignore-scripts` first")
    shutil.copytree(scalar, folder / "scalar", ignore=shutil.ignore_patterns("*.map", "standalone.js"))
    # A separate process runs this, because infra imports no runtime code.
    _run(sys.executable, "-m", "functions.openapi", str(folder / "openapi.json"))


def build_job_source(build: Path) -> Path:
    """Packs the code of SageMaker jobs. Equal content gives equal bytes, so a deployment changes nothing."""
    archive = build / "sourcedir.tar.gz"
    build.mkdir(parents=True, exist_ok=True)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        _add(tar, "locked.txt", _exported(*JOB_SELECTION).encode())
        for path in _job_files():
            _add(tar, path.relative_to(ROOT).as_posix(), path.read_bytes())
    return archive


def build_job_wheels(build: Path, python: str = JOB_PYTHON_VERSION) -> Path:
    """Downloads the locked wheels of SageMaker jobs, checks their hashes and packs them, unless it did so before.

    Equal wheels give equal bytes, so a deployment uploads them only after a change of the lock file.
    """
    requirements = "\n".join(for_python(_exported(*JOB_SELECTION), python))
    archive, recipe_file = build / "wheels.tar", build / "wheels.txt"
    recipe = f"{python} {JOB_PLATFORMS}\n{requirements}\n"
    if archive.is_file() and recipe_file.is_file() and recipe_file.read_text() == recipe:
        return archive
    build.mkdir(parents=True, exist_ok=True)
    recipe_file.unlink(missing_ok=True)
    with TemporaryDirectory(dir=build) as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text(requirements)
        platforms = [option for platform in JOB_PLATFORMS for option in ("--platform", platform)]
        _run(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--require-hashes", "--only-binary", ":all:", "--python-version", python, *platforms,
             "--dest", folder, "--requirement", str(listed))  # fmt: skip
        with tarfile.open(archive, mode="w") as tar:
            for wheel in sorted(Path(folder).glob("*.whl")):
                _add(tar, wheel.name, wheel.read_bytes())
    recipe_file.write_text(recipe)
    return archive


def for_python(exported: str, python: str) -> Iterator[str]:
    """Yields the requirements with hashes that this Python needs on x86 Linux, without their markers.

    pip evaluates markers for the Python that it runs in, also when it downloads for another one.
    """
    target = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    for line in exported.replace("\\\n", " ").splitlines():
        text, *hashes = line.split(" --hash=")
        if not text.strip():
            continue
        requirement = Requirement(text.strip())
        if requirement.marker is None or requirement.marker.evaluate(target):
            yield " --hash=".join((f"{requirement.name}{requirement.specifier}", *(each.strip() for each in hashes)))


def _job_files() -> Iterator[Path]:
    yield ROOT / "functions" / "__init__.py"
    for folder in ("functions/jobs", "shared"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
                yield path


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    tar.addfile(entry, io.BytesIO(content))


def build_layer(
    build: Path, name: str, *, interpreter: str | None, platform: str = PLATFORM, python: str = PYTHON_VERSION
) -> Path:
    """Installs and strips the packages of a layer for Lambda. Does nothing if the layer is up to date."""
    requirements = "\n".join(export(*SELECTIONS[name]))
    builder_hash = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    recipe = f"{platform} {python} compiled={bool(interpreter)} by {builder_hash}\n{requirements}\n"
    layer, recipe_file = build / "layers" / name, build / "layers" / f"{name}.txt"
    if layer.is_dir() and recipe_file.is_file() and recipe_file.read_text() == recipe:
        return layer
    shutil.rmtree(layer, ignore_errors=True)
    recipe_file.unlink(missing_ok=True)
    target = layer / "python"
    install(target, requirements, "--no-deps", "--python-platform", platform, "--python-version", python)
    strip(target)
    if interpreter:
        compile_bytecode(layer, interpreter, LAYER_ROOT)
    recipe_file.write_text(recipe)
    return layer


def install(target: Path, requirements: str, *options: str) -> None:
    """Installs wheels of ``requirements`` into ``target``, for the current Python unless options name another."""
    _run("uv", "pip", "install", "--quiet", "--target", str(target), "--only-binary", ":all:",
         "--link-mode", "copy", *options, "-r", "-", stdin=requirements)  # fmt: skip


def compile_bytecode(folder: Path, interpreter: str, root: str) -> None:
    """Writes bytecode for all modules below ``folder``, which Lambda unpacks to ``root``.

    Lambda's disk is read-only, so every cold start would compile the modules again without this.
    """
    _run(interpreter, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
         "-s", str(folder), "-p", root, str(folder))  # fmt: skip


def strip(target: Path) -> None:
    """Removes files that no function imports: tests, C headers, scripts, type stubs and unused subpackages."""
    for package, parts in _UNUSED.items():
        for part in parts:
            shutil.rmtree(target / package / part, ignore_errors=True)
    for path in sorted(target.rglob("*"), reverse=True):
        if path.is_dir() and path.name in _WASTE:
            shutil.rmtree(path)
        elif path.suffix == ".pyi":
            path.unlink()
    aws = target / "botocore" / "data"
    if aws.is_dir():
        strip_aws(aws)


def strip_aws(data: Path) -> None:
    """Removes the services that functions do not call, and all documentation, from botocore's data.

    Searching the data of 400 services would take most of the time of making the first client.
    """
    names = set()
    for service in data.iterdir():
        if service.is_dir() and service.name not in SERVICES:
            shutil.rmtree(service)
    for path in data.glob("*/*/*"):
        if path.name.startswith("examples-"):
            path.unlink()
        elif path.name == "service-2.json.gz":
            model = _without_documentation(json.loads(gzip.decompress(path.read_bytes())))
            names.add(model["metadata"]["endpointPrefix"])
            path.with_suffix("").write_text(json.dumps(model, separators=(",", ":")))
            path.unlink()
    endpoints = data / "endpoints.json"
    document = json.loads(endpoints.read_text())
    for partition in document["partitions"]:
        partition["services"] = {name: each for name, each in partition["services"].items() if name in names}
    endpoints.write_text(json.dumps(document, separators=(",", ":")))


def _without_documentation(described: Any) -> Any:
    # A member named "documentation" is a dictionary and must stay. botocore reads the texts of a client's parameters.
    if isinstance(described, list):
        return [_without_documentation(each) for each in described]
    if isinstance(described, dict):
        return {
            name: each if name == "clientContextParams" else _without_documentation(each)
            for name, each in described.items()
            if not (name == "documentation" and isinstance(each, str))
        }
    return described


def find_interpreter(version: str) -> str | None:
    """Returns a Python of this version, or None if none is installed. Lambda loads bytecode of its own version only."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    # pyenv's commands run only the version that is chosen, and hide other Pythons from uv.
    chosen = {**os.environ, "PYENV_VERSION": version}
    searches: tuple[tuple[dict[str, str] | None, tuple[str, ...]], ...] = (
        (chosen, (f"python{version}", "-c", "import sys; print(sys.executable)")),
        (None, ("uv", "python", "find", "--no-project", version)),
    )
    for environment, command in searches:
        with suppress(PackagingError):
            return _run(*command, environment=environment).strip()
    return None


def size(folder: Path) -> int:
    """Returns the total size of all files below ``folder``, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_sizes(build: Path) -> dict[str, int]:
    """Returns the unpacked bytes of the code with each combination of layers that a function has.

    Raises PackagingError if a combination exceeds AWS's limit or the base layer exceeds BASE_LIMIT_BYTES.
    """
    base = size(build / "layers" / BASE)
    if base > BASE_LIMIT_BYTES:
        raise PackagingError(
            f"the {BASE} layer is {base:,} bytes unpacked; the limit for short cold starts is {BASE_LIMIT_BYTES:,}: "
            "move packages that few functions need to a separate layer"
        )
    sizes = {}
    for layers in sorted({spec.layers for spec in FUNCTIONS}):
        parts = [build / "code", *(build / "layers" / name for name in (BASE, *layers))]
        total = sum(size(part) for part in parts)
        sizes["+".join(("code", BASE, *layers))] = total
        if total > LIMIT_BYTES:
            raise PackagingError(
                f"code, {BASE} and {', '.join(layers)} are {total:,} bytes unpacked; AWS allows {LIMIT_BYTES:,}: "
                "remove packages from the dependency groups of these layers"
            )
    return sizes


def build(folder: Path, stage: str) -> None:
    """Builds the files of a stage. Raises PackagingError. Layers that are up to date stay as they are."""
    build_code(folder)
    build_job_source(folder)
    if stage == "local":
        return
    build_job_wheels(folder)
    interpreter = find_interpreter(PYTHON_VERSION)
    if interpreter:
        compile_bytecode(folder / "code", interpreter, CODE_ROOT)
    else:
        _say(
            f"no Python {PYTHON_VERSION} found: code and layers get no bytecode, so cold starts take about "
            f"twice as long; install one with `uv python install {PYTHON_VERSION}`"
        )
    for name in SELECTIONS:
        build_layer(folder, name, interpreter=interpreter)
    for name, total in check_sizes(folder).items():
        _say(f"{name}: {total / 2**20:.0f} of {LIMIT_BYTES / 2**20:.0f} MiB")


def _say(message: str) -> None:
    # Stdout belongs to the CDK, whose templates scripts read.
    print(message, file=sys.stderr)  # noqa: T201


def main() -> None:
    """Builds the files of the stage that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stage", required=True, choices=("local", "dev", "staging", "prod"))
    try:
        build(BUILD, parser.parse_args().stage)
    except PackagingError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()

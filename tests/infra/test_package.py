"""Tests of the uploaded packages: code of functions, source of SageMaker jobs, and layers."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.loaders import Loader

from infra import package
from infra.groups import Layer


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.build_code(tmp_path_factory.mktemp("build"))


def test_the_package_has_functions_and_documents_but_no_code_of_jobs(code: Path) -> None:
    documentation = code / "functions" / "documentation"
    assert json.loads((documentation / "openapi.json").read_text())["paths"]["/health"]
    assert (documentation / "scalar" / "standalone.esm.js").stat().st_size > 100_000
    assert not list(documentation.rglob("*.map"))
    assert (code / "shared" / "settings.py").is_file()
    assert not (code / "functions" / "jobs").exists()
    assert not list(code.rglob("*.pyc"))


def test_packaged_functions_can_be_imported_outside_the_repository(code: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import functions.documentation.handler as h; print(h.__file__)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(code))


def test_equal_source_makes_an_equal_archive_with_everything_that_jobs_need(tmp_path: Path) -> None:
    first = package.build_job_source(tmp_path / "one")
    second = package.build_job_source(tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        names = archive.getnames()
        member = archive.extractfile("locked.txt")
        assert member is not None
        requirements = member.read().decode()
    for name in ("functions/__init__.py", "functions/jobs/train/__main__.py", "functions/jobs/evaluate/__main__.py"):
        assert name in names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith("/")]
    assert "--hash=sha256:" in requirements
    for library in ("catboost==", "lightgbm==", "xgboost==", "polars==", "pydantic=="):
        assert library in requirements


def test_stripping_removes_tests_headers_and_bytecode_but_no_code(tmp_path: Path) -> None:
    needed = [
        "numpy/__init__.py",
        "numpy/testing/__init__.py",
        "scipy/sparse/__init__.py",
        "numpy-2.dist-info/METADATA",
    ]
    waste = ["numpy/tests/test_a.py", "numpy/__init__.pyi", "scipy/stats/__init__.py", "numpy/__pycache__/a.pyc",
            "bin/f2py", "numpy/include/a.h"]  # fmt: skip
    for name in (*needed, *waste):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    package.strip(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(needed)


def test_models_load_and_score_without_the_removed_parts_of_scipy() -> None:
    hide = f"""
import sys
for part in {package._UNUSED["scipy"]!r}:
    sys.modules["scipy." + part] = None
for absent in ("sklearn", "pandas", "matplotlib", "polars", "xgboost", "catboost"):
    sys.modules[absent] = None
import lightgbm, numpy as np
x = np.arange(400.0).reshape(200, 2)
y = np.arange(200) % 2
tree = lightgbm.train({{"objective": "binary", "verbose": -1}}, lightgbm.Dataset(x, y), 3)
tree = lightgbm.Booster(model_str=tree.model_to_string())
print(len(tree.predict(x)), len(tree.predict(x, pred_contrib=True)))
"""
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["200", "200"]


def test_personal_data_is_found_without_the_removed_parts_of_phonenumbers() -> None:
    hide = f"""
import sys
for part in {package._UNUSED["phonenumbers"]!r}:
    sys.modules["phonenumbers." + part] = None
from functions.workflows.connector_scan.personal_data import find_personal_data
print(find_personal_data("x", "string", ["+49 30 901820", "+1 (212) 555-0100", "+44 20 7946 0958"], 3).kind)
"""
    done = subprocess.run([sys.executable, "-c", hide], cwd=package.ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["phone"]


def test_a_package_over_the_limit_of_aws_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("code", "layers/base", "layers/scan", "layers/score"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "content").write_bytes(b"x" * 100)
    assert max(package.check_sizes(tmp_path).values()) == 300
    monkeypatch.setattr(package, "LIMIT_BYTES", 299)
    with pytest.raises(package.PackagingError, match=r"300 bytes .* AWS allows 299"):
        package.check_sizes(tmp_path)


def test_a_base_layer_over_its_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "layers" / "base").mkdir(parents=True)
    (tmp_path / "layers" / "base" / "content").write_bytes(b"x" * 100)
    monkeypatch.setattr(package, "BASE_LIMIT_BYTES", 99)
    with pytest.raises(package.PackagingError, match="the base layer is 100 bytes"):
        package.check_sizes(tmp_path)


@pytest.fixture(scope="module")
def aws_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with botocore's data, stripped as in a layer."""
    data = tmp_path_factory.mktemp("botocore") / "data"
    data.mkdir()
    for path in (Path(botocore.__file__).parent / "data").iterdir():
        if path.is_file():
            shutil.copy(path, data)
        elif path.name in {*package.SERVICES, "sns"}:
            shutil.copytree(path, data / path.name)
    package.strip_aws(data)
    return data


def test_layers_keep_only_aws_services_that_functions_call(aws_data: Path) -> None:
    called = {
        name
        for folder in ("shared", "functions")
        for path in (package.ROOT / folder).rglob("*.py")
        for name in re.findall(r'(?:boto3\.|\b_)client\(\s*"([a-z0-9-]+)"', path.read_text())
    }
    assert called == package.SERVICES == {path.name for path in aws_data.iterdir() if path.is_dir()}


@pytest.fixture
def clients(aws_data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], tuple[Any, Any]]:
    """Returns a function that makes a client from the stripped data and one from botocore's own data."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    def client(loader: Loader, service: str, region: str) -> Any:
        session = botocore.session.Session()
        session.register_component("data_loader", loader)
        return session.create_client(service, region_name=region)

    def both(service: str, region: str) -> tuple[Any, Any]:
        stripped = Loader([str(aws_data)], include_default_search_paths=False)
        return client(stripped, service, region), client(Loader(), service, region)

    return both


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "cn-north-1"])
@pytest.mark.parametrize("service", sorted(package.SERVICES))
def test_stripped_clients_have_the_same_endpoints_in_every_partition(
    service: str, region: str, clients: Callable[[str, str], tuple[Any, Any]]
) -> None:
    stripped, whole = clients(service, region)
    assert stripped.meta.endpoint_url == whole.meta.endpoint_url
    assert stripped.meta.config.signature_version == whole.meta.config.signature_version


@pytest.mark.parametrize("service", sorted(package.SERVICES))
def test_stripped_clients_have_every_operation_with_all_members(
    service: str, clients: Callable[[str, str], tuple[Any, Any]]
) -> None:
    stripped, whole = (client.meta.service_model for client in clients(service, "eu-central-1"))
    assert stripped.operation_names == whole.operation_names
    assert stripped.shape_names == whole.shape_names
    for name in whole.shape_names:
        assert stripped.shape_for(name).metadata == whole.shape_for(name).metadata
        assert list(getattr(stripped.shape_for(name), "members", ())) == list(
            getattr(whole.shape_for(name), "members", ())
        )
    assert not any(stripped.shape_for(name).documentation for name in stripped.shape_names)


def test_bytecode_is_not_checked_at_import_and_has_lambdas_file_names(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    module = tmp_path / "functions" / "one.py"
    module.write_text("def f(): pass\n")
    package.compile_bytecode(tmp_path, sys.executable, package.CODE_ROOT)
    bytecode = Path(importlib.util.cache_from_source(str(module))).read_bytes()
    assert int.from_bytes(bytecode[4:8], "little") == 1, "the flags of an unchecked hash"
    assert b"/var/task/functions/one.py" in bytecode
    assert str(tmp_path).encode() not in bytecode


def test_a_python_of_lambdas_version_is_found_behind_the_commands_of_pyenv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    assert package.find_interpreter("9.9") is None
    program("uv", "echo /found/by/uv")
    program("python9.9", '[ "$PYENV_VERSION" = 9.9 ] && echo /kept/by/pyenv')
    assert package.find_interpreter("9.9") == "/kept/by/pyenv"
    program("python9.9", "exit 127")
    assert package.find_interpreter("9.9") == "/found/by/uv"


@pytest.mark.parametrize("layer", [package.BASE, *Layer])
def test_layers_have_exact_versions_of_all_packages(layer: str) -> None:
    requirements = package.export(*package.SELECTIONS[layer])
    assert requirements
    assert all("==" in requirement for requirement in requirements)


def test_no_layer_holds_a_library_that_only_training_containers_need() -> None:
    for selection in package.SELECTIONS.values():
        assert not [line for line in package.export(*selection) if line.startswith(("catboost", "pandas", "xgboost"))]

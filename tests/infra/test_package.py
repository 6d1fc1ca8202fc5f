"""What is uploaded: code for functions, source for training containers, packages as layers."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from infra import package
from infra.groups import Layer


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.build_code(tmp_path_factory.mktemp("build"))


def test_functions_carry_their_code_and_the_documents_but_not_what_runs_in_containers(code: Path) -> None:
    documentation = code / "functions" / "documentation"
    assert json.loads((documentation / "openapi.json").read_text())["paths"]["/health"]
    assert (documentation / "redoc.standalone.js").stat().st_size > 100_000
    assert (code / "shared" / "settings.py").is_file()
    assert not (code / "functions" / "jobs").exists()
    assert not list(code.rglob("*.pyc"))


def test_packaged_functions_import_without_the_checkout(code: Path, tmp_path: Path) -> None:
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


def test_equal_source_makes_an_equal_archive_with_all_that_a_container_needs(tmp_path: Path) -> None:
    first = package.build_job_source(tmp_path / "one")
    second = package.build_job_source(tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        names = archive.getnames()
        member = archive.extractfile("requirements.txt")
        assert member is not None
        requirements = member.read().decode()
    for name in ("functions/__init__.py", "functions/jobs/train/__main__.py", "functions/jobs/evaluate/__main__.py"):
        assert name in names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith("/")]
    for library in ("lightgbm==", "xgboost==", "polars==", "pydantic=="):
        assert library in requirements


def test_layers_take_builds_without_gpu_code(tmp_path: Path) -> None:
    locked = list(package.cpu_only(["numpy==2.4.6", "xgboost==3.2.0 ; python_version > '3'"]))
    assert locked == ["numpy==2.4.6", "xgboost-cpu==3.2.0 ; python_version > '3'"]


def test_layers_lose_tests_headers_and_bytecode_but_no_code(tmp_path: Path) -> None:
    kept = ["numpy/__init__.py", "numpy/testing/__init__.py", "scipy/sparse/__init__.py", "numpy-2.dist-info/METADATA"]
    lost = ["numpy/tests/test_a.py", "numpy/__init__.pyi", "scipy/stats/__init__.py", "numpy/__pycache__/a.pyc",
            "bin/f2py", "numpy/include/a.h"]  # fmt: skip
    for name in (*kept, *lost):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    package.strip(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)


def test_models_still_load_and_score_without_the_parts_of_scipy_that_layers_lose() -> None:
    hide = f"""
import sys
for part in {package._UNUSED["scipy"]!r}:
    sys.modules["scipy." + part] = None
for absent in ("sklearn", "pandas", "matplotlib", "polars"):
    sys.modules[absent] = None
import lightgbm, numpy as np, xgboost
x = np.arange(400.0).reshape(200, 2)
y = np.arange(200) % 2
tree = lightgbm.train({{"objective": "binary", "verbose": -1}}, lightgbm.Dataset(x, y), 3)
tree = lightgbm.Booster(model_str=tree.model_to_string())
forest = xgboost.train({{"objective": "binary:logistic"}}, xgboost.DMatrix(x, y), 3)
print(len(tree.predict(x)), len(forest.inplace_predict(x)))
"""
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["200", "200"]


def test_a_package_over_awss_limit_is_refused_before_it_is_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("code", "layers/base", "layers/scan", "layers/score"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "content").write_bytes(b"x" * 100)
    assert max(package.check_sizes(tmp_path).values()) == 300
    monkeypatch.setattr(package, "LIMIT_BYTES", 299)
    with pytest.raises(package.PackagingError, match=r"300 bytes .* AWS allows 299"):
        package.check_sizes(tmp_path)


@pytest.mark.parametrize("layer", [package.BASE, *Layer])
def test_the_lock_file_names_an_exact_version_of_each_package_of_a_layer(layer: str) -> None:
    requirements = package.export(*package.SELECTIONS[layer])
    assert requirements
    assert all("==" in requirement for requirement in requirements)

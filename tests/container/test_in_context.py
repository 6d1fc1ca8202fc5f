"""Training containers read the operator's weights of TabICL, which teaches trees that need neither it nor PyTorch.

The weights are small and random, so the transformer is the real one, and knows nothing.
"""

import hashlib
import io
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.jobs.fitting.base import Examples, Hardware
from shared.errors import JobFailedError
from shared.models.job import JobWeights, TrainingJob
from shared.propensity.checkpoints import Scorer
from tests.container.conftest import CONTAINER, shipped_for
from tests.container.test_jobs import FreshContainer, ended
from tests.fixtures.environments import environment
from tests.functional.jobs.conftest import Box, Cloud, training
from tests.functional.jobs.test_train import customers, run
from tests.unit.jobs.fits import examples

pytestmark = [pytest.mark.usefixtures("torch_here"), pytest.mark.row("ML-1")]
TINY = {
    "max_classes": 4,
    "embed_dim": 8,
    "col_num_blocks": 1,
    "col_nhead": 2,
    "col_num_inds": 4,
    "row_num_blocks": 1,
    "row_nhead": 2,
    "row_num_cls": 2,
    "icl_num_blocks": 1,
    "icl_nhead": 2,
    "zero_init": False,
}


def saved(content: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def weights(**changes: Any) -> bytes:
    """Returns a file like those of TabICL's makers."""
    import torch
    from tabicl._model.tabicl import TabICL

    torch.manual_seed(5)
    configuration = {**TINY, **changes}
    return saved({"config": configuration, "state_dict": TabICL(**configuration).state_dict()})


def teaching(cloud: Cloud, content: bytes, **changes: Any) -> TrainingJob:
    """Returns a training whose deployment has these weights."""
    cloud.objects["data/weights/tabicl.ckpt"] = content
    stated = {"bucket": "data", "key": "weights/tabicl.ckpt", "license": "BSD-3-Clause"}
    placed = JobWeights.model_validate({**stated, "sha256": hashlib.sha256(content).hexdigest(), **changes})
    files = [cloud.put_frame("a.csv", customers())]
    configuration = {"views": 2, "ensemble_size": 2}
    return training(files, architecture="tabicl", configuration=configuration, weights=placed)


def test_a_training_with_weights_leaves_trees_and_says_how_far_the_teacher_is_from_them(box: Box, cloud: Cloud) -> None:
    checkpoint = run(teaching(cloud, weights()), box)

    [note] = [note for note in checkpoint.notes if "TabICL has a log loss" in note]
    assert note.endswith("did not help the trees, so the model has learned nothing from it.")
    assert checkpoint.model_files == ["scorecard.json", "trees.txt"]
    scorer = Scorer(box.container.model_folder)
    assert scorer.explains_exactly
    rows = customers(50, seed=9).drop("bought").to_dicts()
    for why, score in zip(
        scorer.explain(scorer.checkpoint.features.encode_rows(rows)), scorer.score(rows), strict=True
    ):
        log_odds = why.base_value + sum(why.contributions.values())
        assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(score.probability, abs=1e-6)


def test_a_container_teaches_with_its_own_pytorch_and_the_shipped_library(
    box: Box, cloud: Cloud, torch_folder: Path
) -> None:
    # PyTorch is there for our Python.
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    fresh = FreshContainer(box, environment("container", CONTAINER), shipped_for(python))
    fresh.variables["PYTHONPATH"] = str(torch_folder)
    output = ended(fresh.deploy(teaching(cloud, weights())))

    assert "metric roc_auc=" in output
    [note] = [note for note in Scorer(box.container.model_folder).checkpoint.notes if "TabICL has a log loss" in note]
    assert note.startswith("On 320 validation rows")


def test_equal_trainings_leave_equal_models_and_notes(tmp_path: Path, cloud: Cloud) -> None:
    job = teaching(cloud, weights())
    boxes = [Box(tmp_path / name, cloud) for name in ("first", "second")]
    first, second = (run(job, each) for each in boxes)

    assert first.notes == second.notes
    for name in first.model_files:
        assert len({(each.container.model_folder / name).read_bytes() for each in boxes}) == 1


def test_weights_with_another_checksum_than_stated_are_not_opened(box: Box, cloud: Cloud) -> None:
    job = teaching(cloud, b"no weights at all", sha256="0" * 64)
    with pytest.raises(JobFailedError, match=r"have the SHA-256 \w+, not 0{64}, .* so they were not opened"):
        run(job, box)


def test_weights_that_are_not_there_are_the_operators_to_provide(box: Box, cloud: Cloud) -> None:
    job = teaching(cloud, weights())
    cloud.objects.pop("data/weights/tabicl.ckpt")
    with pytest.raises(JobFailedError, match=r"s3://data/weights/tabicl\.ckpt: .* operator .* has to put them there"):
        run(job, box)


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["text", "cut", "code", "saved code", "no model", "other model", "regression"])
def test_files_that_are_no_weights_are_refused_in_words_and_run_no_code(
    box: Box, cloud: Cloud, tmp_path: Path, kind: str
) -> None:
    mark = tmp_path / "code ran"
    contents: dict[str, Callable[[], bytes]] = {
        "text": lambda: b"not a checkpoint",
        "cut": lambda: weights()[:5000],
        "code": lambda: pickle.dumps({"config": Harmful(mark), "state_dict": {}}),
        "saved code": lambda: saved({"config": Harmful(mark), "state_dict": {}}),
        "no model": lambda: saved([1, 2, 3]),
        "other model": lambda: saved({"config": TINY, "state_dict": {}}),
        "regression": lambda: weights(max_classes=0, num_quantiles=9),
    }
    with pytest.raises(JobFailedError, match="Its operator has to provide"):
        run(teaching(cloud, contents[kind]()), box)
    assert not mark.exists()


def test_missing_unknown_and_infinite_values_are_shown_to_the_transformer(tmp_path: Path) -> None:
    from functions.jobs.fitting.neural.in_context import Teacher

    path = tmp_path / "weights"
    path.write_bytes(weights())
    data = examples(200)
    teacher = Teacher(path, 3, (3,), Hardware(threads=1), 7)
    strange = data.matrix[:8].copy()
    strange[0], strange[1, 0], strange[2, 1], strange[3, 3] = np.nan, np.inf, -3e38, 40

    found = teacher.log_odds(data, strange)
    assert np.isfinite(found).all()
    assert len(np.unique(found)) == len(found)
    # A missing value is no mean value, nor a category of its own the first one.
    filled = np.where(np.isnan(data.matrix), np.nanmean(data.matrix, axis=0), data.matrix)
    assert not np.allclose(teacher.log_odds(data, data.matrix), teacher.log_odds(data, filled))


def test_rows_are_predicted_alike_in_any_number_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from functions.jobs.fitting.neural import in_context

    path = tmp_path / "weights"
    path.write_bytes(weights())
    data = examples(200)
    some, rest = data.take(np.arange(150)), data.matrix[150:]
    together = in_context.Teacher(path, 3, (3,), Hardware(threads=1), 7).log_odds(some, rest)
    monkeypatch.setattr(in_context, "CELLS_AT_ONCE", 6 * (len(some) + 7))
    in_parts = in_context.Teacher(path, 3, (3,), Hardware(threads=1), 7).log_odds(some, rest)
    np.testing.assert_allclose(in_parts, together, rtol=0, atol=1e-5)


def test_columns_of_one_value_leave_the_share_of_the_label(tmp_path: Path) -> None:
    from functions.jobs.fitting.neural.in_context import Teacher

    path = tmp_path / "weights"
    path.write_bytes(weights())
    constant = Examples(np.ones((60, 2), dtype=np.float32), (np.arange(60) % 3 == 0).astype(np.float32))
    found = Teacher(path, 2, (), Hardware(threads=1), 1).log_odds(constant, constant.matrix)
    assert np.isfinite(found).all()
    assert np.ptp(found) < 1e-5

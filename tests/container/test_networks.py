"""Networks are fitted by PyTorch, which only training containers have, and give the same scores without it."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from functions.jobs.fitting import auto
from functions.jobs.fitting.auto import SCORECARD, Member
from functions.jobs.fitting.base import TrainingStoppedError
from shared.propensity.architectures.configuration import TabMConfiguration
from shared.propensity.checkpoints import Scorer
from shared.propensity.log_odds import LogOddsModel, mean
from tests.container.conftest import CONTAINER, shipped_for
from tests.container.test_jobs import SECONDS_TO_WAIT, FreshContainer, ended
from tests.fixtures.environments import TORCH, environment
from tests.functional.jobs import test_workers
from tests.functional.jobs.conftest import Box, Cloud, training
from tests.functional.jobs.test_process import wait_for_saved_rounds
from tests.functional.jobs.test_train import customers, run
from tests.functional.jobs.test_workers import Start, instances, loss_of, saved_state, start, uploaded, workers_of
from tests.functional.jobs.test_workers import ended as ended_both
from tests.functional.jobs.test_workers import fitted as fitted_together
from tests.unit.jobs.fits import Recorder, examples, fit, session

__all__ = ["start"]

pytestmark = pytest.mark.usefixtures("torch_here")
SMALL = {"members": 3, "width": 16, "bins": 8, "vector_size": 4, "batch_size": 32, "learning_rate": 0.01}
TOGETHER = {
    "members": 4,
    "width": 24,
    "bins": 12,
    "vector_size": 4,
    "ensemble_size": 1,
    "batch_size": 128,
    "rounds": 25,
    "early_stopping_rounds": 25,
}


@pytest.mark.row("ML-1")
def test_numpy_gives_the_log_odds_of_pytorch() -> None:
    import torch

    from functions.jobs.fitting.neural.inputs import choose_inputs
    from functions.jobs.fitting.neural.network import TabMNetwork

    torch.manual_seed(3)
    matrix = examples(500).matrix
    configuration = TabMConfiguration(bins=8, members=4, width=32)
    network = TabMNetwork(choose_inputs(matrix, (3,), 8), configuration, -1.0).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    # Beyond all points, on a point, and codes that no row of the sample has.
    strange = np.array([[1e30, -1e30, 0, 40], [-3e38, 3e38, np.nan, -1], matrix[0], matrix[1]], dtype=np.float32)
    strange[2, 0] = network.inputs.numbers[0].points[3]
    scored = np.concatenate([matrix, strange])
    numbers, codes = network.inputs.split(scored)
    with torch.no_grad():
        wanted = network(torch.from_numpy(numbers), torch.from_numpy(codes)).mean(dim=1).numpy()

    found = network.as_numbers(matrix)
    np.testing.assert_allclose(found.log_odds(scored), wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose([found.log_odds(row[None])[0] for row in scored], wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.contributions(scored, 4).sum(axis=1), found.log_odds(scored), atol=1e-9)


@pytest.mark.row("ML-1", "ML-6")
def test_a_stopped_fit_goes_on_as_if_it_had_not_been_interrupted(tmp_path: Path) -> None:
    settings = {**SMALL, "rounds": 8, "early_stopping_rounds": 100}
    whole = Recorder()
    wanted = fit("tabm", session(tmp_path / "whole", whole), settings=settings)
    for rounds in (3, 9):
        with pytest.raises(TrainingStoppedError):
            fit("tabm", session(tmp_path / "parts", Recorder(stop_after=rounds)), settings=settings)
    last = Recorder()
    found = fit("tabm", session(tmp_path / "parts", last), settings=settings)

    # Of the second model's rounds, four were left.
    assert last.records == whole.records[-4:]
    assert [each.files() for each in found] == [each.files() for each in wanted]


@pytest.mark.row("ML-3", "X-16")
def test_the_best_round_is_kept_and_all_folds_become_one_model_whose_contributions_add_up(tmp_path: Path) -> None:
    recorder = Recorder()
    settings = {**SMALL, "rounds": 60, "early_stopping_rounds": 6}
    models = fit("tabm", session(tmp_path, recorder), settings=settings)

    data, losses = examples(), [loss for name, loss, _ in recorder.records if name == "validation_log_loss"]
    held = np.arange(300) % 2 == 0
    chances = models[0].predict(data.matrix[held])
    assert len(losses) < 60
    loss = -np.log(np.where(data.labels[held] == 1, chances, 1 - chances)).mean()
    assert loss == pytest.approx(min(losses), abs=1e-6)
    together = LogOddsModel.of_files(mean(models).files())
    log_odds = np.mean([model.log_odds(data.matrix) for model in models], axis=0)
    np.testing.assert_allclose(together.log_odds(data.matrix), log_odds, atol=1e-6)
    found = together.contributions(data.matrix)
    np.testing.assert_allclose(found.sum(axis=1), log_odds, atol=1e-6)
    # Only the first and the last column tell something of the labels.
    sizes = np.abs(found[:, :-1]).mean(axis=0)
    assert min(sizes[0], sizes[3]) > 1.5 * max(sizes[1], sizes[2])


@pytest.mark.row("ML-2", "X-16")
def test_a_blend_has_networks_beside_its_exact_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Member("tabm", "tabm", TabMConfiguration(**SMALL, rounds=5))
    monkeypatch.setattr(auto, "members_for", lambda *_: (SCORECARD, network))
    into = session(tmp_path)
    (model, _) = fit("auto", into)

    assert into.notes[0].startswith("auto fitted additive_8, tabm with")
    assert model.columns
    assert model.networks
    matrix = examples().matrix
    np.testing.assert_allclose(model.contributions(matrix).sum(axis=1), model.log_odds(matrix), atol=1e-6)


@pytest.mark.row("ML-1", "OP-5")
def test_a_container_trains_with_its_own_pytorch_what_scores_without_it(
    box: Box, cloud: Cloud, torch_folder: Path
) -> None:
    # PyTorch is there for our Python.
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    fresh = FreshContainer(box, environment("container", CONTAINER), shipped_for(python))
    fresh.variables["PYTHONPATH"] = str(torch_folder)
    configuration = {**SMALL, "rounds": 12, "ensemble_size": 1}
    job = training([cloud.put_frame("a.csv", customers())], architecture="tabm", configuration=configuration)
    output = ended(fresh.deploy(job))

    assert "metric roc_auc=" in output
    scorer = Scorer(box.container.model_folder)
    versions = scorer.checkpoint.library_versions
    assert (versions["torch"].partition("+")[0], versions["numpy"]) == (TORCH, np.__version__)
    assert not scorer.explains_exactly
    rows = customers(50, seed=9).drop("bought").to_dicts()
    matrix = scorer.checkpoint.features.encode_rows(rows)
    for why, score in zip(scorer.explain(matrix), scorer.score(rows), strict=True):
        log_odds = why.base_value + sum(why.contributions.values())
        assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(score.probability, abs=1e-6)


@pytest.fixture
def beside_torch(torch_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives PyTorch to the jobs that this process starts, and the time to import it on a busy machine."""
    monkeypatch.setenv("PYTHONPATH", str(torch_folder))
    monkeypatch.setattr(test_workers, "SECONDS_TO_WAIT", SECONDS_TO_WAIT)


@pytest.mark.row("DT-1")
@pytest.mark.usefixtures("beside_torch")
@pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="takes several minutes: set SLOW_TESTS")
def test_after_a_worker_has_died_all_go_on_from_the_saved_rounds_to_a_network_as_good_as_one_worker_s(
    tmp_path: Path, cloud: Cloud, start: Start
) -> None:
    job = training(uploaded(cloud, 9_000), architecture="tabm", configuration=TOGETHER, instance_count=2)
    job = job.model_copy(update={"save_interval_seconds": 0})
    boxes = instances(tmp_path, cloud)
    processes = start(boxes, job)
    wait_for_saved_rounds(boxes[0], 0, SECONDS_TO_WAIT)
    [worker] = workers_of(processes[1])
    os.kill(worker, signal.SIGKILL)
    codes = [code for code, _, _ in ended_both(processes)]

    assert codes == [1, 1]
    assert boxes[1].failure.startswith("Worker 2 of 2 was ended by SIGKILL: it probably ran out of memory.")
    assert boxes[0].failure.startswith("Worker 1 of 2 stopped, because another one ended or cannot be reached.")
    done = saved_state(boxes[0])["rounds"]
    two = fitted_together(boxes, job, start)
    assert two.series[0].step == done + 1
    assert two.series[-1].step <= TOGETHER["rounds"]
    one = run(job.model_copy(update={"instance_count": 1}), Box(tmp_path / "one", cloud))
    assert two.holdout == one.holdout
    assert loss_of(two) == pytest.approx(loss_of(one), rel=0.005)

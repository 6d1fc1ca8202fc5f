"""Trees learn from a teacher, as far as that helps: here from one whose probabilities are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from functions.jobs.fitting import tabicl
from functions.jobs.fitting.base import Examples, FitTask, Hardware, TrainingStoppedError
from functions.jobs.fitting.tabicl import CELLS_OF_A_CONTEXT, FEWEST_CONTEXT_ROWS, TabICL, Teaching
from shared.errors import JobFailedError
from shared.propensity.architectures.configuration import TabICLConfiguration
from shared.propensity.features import Matrix
from shared.propensity.log_odds import LogOdds, LogOddsModel
from tests.unit.jobs.fits import Recorder, fit, session

ROWS = 600


def true_log_odds(matrix: Matrix) -> LogOdds:
    return np.asarray(2.0 * matrix[:, 0] - matrix[:, 1] + np.sin(3 * matrix[:, 2]), dtype=np.float64)


def noisy(rows: int = ROWS, seed: int = 1) -> Examples:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, 6)).astype(np.float32)
    labels = (random.random(rows) < 1 / (1 + np.exp(-true_log_odds(matrix)))).astype(np.float32)
    return Examples(matrix, labels)


class Known:
    """A teacher with a formula. It notes what it was shown and asked."""

    def __init__(self, formula: Callable[[Matrix], LogOdds] = true_log_odds) -> None:
        self.formula = formula
        self.calls: list[tuple[Examples, Matrix]] = []

    def log_odds(self, context: Examples, matrix: Matrix) -> LogOdds:
        self.calls.append((context, matrix))
        return self.formula(matrix)


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[list[LogOddsModel], list[str]]]:
    """Returns a function that fits with a teacher, and returns the models and the notes."""

    def fit_with(
        teacher: Teaching,
        data: Examples | None = None,
        count: int = 3,
        recorder: Recorder | None = None,
        **settings: int,
    ) -> tuple[list[LogOddsModel], list[str]]:
        monkeypatch.setattr(tabicl, "_teacher", lambda _configuration, _task: teacher)
        into = session(tmp_path, recorder)
        return fit("tabicl", into, data or noisy(), settings, count, categorical=()), into.notes

    return fit_with


def loss(models: list[LogOddsModel], data: Examples) -> float:
    found = np.mean([model.log_odds(data.matrix) for model in models], axis=0)
    return float(np.logaddexp(0.0, np.where(data.labels == 1, -found, found)).mean())


@pytest.mark.row("ML-1")
@pytest.mark.parametrize("count", [1, 3])
def test_trees_learn_from_a_teacher_that_knows_more_than_the_labels(
    taught: Callable[..., tuple[list[LogOddsModel], list[str]]], tmp_path: Path, count: int
) -> None:
    models, [note] = taught(Known(), count=count)
    alone = fit("lightgbm", session(tmp_path / "alone"), noisy(), {}, count, categorical=())
    new = noisy(4_000, seed=9)

    assert "These are the model: TabICL itself does not score." in note
    assert len(models) == count
    assert loss(models, new) < loss(alone, new) - 0.01


@pytest.mark.row("ML-1")
def test_a_teacher_that_knows_nothing_changes_nothing(
    taught: Callable[..., tuple[list[LogOddsModel], list[str]]], tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    models, [note] = taught(Known(lambda matrix: random.normal(size=len(matrix))))
    alone = fit("lightgbm", session(tmp_path / "alone"), noisy(), {}, 3, categorical=())

    assert note.endswith("did not help the trees, so the model has learned nothing from it.")
    assert [model.files() for model in models] == [model.files() for model in alone]


@pytest.mark.row("ML-1")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_row_is_shown_to_the_teacher_that_is_asked_or_validates(
    taught: Callable[..., tuple[list[LogOddsModel], list[str]]], count: int
) -> None:
    # Of two equal rows, which are in the same fold, one would tell the label of the other.
    once = noisy()
    teacher = Known()
    taught(teacher, Examples(np.tile(once.matrix, (2, 1)), np.tile(once.labels, 2)), count)

    # Each model asks for its own rows, in parts, and for those that it is validated on.
    assert len(teacher.calls) == {1: 5, 2: 10, 3: 9}[count]
    for context, asked in teacher.calls:
        shown = {row.tobytes() for row in context.matrix}
        assert shown.isdisjoint(row.tobytes() for row in asked)


@pytest.mark.row("ML-1")
def test_a_teacher_is_shown_no_more_rows_than_fit_and_a_rare_label_stays(
    taught: Callable[..., tuple[list[LogOddsModel], list[str]]],
) -> None:
    data = noisy()
    rare = Examples(data.matrix, (np.arange(ROWS) % 60 < 2).astype(np.float32))
    teacher = Known()
    _, notes = taught(teacher, rare, context_rows=100)

    assert notes[0] == "TabICL was shown 100 of up to 400 rows together, because of its 6 columns and context_rows 100."
    for context, _ in teacher.calls:
        assert len(context) <= 100
        assert 1 <= context.labels.sum() <= 5


@pytest.mark.row("ML-1")
def test_rows_beyond_those_that_are_taught_keep_their_labels(
    taught: Callable[..., tuple[list[LogOddsModel], list[str]]],
) -> None:
    teacher = Known()
    taught(teacher, taught_rows=100)
    # Of two parts, and of the validation rows.
    assert {len(asked) for _, asked in teacher.calls} == {50}


@pytest.mark.row("ML-1")
def test_too_many_columns_are_refused_in_words(taught: Callable[..., tuple[list[LogOddsModel], list[str]]]) -> None:
    columns = CELLS_OF_A_CONTEXT // FEWEST_CONTEXT_ROWS + 1
    data = noisy()
    wide = Examples(np.random.default_rng(0).normal(size=(60, columns)).astype(np.float32), data.labels[:60])
    with pytest.raises(JobFailedError, match="reads at most 1,000 columns, and these data have 1,001"):
        taught(Known(), wide)


@pytest.mark.row("ML-1", "ML-6")
def test_a_fit_that_is_stopped_while_the_teacher_works_keeps_the_trees_of_the_labels(
    taught: Callable[..., tuple[list[LogOddsModel], list[str]]],
) -> None:
    recorder = Recorder()

    class Interrupted(Known):
        def log_odds(self, context: Examples, matrix: Matrix) -> LogOdds:
            recorder.stop_after = 0
            return super().log_odds(context, matrix)

    teacher = Interrupted()
    with pytest.raises(TrainingStoppedError) as stopped:
        taught(teacher, recorder=recorder)
    assert (len(teacher.calls), len(stopped.value.models)) == (1, 3)
    assert stopped.value.reached == "trees that learned from labels alone"


@pytest.mark.row("ML-1")
def test_a_job_without_weights_says_so(tmp_path: Path) -> None:
    data = noisy(60)
    task = FitTask(data, [np.arange(60) % 2 == 0], (), Hardware(threads=1), 1)
    with pytest.raises(JobFailedError, match="given no weights for the architecture tabicl"):
        TabICL().fit_folds(TabICLConfiguration(), task, session(tmp_path))

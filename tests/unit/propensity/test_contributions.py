"""What each column of a client adds to the score: exact, and back in the columns that customers know."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.propensity.checkpoints import Scorer
from shared.propensity.ensemble import Ensemble
from shared.propensity.log_odds import LogOddsModel
from shared.propensity.scorecards import ScorecardColumn
from tests.fixtures.trained_models import HERE, customers, train_model

OLD = Path(__file__).resolve().parents[2] / "fixtures" / "old_checkpoints"


@pytest.fixture(scope="module", params=HERE)
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(train_model(tmp_path_factory.mktemp("ml"), request.param))


def probability(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


@pytest.mark.row("X-16", "ML-3")
def test_base_and_contributions_sum_to_the_score(scorer: Scorer) -> None:
    rows = customers(300, seed=9).drop("bought").to_dicts()
    matrix = scorer.checkpoint.features.encode_rows(rows)
    scores = scorer.probabilities(matrix)

    for explanation, score in zip(scorer.explain(matrix), scores, strict=True):
        reached = explanation.base_value + sum(explanation.contributions.values())
        assert probability(reached) == pytest.approx(score, abs=1e-6)
    # One base for all: what the models say of nobody in particular.
    assert len({round(explanation.base_value, 9) for explanation in scorer.explain(matrix)}) == 1


@pytest.mark.row("X-16")
def test_contributions_are_of_the_source_columns_and_say_which_way_they_push(scorer: Scorer) -> None:
    rows = [
        {"age": age, "city": city, "active": True, "joined": "2021-05-01"} for age, city in ((80, "Lyon"), (20, "Nice"))
    ]
    old, young = scorer.explain(scorer.checkpoint.features.encode_rows(rows))
    assert set(old.contributions) == {"age", "city", "active", "joined"}
    assert old.contributions["age"] > 0 > young.contributions["age"]
    assert old.contributions["city"] > 0 > young.contributions["city"]


values = st.floats(-8, 8).map(lambda value: round(value, 6))


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=5))
def test_an_old_ensemble_s_contributions_sum_to_the_log_odds_of_its_mean_probability(
    members: list[tuple[float, float, float]],
) -> None:
    # Two columns that always have the same value.
    columns = [
        [ScorecardColumn(column=place, values=[value], missing=0) for place, value in enumerate(member[:2])]
        for member in members
    ]
    ensemble = Ensemble([LogOddsModel(2, member[2], each) for member, each in zip(members, columns, strict=True)])
    nothing = np.zeros((1, 2), dtype=np.float32)
    (found,) = ensemble.contributions(nothing)
    # By the mean of 1 - p as well: what is left of it in a mean near 1 has too few digits.
    yes, no = (np.mean([1 / (1 + np.exp(sign * sum(member))) for member in members]) for sign in (-1, 1))
    assert ensemble.predict(nothing) == pytest.approx(yes)
    assert found.sum() == pytest.approx(np.log(yes / no), abs=1e-6)
    if len(set(members)) == 1:
        assert found == pytest.approx(np.array(members[0]), abs=1e-6)


@pytest.mark.parametrize("architecture", ["lightgbm", "xgboost"])
def test_checkpoints_of_the_format_before_score_as_they_did(architecture: str) -> None:
    then = json.loads((OLD / f"{architecture}.json").read_text())
    old = Scorer(OLD / architecture)
    matrix = old.checkpoint.features.encode_rows(then["rows"])

    assert old.checkpoint.format_version == 2
    np.testing.assert_allclose(old.probabilities(matrix), then["probabilities"], atol=1e-6)
    for found, base, contributions in zip(old.explain(matrix), then["bases"], then["contributions"], strict=True):
        assert found.base_value == pytest.approx(base, abs=1e-3)
        assert found.contributions == pytest.approx(contributions, abs=1e-3)

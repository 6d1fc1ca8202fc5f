"""Arms stay stable, and the probabilities and intervals of experiments are right by simulation."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from functions.insights.experiment_service import result_of
from functions.insights.statistics import fit_probability
from shared.decisions.arbitration import Contender, arbitrate
from shared.decisions.experiments import Exploration, assigned, place_of
from shared.insights.exposures import ArmCounts
from shared.insights.store import Counts
from shared.models.client_key import ClientKeyRule
from shared.models.experiment import ExperimentArm, Experiments
from shared.models.insight import Client, Reaction

SIMULATIONS = 1000


def experiment(*percentages: str, salt: str = "salt") -> Experiments:
    arms = [ExperimentArm(name=f"arm {at}", percentage=Decimal(each)) for at, each in enumerate(percentages)]
    return Experiments(arms=arms, salt=salt, id="e")


def customer(number: int) -> Client:
    return Client.of({"customer_id": number}, [ClientKeyRule()])


def arm_of(experiments: Experiments, number: int) -> str:
    arm = assigned(experiments, customer(number))
    assert arm is not None
    return arm.name


@pytest.mark.row("XP-1")
def test_customers_keep_their_arms_as_the_base_grows_and_fit_the_percentages() -> None:
    running = experiment("10", "30.5", "59.5")
    before = {number: arm_of(running, number) for number in range(2000)}
    grown = {number: arm_of(running, number) for number in reversed(range(6000))}
    assert before.items() <= grown.items()
    sizes = [sum(name == f"arm {at}" for name in grown.values()) for at in range(3)]
    assert fit_probability(sizes, [10, 30.5, 59.5]) > 0.001
    # Another salt deals the customers anew: arms of two experiments are independent.
    other = experiment("50", "50", salt="other")
    halves = [
        sum(arm_of(other, number) == "arm 0" for number, arm in grown.items() if arm == f"arm {at}") for at in (1, 2)
    ]
    assert all(abs(half / size - 0.5) < 0.05 for half, size in zip(halves, sizes[1:], strict=True))


def test_a_client_without_a_key_is_in_no_arm() -> None:
    for nameless in ({"age": 3}, "Likes to travel"):
        assert assigned(experiment("50", "50"), Client.of(nameless, [ClientKeyRule()])) is None
    assert assigned(Experiments(), customer(1)) is None


def uplift(treated: tuple[int, int], control: tuple[int, int]) -> Any:
    baseline = ArmCounts(*control)
    return result_of(ExperimentArm(name="new", percentage=Decimal(50)), ArmCounts(*treated), baseline)


@pytest.mark.row("XP-1")
def test_experiments_that_compare_equals_are_significant_in_five_percent_of_cases() -> None:
    random = np.random.default_rng(18)
    significant = 0
    for number in range(SIMULATIONS):
        # The same customers in each experiment: only the salt deals them.
        in_new = np.array([place_of(f"salt {number}", str(key)) < 50 for key in range(1000)])
        converted = random.random(1000) < 0.2
        sizes, conversions = (int(in_new.sum()), int((~in_new).sum())), (converted & in_new, converted & ~in_new)
        result = uplift((sizes[0], int(conversions[0].sum())), (sizes[1], int(conversions[1].sum())))
        significant += result.is_significant
    assert 0.035 <= significant / SIMULATIONS <= 0.065


@pytest.mark.row("XP-2")
@pytest.mark.parametrize(("base", "customers"), [(0.05, 4000), (0.2, 1000), (0.01, 8000)])
def test_the_interval_covers_an_uplift_of_two_points_in_95_percent_of_cases(base: float, customers: int) -> None:
    random = np.random.default_rng(7)
    control = random.binomial(customers, base, SIMULATIONS)
    treated = random.binomial(customers, base + 0.02, SIMULATIONS)
    covered = 0
    for with_offer, without in zip(treated.tolist(), control.tolist(), strict=True):
        result = uplift((customers, with_offer), (customers, without))
        covered += result.uplift_low <= 0.02 <= result.uplift_high
    assert 0.935 <= covered / SIMULATIONS <= 0.965


@pytest.mark.row("XP-2")
def test_a_mismatch_of_samples_is_found_and_chance_is_not_one() -> None:
    random = np.random.default_rng(3)
    fair = [fit_probability(random.multinomial(5000, [0.2, 0.8]).tolist(), [20, 80]) for _ in range(SIMULATIONS)]
    assert sum(each < 0.001 for each in fair) <= 5
    assert 0.03 <= sum(each < 0.05 for each in fair) / SIMULATIONS <= 0.07
    assert fit_probability([1100, 3900], [20, 80]) < 0.001


def counts(accepted: int, rejected: int) -> Counts:
    return Counts({Reaction.ACCEPTED: accepted, Reaction.REJECTED: rejected, Reaction.IGNORED: 0}, ())


@pytest.mark.row("XP-3")
@pytest.mark.parametrize("fixed", [[], [0.06], [0.02, 0.12]], ids=["only draws", "one model", "two models"])
def test_the_stated_probability_of_selection_is_right_by_simulation(fixed: list[float]) -> None:
    known = {"new": counts(0, 0), "good": counts(12, 88), "poor": counts(3, 197), "worthless": counts(5, 5)}
    factors = {"new": 1.0, "good": 0.75, "poor": 2.0, "worthless": 0.0}
    exploration = Exploration(known, np.random.default_rng(5))
    models = [Contender(f"model {at}", propensity, 1.0) for at, propensity in enumerate(fixed)]
    stated: dict[str, float] = {}
    chosen: dict[str, int] = {}
    for _ in range(20_000):
        drawn = exploration.draw()
        ranking = arbitrate([*(Contender(name, drawn[name], factors[name]) for name in known), *models])
        best = ranking[0].action_id
        chosen[best] = chosen.get(best, 0) + 1
        if best not in stated:
            stated[best] = exploration.probability(ranking)
    assert sum(stated.values()) == pytest.approx(1, abs=0.005)
    for name, times in chosen.items():
        # Four standard errors of the simulated share.
        error = 4 * np.sqrt(stated[name] * (1 - stated[name]) / 20_000) + 0.001
        assert abs(times / 20_000 - stated[name]) < error, name
    assert "worthless" not in chosen


def test_without_exploration_the_winner_was_certain() -> None:
    assert Exploration({}).probability([Contender("a", 0.5, 1.0), Contender("b", 0.4, 1.0)]) == 1.0
    assert Exploration({}).draw() == {}

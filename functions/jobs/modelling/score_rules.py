"""Decides how log-odds become probabilities and labels, by rows that the models have not seen."""

from dataclasses import dataclass

from functions.jobs.modelling.calibration import Correction, choose_calibration
from functions.jobs.modelling.metrics import measure_all
from functions.jobs.modelling.thresholds import choose_threshold
from shared.models.job import Measurement
from shared.propensity.architectures.configuration import ArchitectureConfiguration
from shared.propensity.holdouts import Labels
from shared.propensity.log_odds import LogOdds, probability


@dataclass(frozen=True)
class ScoreRule:
    """The calibration, the threshold with the words for its rule, and notes about both."""

    calibration: Correction | None
    threshold: float
    threshold_rule: str
    notes: list[str]

    def measure(self, labels: Labels, log_odds: LogOdds) -> Measurement:
        """Returns what the model achieves on held-out rows."""
        raw = probability(log_odds)
        if self.calibration is None:
            return measure_all(labels, raw, None, self.threshold)
        return measure_all(labels, probability(self.calibration.corrected(log_odds)), raw, self.threshold)


def choose_score_rule(
    configuration: ArchitectureConfiguration, labels: Labels, log_odds: LogOdds, seed: int
) -> ScoreRule:
    """Returns the rule for log-odds of rows that the models have not seen."""
    calibration, about_calibration = choose_calibration(configuration.calibration, labels, log_odds, seed)
    chances = probability(calibration.corrected(log_odds) if calibration else log_odds)
    threshold, words, about_threshold = choose_threshold(labels, chances, configuration.threshold)
    return ScoreRule(calibration, threshold, words, [*about_calibration, *about_threshold])

"""Models of checkpoints of format 2 and before, which predict by the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.propensity.features import Matrix
from shared.propensity.log_odds import ContributionMatrix, LogOddsModel, Probabilities


@dataclass(frozen=True)
class Ensemble:
    """One or several models; the probability is the mean of theirs."""

    members: Sequence[LogOddsModel]

    def predict(self, matrix: Matrix) -> Probabilities:
        """Returns the probability of the positive class of each row."""
        return np.asarray(np.mean([member.predict(matrix) for member in self.members], axis=0))

    def contributions(self, matrix: Matrix) -> ContributionMatrix:
        """Returns what each column adds to the log-odds of ``predict``'s probability; the last column is what they
        start from.

        The sum over a row is those log-odds. One model's own are exact. The mean of probabilities is not the mean of
        log-odds: there, a member counts by how steeply its log-odds move the mean's, from its base to its answer.
        """
        members = np.stack([member.contributions(matrix) for member in self.members])
        if len(members) == 1:
            return np.asarray(members[0])
        base, reached = members[:, :, -1], members.sum(axis=2)
        mean_base, mean_reached = _log_odds_of_mean(base), _log_odds_of_mean(reached)
        steepness = _steepness(base, reached) / _steepness(mean_base, mean_reached)
        columns = (members[:, :, :-1] * steepness[:, :, None]).mean(axis=0)
        return np.concatenate([columns, mean_base[:, None]], axis=1)


def _probability(log_odds: Probabilities) -> Probabilities:
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def _log_odds_of_mean(log_odds: Probabilities) -> Probabilities:
    """Returns the log odds of the members' mean probability. It stays accurate close to 0 and 1."""
    positive, negative = (np.logaddexp.reduce(-np.logaddexp(0, sign * log_odds)) for sign in (-1, 1))
    return np.asarray(positive - negative)


def _steepness(start: Probabilities, end: Probabilities) -> Probabilities:
    """Returns the mean rise of the probability for each unit of log odds between ``start`` and ``end``."""
    low, high = np.minimum(start, end), np.maximum(start, end)
    way = np.maximum(high - low, np.finfo(np.float64).tiny)
    # p(high) - p(low) without a difference of what is nearly the same.
    rise = _probability(high) * _probability(-low) * -np.expm1(-way)
    return np.asarray(np.maximum(rise / way, np.finfo(np.float64).tiny))

"""Estimates what a training costs: before it runs, while it runs and at its end."""

from collections.abc import Iterable
from datetime import datetime

from functions.trainings.prices import AS_OF, CURRENCY, HOURLY, REGION
from shared.models.job_status import JobStatus
from shared.models.training import Training, TrainingCost


def cost_of(training: Training, preferred: str, now: datetime, earlier: Training | None = None) -> TrainingCost | None:
    """Returns the cost on the training's instance, or until it has one, on the preferred one.

    ``earlier`` is a similar training that has ended, whose time is expected again where the job does not report its
    own. ``None`` for an instance without a known price.
    """
    instance = training.instance_type or preferred
    price = HOURLY.get(instance, 0) * training.instance_count
    if not price:
        return None
    so_far, expected = _seconds(training, now), None
    if training.status is JobStatus.SUCCEEDED:
        expected = so_far
    elif not training.status.is_final:
        if training.progress:
            expected = (so_far or 0) + training.progress.seconds_left
        elif earlier:
            expected = max(so_far or 0, _billed(earlier) or 0)
    return TrainingCost(
        currency=CURRENCY,
        instance_type=instance,
        hourly=round(price, 4),
        so_far=_dollars(so_far, price),
        expected=_dollars(expected, price),
        prices_as_of=AS_OF,
        prices_of=REGION,
    )


def similar(training: Training, others: Iterable[Training]) -> Training | None:
    """Returns the newest training that fitted the same architecture for the same data model, on such machines."""

    def alike(other: Training) -> tuple[str, str, int, int]:
        return other.architecture, other.data_model_id, other.gpu_count, other.instance_count

    return next((one for one in others if alike(one) == alike(training) and _billed(one)), None)


def _billed(training: Training) -> float | None:
    return training.billable_seconds or training.training_seconds


def _seconds(training: Training, now: datetime) -> float | None:
    """Returns the seconds that are paid for until now, as far as they are known."""
    if training.status.is_final:
        return _billed(training)
    return max(0.0, (now - training.started_at).total_seconds()) if training.started_at else 0


def _dollars(seconds: float | None, hourly: float) -> float | None:
    return None if seconds is None else round(seconds / 3600 * hourly, 4)

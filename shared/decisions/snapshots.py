"""Keeps a moment with a run, so that all its parts decide by the same policy, actions, models and counts."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from shared.decisions.moments import Moment
from shared.insights.store import NO_COUNTS, Counts
from shared.models.action import Action
from shared.models.action_group import ActionGroup
from shared.models.checkpoint import Checkpoint
from shared.models.decision_run import DecisionSettings
from shared.models.experiment import Experiments
from shared.models.insight import InsightPolicy

_VALUES = TypeAdapter(dict[str, Any])


def kept(
    moment: Moment, checkpoints: Mapping[str, Checkpoint], counts: Mapping[str, Counts], **choices: Any
) -> DecisionSettings:
    """Returns the settings of a run that decides at a moment."""
    return DecisionSettings(
        now=moment.now,
        policy=_fields(moment.policy),
        experiments=_fields(moment.experiments),
        actions=[_fields(action) for action in moment.actions],
        groups=[_fields(group) for group in moment.groups.values()],
        checkpoints={name: _fields(checkpoint) for name, checkpoint in checkpoints.items()},
        counts={name: each.item for name, each in counts.items()},
        **choices,
    )


def references(moment: Moment) -> list[str]:
    """Returns the ids and aliases of all models that may score at a moment."""
    named = [action.model_id for action in moment.actions] + [arm.checkpoint for arm in moment.experiments.arms]
    return sorted({each for each in named if each})


class KeptMoment:
    """A moment as a run keeps it, with the checkpoints and counts of that time."""

    def __init__(self, settings: DecisionSettings) -> None:
        groups = [ActionGroup.model_validate(each) for each in settings.groups]
        self.moment = Moment(
            settings.now,
            InsightPolicy.model_validate(settings.policy),
            Experiments.model_validate(settings.experiments),
            [Action.model_validate(each) for each in settings.actions],
            {group.id: group for group in groups},
        )
        self._checkpoints = {name: Checkpoint.model_validate(each) for name, each in settings.checkpoints.items()}
        self._counts = {name: Counts.of(each) for name, each in settings.counts.items()}

    def checkpoints(self, _space_id: str, references: list[str]) -> dict[str, Checkpoint]:
        return {each: self._checkpoints[each] for each in references if each in self._checkpoints}

    def counts(self, _space_id: str, action_ids: Iterable[str]) -> dict[str, Counts]:
        return {each: self._counts.get(each, NO_COUNTS) for each in action_ids}


def _fields(model: BaseModel) -> dict[str, Any]:
    """Returns all fields, also those that responses do not show."""
    values = {name: getattr(model, name) for name in type(model).model_fields}
    dumped: dict[str, Any] = _VALUES.dump_python(values, mode="json")
    return dumped

"""Changes a moment as a what-if asks: other fields of the policy and of actions."""

from dataclasses import replace

from shared.decisions.moments import Moment
from shared.errors import ValidationFailedError
from shared.models.action import Action, ActionStatus
from shared.models.base import Model
from shared.models.decision_run import ActionOverride, RunOverrides


def changed(moment: Moment, overrides: RunOverrides) -> Moment:
    """Returns the moment with the overrides. Raises ValidationFailedError for an action that the run does not have."""
    given = {each.action_id: each for each in overrides.actions}
    known = {action.id for action in moment.actions}
    for index, each in enumerate(overrides.actions):
        if each.action_id not in known:
            raise ValidationFailedError.of(
                f"body.overrides.actions[{index}].action_id", "is no action that the run compares"
            )
        if each.value is not None and each.value.currency != moment.policy.currency:
            raise ValidationFailedError.of(
                f"body.overrides.actions[{index}].value.currency", f"must be {moment.policy.currency}, as in the policy"
            )
    actions = [_changed(action, given[action.id]) if action.id in given else action for action in moment.actions]
    policy = moment.policy
    if overrides.policy is not None:
        policy = policy.model_copy(update=_sent(overrides.policy))
    left = [action for action in actions if action.status is ActionStatus.ACTIVE or action.id not in given]
    return replace(moment, policy=policy, actions=left)


def _changed(action: Action, override: ActionOverride) -> Action:
    changes = _sent(override)
    changes.pop("action_id")
    return action.model_copy(update=changes)


def _sent(model: Model) -> dict[str, object]:
    """Returns the fields that were sent with a value."""
    return {name: value for name in model.model_fields_set if (value := getattr(model, name)) is not None}

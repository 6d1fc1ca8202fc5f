"""The words of an offer that no language model writes, and the message to the customer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from shared.errors import ApiError
from shared.llm.completions import BrokenResponseError
from shared.models.action import Action
from shared.models.channel_template import ACTION_FIELDS, render
from shared.models.insight import FinishReason, InsightUsage, ReasonCode, Timeliness

# The limits of one placeholder's value and of a whole message.
VALUE_CHARACTERS = 10_000
CONTENT_CHARACTERS = 200_000


@dataclass(frozen=True)
class PromptFacts:
    """The facts of a prompt. ``other_names`` are the names of offers that the text must not mention."""

    client: Mapping[str, Any]
    action: Action
    reason_codes: list[ReasonCode]
    channels: list[str]
    today: date
    other_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class GeneratedText:
    """The text of an insight. ``error`` is the reason why no language model wrote it."""

    insight: str = ""
    argument: str = ""
    thinking: str = ""
    argument_thinking: str = ""
    best_channel: str = ""
    best_time: str = ""
    timeliness: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    error: str | None = None
    model: str | None = None
    prompt: str = ""
    usage: InsightUsage = field(default_factory=InsightUsage)


class CutOffError(BrokenResponseError):
    """Error raised when the completion reaches its token limit before its end."""


def plain_text(facts: PromptFacts, error: ApiError | None = None, **details: Any) -> GeneratedText:
    """Returns a text that lists the reasons and the facts, without a language model, because of ``error`` if any."""
    action = facts.action
    reasons = [f"{code.feature} ({code.value}) {code.direction} it" for code in facts.reason_codes]
    why = f" {_sentence('The reasons: ' + ', '.join(reasons))}" if reasons else ""
    facts_text = (action.name, action.description, action.custom_insights or "")
    end = action.end_date.date() if action.end_date else None
    return GeneratedText(
        insight=f"'{action.name}' has the best score of all offers for this client.{why}",
        argument=" ".join(_sentence(text) for text in facts_text if text.strip()),
        best_channel=next(iter(facts.channels), ""),
        best_time=f"by {end}" if end else "any time",
        timeliness=_timeliness(end, facts.today),
        finish_reason=_finish_reason(error),
        error=error.message if error else None,
        **details,
    )


def _finish_reason(error: ApiError | None) -> FinishReason:
    if error is None:
        return FinishReason.PLAIN
    return FinishReason.LENGTH if isinstance(error, CutOffError) else FinishReason.ERROR


def _timeliness(end: date | None, today: date) -> Timeliness:
    """Returns how soon the client must hear of the offer before its end."""
    left = end - today if end else None
    if left is None or left > timedelta(days=31):
        return Timeliness.LATER if left else Timeliness.THIS_MONTH
    if left <= timedelta(days=1):
        return Timeliness.IMMEDIATE
    return Timeliness.THIS_WEEK if left <= timedelta(days=7) else Timeliness.THIS_MONTH


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def content(action: Action, client: Mapping[str, Any], text: GeneratedText) -> str:
    """Returns the message to the client: the filled channel template, or the argument if there is no template."""
    if not action.channel_template:
        return text.argument
    values: dict[str, Any] = {
        **{f"client.{name}": value for name, value in client.items()},
        **{f"action.{name}": getattr(action, name) for name in ACTION_FIELDS},
        "insight": text.insight,
        "argument": text.argument,
        "best_time": text.best_time,
    }
    shown = {name: "" if value is None else str(value)[:VALUE_CHARACTERS] for name, value in values.items()}
    return render(action.channel_template, shown)[:CONTENT_CHARACTERS]

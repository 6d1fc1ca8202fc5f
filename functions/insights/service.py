"""Rules of insights: decide what to offer, have it worded, keep both."""

import time
from typing import Any

from anyio.to_thread import run_sync as in_thread

from functions.insights.arbitration import ARBITRATION
from functions.insights.decisions import Decider, Decision, Winner
from functions.insights.wording import GeneratedText, PromptFacts, Writer
from shared.checkpoints.lineages import Lineages
from shared.clock import Clock, new_id
from shared.dynamodb.repository import Idempotency
from shared.insights.store import Insights
from shared.llm.language_models import Caller, LanguageModelAccess
from shared.models.channel_template import ACTION_FIELDS, render
from shared.models.insight import FinishReason, Insight, InsightCreate
from shared.models.lineage import Lineage
from shared.spaces.members import SpaceContext

# Of one placeholder's value, and of a whole message.
VALUE_CHARACTERS = 10_000
CONTENT_CHARACTERS = 200_000


class InsightService:
    def __init__(
        self, insights: Insights, decider: Decider, access: LanguageModelAccess, lineages: Lineages, clock: Clock
    ) -> None:
        self._insights = insights
        self._decider = decider
        self._writer = Writer(access)
        self._lineages = lineages
        self._clock = clock

    def get(self, context: SpaceContext, insight_id: str) -> Insight:
        return self._insights.get(context.space_id, insight_id)

    def lineage(self, context: SpaceContext, insight_id: str) -> Lineage:
        decision = self._insights.lineage(context.space_id, insight_id)
        return self._lineages.trace(context.space_id, decision, insight_id=insight_id)

    async def create(
        self, context: SpaceContext, request: InsightCreate, idempotency: Idempotency | None, correlation_id: str
    ) -> Insight:
        """Returns the best action for the client with a text. Without a language model the text is plain, and the
        insight says so.

        Raises ValidationFailedError for an unknown action, UnknownModelError for an unknown language model.
        """
        started = time.perf_counter()
        if idempotency is not None:
            first = await in_thread(self._insights.answered, context.space_id, idempotency)
            if first is not None:
                return first
        caller = Caller.of(context, correlation_id)
        pen = await self._writer.open(caller, request.model) if request.model else None
        decision = await in_thread(self._decider.decide, context.space_id, request)
        words = GeneratedText(finish_reason=FinishReason.NO_ELIGIBLE_ACTION)
        if decision.winner is not None:
            pen = pen or await self._writer.open(caller, None)
            words = await self._writer.write(pen, self._facts(decision, decision.winner), request)
        insight = self._insight(context, request, decision, words)
        insight.elapsed_time_in_seconds = round(time.perf_counter() - started, 6)
        stored = await in_thread(self._keep, context, insight, decision, idempotency)
        if stored is insight:
            insight.elapsed_time_in_seconds = round(time.perf_counter() - started, 6)
        return stored

    def _facts(self, decision: Decision, winner: Winner) -> PromptFacts:
        return PromptFacts(
            client=decision.client.fields,
            action=winner.action,
            reason_codes=winner.explained.reason_codes if winner.explained else [],
            channels=decision.channels,
            today=self._clock().date(),
            other_names=[each.name for each in decision.candidates if each.action_id != winner.action.id],
        )

    def _insight(
        self, context: SpaceContext, request: InsightCreate, decision: Decision, words: GeneratedText
    ) -> Insight:
        now, winner = self._clock(), decision.winner
        return Insight(
            id=new_id(),
            created_at=now,
            updated_at=now,
            action_id=winner.action.id if winner else None,
            actions=",".join(each.action_id for each in decision.candidates if each.rank),
            arbitration=ARBITRATION,
            argument=words.argument,
            argument_content=_content(decision, winner, words) if winner else "",
            argument_thinking=words.argument_thinking,
            best_channel=words.best_channel,
            best_time=words.best_time,
            candidates=decision.candidates,
            client_kind=decision.client.kind,
            contributions=winner.explained.contributions if winner and winner.explained else None,
            created_by=context.user_id,
            error=words.error,
            finish_reason=words.finish_reason,
            insight=f"{words.prompt}\n\n{words.insight}" if request.echo and words.prompt else words.insight,
            model=words.model,
            reason_codes=winner.explained.reason_codes if winner and winner.explained else [],
            thinking=words.thinking,
            timeliness=words.timeliness,
            type=winner.action.type if winner else "",
            usage=words.usage,
        )

    def _keep(
        self, context: SpaceContext, insight: Insight, decision: Decision, idempotency: Idempotency | None
    ) -> Insight:
        band = decision.winner.band if decision.winner else None
        client = decision.client
        checkpoint = decision.winner.propensity.checkpoint if decision.winner else None
        lineage = self._lineages.of_decision(context.space_id, insight.action_id, checkpoint)
        return self._insights.create(context.space_id, insight, client.key, client.features, band, lineage, idempotency)


def _content(decision: Decision, winner: Winner, words: GeneratedText) -> str:
    """Returns the message: the channel's template with its values, or the argument if there is no template."""
    action = winner.action
    if not action.channel_template:
        return words.argument
    values: dict[str, Any] = {
        **{f"client.{name}": value for name, value in decision.client.fields.items()},
        **{f"action.{name}": getattr(action, name) for name in ACTION_FIELDS},
        "insight": words.insight,
        "argument": words.argument,
        "best_time": words.best_time,
    }
    shown = {name: "" if value is None else str(value)[:VALUE_CHARACTERS] for name, value in values.items()}
    return render(action.channel_template, shown)[:CONTENT_CHARACTERS]

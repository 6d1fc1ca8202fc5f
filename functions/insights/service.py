"""Creates insights: decides which action to offer, writes a text for the client, and stores both."""

import time
from collections.abc import Sequence
from typing import Any

from anyio.to_thread import run_sync as in_thread

from functions.insights.decisions import Decider, Decision, Winner, missing_key
from functions.insights.wording import Writer
from shared.checkpoints.lineages import Lineages
from shared.clock import Clock, new_id
from shared.decisions.words import GeneratedText, PromptFacts, content, plain_text
from shared.dynamodb.repository import Idempotency
from shared.dynamodb.table import Write, repeat_on_conflict
from shared.errors import UnavailableError, ValidationFailedError
from shared.insights.exposures import ExposedMeanwhileError
from shared.insights.ledger import LedgerChangedError, Report, ReportedContact
from shared.insights.store import Insights
from shared.llm.language_models import Caller, LanguageModelAccess
from shared.models.action import Action
from shared.models.contact import ContactStatus
from shared.models.insight import FinishReason, Insight, InsightCreate, InsightPolicy, Wording
from shared.models.lineage import DecisionLineage, Lineage
from shared.spaces.members import SpaceContext

_UNWRITTEN = UnavailableError("The text is being written. Get the insight again in half a minute.")


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
        self,
        context: SpaceContext,
        request: InsightCreate,
        idempotency: Idempotency | None,
        correlation_id: str,
        started: float,
    ) -> Insight:
        """Creates an insight. Without a language model, its text lists the facts, and its ``error`` has the reason.

        ``started`` is when the request arrived, by ``time.perf_counter``.

        Raises ValidationFailedError for an unknown action, and UnknownModelError for an unknown language model.
        """
        if idempotency is not None and request.dry_run:
            raise ValidationFailedError.of("header.Idempotency-Key", "is not for a dry run, which stores nothing")
        if idempotency is not None:
            first = await in_thread(self._insights.answered, context.space_id, idempotency)
            if first is not None:
                return first
        caller = Caller.of(context, correlation_id)
        writer_model = await self._writer.open(caller, request.model) if request.model else None
        decision, insight, stored = await in_thread(
            self._decide, context, request, idempotency, correlation_id, started
        )
        if stored is not insight:
            return stored
        if decision.winner is None or request.wording is not Wording.ARGUMENT:
            insight.elapsed_time_in_seconds = round(time.perf_counter() - started, 6)
            return insight
        # The decision is stored, so nobody loses it while the language model writes.
        writer_model = writer_model or await self._writer.open(caller, None)
        text = await self._writer.write(writer_model, self._facts(decision, decision.winner), request)
        claims = await in_thread(_claims, decision.client.fields, decision.winner.action, text)
        insight = insight.model_copy(update={**_texts(decision, request, text), **claims})
        insight.elapsed_time_in_seconds = round(time.perf_counter() - started, 6)
        return await in_thread(self._insights.reword, context.space_id, insight)

    def _decide(
        self,
        context: SpaceContext,
        request: InsightCreate,
        idempotency: Idempotency | None,
        correlation_id: str,
        started: float,
    ) -> tuple[Decision, Insight, Insight]:
        """Decides, and stores the insight with the reserved contact, if asked. It decides again if contacts changed.

        Returns the decision, its insight, and the stored insight, which is an earlier one for a repeated request.
        """

        def step() -> tuple[Decision, Insight, Insight]:
            decision = self._decider.decide(context.space_id, request)
            insight = self._insight(context, decision)
            also: list[Write] = []
            if decision.winner is not None:
                text = self._first_text(decision, decision.winner, request.wording)
                insight = insight.model_copy(update=_texts(decision, request, text))
            if decision.winner is not None and request.reserve:
                insight.reserved_until = insight.created_at + decision.policy.reservation
                reported = _reserved(decision, decision.winner, insight)
                ledger, version = self._insights.ledger, decision.ledger_version
                also = ledger.reservation(context.space_id, decision.client.key, reported, version)
            insight.elapsed_time_in_seconds = round(time.perf_counter() - started, 6)
            if request.dry_run:
                insight.dry_run = True
                return decision, insight, insight
            return decision, insight, self._keep(context, insight, decision, idempotency, correlation_id, also)

        return repeat_on_conflict(
            step, "Too many decisions about the same customer now.", (LedgerChangedError, ExposedMeanwhileError)
        )

    def _first_text(self, decision: Decision, winner: Winner, wording: Wording) -> GeneratedText:
        """Returns the text with which an insight is stored before a language model writes, if one does."""
        if wording is Wording.NONE:
            return GeneratedText(best_channel=next(iter(decision.channels), ""), finish_reason=FinishReason.NO_WORDING)
        return plain_text(self._facts(decision, winner), _UNWRITTEN if wording is Wording.ARGUMENT else None)

    def _facts(self, decision: Decision, winner: Winner) -> PromptFacts:
        return PromptFacts(
            client=decision.client.fields,
            action=winner.action,
            reason_codes=winner.explained.reason_codes if winner.explained else [],
            channels=decision.channels,
            today=self._clock().date(),
            other_names=[each.name for each in decision.candidates if each.action_id != winner.action.id],
        )

    def _insight(self, context: SpaceContext, decision: Decision) -> Insight:
        """Returns the insight of a decision, without texts if there is an offer."""
        now, winner, name = self._clock(), decision.winner, decision.client.name
        return Insight(
            id=new_id(),
            created_at=now,
            updated_at=now,
            action_id=winner.action.id if winner else None,
            actions=",".join(each.action_id for each in decision.candidates if each.rank),
            arbitration=decision.arbitration,
            candidates=decision.candidates,
            client_key=name.key if name else None,
            client_key_field=name.field if name else None,
            client_key_note=None if name else _without_key(decision.policy),
            client_kind=decision.client.kind,
            contributions=winner.explained.contributions if winner and winner.explained else None,
            created_by=context.user_id,
            arm=decision.arm.name if decision.arm else None,
            experiment_id=decision.experiment_id if decision.arm else None,
            finish_reason=FinishReason.CONTROL if decision.withheld_action_id else FinishReason.NO_ELIGIBLE_ACTION,
            limits=decision.limits,
            selection_probability=decision.selection_probability,
            withheld_action_id=decision.withheld_action_id,
            offers=decision.offers,
            reason_codes=winner.explained.reason_codes if winner and winner.explained else [],
            type=winner.action.type if winner else "",
        )

    def _keep(
        self,
        context: SpaceContext,
        insight: Insight,
        decision: Decision,
        idempotency: Idempotency | None,
        correlation_id: str,
        also: Sequence[Write] = (),
    ) -> Insight:
        client, winner = decision.client, decision.winner
        return self._insights.create(
            context.space_id,
            insight,
            client.key,
            client.features,
            winner.band if winner else None,
            winner.lineage if winner else DecisionLineage(),
            idempotency,
            group=winner.action.group or None if winner else None,
            correlation_id=correlation_id,
            also=also,
        )


def _claims(client: dict[str, Any], action: Action, text: GeneratedText) -> dict[str, Any]:
    """Returns the claims of a text that a language model wrote. Plain words are made of facts only."""
    if text.finish_reason is not FinishReason.STOP:
        return {}
    # Its patterns take time to build, so a start does without them.
    from shared.grounding.claims import count_unsupported, ground

    offer = action.model_dump(mode="json", include={"name", "description", "custom_insights", "end_date", "channel"})
    claims = ground(f"{text.insight}\n{text.argument}", {"client": client, "action": offer})
    return {"claims": claims, "unsupported_claims": count_unsupported(claims)}


def _texts(decision: Decision, request: InsightCreate, text: GeneratedText) -> dict[str, Any]:
    """Returns the fields of an insight that depend on its text."""
    return {
        "argument": text.argument,
        "argument_content": content(decision.winner.action, decision.client.fields, text) if decision.winner else "",
        "argument_thinking": text.argument_thinking,
        "best_channel": text.best_channel,
        "best_time": text.best_time,
        "error": text.error,
        "finish_reason": text.finish_reason,
        "insight": f"{text.prompt}\n\n{text.insight}" if request.echo and text.prompt else text.insight,
        "model": text.model,
        "thinking": text.thinking,
        "timeliness": text.timeliness,
        "usage": text.usage,
    }


def _reserved(decision: Decision, winner: Winner, insight: Insight) -> ReportedContact:
    report = Report(ContactStatus.RESERVED, insight.created_at, insight.reserved_until)
    channel = next(iter(decision.channels), None)
    group = winner.action.group or None
    return ReportedContact(insight.id, report, winner.action.id, default_channel=channel, group=group)


def _without_key(policy: InsightPolicy) -> str:
    return (
        f"No field names the customer, so only exactly the same client counts as the same one: {missing_key(policy)}."
    )

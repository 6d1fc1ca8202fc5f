"""Calls the language models of spaces, with fallbacks, circuit breakers, limits and logs."""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Self, TypeVar

import anyio
from anyio.to_thread import run_sync as in_thread

from shared.clock import Clock, new_id, utc_now
from shared.dynamodb.table import Write
from shared.errors import ApiError, UnavailableError
from shared.inference_logs.store import InferenceLogs
from shared.llm.call_limits import CallLimits, limit_subjects
from shared.llm.call_records import CallRecord
from shared.llm.circuits import SERVER, Call, CircuitOpenError, model_circuit
from shared.llm.completions import (
    BrokenResponseError,
    BusyError,
    Completion,
    RejectedError,
    UnknownModelError,
    UpstreamTimeoutError,
)
from shared.llm.limit_usage import LimitUsages, Subject
from shared.llm.model_lists import ModelLists
from shared.llm.targets import Target, Targets
from shared.models.cluster import ClusterSettings, LanguageModel
from shared.models.inference_log import CallStatus, CallType, InferenceLog
from shared.models.limits import SpaceLimits
from shared.network.foreign_json import whole_text
from shared.spaces.members import SpaceContext

T = TypeVar("T")

STRUCTURED_TOKENS = 400
# vLLM's name for the text that keeps the prompt caches of callers apart, and its name in its list of models.
CACHE_SALT, SALTING_SERVER = "cache_salt", "vllm"
REASON_CHARACTERS = 500


@dataclass(frozen=True)
class Caller:
    """The user of a call with the details for the inference log and the limits that apply."""

    space_id: str
    user: str
    correlation_id: str
    tags: tuple[str, ...] = ()
    chat_id: str | None = None
    subjects: tuple[Subject, ...] = ()
    prices: SpaceLimits = field(default_factory=SpaceLimits)

    @classmethod
    def of(cls, context: SpaceContext, correlation_id: str, **more: Any) -> Self:
        given = {"user": context.user_id, "subjects": limit_subjects(context), **more}
        return cls(context.space_id, correlation_id=correlation_id, prices=context.limits or SpaceLimits(), **given)


class LanguageModels:
    """The language models of one space, for one caller. ``LanguageModelAccess.open`` returns it."""

    def __init__(
        self,
        target: Target,
        caller: Caller,
        logs: InferenceLogs,
        lists: ModelLists,
        clock: Clock = utc_now,
        limits: CallLimits | None = None,
    ) -> None:
        self._target = target
        self._logs = logs
        self._lists = lists
        self._clock = clock
        self._limits = limits
        self._listed = target.state.models
        self.caller = caller
        self.tokens: Counter[CallType] = Counter()

    @property
    def settings(self) -> ClusterSettings:
        return self._target.settings

    @property
    def is_shared(self) -> bool:
        return self._target.is_shared

    def failure(self, message: str) -> ApiError:
        """Returns the error of a server that works, but not as it must."""
        return UnavailableError(message) if self._target.is_shared else BrokenResponseError(message)

    async def all(self) -> Sequence[LanguageModel]:
        """Returns every model in the latest list of the cluster. Raises its error if there is no list."""
        self._listed, _ = await self._lists.current(self._target)
        return self._listed.models

    async def model(self, name: str | None) -> LanguageModel:
        """Returns the model of this name, or the default model.

        Raises UnknownModelError with a list of the models if the cluster does not serve the name. If the list cannot
        be read, every name is accepted, because the call fails later for a wrong name.
        """
        wanted = name or self.settings.default_model
        try:
            self._listed = found = (await self._lists.current(self._target))[0]
        except ApiError:
            if wanted is None:
                raise
            return LanguageModel(id=wanted)
        if wanted is None:
            if not found.models:
                raise self.failure("The cluster serves no model. Load one, then try again.")
            return found.models[0]
        listed = found.find(wanted)
        if listed is None:
            names = ", ".join(sorted(each.id for each in found.models[:50]))
            raise UnknownModelError(f"The cluster does not serve the model '{wanted}'. It serves: {names or 'none'}.")
        return listed

    async def complete(self, record: CallRecord, body: dict[str, Any]) -> Completion:
        """Returns the completion of the record's model, or of the first fallback model that succeeds."""

        async def call(model: str) -> Completion:
            return await self._target.upstream.complete(self._sent(body, model), record.count)

        await self._reserve(record, body)
        completion = await self._first_success(record, body, call)
        record.hear(completion.body["choices"])
        return completion

    @asynccontextmanager
    async def stream(self, record: CallRecord, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Yields a completion in chunks. An error after the first chunk is raised without trying a fallback model."""
        async with AsyncExitStack() as opened:

            async def call(model: str) -> AsyncIterator[dict[str, Any]]:
                async with AsyncExitStack() as attempt:
                    chunks = await attempt.enter_async_context(self._target.upstream.stream(self._sent(body, model)))
                    # Waits for a chunk, because a server may send headers and then fail.
                    first = await anext(chunks, None)
                    if first is None:
                        raise BrokenResponseError("The language model's server returned an empty stream.")
                    opened.push_async_exit(attempt.pop_all())
                    return _heard(record, first, chunks)

            await self._reserve(record, body)
            yield await self._first_success(record, body, call)

    async def structured(
        self,
        type: CallType,
        model: str,
        messages: Sequence[dict[str, Any]],
        name: str,
        schema: dict[str, Any],
        max_tokens: int = STRUCTURED_TOKENS,
    ) -> tuple[dict[str, Any], CallRecord]:
        """Returns an object that fits the schema, and the record of the call.

        Raises UnusableCompletionError if the completion does not fit the schema.
        """
        async with self.recorded(type, model) as record:
            record.prompt = messages[-1]["content"]
            body = {
                "messages": list(messages),
                "temperature": 0,
                "max_tokens": max_tokens,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": name, "schema": schema, "strict": True},
                },
            }
            try:
                completion = await self.complete(record, body)
            except RejectedError as error:  # the caller cannot correct a request that this API wrote
                raise BrokenResponseError(error.message) from error
            record.completion = completion.text
            return read_structured(completion, schema), record

    async def embeddings(
        self, model: str, texts: Sequence[str] | Sequence[list[int]], options: dict[str, Any] | None = None
    ) -> list[list[float]]:
        async with self.recorded(CallType.EMBEDDING, model) as record:

            async def call(each: str) -> list[list[float]]:
                vectors, result = await self._target.upstream.embeddings(each, texts, options)
                record.count(result)
                return vectors

            body = {"input": texts}
            await self._reserve(record, body)
            return await self._first_success(record, body, call, fallbacks=())

    async def count_tokens(self, model: str, text: str) -> int | None:
        """Returns the token count of the server's tokenizer, or ``None`` without a tokenizer or if the call fails."""
        try:
            return await self._target.upstream.count_tokens(model, text)
        except ApiError:
            return None

    @asynccontextmanager
    async def recorded(self, type: CallType, model: str) -> AsyncIterator[CallRecord]:
        """Writes one log row when the block ends, also after an error or if the client has disconnected."""
        record = CallRecord(type, model)
        try:
            yield record
        except ApiError as error:
            record.status, record.error = CallStatus.ERROR, record.error or error.message
            raise
        except Exception:
            record.status, record.error = CallStatus.ERROR, "internal error"
            raise
        except BaseException:
            if record.status is CallStatus.SUCCESS:
                record.status = CallStatus.CANCELLED
            raise
        finally:
            record.settle()
            self.tokens[type] += record.input_tokens + record.output_tokens
            with anyio.CancelScope(shield=True):
                try:
                    if not record.is_logged:
                        await in_thread(self._record, record)
                finally:
                    if self._limits is not None and self._limits.is_holding:
                        self._limits.use(record.model, record.input_tokens, record.output_tokens)
                        if record.holds_limits:
                            await in_thread(self._limits.replace_reservations)

    async def _reserve(self, record: CallRecord, body: dict[str, Any]) -> None:
        """Reserves the limits of the call. Raises BudgetExceededError or RateLimitedError if a limit is reached."""
        record.send(body)
        if self._limits is not None and not self._limits.is_holding:
            # Set before the reservation, so that a cancelled call also ends its reservation.
            record.holds_limits = True
            await in_thread(self._limits.reserve, record.model, body)

    def log_writes(self, record: CallRecord) -> Sequence[Write]:
        """Returns the writes of an ended call's log row, for the transaction that stores the result of the call."""
        record.row = self._row(record)
        return self._logs.actions(self.caller.space_id, record.row)

    def _record(self, record: CallRecord) -> None:
        """Logs a call. A transaction of ``log_writes`` that failed may have been stored, without a response."""
        if record.row is None:
            self._logs.record(self.caller.space_id, self._row(record))
        else:
            row = self._row(record).model_copy(update={"id": record.row.id})
            self._logs.record_unless_stored(self.caller.space_id, row)

    def _row(self, record: CallRecord) -> InferenceLog:
        row = _row(self.caller, record, self._clock(), keeps=self.settings.store_content)
        return row.model_copy(update={"is_own_cluster": not self.is_shared})

    def _sent(self, body: dict[str, Any], model: str) -> dict[str, Any]:
        """Returns the request for the server. A shared server reuses only cached prompts of the same space."""
        sent = {**body, "model": model}
        if self._target.is_shared:
            sent.pop(CACHE_SALT, None)
            listed = self._listed.find(model) if self._listed else None
            if listed is not None and listed.owned_by == SALTING_SERVER:
                sent[CACHE_SALT] = hashlib.sha256(self.caller.space_id.encode()).hexdigest()
        return sent

    async def _first_success(
        self,
        record: CallRecord,
        body: dict[str, Any],
        call: Callable[[str], Awaitable[T]],
        fallbacks: Sequence[str] | None = None,
    ) -> T:
        models = dict.fromkeys((record.model, *(self.settings.fallback_models if fallbacks is None else fallbacks)))
        failure: ApiError | None = None
        for model in models:
            record.model = model
            try:
                async with self._target.circuits.around(model_circuit(model), self._circuit_call(body, model)):
                    return await call(model)
            except (UpstreamTimeoutError, BrokenResponseError, BusyError) as error:
                failure = error
            except CircuitOpenError as error:
                if error.name == SERVER:
                    raise
                failure = failure or error
        assert failure is not None  # noqa: S101 - there is at least one model
        raise failure

    def _circuit_call(self, body: dict[str, Any], model: str) -> Call:
        upstream = self._target.upstream
        probe = partial(upstream.embeddings, model, ["Hi"]) if "input" in body else partial(upstream.probe, model)
        return Call({**body, "model": model}, probe)


class LanguageModelAccess:
    """The access to the language models of all spaces. A process has one object of this class."""

    def __init__(
        self, targets: Targets, lists: ModelLists, logs: InferenceLogs, usages: LimitUsages, clock: Clock
    ) -> None:
        self.targets = targets
        self.lists = lists
        self._logs = logs
        self._usages = usages
        self._clock = clock

    async def open(self, caller: Caller) -> LanguageModels:
        """Returns the models for a caller. Raises NoClusterError if the space has no cluster."""
        target = await self.targets.target(caller.space_id)
        limits = CallLimits(self._usages, caller.subjects, caller.prices) if caller.subjects else None
        return LanguageModels(target, caller, self._logs, self.lists, self._clock, limits)

    async def record_failure(self, caller: Caller, type: CallType, model: str, error: ApiError) -> None:
        """Logs a call that failed before a cluster could be called."""
        record = CallRecord(type, model, status=CallStatus.ERROR, error=error.message)
        row = _row(caller, record, self._clock(), keeps=False)
        await in_thread(self._logs.record, caller.space_id, row)


def _row(caller: Caller, record: CallRecord, now: datetime, *, keeps: bool) -> InferenceLog:
    """Returns the row of a call. A text that is not valid Unicode must not lose it."""
    row_id = new_id()
    error, prompt, completion = (text and whole_text(text) for text in (record.error, record.prompt, record.completion))
    return InferenceLog(
        id=row_id,
        type=record.type,
        model=whole_text(record.model),
        user=caller.user,
        status=record.status,
        tags=list(caller.tags),
        correlation_id=caller.correlation_id,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        total_tokens=record.input_tokens + record.output_tokens,
        latency_ms=round(record.elapsed_ms, 3),
        first_token_ms=record.first_token_ms,
        error=error,
        chat_id=caller.chat_id,
        expert_id=record.expert_id,
        expert_version=record.expert_version,
        guard=record.guard,
        prompt=prompt if keeps else None,
        answer=completion if keeps else None,
        created_at=now,
    )


class UnusableCompletionError(BrokenResponseError):
    """Error raised for a completion that does not fit the requested schema."""


def read_structured(completion: Completion, schema: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON object of a completion. Raises UnusableCompletionError unless it fits the schema."""
    from shared.llm.json_schemas import fitting_object

    found = fitting_object(completion.text, schema)
    if found is None:
        raise UnusableCompletionError(_why_unusable(completion))
    return found


def _why_unusable(completion: Completion) -> str:
    refusal = completion.message.get("refusal")
    if refusal:
        return f"The language model refused: {str(refusal)[:REASON_CHARACTERS]}"
    if completion.finish_reason == "content_filter":
        return "The content filter of the language model's server blocked the completion."
    if completion.finish_reason == "length":
        return "The completion reached its token limit before its end. Increase max_tokens."
    return "The completion of the language model does not fit the requested schema."


async def _heard(
    record: CallRecord, first: dict[str, Any], rest: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    """Yields the chunks, after the record has noted them."""
    record.count(first)
    record.hear(first["choices"])
    yield first
    async for chunk in rest:
        record.count(chunk)
        record.hear(chunk["choices"])
        yield chunk

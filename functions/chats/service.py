"""Manages chats, and creates completions for their turns."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from anyio.to_thread import run_sync as in_thread

from functions.chats.guard import SentenceBuffer, Verdict
from functions.chats.judged_texts import call_text
from functions.chats.tool_calls import emulated_completion
from functions.chats.turns import PreparedTurn, TurnPreparer, TurnRequest, for_server, is_guarded
from shared.chats.store import ChatPage, Chats, StoredChat, Turn
from shared.clock import Clock
from shared.experts.store import Experts
from shared.llm.answers import as_delta
from shared.llm.call_records import CallRecord
from shared.llm.completions import BrokenResponseError, Completion, UnknownModelError
from shared.llm.language_models import Caller, LanguageModelAccess
from shared.llm.windows import fit
from shared.models.base import Deleted
from shared.models.chat import (
    Chat,
    ChatCompletion,
    ChatUpdate,
    ExpertUse,
    GuardReport,
    GuardStage,
    Message,
    Role,
    Usage,
)
from shared.models.cluster import LanguageModel
from shared.models.inference_log import CallStatus, CallType
from shared.spaces.members import SpaceContext

STREAM_CHARACTERS = 1_000_000
BLOCKED = "content_filter"
# The fields of a tool call that the guard judges.
_CALL = ("id", "type", "function", "custom")
SERVED_BY = {"service_tier", "system_fingerprint"}
Chunk = dict[str, Any]


class ChatService:
    def __init__(self, chats: Chats, experts: Experts, access: LanguageModelAccess, clock: Clock) -> None:
        self._chats = chats
        self._access = access
        self._clock = clock
        self._preparer = TurnPreparer(access, chats, experts, clock)

    def list_after(self, context: SpaceContext, after: str, limit: int, name: str) -> ChatPage:
        return self._chats.list_after(context.space_id, after, limit, name)

    def get(self, context: SpaceContext, chat_id: str) -> Chat:
        chat = self._chats.get(context.space_id, chat_id)
        return self._with_messages(context, chat)

    def update(self, context: SpaceContext, chat_id: str, request: ChatUpdate, expected_version: int | None) -> Chat:
        """Raises PermissionDeniedError for the guard of another member's chat: it protects their turns."""
        changes = request.changes()
        if "guard_enabled" in changes:
            is_guarded(context, changes["guard_enabled"])
            creator = self._chats.get(context.space_id, chat_id).created_by
            context.require_creator(creator, "change guard_enabled of the chat")
        if "messages" not in changes:
            chat = self._chats.update(context.space_id, chat_id, changes, expected_version)
        else:
            now = self._clock()
            messages = [
                message.model_copy(update={"created_at": message.created_at or now})
                for message in changes.pop("messages")
            ]
            current = self._chats.get(context.space_id, chat_id)
            chat = self._chats.replace(context.space_id, current, messages, changes, expected_version)
        return self._with_messages(context, chat)

    def delete(self, context: SpaceContext, chat_id: str, expected_version: int | None) -> Deleted:
        return self._chats.delete(context.space_id, chat_id, expected_version)

    async def window(self, context: SpaceContext, chat_id: str, correlation_id: str) -> Chat:
        """Returns the newest part of the chat that fits into its model."""
        chat = await in_thread(self.get, context, chat_id)
        models = await self._access.open(Caller.of(context, correlation_id, chat_id=chat_id))
        model = await models.model(chat.model)
        system = [message for message in chat.messages if message.role is Role.SYSTEM]
        talk = [message for message in chat.messages if message.role is not Role.SYSTEM]
        return chat.model_copy(update={"messages": await fit(models, model, system, talk, chat.max_tokens)})

    async def models(self, context: SpaceContext, correlation_id: str) -> Sequence[LanguageModel]:
        models = await self._access.open(Caller.of(context, correlation_id))
        return await models.all()

    async def model(self, context: SpaceContext, correlation_id: str, name: str) -> LanguageModel:
        """Returns a model of the cluster. Raises UnknownModelError, and the errors of ``models``."""
        for each in await self.models(context, correlation_id):
            if each.id == name:
                return each
        raise UnknownModelError(f"The cluster does not serve the model '{name}'. GET /models lists its models.")

    async def complete(self, request: TurnRequest) -> ChatCompletion:
        """Creates a completion. Raises the errors of ``TurnPreparer.prepare`` and of the language model."""
        if first := await self._earlier_result(request):
            return first
        turn = await self._preparer.prepare(request)
        async with turn.models.recorded(CallType.CHAT, turn.model.id) as record:
            _describe(record, turn)
            if turn.verdict.flagged:
                return await self._keep(turn, record, _blocked(turn, record, turn.guard_report), is_accepted=False)
            completion = await self._completion(turn, record)
            record.completion = completion.text
            record.settle()
            choices = completion.body["choices"]
            if turn.guard is not None:
                text = _all_text(completion.message)
                verdict = await turn.guard.check(text, GuardStage.OUTPUT)
                record.guard = turn.guard.coverage
                if verdict.flagged:
                    result = _blocked(turn, record, turn.guard.report(verdict, GuardStage.OUTPUT))
                    return await self._keep(turn, record, result, is_accepted=False)
                turn.guard.coverage.sent_characters = len(text)
                choices = [_judged_part(choices[0])]
            result = self._result(turn, record, choices)
            return await self._keep(turn, record, result, is_accepted=True)

    async def stream(self, request: TurnRequest) -> AsyncGenerator[Chunk | None, None]:
        """Yields a completion in OpenAI's chunks. The last chunk has the usage.

        Raises the errors of ``complete`` before the first chunk. With a guard, only accepted sentences are sent, and
        ``None`` comes when the first one is held back.
        """
        if first := await self._earlier_result(request):
            choice = first.choices[0]
            yield _chunk(first, as_delta(choice["message"]), choice["finish_reason"])
            yield _closing(first)
            return
        turn = await self._preparer.prepare(request)
        async with turn.models.recorded(CallType.CHAT, turn.model.id) as record:
            _describe(record, turn)
            if turn.verdict.flagged:
                result = _blocked(turn, record, turn.guard_report)
                await self._keep(turn, record, result, is_accepted=False)
                yield _chunk(result, {"role": "assistant", "content": ""}, BLOCKED)
            else:
                streamed = _StreamedMessage()
                try:
                    async with aclosing(self._streamed_chunks(turn, record, streamed)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                finally:
                    record.completion = streamed.text
                record.settle()
                report = turn.guard.report(streamed.verdict, GuardStage.OUTPUT) if turn.guard else GuardReport()
                choice = {"index": 0, "message": streamed.message(), "finish_reason": streamed.finish_reason}
                result = self._result(turn, record, [choice]).model_copy(update={"guard": report})
                await self._keep(turn, record, result, is_accepted=not streamed.verdict.flagged)
            yield _closing(result)

    async def _earlier_result(self, request: TurnRequest) -> ChatCompletion | None:
        """Returns the result of an earlier request with the same idempotency key.

        Raises ConflictError if the earlier request had another body.
        """
        if request.idempotency is None:
            return None
        return await in_thread(self._chats.answered, request.context.space_id, request.idempotency)

    async def _streamed_chunks(
        self, turn: PreparedTurn, record: CallRecord, streamed: "_StreamedMessage"
    ) -> AsyncGenerator[Chunk | None, None]:
        """Yields the chunks for the client, and collects their content in ``streamed``.

        ``None`` says once that the guard holds text back.
        """
        head = self._result(turn, record, [])
        buffer, is_held = SentenceBuffer(), False
        # Closes the stream when the client disconnects, so that the server also stops.
        async with aclosing(self._deltas(turn, record)) as deltas:
            async for delta, choice in deltas:
                reason = choice.get("finish_reason")
                if record.first_token_ms is None:
                    record.first_token_ms = round(record.elapsed_ms, 3)
                streamed.finish_reason = reason or streamed.finish_reason
                streamed.add(delta)
                if streamed.received_characters > STREAM_CHARACTERS:
                    raise BrokenResponseError(
                        f"The completion was stopped, because it has more than {STREAM_CHARACTERS:,} characters."
                    )
                if turn.guard is None:
                    streamed.text += delta.get("content") or ""
                    more = {"logprobs": choice["logprobs"]} if choice.get("logprobs") else {}
                    yield _chunk(head, delta, reason, record, **more)
                    continue
                if not is_held:
                    is_held = True
                    yield None
                ready = buffer.add(delta.get("content") or "")
                if ready and not await self._passes(turn, record, streamed, ready, after=buffer.waiting):
                    break
                if ready:
                    yield _chunk(head, {"role": "assistant", "content": ready}, None, record)
        if turn.guard is None:
            return
        rest = buffer.rest()
        calls = streamed.indexed_calls()
        if (
            not streamed.verdict.flagged
            and (rest or calls)
            and await self._passes(turn, record, streamed, rest, "".join(map(call_text, calls)))
        ):
            listed = {"tool_calls": calls} if calls else {}
            yield _chunk(head, {"role": "assistant", "content": rest, **listed}, None, record)
        if streamed.verdict.flagged:
            record.status, streamed.finish_reason = CallStatus.BLOCKED, BLOCKED
        yield _chunk(head, {}, streamed.finish_reason, record)

    async def _passes(
        self,
        turn: PreparedTurn,
        record: CallRecord,
        streamed: "_StreamedMessage",
        text: str,
        calls: str = "",
        after: str = "",
    ) -> bool:
        assert turn.guard is not None  # noqa: S101 - for the type checker
        streamed.verdict = await turn.guard.check(text + calls, GuardStage.OUTPUT, streamed.text, after)
        record.guard = turn.guard.coverage
        if streamed.verdict.flagged:
            return False
        turn.guard.coverage.sent_characters += len(text + calls)
        streamed.text += text
        return True

    async def _deltas(
        self, turn: PreparedTurn, record: CallRecord
    ) -> AsyncGenerator[tuple[dict[str, Any], dict[str, Any]], None]:
        """Yields the delta of each chunk, and the choice that contains it."""
        if turn.tools_emulated:  # only a whole completion shows whether it is a text or a tool call
            completion = await self._completion(turn, record)
            yield as_delta(completion.message), {}
            yield {}, completion.body["choices"][0]
            return
        body = {**for_server(turn), "stream": True, "stream_options": {"include_usage": True}}
        async with turn.models.stream(record, body) as chunks:
            async for chunk in chunks:
                for choice in chunk["choices"]:
                    yield choice["delta"], choice

    async def _completion(self, turn: PreparedTurn, record: CallRecord) -> Completion:
        completion = await turn.models.complete(record, for_server(turn))
        if not turn.tools_emulated:
            return completion
        return emulated_completion(completion, turn.upstream_body["tools"], turn.upstream_body.get("tool_choice"))

    def _result(self, turn: PreparedTurn, record: CallRecord, choices: list[dict[str, Any]]) -> ChatCompletion:
        return ChatCompletion(
            id=turn.chat.id,
            created_at=self._clock(),
            model=record.model,
            choices=choices,
            **record.served_by,
            usage=_usage(turn, record),
            guard=turn.guard_report,
            router=turn.router,
            messages=list(turn.sent) if turn.request.body.echo else None,
        )

    async def _keep(
        self, turn: PreparedTurn, record: CallRecord, result: ChatCompletion, *, is_accepted: bool
    ) -> ChatCompletion:
        """Stores the turn and its log row. Without the messages of a blocked turn, the chat can continue."""
        if not turn.request.store:
            return result
        messages: list[Message] = []
        if is_accepted:
            experts = [ExpertUse(**each.model_dump(include=set(ExpertUse.model_fields))) for each in turn.experts]
            message = result.choices[0]["message"]
            values = {
                **message,
                "content": message.get("content") or "",
                "role": Role.ASSISTANT,
                "created_at": result.created_at,
                "expert_versions": experts or None,
            }
            messages = [*turn.added, Message.model_validate(values)]
        kept = Turn(
            turn.chat,
            turn.is_new,
            messages,
            result,
            turn.request.idempotency,
            is_judged=turn.guard is not None,
            also=turn.models.log_writes(record),
        )
        stored = await in_thread(self._chats.append, turn.request.context.space_id, kept)
        # Of two equal concurrent requests, only one is stored, but both have called the model and must be logged.
        record.is_logged = stored is result
        return stored

    def _with_messages(self, context: SpaceContext, chat: StoredChat) -> Chat:
        return chat.model_copy(update={"messages": self._chats.messages(context.space_id, chat)})


class _StreamedMessage:
    """The content of a stream so far. ``text`` is the text that was sent to the client."""

    def __init__(self) -> None:
        self.text = ""
        self.received_characters = 0
        self.finish_reason: str | None = None
        self.verdict = Verdict(False)
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, delta: dict[str, Any]) -> None:
        """Adds a part of the message, and joins the parts of tool calls."""
        self.received_characters += len(delta.get("content") or "")
        for part in delta.get("tool_calls") or ():
            call = self._calls.setdefault(part["index"], {})
            for name, value in part.items():
                if isinstance(value, dict):
                    _join(call.setdefault(name, {}), value)
                elif name != "index":
                    call[name] = value
            self.received_characters += len(json.dumps(part))

    def indexed_calls(self) -> list[dict[str, Any]]:
        return [{"index": index, **call} for index, call in sorted(self._calls.items())]

    def message(self) -> dict[str, Any]:
        calls = [call for _, call in sorted(self._calls.items())]
        listed = {"tool_calls": calls} if calls and not self.verdict.flagged else {}
        return {"role": "assistant", "content": self.text, **listed}


def _join(call: dict[str, Any], part: dict[str, Any]) -> None:
    """Adds a part to a tool call. The arguments come in pieces, and everything else in one."""
    for name, value in part.items():
        is_piece = name in ("arguments", "input") and isinstance(value, str)
        call[name] = call.get(name, "") + value if is_piece else value


def _describe(record: CallRecord, turn: PreparedTurn) -> None:
    """Adds the prompt and the expert of the turn to the record."""
    record.prompt = "\n".join(f"{message.role}: {message.text}" for message in turn.added)
    if turn.experts:
        record.expert_id, record.expert_version = turn.experts[0].id, turn.experts[0].version_number


def _judged_part(choice: dict[str, Any]) -> dict[str, Any]:
    """Returns the parts of a choice that the guard has judged: no reasoning and no token probabilities."""
    message = {name: choice["message"].get(name) for name in ("role", "content")}
    calls = choice["message"].get("tool_calls")
    message["tool_calls"] = [{name: each[name] for name in _CALL if name in each} for each in calls] if calls else None
    shown = {name: value for name, value in message.items() if value is not None or name == "content"}
    return {"index": 0, "message": shown, "finish_reason": choice.get("finish_reason")}


def _usage(turn: PreparedTurn, record: CallRecord) -> Usage:
    tokens = turn.models.tokens
    router_tokens, guard_tokens = tokens[CallType.ROUTER] + tokens[CallType.EMBEDDING], tokens[CallType.GUARD]
    return Usage(
        prompt_tokens=record.input_tokens,
        completion_tokens=record.output_tokens,
        total_tokens=record.input_tokens + record.output_tokens + router_tokens + guard_tokens,
        router_tokens=router_tokens,
        guard_tokens=guard_tokens,
        **record.usage_details,
    )


def _blocked(turn: PreparedTurn, record: CallRecord, report: GuardReport) -> ChatCompletion:
    record.status = CallStatus.BLOCKED
    record.error = f"blocked by the guard: {', '.join(report.categories) or 'unnamed'}"
    message = {"role": "assistant", "content": ""}
    return ChatCompletion(
        id=turn.chat.id,
        created_at=turn.chat.updated_at,
        model=record.model,
        choices=[{"index": 0, "message": message, "finish_reason": BLOCKED}],
        usage=_usage(turn, record),
        guard=report,
        router=turn.router,
        messages=list(turn.added) if turn.request.body.echo else None,
    )


def _chunk(
    result: ChatCompletion,
    delta: dict[str, Any] | None,
    reason: str | None,
    record: CallRecord | None = None,
    **more: Any,
) -> Chunk:
    """Returns a chunk of a stored result, or of the call that ``record`` describes."""
    served = result.model_dump(include=SERVED_BY, exclude_none=True) if record is None else record.served_by
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason, **more}]
    return {
        "id": result.id,
        "object": "chat.completion.chunk",
        "created": int(result.created_at.timestamp()),
        "model": record.model if record else result.model,
        **served,
        "choices": choices,
    }


def _closing(result: ChatCompletion) -> Chunk:
    """Returns the last chunk, without content. It has ``messages`` only if the client requested them."""
    parts = result.model_dump(mode="json", include={"usage", "guard", "router", "messages"})
    if result.messages is None:
        del parts["messages"]
    return {**_chunk(result, None, None), **parts}


def _all_text(message: dict[str, Any]) -> str:
    return str(message.get("content") or "") + "".join(map(call_text, message.get("tool_calls") or ()))

"""Prepares a turn: the chat, the judgement of the guard, the experts, and the request to the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio.to_thread import run_sync as in_thread

from functions.chats.guard import Guard, JudgedSource, Verdict
from functions.chats.judged_texts import expert_text, message_text, options_text
from functions.chats.router import pick_expert
from functions.chats.tool_calls import allowed_tools, check_tools, emulated_request, with_inlined_references
from shared.chats.store import Chats, StoredChat
from shared.clock import Clock, new_id
from shared.dynamodb.repository import Idempotency
from shared.errors import ValidationFailedError
from shared.experts.store import Experts
from shared.llm.completions import CONTEXT_WORDS, ContextOverflowError
from shared.llm.language_models import Caller, LanguageModelAccess, LanguageModels
from shared.llm.windows import fit
from shared.models.chat import ChatCompletionCreate, GuardReport, GuardStage, Message, Role, RouterReport
from shared.models.cluster import LanguageModel, ToolCalls
from shared.models.expert import Expert
from shared.spaces.members import SpaceContext

NAME_CHARACTERS = 60


@dataclass(frozen=True)
class TurnRequest:
    """A request for a completion. ``options`` are parameters that are sent to the server unchanged."""

    body: ChatCompletionCreate
    context: SpaceContext
    correlation_id: str
    idempotency: Idempotency | None = None
    options: dict[str, Any] = field(default_factory=dict)
    store: bool = True
    # Whether the only message is a text to continue, without roles.
    is_text: bool = False
    # Whether the oldest messages may be left out if the conversation is too long for the model.
    may_shorten: bool = True


@dataclass
class PreparedTurn:
    """A turn that is ready for the model. If ``verdict`` flags the new messages, the model must not be called."""

    request: TurnRequest
    chat: StoredChat
    is_new: bool
    models: LanguageModels
    model: LanguageModel
    added: Sequence[Message]
    sent: Sequence[Message] = ()
    upstream_body: dict[str, Any] = field(default_factory=dict)
    guard: Guard | None = None
    verdict: Verdict = field(default_factory=lambda: Verdict(False))
    router: RouterReport = field(default_factory=RouterReport)
    experts: Sequence[Expert] = ()
    tools_emulated: bool = False

    @property
    def guard_report(self) -> GuardReport:
        return GuardReport() if self.guard is None else self.guard.report(self.verdict, GuardStage.INPUT)


class TurnPreparer:
    def __init__(self, access: LanguageModelAccess, chats: Chats, experts: Experts, clock: Clock) -> None:
        self._access = access
        self._chats = chats
        self._experts = experts
        self._clock = clock

    async def prepare(self, request: TurnRequest) -> PreparedTurn:
        """Prepares a turn for the model.

        Raises NotFoundError for an unknown chat or model, ValidationFailedError for invalid messages or experts,
        ContextOverflowError, and GuardUnavailableError.
        """
        body, context = request.body, request.context
        chat, history = await self._chat(request)
        added = self._added(body.messages, history)
        models = await self._access.open(
            Caller.of(
                context,
                request.correlation_id,
                user=body.user or context.user_id,
                tags=tuple(body.tags),
                chat_id=chat.id if request.store else None,
            )
        )
        model = await models.model(body.model or chat.model)
        turn = PreparedTurn(request, chat, body.id is None, models, model, added)
        if is_guarded(context, body.guard_enabled, chat.guard_enabled):
            await self._guard(turn, history)
        if not turn.verdict.flagged:
            await self._choose_experts(turn, [*history, *added])
            await self._guard_experts(turn)
        if not turn.verdict.flagged:
            await self._compose(turn, [*history, *added])
        return turn

    async def _chat(self, request: TurnRequest) -> tuple[StoredChat, list[Message]]:
        body, context = request.body, request.context
        if body.id is not None:
            chat = await in_thread(self._chats.get, context.space_id, body.id)
            return chat, await in_thread(self._chats.messages, context.space_id, chat)
        if not body.messages:
            raise ValidationFailedError.of("body.messages", "send messages, or the id of a chat to continue")
        now = self._clock()
        first = next((message.text for message in body.messages if message.role is Role.USER), "")
        name = body.name or " ".join(first.split())[:NAME_CHARACTERS].strip() or "New chat"
        settings = body.model_dump(include={"guard_enabled", "max_tokens", "model", "router_enabled", "temperature"})
        chat = StoredChat(
            id=new_id(),
            created_at=now,
            updated_at=now,
            created_by=context.user_id,
            name=name,
            type=body.type,
            tags=body.tags,
            metadata=body.metadata,
            **settings,
        )
        return chat, []

    def _added(self, given: Sequence[Message], history: Sequence[Message]) -> list[Message]:
        """Returns the new messages, without the history that clients may send again before them."""
        repeated = len(history) if _same(given[: len(history)], history) else 0
        now = self._clock()
        added = [message.model_copy(update={"created_at": message.created_at or now}) for message in given[repeated:]]
        last = added[-1] if added else history[-1] if history else None
        if last is None or (not added and last.role in (Role.ASSISTANT, Role.SYSTEM)):
            raise ValidationFailedError.of(
                "body.messages", "send a message, because the chat has no message that needs a completion"
            )
        return added

    async def _guard(self, turn: PreparedTurn, history: Sequence[Message]) -> None:
        request = turn.request
        guard = turn.guard = Guard(turn.models, turn.model.id, with_reasoning=request.body.guard_reasoning_enabled)
        earlier = "\n".join(message_text(each) for each in history if not each.is_judged)
        turn.verdict = await guard.check_lasting(earlier, JudgedSource.USER)
        if not turn.verdict.flagged:
            named = [request.body.user] if request.body.user else []
            text = "\n".join([*map(message_text, turn.added), *options_text(request.options), *named])
            turn.verdict = await guard.check(text, GuardStage.INPUT, before=earlier)
        # The coverage must count only the completion.
        guard.coverage.scanned_characters = 0

    async def _guard_experts(self, turn: PreparedTurn) -> None:
        """Judges what the model reads of the experts."""
        if turn.guard is None:
            return
        for expert in turn.experts:
            turn.verdict = await turn.guard.check_lasting(expert_text(expert), JudgedSource.COMPANY)
            if turn.verdict.flagged:
                break
        turn.guard.coverage.scanned_characters = 0

    async def _choose_experts(self, turn: PreparedTurn, conversation: Sequence[Message]) -> None:
        body, space_id = turn.request.body, turn.request.context.space_id
        ids = list(dict.fromkeys(body.expert_ids))
        routed = _chosen(body.router_enabled, turn.chat.router_enabled)
        experts = await in_thread(self._named_experts, space_id, ids) if ids else []
        if not routed:
            turn.experts = experts
            return
        candidates = experts or await in_thread(self._experts.list_all, space_id)
        question = next((each.text for each in reversed(conversation) if each.role is Role.USER), "")
        route = await pick_expert(
            turn.models, turn.model.id, candidates, question, with_reasoning=body.router_reasoning_enabled
        )
        turn.router = route.report
        if route.expert is not None:
            found = await in_thread(self._experts.get_many, space_id, [route.expert.id])
            turn.experts = list(found.values())
            if not found:
                turn.router = RouterReport(enabled=True, fallback="the expert has just been deleted")

    def _named_experts(self, space_id: str, ids: Sequence[str]) -> list[Expert]:
        found = self._experts.get_many(space_id, ids)
        unknown = [each for each in ids if each not in found]
        if unknown:
            raise ValidationFailedError.of(
                "body.expert_ids", f"there is no expert with the id {unknown[0]} in the space"
            )
        return [found[each] for each in ids]

    async def _compose(self, turn: PreparedTurn, conversation: Sequence[Message]) -> None:
        body, chat, options = turn.request.body, turn.chat, turn.request.options
        contexts = [_context(expert) for expert in turn.experts]
        opening = [message for message in conversation if message.role is Role.SYSTEM]
        # Only one system message, because the templates of many models do not accept two.
        texts = [text for text in (*contexts, *(message.text for message in opening)) if text]
        system = [Message(role=Role.SYSTEM, content="\n\n".join(texts))] if texts else []
        talk = [message for message in conversation if message.role is not Role.SYSTEM]
        _check_images(turn.model, talk)
        max_tokens = body.max_tokens or chat.max_tokens
        tools = [
            *options.get("tools", ()),
            *(tool for each in turn.experts for tool in each.tools_for_model()),
        ]
        tools = [with_inlined_references(each) for each in tools]
        turn.tools_emulated = bool(tools) and turn.models.settings.tool_calls is ToolCalls.EMULATED
        if turn.tools_emulated:
            tools, choice = allowed_tools(tools, options.get("tool_choice"))
            options = {**options, "tool_choice": choice}
            check_tools(tools, choice)
        turn.sent = await fit(turn.models, turn.model, system, talk, max_tokens, tools)
        if not turn.request.may_shorten and len(turn.sent) < len(system) + len(talk):
            raise ContextOverflowError(
                f"The conversation is longer than the {CONTEXT_WORDS} of the model '{turn.model.id}'. Shorten it, or "
                "leave truncation out."
            )
        parameters = {
            # Uses the client's name, because OpenAI's newer models accept only the newer name.
            "max_completion_tokens" if "max_completion_tokens" in options else "max_tokens": max_tokens,
            "temperature": chat.temperature if body.temperature is None else body.temperature,
            "top_p": body.top_p,
        }
        turn.upstream_body = {
            **options,
            "messages": [message.for_model() for message in turn.sent],
            **{name: value for name, value in parameters.items() if value is not None},
            **({"tools": tools} if tools else {}),
        }
        if turn.request.is_text:
            del turn.upstream_body["messages"]
            turn.upstream_body["prompt"] = turn.added[0].text


def for_server(turn: PreparedTurn) -> dict[str, Any]:
    """Returns the request in the form that the server supports."""
    return emulated_request(turn.upstream_body) if turn.tools_emulated else turn.upstream_body


def _check_images(model: LanguageModel, messages: Sequence[Message]) -> None:
    """Raises ValidationFailedError for an image to a model of which its server says that it reads none."""
    parts = (part for each in messages if isinstance(each.content, list) for part in each.content)
    if model.reads_images is False and any("image" in str(part.get("type")) for part in parts):
        raise ValidationFailedError.of(
            "body.messages", f"have an image, but the model '{model.id}' reads only text: choose another model"
        )


def _context(expert: Expert) -> str:
    files = [f"File {file.name}:\n{file.content}" for file in expert.file_context]
    return "\n\n".join(text for text in (expert.context, *files) if text)


def is_guarded(context: SpaceContext, asked: bool | None, usual: bool | None = None) -> bool:
    """Returns whether the guard judges a call. Raises ValidationFailedError if a caller turns a compulsory one off."""
    if not context.guard_required:
        return _chosen(asked, usual)
    if asked is False:
        raise ValidationFailedError.of(
            "body.guard_enabled", "must not be false, because the owner made the guard compulsory in this space"
        )
    return True


def _chosen(asked: bool | None, usual: bool | None) -> bool:
    return bool(usual if asked is None else asked)


def _same(given: Sequence[Message], history: Sequence[Message]) -> bool:
    def content(message: Message) -> Any:
        return message.role, message.content or "", message.tool_calls

    return bool(history) and list(map(content, given)) == list(map(content, history))

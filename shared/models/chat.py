"""Chats: conversations with a language model, with completions in OpenAI's shapes."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticSerializationError

from shared.models.base import (
    ALSO_WITH_POINT,
    KEEP,
    Entity,
    Identifier,
    Model,
    ModelName,
    Name,
    NotBlank,
    PartialUpdate,
    Timestamp,
)
from shared.models.free_objects import check_object
from shared.models.inference_log import MAX_TAGS

MESSAGES_LIMIT = 2000
EXPERTS_LIMIT = 500
METADATA_CHARACTERS = 16_000
RESPONSE_CHARACTERS = 50_000

Temperature = Annotated[float, Field(ge=0, le=2, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
MaxTokens = Annotated[int, Field(ge=1, le=1_000_000, strict=True), ALSO_WITH_POINT]
FreeObject = Annotated[dict[str, Any], AfterValidator(check_object)]
Tag = Annotated[NotBlank, StringConstraints(max_length=100)]


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ExpertUse(Model):
    """The version of an expert that a completion used."""

    id: str
    name: str
    version_number: Annotated[int, ALSO_WITH_POINT] = Field(strict=True)


class Message(Model):
    """One message. Further keys are stored and returned."""

    model_config = ConfigDict(extra="allow")

    role: Role
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    created_at: Timestamp | None = None
    expert_versions: list[ExpertUse] | None = Field(
        default=None, description="of a completion: the experts that the model received"
    )
    _is_judged: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if self.content is None and not self.tool_calls and self.role is not Role.ASSISTANT:
            raise ValueError("give the message a content")
        try:
            self.model_dump_json()
        except PydanticSerializationError:
            raise ValueError("is nested too deeply, or has half of a surrogate pair") from None
        return self

    @property
    def is_judged(self) -> bool:
        """Returns whether the guard accepted the message when it was added to its chat."""
        return self._is_judged

    def judged(self, *, is_judged: bool) -> "Message":
        self._is_judged = is_judged
        return self

    @property
    def text(self) -> str:
        """Returns the text of the content, without other parts such as pictures."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or ""

    def for_model(self) -> dict[str, Any]:
        """Returns the message as it is sent to the server."""
        message = self.model_dump(exclude={"created_at", "expert_versions"}, exclude_none=True)
        # Some servers require the content of a message with tool calls, although it is null.
        return {**message, "content": None} if self.content is None and "content" in self.model_fields_set else message

    def beyond_text(self) -> dict[str, Any]:
        """Returns the other parts of a message: names, tool calls and the client's own keys."""
        kept = {"role", "content", "tool_call_id"}
        return {name: value for name, value in self.for_model().items() if name not in kept}


class ChatSettings(Model):
    """Default settings of a chat's turns."""

    guard_enabled: bool | None = None
    max_tokens: MaxTokens | None = None
    model: ModelName | None = None
    router_enabled: bool | None = None
    temperature: Temperature | None = None


class ChatCompletionCreate(ChatSettings):
    echo: bool = Field(default=False, description="return the messages that were sent to the model")
    expert_ids: list[Identifier] = Field(
        default_factory=list,
        max_length=EXPERTS_LIMIT,
        description="with the router: the experts to choose from (when empty, the space's newest 500); "
        "without the router: all of these experts are used",
    )
    guard_reasoning_enabled: bool = Field(default=False, description="return the guard's reason")
    id: Identifier | None = Field(default=None, description="the chat to continue; a new one is created when left out")
    messages: list[Message] = Field(
        default_factory=list,
        max_length=MESSAGES_LIMIT,
        description="the new messages; the chat's history may precede them, and is not stored again",
    )
    metadata: FreeObject = Field(
        default_factory=dict, description="stored with a new chat; its `correlation_id` identifies the calls in the log"
    )
    name: Name | None = Field(default=None, description="name of a new chat; else the beginning of the first question")
    router_reasoning_enabled: bool = Field(default=False, description="return the router's reason")
    stream: bool = Field(default=False, description="return the completion as server-sent events")
    tags: list[Tag] = Field(
        default_factory=list,
        max_length=MAX_TAGS,
        description="stored with a new chat; the log has the tags of each call",
    )
    top_p: Fraction | None = None
    type: Name | None = Field(default=None, description="type of a new chat; any text")
    user: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="the user in the inference log; the caller when left out"
    )

    @field_validator("metadata")
    @classmethod
    def _bounded(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        if len(str(metadata)) > METADATA_CHARACTERS:
            raise ValueError(f"holds more than {METADATA_CHARACTERS} characters")
        return metadata


class ChatUpdate(PartialUpdate):
    guard_enabled: bool | None = None
    last_response: FreeObject | None = None
    max_tokens: MaxTokens | None = None
    messages: Annotated[list[Message], Field(max_length=MESSAGES_LIMIT)] = KEEP
    model: ModelName | None = None
    name: Name = KEEP
    router_enabled: bool | None = None
    temperature: Temperature | None = None

    @field_validator("last_response")
    @classmethod
    def _bounded(cls, response: dict[str, Any] | None) -> dict[str, Any] | None:
        if len(str(response)) > RESPONSE_CHARACTERS:
            raise ValueError(f"holds more than {RESPONSE_CHARACTERS} characters")
        return response


class Chat(Entity, ChatSettings):
    """A chat. Lists of chats leave the messages out."""

    name: str
    messages: list[Message] = Field(default_factory=list)
    type: str | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    last_response: dict[str, Any] | None = None
    created_by: str = ""


class Usage(Model):
    """Tokens of the completion, and of the router and the guard. ``total_tokens`` is the sum of all of them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    router_tokens: int = 0
    guard_tokens: int = 0
    prompt_tokens_details: dict[str, int] | None = None
    completion_tokens_details: dict[str, int] | None = None


class GuardStage(StrEnum):
    """Whether the guard blocked the prompt (``input``) or the completion (``output``)."""

    INPUT = "input"
    OUTPUT = "output"


class GuardReport(Model):
    enabled: bool = False
    flagged: bool = False
    stage: GuardStage | None = None
    categories: list[str] = Field(default_factory=list)
    reasoning: str | None = None


class RouterReport(Model):
    """``fallback`` says why no expert was used."""

    enabled: bool = False
    expert_id: str | None = None
    expert_name: str | None = None
    expert_version: int | None = None
    reasoning: str | None = None
    fallback: str | None = None


class ChatCompletion(Model):
    id: str
    object: str = "chat.completion"
    created_at: Timestamp
    model: str
    choices: list[dict[str, Any]]
    service_tier: str | None = Field(default=None, description="as the server named it")
    system_fingerprint: str | None = Field(default=None, description="as the server named it")
    usage: Usage
    guard: GuardReport
    router: RouterReport
    messages: list[Message] | None = None

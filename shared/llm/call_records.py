"""Records what one call of a language model used and heard, for its log row and for the limits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.llm.tokens import estimate_tokens
from shared.models.inference_log import CallStatus, CallType, GuardCoverage, InferenceLog

# No call uses more tokens. A server that claims more counts wrong.
TOKENS_LIMIT = 10**8
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_SAID = ("content", "reasoning_content", "reasoning")
# What OpenAI's clients read beside the choices.
_NAMES = ("service_tier", "system_fingerprint")
_NAME_CHARACTERS = 200
_DETAILS_LIMIT = 20


@dataclass
class CallRecord:
    """The data of one call for its row in the inference log. The caller fills it in."""

    type: CallType
    model: str
    status: CallStatus = CallStatus.SUCCESS
    error: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    # The details of the token counts, and the tier and the version that served the call.
    usage_details: dict[str, dict[str, int]] = field(default_factory=dict)
    served_by: dict[str, str] = field(default_factory=dict)
    first_token_ms: float | None = None
    expert_id: str | None = None
    expert_version: int | None = None
    guard: GuardCoverage | None = None
    prompt: str | None = None
    completion: str | None = None
    # The row in the inference log. It is made once, so that a call has one row although responses are lost.
    row: InferenceLog | None = None
    # True if the caller has written ``LanguageModels.log_writes`` in its own transaction.
    is_logged: bool = False
    # True if the end of this call replaces the caller's reservations.
    holds_limits: bool = False
    started: float = field(default_factory=time.perf_counter)
    _sent: Sequence[Any] = ()
    _heard: list[str] = field(default_factory=list)

    def send(self, body: dict[str, Any]) -> None:
        """Notes the messages or texts that are sent."""
        self._sent = body.get("messages") or body.get("input") or [body.get("prompt", "")]

    def count(self, body: dict[str, Any]) -> None:
        """Notes the token counts in a response or a chunk, of any types.

        Servers send the counts in one, in parts, or as totals that grow, and zero for what they do not count.
        """
        usage = body.get("usage")
        if isinstance(usage, dict):
            self.input_tokens = max(self.input_tokens, _tokens(usage.get("prompt_tokens")))
            self.output_tokens = max(self.output_tokens, _tokens(usage.get("completion_tokens")))
            for name in _DETAILS:
                if isinstance(given := usage.get(name), dict):
                    first = list(given.items())[:_DETAILS_LIMIT]
                    counts = {key[:_NAME_CHARACTERS]: count for key, each in first if (count := _tokens(each))}
                    self.usage_details.setdefault(name, {}).update(counts)
        for name in _NAMES:
            if isinstance(value := body.get(name), str):
                self.served_by[name] = value[:_NAME_CHARACTERS]

    def hear(self, choices: Sequence[dict[str, Any]]) -> None:
        """Notes the words of a completion or a chunk, for servers that count no tokens."""
        for choice in choices:
            said = choice.get("delta") or choice.get("message") or {}
            for name in _SAID:
                text = said.get(name)
                if text and isinstance(text, str):
                    self._heard.append(text)
            for call in said.get("tool_calls") or ():
                parts = [part for part in call.values() if isinstance(part, dict)]
                self._heard += [text for part in parts for text in part.values() if isinstance(text, str)]

    def settle(self) -> None:
        """Estimates what the server did not count. A call that failed before a word was heard used nothing."""
        if not self._heard and self.status is not CallStatus.SUCCESS:
            return
        self.input_tokens = self.input_tokens or sum(map(_estimate, self._sent))
        self.output_tokens = self.output_tokens or estimate_tokens("".join(self._heard))

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000


def _estimate(sent: Any) -> int:
    """Returns the estimated tokens of a message or a text. Pictures have tokens that nobody can estimate."""
    content = sent.get("content") if isinstance(sent, dict) else sent
    texts = [part.get("text") for part in content] if isinstance(content, list) else [content]
    return sum(estimate_tokens(text) for text in texts if isinstance(text, str))


def _tokens(count: Any) -> int:
    is_number = isinstance(count, int | float) and not isinstance(count, bool)
    return int(count) if is_number and 0 < count <= TOKENS_LIMIT else 0

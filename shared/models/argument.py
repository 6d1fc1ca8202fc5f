"""Arguments: why a client should take an offer, written by a language model and reviewed by people."""

import json
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, computed_field

from shared.bounds import ARGUMENT
from shared.models.base import (
    KEEP,
    Description,
    Entity,
    Identifier,
    Model,
    ModelName,
    Name,
    NotBlank,
    PartialUpdate,
    Timestamp,
)
from shared.models.chat import Fraction, MaxTokens, Temperature, Usage
from shared.models.claim import Claim
from shared.models.free_objects import check_object
from shared.models.lineage import DecisionLineage

CLIENT_CHARACTERS = 20_000
SPEC_CHARACTERS = 10_000
TEXT_CHARACTERS = ARGUMENT.characters
REVIEW_CHARACTERS = 10_000
FACT_LEVELS = ARGUMENT.depth
# Claims list the paths of fields.
FACT_PATH_CHARACTERS = 500


class ReviewStatus(StrEnum):
    """Status of the review of an argument by people."""

    PENDING = "pending"
    WAITING_REVIEW = "waiting_review"
    SUCCESS = "success"
    FAILED = "failed"
    REVIEWING = "reviewing"

    def may_become(self, status: "ReviewStatus") -> bool:
        return status in _NEXT[self]


_NEXT = {
    ReviewStatus.PENDING: {ReviewStatus.WAITING_REVIEW},
    ReviewStatus.WAITING_REVIEW: {ReviewStatus.REVIEWING},
    ReviewStatus.REVIEWING: {ReviewStatus.SUCCESS, ReviewStatus.FAILED},
    ReviewStatus.SUCCESS: {ReviewStatus.REVIEWING},
    ReviewStatus.FAILED: {ReviewStatus.REVIEWING},
}


class ArgumentStatus(StrEnum):
    """Whether the language model wrote an argument. The status of the review is separate."""

    SUCCESS = "success"
    FAILED = "failed"


def _bounded(characters: int) -> AfterValidator:
    def check(value: Any) -> Any:
        plain = dict(value)
        if _levels(plain) > FACT_LEVELS:
            raise ValueError(f"is nested more than {FACT_LEVELS} levels deep; flatten it")
        if len(json.dumps(plain, ensure_ascii=False, default=str)) > characters:
            raise ValueError(f"has more than {characters:,} characters as JSON; send less")
        check_object(plain)
        if _longest_path(plain) > FACT_PATH_CHARACTERS:
            raise ValueError(f"has keys within keys of more than {FACT_PATH_CHARACTERS} characters; use shorter names")
        return value

    return AfterValidator(check)


def _longest_path(value: Any) -> int:
    """Returns the characters of all keys down to the value that has most."""
    if isinstance(value, dict):
        return max((len(key) + 1 + _longest_path(item) for key, item in value.items()), default=0)
    return max(map(_longest_path, value), default=0) if isinstance(value, list) else 0


def _levels(value: Any) -> int:
    """Returns the depth of a value, at most one more than allowed."""
    levels, layer = 0, [value]
    while layer and levels <= FACT_LEVELS:
        nested = [each for each in layer if isinstance(each, dict | list)]
        layer = [item for each in nested for item in (each.values() if isinstance(each, dict) else each)]
        levels += bool(nested)
    return levels


class InsightSpec(Model):
    """Facts about the insight. Further keys are facts too: they are stored and returned."""

    model_config = ConfigDict(extra="allow")

    insight: Description = Field(description="the fact about the client that is a reason for the offer")
    score: float | None = Field(default=None, strict=True)
    best_channel: str | None = None
    best_time: str | None = None
    timeliness: str | None = None


class ProductSpec(Model):
    """Facts about the product. Further keys are facts too: they are stored and returned."""

    model_config = ConfigDict(extra="allow")

    name: Name
    description: Description | None = None


class ArgumentReview(Model):
    """``assignee`` is the member that a waiting argument is reserved for; ``reviewer`` took it or decided about it."""

    model_config = ConfigDict(extra="allow")

    status: ReviewStatus
    comment: str | None = None
    reviewer: str | None = None
    reviewed_at: Timestamp | None = None
    assignee: str | None = None


class ReviewUpdate(Model):
    """Further keys are stored and returned. Only the API sets ``reviewer``, ``reviewed_at`` and ``assignee``."""

    model_config = ConfigDict(extra="allow")

    status: ReviewStatus = KEEP
    comment: Description | None = None


Facts = Annotated[dict[str, Any], _bounded(CLIENT_CHARACTERS)]
BoundedInsightSpec = Annotated[InsightSpec, _bounded(SPEC_CHARACTERS)]
BoundedProductSpec = Annotated[ProductSpec, _bounded(SPEC_CHARACTERS)]
ArgumentText = Annotated[NotBlank, StringConstraints(max_length=TEXT_CHARACTERS)]


class ArgumentCreate(Model):
    action_id: Identifier | None = None
    client: Facts = Field(description="facts about the client")
    echo: bool = Field(default=False, description="put the prompt before the argument in the response")
    insight_id: Identifier | None = Field(default=None, description="the insight that the argument explains")
    insight_spec: BoundedInsightSpec
    max_tokens: MaxTokens | None = None
    model: ModelName
    product: BoundedProductSpec
    temperature: Temperature | None = None
    top_p: Fraction | None = None

    def facts(self) -> dict[str, dict[str, Any]]:
        """Returns all facts that the argument may use, as they were sent."""
        return {
            "client": self.client,
            "insight_spec": self.insight_spec.model_dump(exclude_unset=True),
            "product": self.product.model_dump(exclude_unset=True),
        }


class ArgumentUpdate(PartialUpdate):
    action_id: Identifier | None = None
    argument: ArgumentText = KEEP
    argument_thinking: Annotated[str, StringConstraints(max_length=TEXT_CHARACTERS)] | None = None
    client: Facts = KEEP
    insight_spec: BoundedInsightSpec = KEEP
    product: BoundedProductSpec = KEEP
    review: Annotated[ReviewUpdate, _bounded(REVIEW_CHARACTERS)] = KEEP

    def changes(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_unset=True)


class Argument(Entity):
    """``error`` says why there is no text. ``claims`` compares the text with the facts and follows each change."""

    space: str
    action_id: str | None = None
    argument: str
    argument_thinking: str | None = None
    claims: list[Claim]
    unsupported_claims: int
    client: dict[str, Any]
    created_by: str
    deleted_at: Timestamp | None = None
    edited_by: str | None = Field(default=None, description="who last changed the text or a fact")
    duration: float = Field(description="of the language model's call, in milliseconds")
    error: str | None = None
    insight_id: str | None = None
    insight_spec: dict[str, Any]
    lineage: DecisionLineage = Field(exclude=True, repr=False)
    model: str
    product: dict[str, Any]
    # Its place in the queue of waiting arguments, unless it has waited there since it was made.
    queued_id: str | None = Field(default=None, exclude=True, repr=False)
    review: ArgumentReview
    status: ArgumentStatus
    usage: Usage

    @computed_field(alias="_id", description="the same as `id`")
    def object_id(self) -> str:
        return self.id

    def facts(self) -> dict[str, dict[str, Any]]:
        """Returns all facts that the text may use."""
        return {"client": self.client, "insight_spec": self.insight_spec, "product": self.product}


class ArgumentAssignment(Model):
    user_id: Identifier | None = Field(description="a member of the space; null removes the assignment")


class CommentCreate(Model):
    text: ArgumentText


class ArgumentComment(Entity):
    created_by: str
    text: str


class FieldChange(Model):
    before: Any
    after: Any


class ArgumentChange(Entity):
    """Fields that one request changed."""

    changed_by: str
    changes: dict[str, FieldChange]

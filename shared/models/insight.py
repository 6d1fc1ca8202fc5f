"""Insights: the best action for one client, the reasons for it, and reactions to it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from shared.models.action import ActionPriority, Channel, Currency, ValueAmount
from shared.models.base import ALSO_WITH_POINT, KEEP, Entity, Identifier, Model, ModelName, PartialUpdate, Timestamp
from shared.models.chat import Fraction, MaxTokens, Temperature
from shared.models.checkpoint import UnseenCategory
from shared.models.claim import Claim
from shared.models.client_key import CLIENT_KEY_CHARACTERS, ClientKeyRule, ClientName, digest_of
from shared.models.connector import Download
from shared.models.free_objects import OBJECT_BYTES, check_object
from shared.secret_names import find_secret

CANDIDATES_LIMIT = 1000
CONTACT_LIMITS = 50
SCORE_BANDS = 10
# Fields that named a client before policies did. Reactions of that time are stored under them.
_FORMER_FIELDS = ("id", "client_id", "customer_id")
_COMMENT_CHARACTERS = 2000
# Fields of a request that only a language model uses.
_OF_LANGUAGE_MODELS = ("echo", "max_tokens", "model", "temperature", "top_p")


class ClientKind(StrEnum):
    """Form in which an insight's client was sent. ``text`` has facts, but no features for a model."""

    PERSONA = "persona"
    OBJECT = "object"
    TEXT = "text"


@dataclass(frozen=True)
class Client:
    """``features`` are scored by models; ``facts`` are other data; ``key`` identifies the client in reactions.

    ``former_keys`` identified the same client under earlier rules. Without a ``name``, only the same content is the
    same client.
    """

    kind: ClientKind
    key: str
    features: dict[str, Any] = field(default_factory=dict, repr=False)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    name: ClientName | None = field(default=None, repr=False)
    former_keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: str | dict[str, Any], rules: Sequence[ClientKeyRule]) -> "Client":
        """Returns a client given by an object, by its JSON text, or by free text. The first rule is the current one."""
        content = _as_object(given)
        if isinstance(content, str):
            return cls(ClientKind.TEXT, digest_of("text", content), facts={"description": content})
        name, former = rules[0].name_of(content), _former_keys(content, rules)
        key = name.digest if name else former[-1]
        return cls(ClientKind.OBJECT, key, content, name=name, former_keys=_others(key, former))

    @classmethod
    def of_persona(
        cls, persona_id: str, data: dict[str, Any], facts: dict[str, Any], rules: Sequence[ClientKeyRule]
    ) -> "Client":
        """Returns the client of a persona. A persona whose data names no customer is a customer of its own."""
        name = rules[0].name_of(data) or ClientName("persona", persona_id)
        former = [*(_former_keys(data, rules) if data else ()), persona_id]
        return cls(ClientKind.PERSONA, name.digest, data, facts, name, _others(name.digest, former))

    @property
    def fields(self) -> dict[str, Any]:
        return {**self.facts, **self.features}


def _former_keys(content: dict[str, Any], rules: Sequence[ClientKeyRule]) -> list[str]:
    """Returns the keys under which reactions of the same client may be stored. The last is of the whole content.

    Keys of earlier days have another kind of digest, so that no customer of today has one of them.
    """
    earlier = [name.digest for rule in rules[1:] if (name := rule.name_of(content))]
    written = rules[0].written_key(content)
    plain = [str(content[each]) for each in _FORMER_FIELDS if isinstance(content.get(each), str | int)]
    whole = json.dumps(content, sort_keys=True, ensure_ascii=False)
    texts = [*([written] if written else []), *plain[:1], whole]
    return [*earlier, *(digest_of("object", text) for text in texts)]


def _others(key: str, former: Sequence[str]) -> tuple[str, ...]:
    return tuple(each for each in dict.fromkeys(former) if each != key)


def _as_object(given: str | dict[str, Any]) -> str | dict[str, Any]:
    """Returns the object that a text holds as JSON, or else the text itself."""
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            found = json.loads(given)
        except (ValueError, RecursionError):
            return given
        return found if isinstance(found, dict) else given
    return given


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None


def check_client(content: dict[str, Any]) -> None:
    """Raises ValueError for a client whom no decision can be about."""
    check_object(content)
    if secret := find_secret(content):
        raise ValueError(f"holds '{secret}', which has the name of a secret: leave secrets out")


class Wording(StrEnum):
    """Words of an insight: none, plain words on the offer without a language model, or a language model's argument."""

    NONE = "none"
    OFFER = "offer"
    ARGUMENT = "argument"


class ExplainedCandidates(StrEnum):
    """Candidates that get reason codes: the winner, or all that a model scored."""

    WINNER = "winner"
    ALL = "all"


class InsightCreate(Model):
    actions: list[Identifier] = Field(
        default_factory=list,
        max_length=CANDIDATES_LIMIT,
        description="the actions to choose from; all active actions of the space when empty",
    )
    # The contract documents it as optional. A missing client is refused as an empty one is.
    client: str | dict[str, Any] = Field(
        default="",
        validate_default=True,
        description="a persona's id; a JSON object, as such or as text, with the models' columns as keys; "
        "or free text, which no model can score. Of the fields in the policy's `client_key`, its first one, such as "
        "`customer_id`, names the customer: reactions and contacts of one customer count for all spellings of the key",
    )
    dry_run: bool = Field(
        default=False,
        description="only decide: store nothing, also no exposure to an experiment, to ask what if; with the wording "
        "`none` or `offer`",
    )
    echo: bool = Field(default=False, description="put the prompt before the text of `insight` in the response")
    max_tokens: MaxTokens | None = None
    model: ModelName | None = Field(default=None, description="the language model that writes the insight")
    reason_codes: ExplainedCandidates = Field(
        default=ExplainedCandidates.WINNER, description="`all` explains every candidate that a model scored"
    )
    reserve: bool = Field(
        default=False,
        description="reserve the contact in the same transaction, so that limits count it for other decisions "
        "immediately; report it as sent with POST /contacts",
    )
    temperature: Temperature | None = Field(default=None, description="0 when left out")
    top: Annotated[int | None, ALSO_WITH_POINT] = Field(
        strict=True,
        default=None,
        ge=1,
        le=CANDIDATES_LIMIT,
        description="the number of the best offers to list in `offers`",
    )
    top_p: Fraction | None = None
    wording: Wording = Field(
        default=Wording.ARGUMENT,
        description="`none` and `offer` call no language model, so the response does not wait for words; "
        "`POST /arguments` writes them later",
    )

    @model_validator(mode="after")
    def _uses_what_is_sent(self) -> "InsightCreate":
        unused = [name for name in _OF_LANGUAGE_MODELS if name in self.model_fields_set]
        if self.wording is not Wording.ARGUMENT and unused:
            raise ValueError(f"{unused[0]} is for a language model: leave it out, or ask for the wording `argument`")
        if self.dry_run and self.wording is Wording.ARGUMENT:
            raise ValueError("wording must be none or offer in a dry run, for which no language model writes")
        if self.dry_run and self.reserve:
            raise ValueError("reserve is not for a dry run, which stores nothing: leave it out")
        return self

    @field_validator("client")
    @classmethod
    def _bounded(cls, client: str | dict[str, Any]) -> str | dict[str, Any]:
        content = _as_object(client)
        if isinstance(content, dict):
            check_client(content)
        elif not content.strip():
            raise ValueError("is missing: give a persona's id, a JSON object, or text")
        elif len(_encoded(content)) > OBJECT_BYTES:
            raise ValueError(f"holds more than {OBJECT_BYTES // 1000} KB of text")
        return client


class FinishReason(StrEnum):
    """Why the insight's text ended. With ``length`` and ``error`` no language model wrote the text.

    ``plain`` is a text without a language model, and ``no_wording`` no text, as the request asked. With ``control``
    there is no offer, because the customer is in the control arm of an experiment.
    """

    STOP = "stop"
    PLAIN = "plain"
    NO_WORDING = "no_wording"
    LENGTH = "length"
    NO_ELIGIBLE_ACTION = "no_eligible_action"
    CONTROL = "control"
    ERROR = "error"


class Timeliness(StrEnum):
    """How soon the offer should be made."""

    IMMEDIATE = "immediate"
    THIS_WEEK = "this_week"
    THIS_MONTH = "this_month"
    LATER = "later"


class Rule(StrEnum):
    """Rule that removed a candidate before it was scored."""

    INELIGIBLE = "ineligible"
    CONDITION = "condition"
    SUPPRESSED = "suppressed"
    CONTACT_LIMIT = "contact_limit"


class ScoreSource(StrEnum):
    """Source of a propensity: the action's model, the share of its offers that were accepted, or a draw from that."""

    MODEL = "model"
    ACCEPTANCE_RATE = "acceptance_rate"
    EXPLORATION = "exploration"


class Candidate(Model):
    """One considered action, with its score and rank, or with the rule that removed it."""

    action_id: str
    name: str
    priority: ActionPriority
    rank: int | None = None
    score: float | None = None
    value: Decimal | None = Field(default=None, description="the value in the score, where values count")
    weight: float | None = Field(default=None, description="the weight of its priority in the score")
    propensity: float | None = Field(default=None, description="probability that the client accepts, 0 to 1")
    score_source: ScoreSource | None = None
    checkpoint_id: str | None = Field(default=None, description="the model that gave the propensity")
    note: str | None = Field(default=None, description="why the action's own model could not be used")
    unseen_categories: list[UnseenCategory] = Field(
        default_factory=list, description="some of the client's categories that the model was not trained on"
    )
    reason_codes: list["ReasonCode"] = Field(default_factory=list, description="filled if the request asks for all")
    removed_by: Rule | None = None
    condition: str | None = Field(default=None, description="the condition of the action or its group that removed it")
    reason: str = Field(description="one sentence on why it was chosen, beaten or removed")


class Arbitration(Model):
    """Method that computes the scores. Another ``version`` may rank differently."""

    version: str
    formula: str
    weights: dict[ActionPriority, float]
    currency: str | None = Field(default=None, description="the currency of the values, where they count")
    default_value: Decimal | None = Field(default=None, description="the value of an action without one")


class ReasonCode(Model):
    """One column of the client that influences the winner's score, and its direction."""

    feature: str
    value: str | int | float | bool | None
    contribution: float
    direction: str = Field(description="`raises` or `lowers`")


class Contributions(Model):
    """Contribution of each column to the winner's propensity. With ``base_value`` they add up to it, in ``unit``."""

    unit: str = "log_odds"
    base_value: float
    values: dict[str, float]
    is_exact: bool = Field(
        default=True, description="false: a part comes from a neural network, and is estimated by integrated gradients"
    )


class InsightUsage(Model):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Reaction(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    IGNORED = "ignored"


class ReactionCreate(Model):
    client_key: Annotated[str, StringConstraints(max_length=CLIENT_KEY_CHARACTERS)] | None = Field(
        default=None,
        description="the customer; needed for an `insight_id` of a decision run's output, and else only compared",
    )
    channel: Channel | None = Field(default=None, description="where the offer was made; else the insight's channel")
    comment: Annotated[str, StringConstraints(max_length=_COMMENT_CHARACTERS)] | None = None
    occurred_at: Timestamp | None = Field(
        default=None, description="when the client reacted; now when left out. Limits and suppression count by it"
    )
    reaction: Reaction


class InsightReaction(Entity):
    """Reaction to an insight's offer. Limits and suppression count by ``occurred_at``."""

    action_id: str
    channel: str | None = None
    comment: str | None = None
    created_by: str
    insight_id: str
    occurred_at: Timestamp | None = None
    reaction: Reaction

    @property
    def happened_at(self) -> datetime:
        """Returns the time of the reaction. Reactions of the time before there was a ledger have only one time."""
        return self.occurred_at or self.created_at


class RankedOffer(Model):
    """One of the best offers, with the first channel on which it may be made."""

    action_id: str
    channel: str | None = None
    name: str
    rank: int
    score: float


class Insight(Entity):
    """``actions`` are the ids of the scored candidates, best first. The texts are empty without a winner."""

    action_id: str | None = None
    actions: str = ""
    arbitration: Arbitration
    argument: str = ""
    arm: str | None = Field(default=None, description="the arm of the experiment that decided")
    argument_content: str = ""
    argument_thinking: str = ""
    best_channel: str = ""
    best_time: str = ""
    candidates: list[Candidate]
    claims: list[Claim] = Field(
        default_factory=list, description="the sentences that a language model wrote, compared with the facts"
    )
    client_key: str | None = Field(default=None, description="the key of the customer, as it is compared")
    client_key_field: str | None = Field(
        default=None, description="the field of the client that holds the key; `persona` for the id of a persona"
    )
    client_key_note: str | None = Field(default=None, description="why the decision is not bound to a customer")
    client_kind: ClientKind
    contributions: Contributions | None = None
    created_by: str
    decision_run_id: str | None = Field(
        default=None, description="the run that decided; the first reaction made this insight, without candidates"
    )
    dry_run: bool = Field(default=False, description="whether it is not stored, as the request asked")
    elapsed_time_in_seconds: float = 0.0
    error: str | None = None
    experiment_id: str | None = None
    finish_reason: FinishReason
    insight: str = ""
    limits: list["LimitLeft"] = Field(
        default_factory=list, description="the policy's contact limits, and what the customer had left of them"
    )
    model: str | None = None
    offers: list[RankedOffer] = Field(default_factory=list, description="the best offers, with `top`")
    reaction: InsightReaction | None = None
    reason_codes: list[ReasonCode] = Field(default_factory=list)
    reserved_until: Timestamp | None = Field(
        default=None, description="the end of the reserved contact, with `reserve`"
    )
    selection_probability: float | None = Field(
        default=None,
        description="how probable this offer was in its arm before propensities were drawn; only in an experiment",
    )
    thinking: str = ""
    timeliness: str = ""
    type: str = ""
    unsupported_claims: int = 0
    usage: InsightUsage = Field(default_factory=InsightUsage)
    withheld_action_id: str | None = Field(
        default=None, description="what a customer of the control arm is not offered"
    )


class SuppressionDays(Model):
    """Number of days after a reaction in which the same client does not get the offer again."""

    accepted: Annotated[int, ALSO_WITH_POINT] = Field(default=90, ge=0, le=3650, strict=True)
    ignored: Annotated[int, ALSO_WITH_POINT] = Field(default=7, ge=0, le=3650, strict=True)
    rejected: Annotated[int, ALSO_WITH_POINT] = Field(default=30, ge=0, le=3650, strict=True)


class LimitPeriod(StrEnum):
    """``rolling`` days have 24 hours and end now; ``calendar`` days begin at midnight, and today is the last one."""

    ROLLING = "rolling"
    CALENDAR = "calendar"


class ContactLimit(Model):
    """Most contacts with one client within a number of days: those that fit all of action, group and channel."""

    action_id: Identifier | None = Field(default=None, description="only contacts about this action")
    channel: Channel | None = Field(default=None, description="only contacts on this channel; all channels if left out")
    contacts: Annotated[int, ALSO_WITH_POINT] = Field(ge=0, le=1000, strict=True)
    days: Annotated[int, ALSO_WITH_POINT] = Field(ge=1, le=365, strict=True)
    group: Identifier | None = Field(default=None, description="only contacts about actions of this action group")
    period: LimitPeriod = Field(
        default=LimitPeriod.ROLLING, description="`calendar` days are those of the policy's `time_zone`"
    )


class LimitLeft(ContactLimit):
    """A contact limit with the contacts of one customer that counted at the time of the decision."""

    used: int
    left: int

    @classmethod
    def of(cls, limit: ContactLimit, used: int) -> "LimitLeft":
        return cls(**dict(limit), used=used, left=max(limit.contacts - used, 0))


class ContactExemptions(Model):
    """What limits leave alone: such contacts do not count, and such offers are made beyond any limit."""

    actions: Annotated[list[Identifier], Field(max_length=CONTACT_LIMITS)] = Field(default_factory=list)
    channels: Annotated[list[Channel], Field(max_length=CONTACT_LIMITS)] = Field(default_factory=list)
    groups: Annotated[list[Identifier], Field(max_length=CONTACT_LIMITS)] = Field(default_factory=list)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone of the IANA database, such as Europe/Berlin") from None
    return name


Weight = Annotated[float, Field(gt=0, le=1000, strict=True)]


class PriorityWeights(Model):
    """The weight of each priority in the score."""

    very_low: Weight = 0.5
    low: Weight = 0.75
    medium: Weight = 1.0
    high: Weight = 1.5
    very_high: Weight = 2.0


TimeZone = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_known_zone)]
ReservationMinutes = Annotated[int, Field(ge=1, le=60 * 24 * 31, strict=True), ALSO_WITH_POINT]


class InsightPolicyUpdate(PartialUpdate):
    client_key: ClientKeyRule = KEEP
    contact_limits: Annotated[list[ContactLimit], Field(max_length=CONTACT_LIMITS)] = KEEP
    currency: Currency | None = None
    default_value: ValueAmount = KEEP
    exempt: ContactExemptions = KEEP
    require_client_key: bool = KEEP
    reservation_minutes: ReservationMinutes = KEEP
    suppression_days: SuppressionDays = KEEP
    time_zone: TimeZone = KEEP
    weights: PriorityWeights = KEEP


class InsightPolicy(Model):
    """Rules on how often and how soon clients get offers. A new space has no contact limits."""

    client_key: ClientKeyRule = Field(default_factory=ClientKeyRule)
    contact_limits: list[ContactLimit] = Field(default_factory=list)
    currency: str | None = Field(default=None, description="the currency of the values of actions")
    default_value: ValueAmount = Field(default=Decimal(1), description="what an action without a value is worth")
    earlier_client_keys: list[ClientKeyRule] = Field(default_factory=list, exclude=True, repr=False)
    exempt: ContactExemptions = Field(default_factory=ContactExemptions)
    require_client_key: bool = Field(
        default=False, description="refuse decisions about clients whom no field of `client_key` names"
    )
    reservation_minutes: int = Field(default=24 * 60, description="how long a reserved contact counts if it isn't sent")
    suppression_days: SuppressionDays = Field(default_factory=SuppressionDays)
    time_zone: str = Field(default="UTC", description="where the calendar days of limits begin")
    updated_at: Timestamp | None = None
    updated_by: str | None = None
    version: int = Field(default=0, exclude=True, repr=False)
    weights: PriorityWeights = Field(default_factory=PriorityWeights, description="the weights of priorities")
    weights_version: int = Field(default=0, description="rises with each change of what scores are made of")

    @property
    def reservation(self) -> timedelta:
        return timedelta(minutes=self.reservation_minutes)

    @property
    def client_keys(self) -> list[ClientKeyRule]:
        """Returns the rules of the client key, the current one first."""
        return [self.client_key, *self.earlier_client_keys]


class AcceptanceRate(Model):
    """Share of offers that were accepted, with Wilson's interval at 95%."""

    accepted: int
    offers: int
    rate: float | None = Field(description="accepted offers divided by offers with a known reaction; null without any")
    low: float | None
    high: float | None


class ScoreBand(AcceptanceRate):
    """Offers with a model's propensity from ``from_score`` up to ``to_score``."""

    from_score: float
    to_score: float


class ActionAcceptance(AcceptanceRate):
    """Reactions to one action. The bands compare the model's propensities with the reactions."""

    action_id: str
    ignored: int
    name: str
    rejected: int
    score_bands: list[ScoreBand]


class ExportCreate(Model):
    action_id: Identifier | None = Field(default=None, description="only reactions to this action; else all")
    after: Annotated[str, StringConstraints(max_length=200)] = Field(
        default="", description="continues an earlier export: its `last`"
    )
    connector_id: Identifier = Field(description="a managed connector; the file is written to it and scanned")
    since: Timestamp | None = Field(default=None, description="only reactions at or after this time")


class Export(Model):
    """A file for the next training: the clients' features, and 0 or 1 in ``target``."""

    file: str | None = Field(description="the file's name in the connector; null when there were no rows")
    download: Download | None = Field(default=None, description="an address of the file, for 15 minutes")
    has_more: bool
    last: str | None = Field(description="the last reaction that was read; send it as `after` of the next export")
    rows: int
    skipped: int = Field(description="reactions of clients without features")
    target: str = "reaction_accepted"

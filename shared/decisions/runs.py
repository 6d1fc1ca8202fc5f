"""The work of decision runs: the decision about each row that ``POST /insights`` would make at the run's moment.

A part first gets *decided* rows: the best offer of each customer, and with limits the propensity of every option. When
all parts are decided, the last step drops customers that came before, allocates within the limits, and reserves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from shared.decisions.arbitration import contender
from shared.decisions.customers import ArmRules, CustomerDecider, Decided
from shared.decisions.scoring import PropensityScorer
from shared.decisions.snapshots import KeptMoment
from shared.decisions.words import PromptFacts, content, plain_text
from shared.insights.ledger import History, Ledger
from shared.models.action import Action, channel_key
from shared.models.decision_run import DecisionSettings
from shared.models.insight import Client, InsightPolicy, Rule, ScoreSource, Wording, check_client
from shared.runs.work import Batch, BatchOutcome, Refusal
from shared.space_binding import BoundThreads

NOTHING = -1
# No ledger has this version.
CHANGED = -1
LEFT = 0
RULES = (None, *Rule)
SOURCES = tuple(ScoreSource)
# Customers whose ledgers one thread reads together, and threads.
LEDGERS, READERS = 200, 8
# Customers times actions that are decided together.
DECISIONS = 2_000_000
UNNAMED = "no field of the policy's client_key names the customer"
_DECIDED = {
    "customer": pl.Binary(),
    "client_key": pl.String(),
    "record": pl.Int64(),
    "arm": pl.String(),
    "ledger_version": pl.Int64(),
    # One byte for each action: the rule that removed it, and where its propensity comes from.
    "removed": pl.Binary(),
    "sources": pl.Binary(),
    "best": pl.Int32(),
    "channel": pl.String(),
    "propensity": pl.Float64(),
    "insight": pl.String(),
    "argument": pl.String(),
    "argument_content": pl.String(),
}


@dataclass(frozen=True)
class Option:
    """An action on a channel. ``action`` is the action's place in the order of ids."""

    action: int
    channel: str | None


class Offers:
    """The actions of a run, and with limits its options, whose propensities the decided rows have."""

    def __init__(self, settings: DecisionSettings) -> None:
        self.settings = settings
        self.snapshot = KeptMoment(settings)
        self.moment = self.snapshot.moment
        self.usual = ArmRules(self.moment, None)
        self.actions: Sequence[Action] = self.usual.actions
        self.by_id = {action.id: action for action in self.actions}

    @cached_property
    def arms(self) -> dict[str | None, ArmRules]:
        """Returns the rules of each arm by its name, and those of customers in none."""
        arms: dict[str | None, ArmRules] = {None: self.usual}
        return arms | {arm.name: ArmRules(self.moment, arm) for arm in self.moment.experiments.arms}

    @cached_property
    def options(self) -> list[Option]:
        """Returns the options of all customers, the actions in their order. There are none without limits."""
        if not self.settings.limits:
            return []
        places = enumerate(self.actions)
        return [Option(place, each) for place, action in places for each in _channels_of(action, self.usual.channels)]

    def worth(self, arm: str | None, action_id: str) -> float:
        """Returns the value of an accepted offer, or 1 where values do not count."""
        rules = self.arms[arm]
        value = contender(self.by_id[action_id], 1.0, rules.arbitration).value
        return 1.0 if value is None else float(value)

    def limited(self, action_id: str | None, channel: str | None) -> tuple[int, ...]:
        """Returns the places of the options of an action, or on a channel."""
        return tuple(
            place
            for place, option in enumerate(self.options)
            if (self.actions[option.action].id == action_id if action_id else _is_on(option, channel))
        )


def _channels_of(action: Action, others: Sequence[str]) -> list[str | None]:
    """Returns the channels on which an action may be offered: its own, or the others. An offer may be without any."""
    return [action.channel] if action.channel else [*others] or [None]


def _is_on(option: Option, channel: str | None) -> bool:
    return option.channel is not None and channel is not None and channel_key(option.channel) == channel_key(channel)


class DecisionWork:
    """Decides for the rows of batches."""

    def __init__(
        self,
        space_id: str,
        offers: Offers,
        ledger: Ledger,
        propensities: PropensityScorer,
        seed: str,
    ) -> None:
        self._space_id = space_id
        self._offers = offers
        self._propensities = propensities
        self._seed = seed
        self._decider = CustomerDecider(_ParallelLedger(ledger), propensities, self._generator)

    @property
    def schema(self) -> pl.Schema:
        options = {f"p{place}": pl.Float64() for place in range(len(self._offers.options))}
        return pl.Schema({**_DECIDED, **options})

    def columns(self, available: Sequence[str]) -> Sequence[str]:
        """Returns all columns, because conditions and keys may need any of them."""
        return available

    def work(self, batch: Batch) -> BatchOutcome:
        """Returns the decided rows of a batch."""
        moment = self._offers.moment
        refused, clients, places = [], [], []
        for place, row in enumerate(rows_of(batch.rows)):
            client = _client(row, moment.policy, needs_name=not self._offers.settings.dry_run)
            if isinstance(client, str):
                refused.append(Refusal(place, client))
            else:
                clients.append(client)
                places.append(place)
        some = max(DECISIONS // max(len(self._offers.actions), 1), 1)
        tables = [self._decided(clients[start : start + some]) for start in range(0, len(clients), some)]
        table = pl.concat([self.schema.to_frame(), *tables])
        return BatchOutcome(table.with_columns(record=batch.records.gather(places).cast(pl.Int64)), refused)

    def _decided(self, clients: Sequence[Client]) -> pl.DataFrame:
        """Returns the decided rows of customers in their order."""
        decided = self._decider.decide(self._space_id, self._offers.moment, clients)
        order = np.array([place for each in decided for place in each.places], dtype=np.int64)
        return pl.concat([self._table(each) for each in decided])[np.argsort(order)]

    def _generator(self, client: Client) -> np.random.Generator:
        """Returns the source of a customer's draws. A part that is repeated draws the same."""
        return np.random.default_rng([int(self._seed.replace("-", ""), 16), int(client.key[:32], 16)])

    def _table(self, decided: Decided) -> pl.DataFrame:
        rules, best = decided.rules, decided.best
        rows = range(len(best))
        usable: list[Sequence[str]] = [
            () if column is None else decided.engagements[row].usable_channels(rules.actions[column])
            for row, column in enumerate(best)
        ]
        removed = [
            bytes([LEFT if removal is None else RULES.index(removal.rule) for removal in row])
            for row in decided.removals
        ]
        words = self._words(decided) if self._offers.settings.wording is Wording.OFFER else {}
        values = {
            "customer": [bytes.fromhex(client.key) for client in decided.clients],
            "client_key": [client.name.key if client.name else None for client in decided.clients],
            "record": [0 for _ in rows],
            "arm": [rules.arm.name if rules.arm else None for _ in rows],
            "ledger_version": [self._version(history) for history in decided.histories],
            "removed": removed,
            "sources": self._sources(decided),
            "best": [NOTHING if column is None else column for column in best],
            "channel": [next(iter(channels), None) for channels in usable],
            "propensity": [
                None if column is None else float(decided.values[row, column]) for row, column in enumerate(best)
            ],
            **{name: words.get(name) or [None for _ in rows] for name in ("insight", "argument", "argument_content")},
        }
        return pl.DataFrame({**values, **self._options(decided)}, schema=self.schema)

    def _version(self, history: History) -> int:
        """Returns the version that a reservation requires. What is newer than the moment needs another look."""
        return CHANGED if history.since(self._offers.moment.now + timedelta.resolution) else history.version

    def _sources(self, decided: Decided) -> list[bytes]:
        """Returns the source of each propensity: a byte for each action."""
        codes = decided.propensities.scored()
        model, rate, drawn = (
            SOURCES.index(each) for each in (ScoreSource.MODEL, ScoreSource.ACCEPTANCE_RATE, ScoreSource.EXPLORATION)
        )
        found = np.where(codes, model, rate).astype(np.uint8)
        for row, exploration in enumerate(decided.explorations):
            for column, action in enumerate(decided.rules.actions if exploration.shapes else ()):
                if action.id in exploration.shapes:
                    found[row, column] = drawn
        return [each.tobytes() for each in found]

    def _options(self, decided: Decided) -> dict[str, Any]:
        """Returns the propensity of each option that a customer may get; nothing in the control arm."""
        arm = decided.rules.arm
        columns: dict[str, Any] = {}
        for place, option in enumerate(self._offers.options):
            action = decided.rules.actions[option.action]
            allowed = [
                removals[option.action] is None
                and option.channel in _channels_of(action, engagement.usable_channels(action))
                for removals, engagement in zip(decided.removals, decided.engagements, strict=True)
            ]
            is_open = np.array(allowed, dtype=bool) & (arm is None or not arm.control)
            values = np.where(is_open, decided.values[:, option.action], np.nan)
            columns[f"p{place}"] = pl.Series(values).fill_nan(None)
        return columns

    def _words(self, decided: Decided) -> dict[str, list[str | None]]:
        """Returns the plain words on each offer."""
        rules = decided.rules
        found: dict[str, list[str | None]] = {name: [] for name in ("insight", "argument", "argument_content")}
        for row, column in enumerate(decided.best):
            if column is None or (rules.arm is not None and rules.arm.control):
                for texts in found.values():
                    texts.append(None)
                continue
            action, client = rules.actions[column], decided.clients[row]
            checkpoint = decided.propensities.checkpoint_of(row, column)
            explained = self._propensities.explain(client, checkpoint) if checkpoint else None
            facts = PromptFacts(
                client=client.fields,
                action=action,
                reason_codes=explained.reason_codes if explained else [],
                channels=decided.engagements[row].usable_channels(action),
                today=self._offers.moment.now.date(),
            )
            text = plain_text(facts)
            for name, value in (
                ("insight", text.insight),
                ("argument", text.argument),
                ("argument_content", content(action, client.fields, text)),
            ):
                found[name].append(value)
        return found


class _ParallelLedger:
    """Reads the ledgers of many customers, some of them at the same time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def read(self, space_id: str, customers: Sequence[Sequence[str]], since: datetime) -> list[Any]:
        if len(customers) <= LEDGERS:
            return self._ledger.read(space_id, customers, since)
        groups = [customers[start : start + LEDGERS] for start in range(0, len(customers), LEDGERS)]
        with BoundThreads(READERS) as pool:
            found = pool.map(lambda group: self._ledger.read(space_id, group, since), groups)
            return [history for histories in found for history in histories]


def rows_of(frame: pl.DataFrame) -> Iterable[dict[str, Any]]:
    """Returns rows as a request would send them in JSON: dates and times as texts, and null for what is no number."""
    flat, other = [], []
    for name, dtype in frame.schema.items():
        if dtype.is_float():
            flat.append(pl.col(name).fill_nan(None))
        elif not (dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Null)):
            other.append(name)
    rows = frame.with_columns(flat).to_dicts()
    for row in rows if other else ():
        row |= {name: _in_json(row[name]) for name in other}
    return rows


def _in_json(value: Any) -> Any:
    match value:
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
        case bytes():
            return value.decode(errors="replace")
        case Mapping():
            return {name: _in_json(each) for name, each in value.items()}
        case list():
            return [_in_json(each) for each in value]
        case float():
            return None if value != value else value
        case _:
            return value


def _client(row: dict[str, Any], policy: InsightPolicy, *, needs_name: bool) -> Client | str:
    """Returns the customer of a row, or why a request about it would be refused."""
    try:
        check_client(row)
    except ValueError as error:
        return f"the row {error}"
    client = Client.of(row, policy.client_keys)
    return UNNAMED if client.name is None and (needs_name or policy.require_client_key) else client

"""Settles the decided parts of a run: drops repeated customers, keeps the limits, and reserves contacts."""

import io
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from functions.workflows.decision_run.allocation import Allocation, OptionLimit, allocate
from functions.workflows.repeats import Repeats, find_repeats
from shared.clock import Clock
from shared.decisions.arbitration import score
from shared.decisions.customers import ArmRules
from shared.decisions.runs import LEFT, NOTHING, RULES, SOURCES, Offers
from shared.dynamodb.table import Table, TransactionFailedError
from shared.insights.exposures import Exposures
from shared.insights.ledger import History, Ledger, LedgerChangedError, Report, ReportedContact
from shared.insights.run_offers import RunOffer, insight_id_of, withheld_item
from shared.insights.store import band_of
from shared.models.contact import ContactStatus
from shared.models.decision_run import (
    DECISION_COLUMNS,
    SHOWN_DUPLICATES,
    AllocationQuality,
    DecisionRun,
    DecisionSummary,
    LimitUse,
    OfferCount,
    RemovalCount,
)
from shared.models.insight import Rule, ScoreSource
from shared.models.run import PARTS, PartResult, RunTask
from shared.runs.erasures import Erasures
from shared.runs.plans import Plans
from shared.space_binding import BoundThreads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Reservations of one transaction, which has three writes for each and at most a hundred, and threads.
TOGETHER, WRITERS = 30, 8
# Of a customer's key. Erasures also name personas.
DIGEST_CHARACTERS = 64
NO_ACTION, CONTROL, CAPACITY, CONTACTED = "no_eligible_action", "control", "limits", "contacted_since"
SCHEMA = pl.Schema({name: pl.Float64() if kind == "double" else pl.String() for name, kind in DECISION_COLUMNS.items()})


@dataclass
class Settled:
    """What all parts came to."""

    customers: int = 0
    reserved: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)
    offers: dict[tuple[str, str | None], list[float]] = field(default_factory=dict)
    results: list[PartResult] = field(default_factory=list)


class Settling:
    def __init__(
        self,
        space_id: str,
        run: DecisionRun,
        offers: Offers,
        table: Table,
        plans: Plans,
        erasures: Erasures,
        s3: "S3Client",
        clock: Clock,
    ) -> None:
        self._space_id = space_id
        self._run = run
        self._offers = offers
        self._table = table
        self._ledger = Ledger(table)
        self._plans = plans
        self._erasures = erasures
        self._s3 = s3
        self._clock = clock
        self._reservation = offers.moment.policy.reservation
        # Which decided rows the output has.
        self._counts = np.zeros(0, dtype=np.bool_)

    def settle(
        self, parts: Sequence[PartResult], tasks: Sequence[RunTask]
    ) -> tuple[DecisionSummary, list[PartResult], frozenset[str]]:
        """Returns the summary, the results of the settled parts, and the erased customers who were left out.

        Safe to repeat: contacts are reserved once. Raises JobFailedError if a minimum cannot be met.
        """
        erased = self._erasures.since(self._space_id, self._run.work_began_at)
        repeats = find_repeats(
            parts, tasks, lambda number: self._decided(number, ["customer", "record"]), SHOWN_DUPLICATES
        )
        counts = self._counts = repeats.is_first & ~self._is_one_of(parts, erased)
        starts = np.cumsum([0, *(part.rows_written for part in parts)])
        allocation = self._allocation(parts, starts, counts) if self._offers.settings.limits else None
        settled = Settled()
        for part, start, end in zip(parts, starts[:-1], starts[1:], strict=True):
            chosen = allocation.choice[start:end] if allocation else None
            self._settle(part, counts[start:end], chosen, settled)
        return self._summary(settled, allocation, repeats), settled.results, erased

    def expose(self, parts: Sequence[PartResult]) -> None:
        """Counts the customers of ``settle`` in their arms, and keeps what the control arm withheld. Safe to repeat.

        ``parts`` are the settled ones. For an output that is published: a failed run has offered nothing.
        """
        experiment_id, start = self._offers.moment.experiments.id, 0
        if experiment_id is None or not self._offers.moment.experiments.arms:
            return
        erased = self._erasures.since(self._space_id, self._run.work_began_at)
        exposures = Exposures(self._table)
        for part in parts:
            decided = self._decided(part.number, ["customer", "arm"])
            frame = decided.filter(pl.Series(self._counts[start : start + decided.height]))
            start += decided.height
            names = ["withheld_action_id", "insight_id"]
            rows = frame.hstack(self._decided(part.number, names, part.folder)).filter(pl.col("arm").is_not_null())
            members = {row["customer"].hex(): row for row in rows.iter_rows(named=True)}
            members = {key: row for key, row in members.items() if key not in erased}
            withheld = [
                withheld_item(self._space_id, key, row["insight_id"], self._withheld(row, experiment_id))
                for key, row in members.items()
                if row["withheld_action_id"]
            ]
            self._table.put_all(withheld)
            exposures.count(self._space_id, experiment_id, {key: row["arm"] for key, row in members.items()})

    def _withheld(self, row: Mapping[str, Any], experiment_id: str) -> RunOffer:
        return RunOffer(
            run_id=self._run.id,
            action_id=row["withheld_action_id"],
            is_withheld=True,
            arm=row["arm"],
            experiment_id=experiment_id,
        )

    def _is_one_of(self, parts: Sequence[PartResult], erased: frozenset[str]) -> npt.NDArray[np.bool_]:
        """Returns which rows are about erased customers."""
        if not erased:
            return np.zeros(sum(part.rows_written for part in parts), dtype=np.bool_)
        digests = pl.Series(
            [bytes.fromhex(each) for each in erased if len(each) == DIGEST_CHARACTERS], dtype=pl.Binary
        ).implode()
        found = (self._decided(part.number, ["customer"])["customer"].is_in(digests) for part in parts)
        return np.concatenate([each.to_numpy() for each in found])

    def _decided(self, number: int, columns: Sequence[str] | None = None, folder: str = PARTS) -> pl.DataFrame:
        key = self._plans.part_key(self._space_id, self._run.work_id, number, folder)
        content = self._s3.get_object(Bucket=self._plans.bucket, Key=key)["Body"].read()
        return pl.read_parquet(io.BytesIO(content), columns=list(columns) if columns else None)

    # Limits

    def _allocation(
        self, parts: Sequence[PartResult], starts: npt.NDArray[np.int64], is_first: npt.NDArray[np.bool_]
    ) -> Allocation:
        """Returns the allocation. The scores of all customers are in a file, so they need not fit into memory."""
        options = self._offers.options
        limits = [
            OptionLimit(
                f"the action {each.action_id}" if each.action_id else f"the channel {each.channel}",
                self._offers.limited(each.action_id, each.channel),
                each.capacity,
                each.minimum,
            )
            for each in self._offers.settings.limits
        ]
        with tempfile.TemporaryDirectory() as folder:
            shape = (int(starts[-1]), max(len(options), 1))
            scores = np.memmap(Path(folder) / "scores", dtype=np.float64, mode="w+", shape=shape)
            for part, start, end in zip(parts, starts[:-1], starts[1:], strict=True):
                scores[start:end] = self._scores(self._decided(part.number), is_first[start:end])
            return allocate(scores, limits)

    def _scores(self, frame: pl.DataFrame, is_first: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        options = self._offers.options
        found = np.full((frame.height, max(len(options), 1)), -np.inf)
        propensities = frame.select([f"p{place}" for place in range(len(options))]).to_numpy()
        for name, rows in _by_arm(frame):
            factors = np.array([self._offers.arms[name].factors[option.action] for option in options])
            if len(options):
                found[rows] = score(propensities[rows], factors)
        found[np.isnan(found)] = -np.inf
        found[~is_first] = -np.inf
        return found

    # Parts

    def _settle(
        self, part: PartResult, is_first: npt.NDArray[np.bool_], chosen: npt.NDArray[np.int32] | None, settled: Settled
    ) -> None:
        frame = self._decided(part.number).with_row_index("place")
        if chosen is not None:
            frame = self._chosen(frame, chosen)
        frame = frame.filter(pl.Series(is_first)).select(pl.exclude(r"^p\d+$"))
        rows = [self._row(row) for row in frame.iter_rows(named=True)]
        for place, until in self._reserve(frame, rows).items() if not self._run.dry_run else ():
            no_offer = {**dict.fromkeys(_OFFER), "reason": CONTACTED}
            rows[place] |= {"reserved_until": until.isoformat()} if until else no_offer
        table = pl.DataFrame(rows, schema=SCHEMA)
        self._count(frame, table, settled)
        result = part.model_copy(update={"rows_written": table.height, "folder": offers_of(self._run.id)})
        if not self._run.dry_run:
            settled.reserved += table["action_id"].count()
            result.size_bytes = self._save(table, part.number)
        settled.results.append(result)

    def _chosen(self, frame: pl.DataFrame, chosen: npt.NDArray[np.int32]) -> pl.DataFrame:
        """Returns decided rows with the allocated options as the best ones. Controls keep what they would get."""
        options = self._offers.options
        actions = np.array([*(option.action for option in options), NOTHING])[chosen]
        channels = [None if place == NOTHING else options[place].channel for place in chosen.tolist()]
        values = frame.select([f"p{place}" for place in range(len(options))]).to_numpy()
        propensities = np.where(chosen == NOTHING, np.nan, values[np.arange(len(chosen)), chosen])
        is_control = frame["arm"].is_in([name for name, rules in self._offers.arms.items() if _is_control(rules)])
        return frame.with_columns(
            was_left=frame["best"] != NOTHING,
            best=pl.when(is_control).then(frame["best"]).otherwise(pl.Series(actions.astype(np.int32))),
            channel=pl.when(is_control).then(frame["channel"]).otherwise(pl.Series(channels, dtype=pl.String)),
            propensity=pl.when(is_control).then(frame["propensity"]).otherwise(pl.Series(propensities)),
        )

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a row of the output."""
        rules, best = self._offers.arms[row["arm"]], row["best"]
        found: dict[str, Any] = {
            "client_key": row["client_key"],
            "arm": row["arm"],
            "experiment_id": self._offers.moment.experiments.id if row["arm"] else None,
        }
        if best == NOTHING:
            return {**found, "reason": CAPACITY if row.get("was_left") else NO_ACTION}
        action = rules.actions[best]
        if _is_control(rules):
            return {**found, "reason": CONTROL, "withheld_action_id": action.id, **self._insight_id(row)}
        source = SOURCES[row["sources"][best]]
        checkpoints = self._offers.settings.checkpoints
        found |= {
            "action_id": action.id,
            "channel": row["channel"],
            "score": score(row["propensity"], rules.factors[best]),
            "propensity": row["propensity"],
            "score_source": source.value,
            "checkpoint_id": checkpoints[action.model_id]["id"]
            if source is ScoreSource.MODEL and action.model_id
            else None,
            "insight": row["insight"],
            "argument": row["argument"],
            "argument_content": row["argument_content"],
        }
        insight_id = self._insight_id(row)
        return found | insight_id | {"contact_id": insight_id.get("insight_id")}

    def _insight_id(self, row: Mapping[str, Any]) -> dict[str, str]:
        return {} if self._run.dry_run else {"insight_id": insight_id_of(self._run.id, row["customer"])}

    # Reservations

    def _reserve(self, frame: pl.DataFrame, rows: Sequence[Mapping[str, Any]]) -> dict[int, datetime | None]:
        """Reserves the contacts of a part. Returns until when, and ``None`` for customers who were contacted since."""
        wanted = [
            (place, customer.hex(), version, rows[place])
            for place, (customer, version) in enumerate(zip(frame["customer"], frame["ledger_version"], strict=True))
            if rows[place].get("action_id")
        ]
        groups = [wanted[start : start + TOGETHER] for start in range(0, len(wanted), TOGETHER)]
        with BoundThreads(WRITERS) as pool:
            return {place: until for some in pool.map(self._reserve_some, groups) for place, until in some.items()}

    def _reserve_some(self, wanted: Sequence[tuple[int, str, int, Mapping[str, Any]]]) -> dict[int, datetime | None]:
        # Not the run's moment: who decided in between would not find the reservation among what happened since.
        now = self._clock()
        try:
            self._table.transact([each for one in wanted for each in self._writes(one, one[2], now)])
        except (LedgerChangedError, TransactionFailedError):
            return {one[0]: self._reserve_one(one, now) for one in wanted}
        return dict.fromkeys((one[0] for one in wanted), now + self._reservation)

    def _reserve_one(self, wanted: tuple[int, str, int, Mapping[str, Any]], now: datetime) -> datetime | None:
        """Reserves a contact unless it is reserved, or what has changed in the ledger forbids it.

        Returns until when it is reserved, if it is.
        """
        _, key, _, row = wanted
        rules = self._offers.arms[row["arm"]]
        for _ in range(_ATTEMPTS):
            (history,) = self._ledger.read(self._space_id, [[key]], rules.since)
            ours = next((each for each in history.contacts if each.contact_id == row["contact_id"]), None)
            if ours is not None:
                return ours.reserved_until or now + self._reservation
            if not self._may_offer(key, row, rules, history):
                return None
            try:
                self._table.transact(self._writes(wanted, history.version, now))
            except (LedgerChangedError, TransactionFailedError):
                continue
            return now + self._reservation
        return None

    def _may_offer(self, key: str, row: Mapping[str, Any], rules: ArmRules, history: History) -> bool:
        """Returns whether the offer holds after the decision: nothing has happened since the run's moment, the rules
        allow it with what was reported late, and nobody has erased the customer.
        """
        if history.since(self._offers.moment.now):
            return False
        engagement, action = rules.engagement(history), self._offers.by_id[row["action_id"]]
        is_usable = row["channel"] is None or row["channel"] in engagement.usable_channels(action)
        if not is_usable or engagement.engaged(action) is not None:
            return False
        return key not in self._erasures.since(self._space_id, self._run.work_began_at)

    def _writes(self, wanted: tuple[int, str, int, Mapping[str, Any]], version: int, now: datetime) -> list[Any]:
        _, key, _, row = wanted
        action = self._offers.by_id[row["action_id"]]
        report = Report(ContactStatus.RESERVED, now, now + self._reservation)
        reported = ReportedContact(
            row["contact_id"],
            report,
            action.id,
            default_channel=row["channel"],
            group=action.group or None,
            hold=self._run.id,
            offer=RunOffer(
                run_id=self._run.id,
                action_id=action.id,
                channel=row["channel"],
                group=action.group or None,
                band=band_of(row["propensity"]) if row["score_source"] == ScoreSource.MODEL else None,
                checkpoint_id=row["checkpoint_id"],
                arm=row["arm"],
                experiment_id=row["experiment_id"],
            ).stored,
        )
        return self._ledger.reservation(self._space_id, key, reported, version)

    def _save(self, table: pl.DataFrame, number: int) -> int:
        buffer = io.BytesIO()
        table.write_parquet(buffer, compression="zstd", statistics=True)
        key = self._plans.part_key(self._space_id, self._run.work_id, number, offers_of(self._run.id))
        self._s3.put_object(Bucket=self._plans.bucket, Key=key, Body=buffer.getvalue())
        return len(buffer.getvalue())

    # Sums

    def _count(self, frame: pl.DataFrame, table: pl.DataFrame, settled: Settled) -> None:
        settled.customers += table.height
        settled.reasons.update(reason for reason in table["reason"] if reason is not None)
        removed = frame["removed"]
        actions = self._offers.actions
        if len(actions) and table.height:
            codes = np.frombuffer(b"".join(removed), dtype=np.uint8).reshape(table.height, len(actions))
            for column, action in enumerate(actions):
                for code, count in enumerate(np.bincount(codes[:, column], minlength=len(RULES))):
                    if code != LEFT and count:
                        settled.removed[action.id, str(RULES[code])] += int(count)
        for row in table.filter(pl.col("action_id").is_not_null()).iter_rows(named=True):
            sums = settled.offers.setdefault((row["action_id"], row["channel"]), [0, 0.0, 0.0, 0.0])
            value = self._offers.worth(row["arm"], row["action_id"])
            for place, amount in enumerate((1, row["score"], row["propensity"], row["propensity"] * value)):
                sums[place] += amount

    def _summary(self, settled: Settled, allocation: Allocation | None, repeats: Repeats) -> DecisionSummary:
        names = {action.id: action.name for action in self._offers.actions}
        has_values = self._offers.usual.arbitration.currency is not None
        counts = [
            OfferCount(
                action_id=action_id,
                channel=channel,
                name=names[action_id],
                offers=int(sums[0]),
                score=sums[1],
                expected_acceptances=sums[2],
                expected_value=sums[3] if has_values else None,
            )
            for (action_id, channel), sums in sorted(settled.offers.items(), key=lambda each: (-each[1][1], str(each)))
        ]
        total = [sum(sums[place] for sums in settled.offers.values()) for place in range(4)]
        return DecisionSummary(
            allocation=self._quality(allocation) if allocation else None,
            arbitration=self._offers.usual.arbitration,
            customers=settled.customers,
            duplicates=repeats.rows,
            duplicate_rows=repeats.shown,
            expected_acceptances=total[2],
            expected_value=total[3] if has_values else None,
            offers=int(total[0]),
            offers_by_action=counts,
            removals=[
                RemovalCount(action_id=action_id, customers=count, rule=Rule(rule))
                for (action_id, rule), count in sorted(settled.removed.items())
            ],
            reserved=settled.reserved,
            score=total[1],
            without_offer=dict(sorted(settled.reasons.items())),
        )

    def _quality(self, allocation: Allocation) -> AllocationQuality:
        uses = []
        for each in self._offers.settings.limits:
            places = self._offers.limited(each.action_id, each.channel)
            name = f"the action {each.action_id}" if each.action_id else f"the channel {each.channel}"
            made = int(np.isin(allocation.choice, places).sum())
            uses.append(LimitUse(**each.model_dump(), offers=made, price=allocation.prices.get(name, 0.0)))
        return AllocationQuality(
            bound=allocation.bound,
            gap=allocation.gap,
            limits=uses,
            method=allocation.method,
            score=allocation.value,
        )


_OFFER = (
    "action_id", "channel", "score", "propensity", "score_source", "checkpoint_id", "contact_id", "reserved_until",
    "insight", "argument", "argument_content", "insight_id",
)  # fmt: skip
_ATTEMPTS = 5


def offers_of(run_id: str) -> str:
    """Returns the folder of the settled parts. A run that was stopped may still write to its own beside a restart."""
    return f"offers/{run_id}"


def _is_control(rules: Any) -> bool:
    return rules.arm is not None and rules.arm.control


def _by_arm(frame: pl.DataFrame) -> Iterator[tuple[str | None, npt.NDArray[np.int64]]]:
    """Yields each arm with the rows of its customers."""
    arms = frame["arm"]
    for name in arms.unique().to_list():
        is_member = arms.is_null() if name is None else arms == name
        yield name, is_member.arg_true().to_numpy().astype(np.int64)

"""A full recount: every item read and understood, and all that is kept twice held against what it is made from.

Nothing of the store's own arithmetic is used here, only the layout of its keys. ``problems`` answers what does not
agree, in words that name the item; in a table in use, changes that are under way may show.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.models.action import Action
from shared.models.action_group import ActionGroup
from shared.models.api_key import ApiKey
from shared.models.argument import Argument, ArgumentChange, ArgumentComment
from shared.models.base import Entity
from shared.models.benchmark import Benchmark
from shared.models.checkpoint import Checkpoint
from shared.models.checkpoint_alias import CheckpointAlias
from shared.models.connector import Connector, Scan
from shared.models.data_model import DataModel
from shared.models.evaluation import Evaluation
from shared.models.insight import InsightPolicy
from shared.models.invite import Invite
from shared.models.job import MetricName
from shared.models.persona import Persona
from shared.models.persona_upload import StoredUpload, UploadStatus
from shared.models.space import Membership, Space
from shared.models.training import Training
from shared.models.user import User
from shared.models.webhook_endpoint import WebhookDelivery, WebhookEndpoint
from shared.store.chats import StoredChat
from shared.store.codec import decode_item
from shared.store.experts import StoredExpert
from shared.store.insights import StoredInsight, StoredReaction
from shared.store.personas import person_key
from shared.store.repository import is_identifier
from shared.store.scores import encode_value

Item = dict[str, Any]
Problems = Iterator[str]

MODELS: dict[str, type[Any]] = {
    "action": Action,
    "action_group": ActionGroup,
    "api_key": ApiKey,
    "argument": Argument,
    "argument_change": ArgumentChange,
    "argument_comment": ArgumentComment,
    "benchmark": Benchmark,
    "checkpoint": Checkpoint,
    "checkpoint_alias": CheckpointAlias,
    "chat": StoredChat,
    "connector": Connector,
    "data_model": DataModel,
    "evaluation": Evaluation,
    "expert": StoredExpert,
    "insight": StoredInsight,
    "insight_policy": InsightPolicy,
    "insight_reaction": StoredReaction,
    "invite": Invite,
    "member": Entity,
    "membership": Membership,
    "persona": Persona,
    "scan": Scan,
    "space": Space,
    "training": Training,
    "user": User,
    "webhook_delivery": WebhookDelivery,
    "webhook_endpoint": WebhookEndpoint,
}
# Kept by transactions of their own, or only under a name: nobody asks how many there are.
UNCOUNTED = {"checkpoint_alias", "insight_policy", "insight_reaction", "space", "user", "webhook_delivery"}
# Entities of a user in a space, or of another entity.
OF_TWO = {"api_key", "argument_change", "argument_comment", "webhook_delivery"}
# What is kept for each entity of a kind, in a partition of its own.
LEFTOVERS = {"chat_turn": "chat", "argument_change": "argument", "argument_comment": "argument"}
FINAL = {"succeeded", "failed", "stopped"}
JOBS = ("training", "evaluation", "scan")
LEVELS = {"day": 86_400_000, "hour": 3_600_000, "minute": 60_000}
TOTALS = ("calls", "input_tokens", "output_tokens", "total_tokens", "latency_us")


def read(dynamodb: Any, table_name: str) -> list[Item]:
    """All items of a table."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table_name, ConsistentRead=True)
    return [decode_item(item) for page in pages for item in page["Items"]]


@dataclass
class Recount:
    """The items of the entity table and of the logs table."""

    entities: list[Item]
    logs: list[Item] = field(default_factory=list)

    @cached_property
    def partitions(self) -> dict[str, dict[str, Item]]:
        found: dict[str, dict[str, Item]] = defaultdict(dict)
        for item in self.entities:
            found[item["PK"]][item["SK"]] = item
        return found

    def problems(self) -> list[str]:
        """Everything that does not agree; nothing when all is well."""
        checks: Iterable[Callable[[], Problems]] = (
            self._unreadable,
            self._counts,
            self._uses,
            self._jobs,
            self._evaluations,
            self._scans,
            self._members,
            self._invites,
            self._persons,
            self._expert_versions,
            self._scores,
            self._aliases,
            self._reactions,
            self._arguments,
            self._uploads,
            self._endpoints,
            self._leftovers,
            self._audit,
            self._rollups,
        )
        return [problem for check in checks for problem in check()]

    def of(self, kind: str) -> Iterator[tuple[str, str, Item]]:
        """The space (or user, or both), id and item of each entity of a kind, deleted ones left out."""
        for pk, items in self.partitions.items():
            name, _, owner = pk.partition("#")
            if name == kind and is_owner(kind, owner):
                for sk, item in items.items():
                    if is_entity(kind, sk):
                        yield owner, sk, item

    def _unreadable(self) -> Problems:
        for kind, model in MODELS.items():
            adapter = TypeAdapter(model)
            for _, _, item in self.of(kind):
                try:
                    adapter.validate_python(item)
                except ValidationError as error:
                    yield f"{item['PK']} {item['SK']} is no {kind}: {error.errors()[0]['loc']}"

    def _counts(self) -> Problems:
        """Each counter of a kind, and those of its stretches of time, against the entities themselves."""
        counted = {pk.removesuffix("#count") for pk in self.partitions if pk.endswith("#count")}
        for kind in MODELS.keys() - UNCOUNTED:
            counted |= {item["PK"] for _, _, item in self.of(kind)}
        for pk in sorted(counted):
            counters = self.partitions.get(f"{pk}#count", {})
            total = sum(item["items"] for sk, item in counters.items() if sk.startswith("total"))
            ids = [sk for sk in self.partitions.get(pk, {}) if is_entity(pk.partition("#")[0], sk)]
            if total != len(ids):
                yield f"{pk}: counted {total}, there are {len(ids)}"
            buckets = {sk: item["items"] for sk, item in counters.items() if not sk.startswith("total")}
            if buckets:
                real = Counter(f"{digits}#{sk.replace('-', '')[:digits]}" for sk in ids for digits in (5, 8))
                if {sk: number for sk, number in buckets.items() if number} != dict(real):
                    yield f"{pk}: the counters of its stretches of time are wrong"

    def _uses(self) -> Problems:
        held: Counter[tuple[str, str]] = Counter()
        for space_id, _, training in self.of("training"):
            if training["status"] not in FINAL:
                held[f"data_model#{space_id}", training["data_model_id"]] += 1
                held.update((f"connector#{space_id}", each["connector_id"]) for each in training["connectors"])
        for kind in ("data_model", "connector"):
            for space_id, sk, item in self.of(kind):
                wanted = held.pop((f"{kind}#{space_id}", sk), 0)
                if item.get("active_uses", 0) != wanted:
                    yield f"{kind} {sk}: {item.get('active_uses', 0)} uses noted, {wanted} trainings hold it"
        yield from (f"{pk} {sk} does not exist and is held by a training" for pk, sk in held)

    def _jobs(self) -> Problems:
        open_jobs = self.partitions.get("job#open", {})
        unfinished: set[str] = set()
        for kind in JOBS:
            for _, sk, item in self.of(kind):
                status = item["result"]["status"] if kind == "evaluation" else item["status"]
                if status not in FINAL:
                    unfinished.add(sk)
                    if sk not in open_jobs:
                        yield f"{kind} {sk} is {status}, and nobody looks after it"
                if f"job#{sk}" not in self.partitions:
                    yield f"{kind} {sk} can't be found by its id alone"
        unfinished |= {sk for sk, item in open_jobs.items() if "due" in item}
        for pk, items in self.partitions.items():
            if pk.startswith("training#") and pk.endswith("#deleted"):
                unfinished |= {sk for sk, item in items.items() if item["status"] not in FINAL}
        yield from (f"the job {sk} is open and has ended" for sk in open_jobs if sk not in unfinished)
        for pk, items in self.partitions.items():
            if pk.startswith("evaluation#") and pk.endswith("#running"):
                named = {item["evaluation_id"] for item in items.values()}
                yield from (f"evaluation {each} is said to run and has ended" for each in named - unfinished)

    def _evaluations(self) -> Problems:
        """Each benchmark of a training that has succeeded has been evaluated, or is due."""
        done = {(item["checkpoint_id"], item["benchmark_id"]) for _, _, item in self.of("evaluation")}
        for item in self.partitions.get("job#open", {}).values():
            done |= {(each["checkpoint_id"], each["benchmark_id"]) for each in item.get("due", ())}
        running = {(pk.split("#")[1], sk) for pk, items in self._named("evaluation", "running") for sk in items}
        listed = {(pk.split("#")[3], sk) for pk, items in self._named("evaluation", "creator") for sk in items}
        made: set[tuple[str, str]] = set()
        for space_id, sk, item in self.of("evaluation"):
            made.add((item["created_by"], sk))
            key = f"{item['benchmark_id']}#{item['checkpoint_id']}#{item['gpu_count']}"
            if item["result"]["status"] not in FINAL and (space_id, key) not in running:
                yield f"evaluation {sk} runs, and nobody who wants the same will know"
        yield from (f"evaluation {pair}: one of its creator only or not" for pair in made ^ listed)
        known = {sk for _, sk, _ in self.of("benchmark")}
        for _, sk, training in self.of("training"):
            if training["status"] == "succeeded":
                wanted = set(product(training["checkpoint_ids"], known.intersection(training["benchmark_ids"])))
                yield from (f"training {sk}: {pair} is not evaluated" for pair in sorted(wanted - done))

    def _scans(self) -> Problems:
        scans = {sk: item for _, sk, item in self.of("scan")}
        for space_id, sk, connector in self.of("connector"):
            scan_id = connector.get("scan_id")
            if scan_id is not None and (scan_id not in scans or scans[scan_id]["status"] in FINAL):
                yield f"connector {sk} waits for the scan {scan_id}, which has ended"
            if scan_id is None and connector.get("rescan_requested"):
                yield f"connector {sk} was to be scanned again and is not"
            waiting = set(self.partitions.get(f"catalog#{space_id}#{sk}#pending", {}))
            if scan_id is None and waiting:
                yield f"connector {sk}: {sorted(waiting)} wait for a scan that nobody has started"
            files = self.partitions.get(f"catalog#{space_id}#{sk}", {})
            unmarked = {file for file, item in files.items() if item["status"] == "pending"} - waiting
            if unmarked:
                yield f"connector {sk}: {sorted(unmarked)} are pending, and no scan will know"

    def _members(self) -> Problems:
        spaces = {sk: item for _, sk, item in self.of("space")}
        pairs = {(space_id, user_id) for space_id, user_id, _ in self.of("member")}
        listed = {(sk, user_id) for user_id, sk, _ in self.of("membership")}
        hidden = {
            (sk, pk.split("#")[1])
            for pk, items in self.partitions.items()
            if pk.startswith("membership#") and pk.endswith("#hidden")
            for sk in items
        }
        yield from (f"{pair} is listed and hidden" for pair in listed & hidden)
        yield from (f"{pair} has a membership or a place among the members only" for pair in pairs ^ (listed | hidden))
        yield from (f"{pair}: the space is deleted" for pair in listed if "deleted_at" in spaces.get(pair[0], {}))
        yield from (f"{pair}: the space is in use" for pair in hidden if "deleted_at" not in spaces.get(pair[0], {}))
        owners = Counter(sk for _, sk, item in self.of("membership") if item["is_owner"])
        used = [sk for sk, item in spaces.items() if "deleted_at" not in item]
        yield from (f"the space {sk} has {owners[sk]} owners" for sk in used if owners[sk] != 1)

    def _invites(self) -> Problems:
        stored = {(item["email"], space_id): sk for space_id, sk, item in self.of("invite")}
        named = {
            (pk.partition("#")[2], sk): item["invite_id"]
            for pk, items in self.partitions.items()
            if pk.startswith("invite_email#")
            for sk, item in items.items()
        }
        if stored != named:
            yield f"invites and their addresses differ: {stored.items() ^ named.items()}"

    def _persons(self) -> Problems:
        wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
        for space_id, sk, item in self.of("persona"):
            wanted[space_id, person_key(item["name"], item["birthdate"])].append(sk)
        found = {(owner, sk): item["ids"] for owner, sk, item in self._plain("persona_key")}
        for place in {*wanted, *found}:
            if sorted(wanted.get(place, [])) != sorted(found.get(place, [])):
                yield f"persona_key {place}: says {found.get(place)}, there are {wanted.get(place)}"

    def _expert_versions(self) -> Problems:
        for space_id, sk, item in self.of("expert"):
            numbers = [int(each) for each in self.partitions.get(f"expert_version#{space_id}#{sk}", {})]
            if sorted(numbers) != list(range(1, item["version_number"] + 1)):
                yield f"expert {sk}: is at version {item['version_number']}, kept are {sorted(numbers)}"

    def _scores(self) -> Problems:
        wanted: set[tuple[str, str]] = set()
        found: set[tuple[str, str]] = set()
        for pk, items in self.partitions.items():
            kind, *rest = pk.split("#")
            if kind == "score" and rest[1] == "result":
                for sk, item in items.items():
                    checkpoint_id, benchmark_id = sk.split("#")
                    for metric in MetricName:
                        value = encode_value(item["metrics"].get(metric))
                        entry = f"{item['revision']:010d}#{value}#{checkpoint_id}"
                        wanted.add((f"score#{rest[0]}#{benchmark_id}#{metric}", entry))
            elif kind == "score" and len(rest) == 3:
                found |= {(pk, sk) for sk in items}
        yield from (f"{pk} {sk}: on a leaderboard or in the results only" for pk, sk in wanted ^ found)

    def _aliases(self) -> Problems:
        checkpoints = {(space_id, sk) for space_id, sk, _ in self.of("checkpoint")}
        for space_id, sk, item in self.of("checkpoint_alias"):
            if (space_id, item["checkpoint_id"]) not in checkpoints:
                yield f"the alias {sk} names a checkpoint that does not exist"

    def _reactions(self) -> Problems:
        """What insights say, the reactions by time and by client, and what is counted of each action."""
        said: dict[str, tuple[str, str]] = {}
        counted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for space_id, sk, insight in self.of("insight"):
            if reaction := insight.get("reaction"):
                said[reaction["id"]] = (sk, reaction["reaction"])
                counts = counted[space_id, reaction["action_id"]]
                counts[reaction["reaction"]] += 1
                if (band := insight.get("band")) is not None:
                    counts[f"offered_{band}"] += 1
                    counts[f"accepted_{band}"] += reaction["reaction"] == "accepted"
        by_time = {sk: (item["insight_id"], item["reaction"]) for _, sk, item in self.of("insight_reaction")}
        if by_time != said:
            yield f"reactions differ from what insights say: {by_time.items() ^ said.items()}"
        by_client = {
            sk: item["reaction"]
            for pk, items in self.partitions.items()
            if pk.startswith("insight_contact#")
            for sk, item in items.items()
        }
        if by_client != {key: reaction for key, (_, reaction) in said.items()}:
            yield "the reactions of clients differ from those of insights"
        for space_id, sk, item in self._plain("insight_rate"):
            real = counted.pop((space_id, sk), Counter())
            noted = {name: value for name, value in item.items() if name not in ("PK", "SK") and value}
            if noted != {name: value for name, value in real.items() if value}:
                yield f"insight_rate {sk}: says {noted}, there are {dict(real)}"
        yield from (f"the action {sk} has reactions that are not counted" for _, sk in counted)

    def _arguments(self) -> Problems:
        """The lists that arguments stand in, and the notes of their changes."""
        wanted: set[tuple[str, str]] = set()
        for space_id, sk, item in self.of("argument"):
            status, action = item["review"]["status"], item.get("action_id")
            names = {f"{status}#any"} | ({f"any#{action}", f"{status}#{action}"} if action else set())
            if status == "waiting_review":
                names.add(f"queue#{item['review'].get('assignee') or 'anyone'}")
            wanted |= {(f"argument_index#{space_id}#{name}", sk) for name in names}
            changes = len(self.partitions.get(f"argument_change#{space_id}#{sk}", {}))
            if changes != item["version"] - 1:
                yield f"argument {sk}: is at version {item['version']} after {changes} changes"
        found = {
            (pk, sk)
            for pk, items in self.partitions.items()
            if pk.startswith("argument_index#") and not pk.endswith("#count")
            for sk in items
        }
        yield from (f"{pk} {sk}: in the list only, or not" for pk, sk in wanted ^ found)

    def _uploads(self) -> Problems:
        for _, sk, item in self._plain("persona_upload"):
            upload = StoredUpload.model_validate(item)
            parts = upload.created + upload.overwritten + upload.skipped + upload.crowded
            is_whole = (upload.position, upload.done) == (upload.rows_bytes, upload.total)
            if parts != upload.done or (upload.status is UploadStatus.COMPLETED) != (is_whole and upload.done > 0):
                yield f"upload {sk} is {upload.status} with {upload.done} of {upload.total} rows, {parts} accounted for"

    def _endpoints(self) -> Problems:
        """Webhook endpoints, their number and their secrets."""
        endpoints = {(space_id, sk) for space_id, sk, _ in self.of("webhook_endpoint")}
        secrets = {(space_id, sk) for space_id, sk, _ in self._plain("webhook_endpoint_secret")}
        yield from (f"webhook endpoint {pair} has no secret, or is one only" for pair in endpoints ^ secrets)
        counted = Counter(space_id for space_id, _ in endpoints)
        for pk, items in self._named("webhook_endpoint", "places"):
            if items["total"]["taken"] != counted[pk.split("#")[1]]:
                yield f"{pk}: {items['total']['taken']} places are taken by {counted[pk.split('#')[1]]} endpoints"

    def _leftovers(self) -> Problems:
        """What belongs to a chat or an argument is there only as long as that is, or is on the list to be removed."""
        due = {sk for pk, items in self.partitions.items() if pk.endswith("#purges") for sk in items}
        for pk in self.partitions:
            if pk.endswith("#idempotency"):  # expires
                continue
            kind, _, rest = pk.removesuffix("#count").partition("#")
            owner, _, name = rest.partition("#")
            parent = LEFTOVERS.get(kind)
            if parent is not None and name not in due and name not in self.partitions.get(f"{parent}#{owner}", {}):
                yield f"{pk} is left of a deleted {parent}"

    def _audit(self) -> Problems:
        """Each row of the audit log and its copies."""
        rows: Counter[tuple[str, str]] = Counter()
        copies: Counter[tuple[str, str]] = Counter()
        for pk, items in self.partitions.items():
            kind, _, rest = pk.partition("#")
            if kind == "audit":
                (copies if "#" in rest else rows).update((rest.partition("#")[0], sk) for sk in items)
        for row in {*rows, *copies}:
            if (rows[row], copies[row]) != (1, 3):
                yield f"audit row {row}: {rows[row]} and {copies[row]} copies, not 1 and 3"

    def _rollups(self) -> Problems:
        """Calls that are counted, added up anew in every place where they count."""
        wanted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        found: dict[tuple[str, str], Counter[str]] = {}
        counted = {item["SK"] for item in self.logs if item["PK"].startswith("log_counted#")}
        for item in self.logs:
            kind, space_id, *_ = item["PK"].split("#")
            if kind == "log_rollup":
                found[item["PK"], item["SK"]] = Counter({name: item[name] for name in TOTALS})
            elif kind == "log":
                if item["SK"] not in counted:
                    yield f"the call {item['SK']} is not added up"
                time = int(item["SK"].replace("-", "")[:12], 16)
                tokens = {name: item[name] for name in TOTALS[1:4]}
                totals = Counter({"calls": 1, **tokens, "latency_us": round(item["latency_ms"] * 1000)})
                slices = product((None, item["user"]), (None, *item["tags"]), LEVELS.items())
                for user, tag, (level, width) in slices:
                    pk = f"log_rollup#{space_id}#{json.dumps([user, tag], ensure_ascii=False)}"
                    sk = f"{level}#{time - time % width:013d}#{item['type']}#{item['status']}#{item['model']}"
                    wanted[pk, sk] += totals
        for place in {*wanted, *found}:
            if +wanted.get(place, Counter()) != +found.get(place, Counter()):
                yield f"{place}: added up to {found.get(place)}, the calls amount to {wanted.get(place)}"

    def _named(self, kind: str, part: str) -> Iterator[tuple[str, dict[str, Item]]]:
        """The partitions ``<kind>#<space>#<part>…``, but for their counters."""
        for pk, items in self.partitions.items():
            if pk.split("#")[:1] == [kind] and pk.split("#")[2:3] == [part] and not pk.endswith("#count"):
                yield pk, items

    def _plain(self, kind: str) -> Iterator[tuple[str, str, Item]]:
        """The owner, sort key and item of everything of a kind."""
        for pk, items in self.partitions.items():
            name, _, owner = pk.partition("#")
            if name == kind:
                yield from ((owner, sk, item) for sk, item in items.items())


def is_entity(kind: str, sk: str) -> bool:
    """Lists of all spaces lie beside entities of the same kind, under other sort keys."""
    return kind in ("checkpoint_alias", "insight_policy") or is_identifier(sk)


def is_owner(kind: str, text: str) -> bool:
    """Whether entities of the kind lie under it."""
    return all(map(is_identifier, text.split("#"))) and text.count("#") == (kind in OF_TWO)

"""Checks of entities, their counters and the data that belongs to them."""

from collections import Counter, defaultdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.chats.store import StoredChat
from shared.dynamodb.repository import is_identifier
from shared.experts.store import StoredExpert
from shared.insights.store import StoredInsight, StoredReaction
from shared.models.action import Action
from shared.models.action_group import ActionGroup
from shared.models.api_key import ApiKey
from shared.models.argument import Argument, ArgumentChange, ArgumentComment
from shared.models.base import Entity
from shared.models.benchmark import Benchmark
from shared.models.checkpoint import Checkpoint
from shared.models.checkpoint_alias import CheckpointAlias, PromotionGate
from shared.models.connector import Connector, Scan
from shared.models.data_model import DataModel
from shared.models.evaluation import Evaluation
from shared.models.insight import InsightPolicy
from shared.models.invite import Invite
from shared.models.persona import Persona
from shared.models.persona_upload import StoredUpload, UploadStatus
from shared.models.space import Membership, Space
from shared.models.training import Training
from shared.models.user import User
from shared.models.webhook_endpoint import WebhookDelivery, WebhookEndpoint
from shared.personas.store import person_key
from tests.faults.stored_items import Problems, StoredItems, is_entity

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
    "checkpoint_gate": PromotionGate,
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
# Kinds without a counter.
UNCOUNTED = {
    "api_key",
    "checkpoint_alias",
    "checkpoint_gate",
    "insight_policy",
    "insight_reaction",
    "space",
    "user",
    "webhook_delivery",
}
# Kinds with a partition for each entity of another kind.
PARENTS = {"chat_turn": "chat", "argument_change": "argument", "argument_comment": "argument"}


def unreadable(items: StoredItems) -> Problems:
    for kind, model in MODELS.items():
        adapter = TypeAdapter(model)
        for _, _, item in items.of(kind):
            try:
                adapter.validate_python(item)
            except ValidationError as error:
                yield f"{item['PK']} {item['SK']} is no {kind}: {error.errors()[0]['loc']}"


def counters(items: StoredItems) -> Problems:
    """Compares the counters of each kind, in total and by period, with the number of its entities."""
    counted = {pk.removesuffix("#count") for pk in items.partitions if pk.endswith("#count")}
    for kind in MODELS.keys() - UNCOUNTED:
        counted |= {item["PK"] for _, _, item in items.of(kind)}
    for pk in sorted(counted):
        stored = items.partitions.get(f"{pk}#count", {})
        total = sum(item["items"] for sk, item in stored.items() if sk.startswith("total"))
        ids = [sk for sk in items.partitions.get(pk, {}) if is_entity(pk.partition("#")[0], sk)]
        if total != len(ids):
            yield f"{pk}: the counter is {total}, there are {len(ids)}"
        buckets = {sk: item["items"] for sk, item in stored.items() if not sk.startswith("total")}
        if buckets:
            real = Counter(f"{digits}#{sk.replace('-', '')[:digits]}" for sk in ids for digits in (5, 8))
            if {sk: number for sk, number in buckets.items() if number} != dict(real):
                yield f"{pk}: the counters of periods are wrong"


def members(items: StoredItems) -> Problems:
    spaces = {sk: item for _, sk, item in items.of("space")}
    pairs = {(space_id, user_id) for space_id, user_id, _ in items.of("member")}
    listed = {(sk, user_id) for user_id, sk, _ in items.of("membership")}
    hidden = {(sk, rest.split("#")[0]) for rest, sk, _ in items.under("membership") if rest.endswith("#hidden")}
    yield from (f"{pair} is listed and hidden" for pair in listed & hidden)
    yield from (f"{pair} has only a membership, or only a member's item" for pair in pairs ^ (listed | hidden))
    yield from (f"{pair}: the space is deleted" for pair in listed if "deleted_at" in spaces.get(pair[0], {}))
    yield from (f"{pair}: the space is in use" for pair in hidden if "deleted_at" not in spaces.get(pair[0], {}))
    owners = Counter(sk for _, sk, item in items.of("membership") if item["is_owner"])
    used = [sk for sk, item in spaces.items() if "deleted_at" not in item]
    yield from (f"the space {sk} has {owners[sk]} owners" for sk in used if owners[sk] != 1)


def api_keys(items: StoredItems) -> Problems:
    """Compares API keys with the places that they take, and with the list for the owner."""
    listed = {(space_id, sk) for space_id, sk, _ in items.under("api_key_entry") if is_identifier(sk)}
    stored = list(items.of("api_key"))
    for pair in listed ^ {(owner.split("#")[0], sk) for owner, sk, _ in stored}:
        yield f"the API key {pair} is not listed, or does not exist"
    live = Counter((owner, item.get("generation", "first")) for owner, _, item in stored if "deleted_at" not in item)
    for owner, sk, item in items.under("api_key"):
        if owner.endswith("#places"):
            real = live[owner.removesuffix("#places"), sk]
            if item["taken"] != real:
                yield f"api_key#{owner} {sk}: {item['taken']} places are taken by {real} keys"


def invites(items: StoredItems) -> Problems:
    stored = {(item["email"], space_id): sk for space_id, sk, item in items.of("invite")}
    by_email = {(email, sk): item["invite_id"] for email, sk, item in items.under("invite_email")}
    if stored != by_email:
        yield f"invites and their addresses differ: {stored.items() ^ by_email.items()}"


def persona_keys(items: StoredItems) -> Problems:
    wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
    for space_id, sk, item in items.of("persona"):
        wanted[space_id, person_key(item["name"], item["birthdate"])].append(sk)
    found = {(owner, sk): item["ids"] for owner, sk, item in items.under("persona_key")}
    for place in {*wanted, *found}:
        if sorted(wanted.get(place, [])) != sorted(found.get(place, [])):
            yield f"persona_key {place} has {found.get(place)}, there are {wanted.get(place)}"


def expert_versions(items: StoredItems) -> Problems:
    for space_id, sk, item in items.of("expert"):
        numbers = [int(each) for each in items.partitions.get(f"expert_version#{space_id}#{sk}", {})]
        if sorted(numbers) != list(range(1, item["version_number"] + 1)):
            yield f"expert {sk} is at version {item['version_number']}, stored are {sorted(numbers)}"


def uploads(items: StoredItems) -> Problems:
    for _, sk, item in items.under("persona_upload"):
        upload = StoredUpload.model_validate(item)
        parts = upload.created + upload.overwritten + upload.skipped + upload.crowded
        is_whole = (upload.position, upload.done) == (upload.rows_bytes, upload.total)
        if parts != upload.done or (upload.status is UploadStatus.COMPLETED) != (is_whole and upload.done > 0):
            yield f"upload {sk} is {upload.status} with {upload.done} of {upload.total} rows, {parts} accounted for"


def webhook_endpoints(items: StoredItems) -> Problems:
    """Compares webhook endpoints with their number and their secrets."""
    endpoints = {(space_id, sk) for space_id, sk, _ in items.of("webhook_endpoint")}
    secrets = {(space_id, sk) for space_id, sk, _ in items.under("webhook_endpoint_secret")}
    yield from (f"webhook endpoint {pair} has no secret, or is deleted and has one" for pair in endpoints ^ secrets)
    counted = Counter(space_id for space_id, _ in endpoints)
    for pk, places in items.parts("webhook_endpoint", "places"):
        real = counted[pk.split("#")[1]]
        if places["total"]["taken"] != real:
            yield f"{pk}: {places['total']['taken']} places are taken by {real} endpoints"


def remaining_data(items: StoredItems) -> Problems:
    """Finds data of deleted chats and arguments that is not on the cleanup list."""
    due = {sk for pk, listed in items.partitions.items() if pk.endswith("#purges") for sk in listed}
    for pk in items.partitions:
        if pk.endswith("#idempotency"):  # expires
            continue
        kind, _, rest = pk.removesuffix("#count").partition("#")
        owner, _, name = rest.partition("#")
        parent = PARENTS.get(kind)
        if parent is not None and name not in due and name not in items.partitions.get(f"{parent}#{owner}", {}):
            yield f"{pk} remains of a deleted {parent}"

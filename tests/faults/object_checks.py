"""Checks of the objects in S3: each belongs to something that exists and still needs it."""

import re

from tests.faults.stored_items import FINAL, Item, Problems, StoredItems

# All objects belong to a space. Temporary ones expire by themselves.
SPACES = re.compile(r"(?:spaces/(?P<space>[^/]+)|temporary/spaces/(?P<of_temporary>[^/]+))/(?P<kind>[^/]+)/")
KINDS = {"chats", "connectors", "evaluations", "experts", "insights", "pins", "scans", "snapshots", "trainings"}
TEMPORARY = {"persona_files", "persona_uploads", "runs", "scans"}
# What a scan has found to read.
SCANS = re.compile(r"spaces/(?P<space>[^/]+)/scans/(?!columns/)(?P<id>[^/]+)/")
# Objects of a connector: uploaded files, copies of tables, and long column lists.
CONNECTORS = re.compile(r"spaces/(?P<space>[^/]+)/(?:connectors|snapshots|scans/columns)/(?P<id>[^/]+)/")
# Values that are too large for their items, which name them.
VALUES = re.compile(r"spaces/[^/]+/(?:chats|experts|insights|leaderboards)/")
# Objects of jobs: specifications, saved models and results.
JOBS = re.compile(r"spaces/(?P<space>[^/]+)/(?P<kind>training|evaluation)s/(?P<id>[^/]+)/(?P<rest>.*)")


def spaces(items: StoredItems) -> Problems:
    """Finds objects of spaces or scans that do not exist, and those of a kind that no check knows."""
    for key in items.objects:
        found = SPACES.match(key)
        if found is None or found["kind"] not in (KINDS if found["space"] else TEMPORARY):
            yield f"{key} is of a kind that no check knows"
        elif f"space#{found['space'] or found['of_temporary']}" not in items.partitions:
            yield f"{key} is of no space"
        elif (scan := SCANS.match(key)) and scan["id"] not in items.partitions.get(f"scan#{scan['space']}", {}):
            yield f"{key} is of no scan"


def owners(items: StoredItems) -> Problems:
    """Finds objects of deleted connectors, and values that no item names."""
    named = {
        value["object_key"]
        for item in items.entities
        for value in item.values()
        if isinstance(value, dict) and "object_key" in value
    }
    for key in items.objects:
        found = CONNECTORS.match(key)
        if found and found["id"] not in items.partitions.get(f"connector#{found['space']}", {}):
            yield f"{key} remains of a deleted connector"
        if VALUES.match(key) and key not in named:
            yield f"{key} is named by no item"


def jobs(items: StoredItems) -> Problems:
    """Finds objects of jobs that nothing needs: of jobs that ended without a result, saved models, and unknown jobs."""
    for key in items.objects:
        if found := JOBS.match(key):
            record = _record(items, found["space"], found["kind"], found["id"])
            if record is None:
                yield f"{key} is of no {found['kind']}"
            elif found["kind"] == "training" and _is_over(record):
                if not record["checkpoint_ids"]:
                    yield f"{key} remains of a training without a model"
                elif found["rest"].startswith("checkpoints/"):
                    yield f"{key} remains of a training that has ended"
            elif found["kind"] == "evaluation" and _needs_nothing(record, found["rest"]):
                yield f"{key} remains of an evaluation that has ended"
    stored = {*items.objects}
    for _, sk, item in items.under("training"):
        if _is_over(item) and not item["checkpoint_ids"]:
            yield from (f"the pins {key} remain of the training {sk}" for key in item["pins"].values() if key in stored)
    for _, sk, item in items.under("evaluation"):
        if _needs_nothing(item, ""):
            left = (key for key in item.get("pins", {}).values() if key in stored)
            yield from (f"the pins {key} remain of the evaluation {sk}" for key in left)


def _needs_nothing(evaluation: Item, rest: str) -> bool:
    """Returns whether an evaluation has ended, and does not need an object: its result does if there is one."""
    status = evaluation.get("result", {}).get("status")
    return status in FINAL and not (status == "succeeded" and rest.startswith("output/"))


def _record(items: StoredItems, space_id: str, kind: str, entity_id: str) -> Item | None:
    partitions = (f"{kind}#{space_id}", f"{kind}#{space_id}#deleted")
    found = (items.partitions.get(partition, {}).get(entity_id) for partition in partitions)
    return next((each for each in found if each), None)


def _is_over(item: Item) -> bool:
    return item.get("status") in FINAL and "checkpoint_ids" in item

"""Checks of prediction and decision runs: their folders, parts, files and reserved contacts."""

import re
from collections import Counter
from collections.abc import Iterator

from shared.decisions.summaries import unpacked
from tests.faults.stored_items import FINAL, Item, Problems, StoredItems

KINDS = ("prediction", "decision_run")
WORK = re.compile(r"temporary/spaces/(?P<space>[^/]+)/runs/(?P<id>[^/]+)/(?P<rest>.*)")
FILE = re.compile(r"spaces/[^/]+/connectors/(?P<place>.*)/(?:_manifest\.json|part-\d{5}\.parquet)")


def _runs(items: StoredItems) -> Iterator[tuple[str, str, Item]]:
    for kind in KINDS:
        for space_id, _, run in items.of(kind):
            yield kind, space_id, run


def _last(items: StoredItems, work_id: str) -> Item | None:
    """Returns the last run that worked on the parts of a run, if there is one."""
    runs = [run for _, _, run in _runs(items) if run["work_id"] == work_id and not run.get("restarted_as")]
    return runs[0] if runs else None


def folders(items: StoredItems) -> Problems:
    """Compares the folders that runs have taken with the runs."""
    wanted = {
        (space_id, output["connector_id"], run["id"], output["folder"])
        for _, space_id, run in _runs(items)
        if run["status"] not in FINAL and (output := run.get("output"))
    }
    found = {
        (space_id, sk, name.removeprefix("folder#"), folder)
        for space_id, sk, item in items.under("run_output")
        for name, folder in item.items()
        if name.startswith("folder#")
    }
    yield from (f"{taken} is a folder without a run, or a run without its folder" for taken in sorted(wanted ^ found))


def parts(items: StoredItems) -> Problems:
    """Compares the sums of parts with the parts, and finds those that nobody needs any more."""
    for kind in KINDS:
        for pk, found in items.partitions.items():
            if not pk.startswith(f"{kind}_part#"):
                continue
            done = [sk for sk in found if sk.startswith("part#")]
            if (total := found.get("totals", {}).get("parts", 0)) != len(done):
                yield f"{pk}: {total} parts are counted, and {len(done)} are finished"
            if _is_left_over(_last(items, pk.rpartition("#")[2])):
                yield f"{pk} remains of a run that has succeeded"
    for key in items.objects:
        if found_work := WORK.match(key):
            last = _last(items, found_work["id"])
            if _is_left_over(last):
                yield f"{key} remains of a run that has succeeded"
            # A request that died before it stored its run has left a plan.
            if last is None and not found_work["rest"].endswith(".json"):
                yield f"{key} is of no run"


def _is_left_over(last: Item | None) -> bool:
    return last is not None and (last["status"] == "succeeded" or not last.get("has_parts", True))


def files(items: StoredItems) -> Problems:
    """Compares published files with the runs: those of a run that has succeeded are there, and no others."""
    wanted: Counter[str] = Counter()
    publishing = set()
    for _, _, run in _runs(items):
        if output := run.get("output"):
            place = f"{output['connector_id']}/{output['folder']}"
            if run["status"] == "succeeded":
                wanted[place] += run["parts"] + 1
            elif run["status"] not in FINAL and run.get("is_publishing"):
                publishing.add(place)
    found = Counter(match["place"] for key in items.objects if (match := FILE.match(key)))
    for place in sorted(wanted.keys() | found.keys()):
        # An owner may delete a whole output.
        if place not in publishing and found[place] not in (0, wanted[place]):
            yield f"{place} has {found[place]} files, and its run has {wanted[place]}"


def contacts(items: StoredItems) -> Problems:
    """Compares the contacts that runs have reserved with their summaries, and the released ones with their ends."""
    held: Counter[str] = Counter()
    released = set()
    for rest, sk, item in items.under("insight_contact"):
        if rest.endswith("#~released"):
            released.add(sk)
        elif sk.startswith("~contact#") and item.get("hold"):
            held[item["hold"]] += 1
    for kind, _, run in _runs(items):
        if kind == "decision_run":
            number = held.pop(run["id"], 0)
            is_over = run["status"] in FINAL and run["status"] != "succeeded"
            if (run["id"] in released) != (is_over or bool(run.get("cancelled_at"))):
                yield f"decision_run {run['id']} is {run['status']}, and its contacts are released or reserved"
            # Customers who were erased since have no contacts.
            if run["status"] == "succeeded" and number > unpacked(run["summary"]).reserved:
                yield f"decision_run {run['id']} has reserved {number} contacts, more than its summary says"
    yield from (f"{number} contacts are held by {hold}, which is no run" for hold, number in held.items())

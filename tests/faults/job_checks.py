"""Checks of trainings, evaluations, scans and their results."""

import re
from collections import Counter
from itertools import product

from shared.evaluations.scores import encode_value
from shared.models.job import MetricName
from tests.faults.stored_items import FINAL, Problems, StoredItems

# The names of jobs begin with the kind of their record, and some end with a number.
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JOBS = ("training", "evaluation", "scan", "prediction", "decision_run")


def references(items: StoredItems) -> Problems:
    """Compares the reference counts of data models and connectors with the trainings and runs that use them."""
    used: Counter[tuple[str, str]] = Counter()
    for space_id, _, training in items.of("training"):
        if training["status"] not in FINAL:
            used[f"data_model#{space_id}", training["data_model_id"]] += 1
            used.update((f"connector#{space_id}", each["connector_id"]) for each in training["connectors"])
    for space_id, _, run in (*items.of("prediction"), *items.of("decision_run")):
        if run["status"] not in FINAL:
            ids = {run["connector_id"], (run.get("output") or run)["connector_id"]}
            used.update((f"connector#{space_id}", each) for each in ids)
    for kind in ("data_model", "connector"):
        for space_id, sk, item in items.of(kind):
            wanted = used.pop((f"{kind}#{space_id}", sk), 0)
            if item.get("active_uses", 0) != wanted:
                yield f"{kind} {sk}: the reference count is {item.get('active_uses', 0)}, {wanted} jobs use it"
    yield from (f"{pk} {sk} does not exist and is used by a training" for pk, sk in used)


def jobs(items: StoredItems) -> Problems:
    """Compares the list of open jobs with the jobs."""
    open_jobs = items.partitions.get("job#open", {})
    unfinished: set[str] = set()
    for kind in JOBS:
        for _, sk, item in items.of(kind):
            status = item["result"]["status"] if kind == "evaluation" else item["status"]
            if status not in FINAL:
                unfinished.add(sk)
                if sk not in open_jobs:
                    yield f"{kind} {sk} is {status}, and is not on the list of open jobs"
            if f"job#{sk}" not in items.partitions:
                yield f"{kind} {sk} can't be found by its id alone"
    unfinished |= {sk for sk, item in open_jobs.items() if "due" in item}
    deleted = ((sk, item) for rest, sk, item in items.under("training") if rest.endswith("#deleted"))
    unfinished |= {sk for sk, item in deleted if item["status"] not in FINAL}
    yield from (f"the job {sk} is open and has ended" for sk in open_jobs if sk not in unfinished)
    for rest, _, item in items.under("evaluation"):
        if rest.endswith("#running") and item["evaluation_id"] not in unfinished:
            yield f"evaluation {item['evaluation_id']} is listed as running and has ended"


def running_jobs(items: StoredItems) -> Problems:
    """Finds SageMaker jobs whose training, evaluation or run has ended or was deleted, and second ones of the same."""
    unfinished = items.partitions.get("job#open", {}).keys()
    owners = [(ID.findall(name) or [""])[0] for name in items.running_jobs]
    for name, owner in zip(items.running_jobs, owners, strict=True):
        if owner not in unfinished:
            yield f"the SageMaker job {name} runs, and its record does not"
        if owners.count(owner) > 1:
            yield f"the SageMaker job {name} runs beside another one of the same record"


def evaluations(items: StoredItems) -> Problems:
    """Finds benchmarks of successful trainings that are not evaluated or due, and evaluations in wrong lists."""
    done = {(item["checkpoint_id"], item["benchmark_id"]) for _, _, item in items.of("evaluation")}
    for item in items.partitions.get("job#open", {}).values():
        done |= {(each["checkpoint_id"], each["benchmark_id"]) for each in item.get("due", ())}
    running = {(pk.split("#")[1], sk) for pk, listed in items.parts("evaluation", "running") for sk in listed}
    listed_by_creator = {(pk.split("#")[3], sk) for pk, listed in items.parts("evaluation", "creator") for sk in listed}
    by_creator: set[tuple[str, str]] = set()
    revisions = {(space_id, sk): item["revision"] for space_id, sk, item in items.of("benchmark")}
    for space_id, sk, item in items.of("evaluation"):
        by_creator.add((item["created_by"], sk))
        key = f"{item['benchmark_id']}#{item['checkpoint_id']}#{item['gpu_count']}"
        result, revision = item["result"], revisions.get((space_id, item["benchmark_id"]))
        # One that runs at an earlier revision is not meant by later requests.
        is_meant = result["status"] == "pending" or result["benchmark_revision"] == revision
        if result["status"] not in FINAL and is_meant and (space_id, key) not in running:
            yield f"evaluation {sk} runs, and an equal request will not find it"
    for pair in by_creator ^ listed_by_creator:
        yield f"evaluation {pair} is missing in its creator's list, or only there"
    known = {sk for _, sk, _ in items.of("benchmark")}
    for _, sk, training in items.of("training"):
        if training["status"] == "succeeded":
            wanted = set(product(training["checkpoint_ids"], known.intersection(training["benchmark_ids"])))
            yield from (f"training {sk}: {pair} is not evaluated" for pair in sorted(wanted - done))


def scans(items: StoredItems) -> Problems:
    """Finds connectors and files that wait for a scan that will never run."""
    known = {sk: item for _, sk, item in items.of("scan")}
    for space_id, sk, connector in items.of("connector"):
        scan_id = connector.get("scan_id")
        if scan_id is not None and (scan_id not in known or known[scan_id]["status"] in FINAL):
            yield f"connector {sk} waits for the scan {scan_id}, which has ended"
        if scan_id is None and connector.get("rescan_requested"):
            yield f"connector {sk} needs another scan, which has not started"
        waiting = set(items.partitions.get(f"catalog#{space_id}#{sk}#pending", {}))
        if scan_id is None and waiting:
            yield f"connector {sk}: {sorted(waiting)} wait for a scan, which has not started"
        files = items.partitions.get(f"catalog#{space_id}#{sk}", {})
        unmarked = {file for file, item in files.items() if item["status"] == "pending"} - waiting
        if unmarked:
            yield f"connector {sk}: {sorted(unmarked)} are pending, and no scan will find them"


def scores(items: StoredItems) -> Problems:
    """Compares leaderboard entries, and the results that wait to be packed, with results."""
    wanted: set[tuple[str, str]] = set()
    found: set[tuple[str, str]] = set()
    for rest, sk, item in items.under("score"):
        space_id, *parts = rest.split("#")
        if parts[0] == "result":
            checkpoint_id, benchmark_id = sk.split("#")
            for metric in MetricName:
                value = encode_value(item["metrics"].get(metric))
                entry = f"{item['revision']:010d}#{value}#{checkpoint_id}"
                wanted.add((f"score#{space_id}#{benchmark_id}#{metric}", entry))
        elif parts[1:] == ["recent"]:
            result = items.partitions[f"score#{space_id}#result"].get(f"{sk}#{parts[0]}", {})
            if any(result.get(name) != item[name] for name in ("version", "revision", "metrics")):
                yield f"{item['PK']} {sk} is not the newest result"
        elif len(parts) == 2 and parts[1] != "board":
            found.add((item["PK"], sk))
    yield from (f"{pk} {sk} is only on a leaderboard, or only in the results" for pk, sk in wanted ^ found)


def aliases(items: StoredItems) -> Problems:
    checkpoints = {(space_id, sk) for space_id, sk, _ in items.of("checkpoint")}
    for space_id, sk, item in items.of("checkpoint_alias"):
        if (space_id, item["checkpoint_id"]) not in checkpoints:
            yield f"the alias {sk} names a checkpoint that does not exist"

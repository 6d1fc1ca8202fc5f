"""Operates a deployed stage, with the AWS credentials of the environment.

redrive   handle the messages of dead-letter queues again
restore   restore a table of an earlier time into a new table
recount   count all items of a table
migrate   bring all stored items to the newest version, or tell whether this release can read them
versions  delete old versions of the API's functions
smoke     use a new deployment as a customer does, and delete what that made
limits    show or set the limits of jobs and storage of one space
protect   refuse templates that would replace resources with data
"""

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import boto3

from infra.operations.limits import LIMITS, reset_limits, set_limits
from infra.operations.redrive import Redrive, dead_letter_queues
from infra.operations.restore import TABLES, compared, recount, restore, table_of
from infra.operations.smoke import Smoke
from infra.operations.stateful import BASELINE, baseline, explain, lines, replacements, stateful, templates_in
from infra.operations.versions import delete, old_versions


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns 0 if all of it succeeded."""
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.operations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    redriving = commands.add_parser("redrive", help="handle the messages of dead-letter queues again")
    redriving.add_argument("--stage", required=True)
    redriving.add_argument("--queue", action="append", help="only this queue, such as AuditFailed; may be repeated")
    redriving.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    redriving.set_defaults(run=_redrive)

    restoring = commands.add_parser("restore", help="restore a table of an earlier time into a new table")
    restoring.add_argument("--stage", required=True)
    restoring.add_argument("--table", choices=TABLES, default="entities")
    restoring.add_argument(
        "--at", type=_moment, help="time, such as 2026-01-31T12:00:00Z; default: the latest possible"
    )
    restoring.set_defaults(run=_restore)

    recounting = commands.add_parser("recount", help="count all items of a table")
    recounting.add_argument("table", help="name of the table in DynamoDB")
    recounting.set_defaults(run=_recount)

    migrating = commands.add_parser("migrate", help="bring all stored items to the newest version")
    migrating.add_argument("--stage", required=True)
    migrating.add_argument("--dry-run", action="store_true", help="only print what would change, or is unreadable")
    migrating.set_defaults(run=_migrate)

    tidying = commands.add_parser("versions", help="delete old versions of the API's functions")
    tidying.add_argument("--stage", required=True)
    tidying.add_argument("--keep", type=int, default=1, help="how many to keep beside the one in use (default: 1)")
    tidying.add_argument("--dry-run", action="store_true", help="only print what would be deleted")
    tidying.set_defaults(run=_versions)

    smoking = commands.add_parser("smoke", help="use a new deployment as a customer does")
    smoking.add_argument("--stage", required=True)
    smoking.add_argument("--url", help="address of the API, if it is not the one of the stage's outputs")
    smoking.add_argument("--minutes", type=float, default=30, help="how long to wait for each job (default: 30)")
    smoking.set_defaults(run=_smoke)

    limiting = commands.add_parser("limits", help="show or set the limits of jobs and storage of one space")
    limiting.add_argument("--stage", required=True)
    limiting.add_argument("--space", required=True, help="id of the space")
    for name in LIMITS:
        limiting.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N")
    limiting.add_argument("--reset", action="store_true", help="use the limits of the stage again")
    limiting.set_defaults(run=_limits)

    protecting = commands.add_parser("protect", help="refuse templates that would replace resources with data")
    protecting.add_argument("--stage", default="prod")
    protecting.add_argument("--templates", type=Path, default=Path("cdk.out"), help="folder that `cdk synth` wrote")
    protecting.add_argument("--write", action="store_true", help="write the current resources to the baseline")
    protecting.set_defaults(run=_protect)
    return parser


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no time zone: add Z")
    return moment


def _redrive(options: argparse.Namespace) -> int:
    session = boto3.Session()
    queues = dead_letter_queues(session, options.stage)
    names = {queue.id for queue in queues}
    if unknown := {*(options.queue or ())} - names:
        _print(f"unknown queue {', '.join(sorted(unknown))}; the queues are {', '.join(sorted(names))}")
        return 2
    failed = 0
    for queue in queues:
        if options.queue and queue.id not in options.queue:
            continue
        outcome = Redrive(session).run(queue, dry_run=options.dry_run, report=_print)
        if not outcome.done and not outcome.failed:
            _print(f"{queue.id}: empty")
        for action, count in outcome.done.items():
            _print(f"{queue.id}: {'would ' if options.dry_run else ''}{action}: {count}")
        for reason in outcome.failed:
            _print(f"{queue.id}: failed, {reason}")
        failed += len(outcome.failed)
    return 1 if failed else 0


def _restore(options: argparse.Namespace) -> int:
    session = boto3.Session()
    source = table_of(session, options.stage, options.table)
    target = f"inference-{options.stage}-{options.table}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    restored = restore(session, source, target, options.at, report=_print)
    for line in compared(recount(session, source), recount(session, restored.name)):
        _print(line)
    _print("To use the restored table:")
    _print(f"  npx cdk deploy --all -c stage={options.stage} -c {TABLES[options.table][1]}={restored.stream_arn}")
    return 0


def _recount(options: argparse.Namespace) -> int:
    counted = recount(boto3.Session(), options.table)
    for kind, count in sorted(counted.items()):
        _print(f"{kind:24} {count:10}")
    _print(f"{'all':24} {counted.total():10}")
    return 0


def _migrate(options: argparse.Namespace) -> int:
    session = boto3.Session()
    tables = [table_of(session, options.stage, name) for name in TABLES]
    # A separate process runs this, because infra imports no runtime code.
    command = [sys.executable, "-m", "functions.migration", *(["--dry-run"] if options.dry_run else []), *tables]
    return subprocess.run(command, check=False).returncode  # noqa: S603


def _versions(options: argparse.Namespace) -> int:
    session = boto3.Session()
    for old in old_versions(session, options.stage, max(options.keep, 0)):
        if not options.dry_run:
            delete(session, old)
        _print(f"{old.function} {old.version}: {'would be deleted' if options.dry_run else 'deleted'}")
    return 0


def _smoke(options: argparse.Namespace) -> int:
    smoke = Smoke(boto3.Session(), options.stage, 60 * options.minutes, options.url, report=_print)
    outcomes = smoke.run()
    failed = [one for one in outcomes if one.status in ("FAILED", "not run")]
    _print(f"{len(outcomes) - len(failed)} of {len(outcomes)} checks passed or had nothing to check")
    return 1 if failed else 0


def _limits(options: argparse.Namespace) -> int:
    session = boto3.Session()
    table = table_of(session, options.stage, "entities")
    if options.reset:
        reset_limits(session, table, options.space)
    changes = {name: value for name in LIMITS if (value := getattr(options, name)) is not None}
    try:
        own = set_limits(session, table, options.space, changes)
    except LookupError as error:
        _print(str(error.args[0]))
        return 2
    for name in LIMITS:
        _print(f"{name:24} {own[name]:6}" if name in own else f"{name:24} as in the stage")
    return 0


def _protect(options: argparse.Namespace) -> int:
    try:
        found = stateful(templates_in(options.templates, options.stage))
    except FileNotFoundError as error:
        _print(str(error))
        return 2
    if options.write:
        BASELINE.write_text(lines(found))
        _print(f"{len(found)} resources written to {BASELINE.name}")
        return 0
    if broken := list(replacements(baseline(), found)):
        _print(explain(broken))
        return 1
    _print(f"{len(found)} resources with data stay unchanged")
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())

"""Operate a deployed stage, with the AWS credentials of the environment.

redrive   do again what waits in dead-letter queues
restore   bring a table back as it was, into a new one
recount   count what a table really holds
protect   refuse templates that would replace what holds data
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import boto3

from infra.operations.redrive import Redrive, dead_letter_queues
from infra.operations.restore import TABLES, compared, recount, restore, table_of
from infra.operations.stateful import BASELINE, baseline, explain, lines, replacements, stateful, templates_in


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 only if all of it was done."""
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.operations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    redriving = commands.add_parser("redrive", help="do again what waits in dead-letter queues")
    redriving.add_argument("--stage", required=True)
    redriving.add_argument("--queue", action="append", help="only this one, such as AuditFailed; may be repeated")
    redriving.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    redriving.set_defaults(run=_redrive)

    restoring = commands.add_parser("restore", help="bring a table back as it was, into a new one")
    restoring.add_argument("--stage", required=True)
    restoring.add_argument("--table", choices=TABLES, default="entities")
    restoring.add_argument("--at", type=_moment, help="such as 2026-01-31T12:00:00Z; left out: as late as possible")
    restoring.set_defaults(run=_restore)

    recounting = commands.add_parser("recount", help="count what a table really holds")
    recounting.add_argument("table", help="its name in DynamoDB")
    recounting.set_defaults(run=_recount)

    protecting = commands.add_parser("protect", help="refuse templates that would replace what holds data")
    protecting.add_argument("--stage", default="prod")
    protecting.add_argument("--templates", type=Path, default=Path("cdk.out"), help="where `cdk synth` wrote them")
    protecting.add_argument("--write", action="store_true", help="write down what is there now")
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
        _say(f"there is no queue {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
        return 2
    failed = 0
    for queue in queues:
        if options.queue and queue.id not in options.queue:
            continue
        outcome = Redrive(session).run(queue, dry_run=options.dry_run, say=_say)
        if not outcome.done and not outcome.failed:
            _say(f"{queue.id}: empty")
        for action, count in outcome.done.items():
            _say(f"{queue.id}: {'would ' if options.dry_run else ''}{action}: {count}")
        for reason in outcome.failed:
            _say(f"{queue.id}: stays, {reason}")
        failed += len(outcome.failed)
    return 1 if failed else 0


def _restore(options: argparse.Namespace) -> int:
    session = boto3.Session()
    source = table_of(session, options.stage, options.table)
    target = f"inference-{options.stage}-{options.table}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    restored = restore(session, source, target, options.at, say=_say)
    for line in compared(recount(session, source), recount(session, restored.name)):
        _say(line)
    _say("To go on with it:")
    _say(f"  npx cdk deploy --all -c stage={options.stage} -c {TABLES[options.table][1]}={restored.stream_arn}")
    return 0


def _recount(options: argparse.Namespace) -> int:
    counted = recount(boto3.Session(), options.table)
    for kind, count in sorted(counted.items()):
        _say(f"{kind:24} {count:10}")
    _say(f"{'all':24} {counted.total():10}")
    return 0


def _protect(options: argparse.Namespace) -> int:
    try:
        found = stateful(templates_in(options.templates, options.stage))
    except FileNotFoundError as error:
        _say(str(error))
        return 2
    if options.write:
        BASELINE.write_text(lines(found))
        _say(f"{len(found)} resources written to {BASELINE.name}")
        return 0
    if broken := list(replacements(baseline(), found)):
        _say(explain(broken))
        return 1
    _say(f"{len(found)} resources that hold data stay as they are")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())

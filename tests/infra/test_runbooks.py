"""Alarms, objectives and the pages about them say the same."""

import re
from pathlib import Path

import pytest

from infra.groups import Workflow
from infra.objectives import Names, objectives
from infra.package import ROOT
from infra.settings import stage_settings
from tests.infra.conftest import Synthesised

DOCS = ROOT / "docs"
# Pages of what is done without an alarm.
PROCEDURES = {"restore"}
SECTIONS = ["What it means", "Look at", "Do", "Afterwards"]


@pytest.mark.row("X-15")
def test_every_alarm_has_a_page_and_every_page_an_alarm(prod: Synthesised) -> None:
    named = set()
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    for alarm in (alarm for kind in kinds for alarm in prod.properties(kind)):
        says, _, page = alarm["AlarmDescription"].partition(". What to do: docs/runbooks/")
        assert says
        named.add(page.removesuffix(".md"))
    pages = {path.stem for path in (DOCS / "runbooks").glob("*.md")}
    assert named == pages - PROCEDURES


@pytest.mark.parametrize("path", sorted((DOCS / "runbooks").glob("*.md")), ids=lambda path: path.stem)
def test_a_page_says_what_it_means_and_what_to_look_at_and_do(path: Path) -> None:
    text = path.read_text()
    if path.stem not in PROCEDURES:
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (path.parent / target).exists(), target


def test_the_objectives_page_states_every_promise_and_names_its_alarms() -> None:
    settings = stage_settings("prod", {})
    names = Names(
        machines={workflow: workflow for workflow in Workflow},
        object_events="object-events",
        dead_letters={name: name for name in ("ObjectEventsFailed", "JobEventsFailed", "RollUpsFailed", "AuditFailed")},
    )
    rows = [line for line in (DOCS / "objectives.md").read_text().splitlines() if line.startswith("|")]
    for objective in objectives(settings, names):
        [row] = [row for row in rows if row.startswith(f"| {objective.name} |")]
        assert objective.promise in row
        for alarm in objective.alarms:
            assert f"runbooks/{alarm.runbook}.md" in row

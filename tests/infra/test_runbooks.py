"""Alarms and objectives agree with their documentation."""

import re
from pathlib import Path

import pytest

from infra.groups import Workflow
from infra.objectives import ResourceNames, objectives
from infra.package import ROOT
from infra.settings import stage_settings
from tests.infra.conftest import Synthesised

DOCS = ROOT / "docs"
# These pages belong to no alarm.
PROCEDURES = {"restore"}
SECTIONS = ["What it means", "Look at", "Do", "Afterwards"]


@pytest.mark.row("X-15")
def test_every_alarm_has_a_runbook_and_every_runbook_an_alarm(prod: Synthesised) -> None:
    named = set()
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    for alarm in (alarm for kind in kinds for alarm in prod.properties(kind)):
        summary, _, page = alarm["AlarmDescription"].partition(". What to do: docs/runbooks/")
        assert summary
        named.add(page.removesuffix(".md"))
    pages = {path.stem for path in (DOCS / "runbooks").glob("*.md")}
    assert named == pages - PROCEDURES


@pytest.mark.parametrize("path", sorted((DOCS / "runbooks").glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_has_all_sections_and_its_links_exist(path: Path) -> None:
    text = path.read_text()
    if path.stem not in PROCEDURES:
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (path.parent / target).exists(), target


def test_the_objectives_page_lists_every_promise_with_its_runbooks() -> None:
    settings = stage_settings("prod", {})
    names = ResourceNames(
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

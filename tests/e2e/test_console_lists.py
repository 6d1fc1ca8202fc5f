"""Long lists, whose rows are in the page only while they are near, and names that try to be markup."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Page, expect

from infra.local.client import ApiClient
from tests.e2e.conftest import JOB_SECONDS, Stack
from tests.fixtures.browser import Visit, open_browser
from tests.fixtures.console import DESKTOP, HOSTILE, PAGES, opened, row, sign_in, waiting_argument

pytestmark = [pytest.mark.e2e, pytest.mark.row("UI-6"), pytest.mark.timeout(600)]

EMAIL = "lists@example.com"
# More than two pages of a list.
MADE = 230
COLUMNS = 500


@pytest.fixture(scope="module")
def api(stack: Stack) -> ApiClient:
    api = stack.user(EMAIL)
    api.space_id = api.post("/spaces", {"name": HOSTILE, "description": HOSTILE})["id"]
    return api


@pytest.fixture(scope="module")
def visit(stack: Stack, api: ApiClient) -> Iterator[Visit]:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, locale="en-US")
        visit = Visit(page, "://".join(urlsplit(stack.url)[:2]), allowed=(stack.settings.aws_url,))
        sign_in(page, stack.url, EMAIL)
        yield visit


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.page


def shown_rows(page: Page, label: str) -> list[int]:
    """Returns the places of the rows that are in the page, as a screen reader counts them."""
    found: list[int] = (
        page.get_by_role("region", name=label)
        .locator("tbody tr[aria-rowindex]")
        .evaluate_all("rows => rows.map(row => Number(row.ariaRowIndex))")
    )
    return found


def test_a_long_list_reads_on_by_cursors_as_one_scrolls_and_keeps_few_rows_in_the_page(
    page: Page, api: ApiClient
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: api.post("/data-models", {"name": f"Model {number}"}), range(MADE)))
    path = "/audit-logs"
    api.wait(f"{path}?entity=data_model&limit=1", lambda found: found["count"] == MADE, seconds=JOB_SECONDS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if path in request.url else None)
    opened(page, "operations/audit?entity=data_model", "Operations")
    frame, table = page.get_by_role("region", name="Audit log"), page.get_by_role("table")
    expect(table).to_have_attribute("aria-rowcount", str(MADE + 1))
    assert min(shown_rows(page, "Audit log")) == 2
    last = frame.locator(f"tr[aria-rowindex='{MADE + 1}']")
    frame.focus()
    for _ in range(50):
        page.keyboard.press("End")
        page.wait_for_timeout(100)
        assert len(shown_rows(page, "Audit log")) <= 100
        if last.count():
            break
    expect(last).to_be_in_viewport()
    assert min(shown_rows(page, "Audit log")) > 100
    assert sum("after=" in url for url in asked) == 2
    first = frame.locator("tr[aria-rowindex='2']")
    for _ in range(50):
        page.keyboard.press("Home")
        page.wait_for_timeout(100)
        if first.count():
            break
    expect(first).to_be_in_viewport()


def test_a_row_that_scrolls_away_gives_its_focus_to_the_table(page: Page, api: ApiClient) -> None:
    opened(page, "operations/audit?entity=data_model", "Operations")
    frame = page.get_by_role("region", name="Audit log")
    frame.locator("summary").first.focus()
    expect(frame.locator("summary").first).to_be_focused()
    frame.evaluate("frame => { frame.scrollTop = frame.scrollHeight }")
    expect(frame.locator("tr[aria-rowindex='2']")).to_have_count(0)
    expect(frame).to_be_focused()


def test_a_wide_file_shows_its_columns_without_all_of_them_in_the_page(page: Page, api: ApiClient) -> None:
    connector = api.post("/connectors", {"name": "Wide", "type": "aws-s3"})["id"]
    names = [f"column {number}" for number in range(COLUMNS)]
    api.upload(
        connector, {"wide.csv": "\n".join([",".join(names), *[",".join(map(str, range(COLUMNS)))] * 3]).encode()}
    )
    catalog = f"/connectors/{connector}/catalog"
    api.wait(catalog, lambda page: [each["status"] for each in page["data"]] == ["scanned"], seconds=JOB_SECONDS)
    opened(page, f"data/{connector}/file?name=wide.csv", "wide.csv")
    expect(page.get_by_role("table").first).to_have_attribute("aria-rowcount", str(COLUMNS + 1))
    frame = page.get_by_role("region", name="Columns")
    frame.evaluate("frame => { frame.scrollTop = frame.scrollHeight }")
    expect(frame.get_by_text(names[-1], exact=True)).to_be_in_viewport()
    assert len(shown_rows(page, "Columns")) <= 100


@pytest.fixture(scope="module")
def hostile(stack: Stack, api: ApiClient) -> dict[str, str]:
    """An item of every kind whose name is markup, by the address of its page."""
    connector = api.post("/connectors", {"name": HOSTILE, "type": "aws-s3"})["id"]
    file = f"{HOSTILE}.csv"
    cells = f'"{HOSTILE.replace(chr(34), chr(34) * 2)}"'
    api.upload(connector, {file: "\n".join([f"{cells},paid", *[f"{cells},{each % 2}" for each in range(9)]]).encode()})
    catalog = f"/connectors/{connector}/catalog"
    api.wait(catalog, lambda page: [each["status"] for each in page["data"]] == ["scanned"], seconds=JOB_SECONDS)
    data = {"connector_id": connector, "files": [file], "target": "paid"}
    model = api.post("/data-models", {"name": HOSTILE})["id"]
    benchmark = {"name": HOSTILE, "description": HOSTILE, "task": "binary_classification", "metrics": ["roc_auc"]}
    api.post("/benchmarks", {**benchmark, "connectors": [data]})
    training = {"name": HOSTILE, "architecture": "lightgbm", "configuration": {}, "gpu_count": 0}
    trained = api.post("/trainings", {**training, "connectors": [data], "data_model_id": model})["id"]
    group = api.post("/action-groups", {"name": HOSTILE, "description": HOSTILE})["id"]
    offer: dict[str, Any] = {"name": HOSTILE, "description": HOSTILE, "priority": "low", "type": "offer"}
    action = api.post("/actions", {**offer, "status": "active", "group": group, "conditions": ["client.x != '<b>'"]})[
        "id"
    ]
    api.post("/personas", {"name": HOSTILE, "birthdate": "1980-01-01", "notes": HOSTILE, "data": {HOSTILE: HOSTILE}})
    insight = api.post("/insights", {"client": {"customer_id": HOSTILE, "x": HOSTILE}, "wording": "offer"})["id"]
    arms = [{"name": HOSTILE, "percentage": 100}]
    api.call("PUT", "/insights/experiments", {"arms": arms})
    chat = api.post(
        "/chats", {"messages": [{"role": "user", "content": HOSTILE}], "max_tokens": 4, "guard_enabled": False}
    )
    api.call("PUT", f"/chats/{chat['id']}", {"name": HOSTILE})
    expert = api.post("/experts", {"name": HOSTILE, "description": HOSTILE, "context": HOSTILE})["id"]
    argument = waiting_argument(api, HOSTILE)
    api.post(f"/arguments/{argument}/comments", {"text": HOSTILE})
    api.post("/api-keys", {"name": HOSTILE, "scopes": ["read"]})
    api.post(f"/spaces/{api.space_id}/service-accounts", {"name": HOSTILE})
    run = {"connector_id": connector, "files": [file], "dry_run": True}
    return {
        "home": HOSTILE,
        "data": HOSTILE,
        f"data/{connector}": file,
        f"data/{connector}/file?name={quote(file)}": file,
        "models": HOSTILE,
        "models/trainings": HOSTILE,
        f"models/trainings/{trained}": HOSTILE,
        "decisions": HOSTILE,
        f"decisions/insight/{insight}": HOSTILE,
        f"decisions/customer/{quote(HOSTILE, safe='')}": HOSTILE,
        "decisions/offers": HOSTILE,
        f"decisions/offers/{action}": HOSTILE,
        f"decisions/runs/{api.post('/decision-runs', run)['id']}": "Decision run",
        "decisions/experiment": HOSTILE,
        "review/all": HOSTILE,
        f"review/argument/{argument}": HOSTILE,
        "chats/history": HOSTILE,
        f"chats/talk/{chat['id']}": HOSTILE,
        "chats/experts": HOSTILE,
        f"chats/experts/{expert}": HOSTILE,
        "operations/keys": HOSTILE,
        "operations/members": HOSTILE,
    }


def test_names_that_are_markup_are_shown_as_text_on_every_page(
    page: Page, visit: Visit, api: ApiClient, hostile: dict[str, str]
) -> None:
    for place in (*PAGES, *hostile):
        page.evaluate("place => { location.hash = '#/' + place }", place)
        expect(page.locator("main h1")).to_be_visible()
        expect(page.locator("main [role=status]", has_text="Loading")).to_have_count(0)
        if place in hostile and hostile[place] != "Decision run":
            expect(page.locator("main")).to_contain_text(hostile[place])
        assert page.locator("img").count() == 0, place
        assert page.evaluate("window.hacked") is None, place
    opened(page, "operations/audit", "Operations")
    row(page, "api key").locator("summary").first.click()
    assert page.evaluate("window.hacked") is None
    complaints, visit.complaints[:] = list(visit.complaints), []
    assert [each for each in complaints if "queue/next" not in each and "404 (Not Found)" not in each] == []

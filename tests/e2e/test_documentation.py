"""Tests of the documentation page in a browser, from the development server and through the gateway."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect

from infra.local.client import Json
from tests.e2e.conftest import Stack
from tests.fixtures.browser import ROOT, Visit, open_browser

# The tests store screenshots of the last run for people.
SCREENSHOTS = ROOT / "build" / "screenshots"
# A machine with two busy cores needs a long time to draw a page with a hundred operations.
WAIT_MILLISECONDS = 60_000
DESKTOP = (1280, 800)
PHONE = (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=WAIT_MILLISECONDS)
    with open_browser() as browser:
        yield browser


def published(address: str) -> Json:
    """Reads the OpenAPI document."""
    found: Json = httpx.get(f"{address}/openapi.json", trust_env=False, timeout=60).json()
    return found


def visit(browser: Browser, address: str, size: tuple[int, int]) -> Visit:
    """Opens the documentation page and waits until the page is drawn."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(WAIT_MILLISECONDS)
    scheme, host = urlsplit(address)[:2]
    opened = Visit(page, f"{scheme}://{host}")
    page.goto(f"{address}/docs")
    page.get_by_role("link", name="Download", exact=True).wait_for()
    return opened


@pytest.mark.e2e
@pytest.mark.row("C-17")
@pytest.mark.parametrize(
    ("server", "device", "size"),
    [("gateway", "desktop", DESKTOP), ("gateway", "phone", PHONE), ("one-process", "desktop", DESKTOP)],
)
def test_the_page_shows_every_operation_and_sends_no_request_to_other_hosts(
    browser: Browser, stack: Stack, server: str, device: str, size: tuple[int, int]
) -> None:
    address = stack.url if server == "gateway" else stack.settings.api_url
    document = published(address)
    opened = visit(browser, address, size)
    page = opened.page
    wanted = {
        f"tag/{operation['tags'][0]}/operation/{operation['operationId']}"
        for path in document["paths"].values()
        for operation in path.values()
    }
    drawn = set(page.eval_on_selector_all("[data-section-id]", "all => all.map(each => each.dataset.sectionId)"))
    assert wanted <= drawn
    menu = page.locator(".menu-content")
    for group in {name.split("/")[1] for name in wanted}:
        expect(menu.locator(f"[data-item-id='tag/{group}']")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0], "the page must not scroll sideways"
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"docs-{server}-{device}.png")
    assert opened.complaints == []
    page.close()


@pytest.mark.e2e
def test_the_download_link_returns_the_document(browser: Browser, stack: Stack, tmp_path: Path) -> None:
    opened = visit(browser, stack.url, DESKTOP)
    with opened.page.expect_download() as download:
        opened.page.get_by_role("link", name="Download", exact=True).click()
    file = tmp_path / "openapi.json"
    download.value.save_as(file)
    assert json.loads(file.read_text()) == published(stack.url)
    assert opened.complaints == []
    opened.page.close()


@pytest.mark.e2e
def test_the_search_finds_an_operation(browser: Browser, stack: Stack) -> None:
    opened = visit(browser, stack.url, DESKTOP)
    page = opened.page
    page.get_by_placeholder("Search").fill("lineage")
    page.locator("[data-role='search:results']").get_by_text("Get Argument Lineage").click()
    expect(page.get_by_role("heading", name="Get Argument Lineage")).to_be_in_viewport()
    assert page.url.endswith("#tag/arguments/operation/get_argument_lineage")
    assert opened.complaints == []
    page.close()


@pytest.mark.e2e
def test_the_menu_opens_on_a_phone(browser: Browser, stack: Stack) -> None:
    opened = visit(browser, stack.url, PHONE)
    page = opened.page
    menu = page.locator(".menu-content")
    entry = menu.locator("[data-item-id='tag/insights']").first
    expect(entry).not_to_be_in_viewport()
    page.mouse.click(PHONE[0] - 50, PHONE[1] - 75)
    expect(entry).to_be_visible()
    entry.click()
    expect(page.locator("[id='tag/insights']")).to_be_in_viewport()
    assert opened.complaints == []
    page.close()

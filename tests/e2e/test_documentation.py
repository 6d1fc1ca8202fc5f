"""Tests of the reference in a browser, from the development server and through the gateway."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from infra.local.client import Json
from infra.local.tokens import PASSWORD
from tests.e2e.conftest import Stack
from tests.fixtures.browser import ROOT, Visit, open_browser

# The tests store screenshots of the last run for people.
SCREENSHOTS = ROOT / "build" / "screenshots"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = ("serious", "critical")
# A machine with two busy cores needs a long time to draw a page with a hundred operations.
WAIT_MILLISECONDS = 60_000
DESKTOP = (1440, 900)
PHONE = (390, 844)
EMAIL = "reader@example.com"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=WAIT_MILLISECONDS)
    with open_browser() as browser:
        yield browser


def published(address: str) -> Json:
    """Reads the OpenAPI document."""
    found: Json = httpx.get(f"{address}/openapi.json", trust_env=False, timeout=60).json()
    return found


def visit(
    browser: Browser,
    stack: Stack,
    address: str,
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    place: str = "",
) -> Visit:
    """Opens the reference, or one place of it, and waits until it is drawn."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.set_default_timeout(WAIT_MILLISECONDS)
    opened = Visit(page, "://".join(urlsplit(address)[:2]), allowed=(stack.settings.aws_url,))
    page.goto(f"{address}/docs{place}")
    page.get_by_role("heading", name="Inference API", level=1).wait_for(state="attached")
    expect(page.locator("#sign-in")).to_be_enabled()
    return opened


def closed(opened: Visit) -> None:
    assert opened.complaints == []
    opened.page.close()


def operation(page: Page, name: str) -> None:
    """Opens an operation by the search."""
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").fill(name)
    page.get_by_role("option", name=name).first.click()


@pytest.mark.e2e
@pytest.mark.row("C-17")
def test_the_page_lists_every_operation_and_sends_no_request_to_other_hosts(browser: Browser, stack: Stack) -> None:
    opened = visit(browser, stack, stack.url)
    menu = opened.page.get_by_role("complementary", name="Sidebar")
    operations = [each for path in published(stack.url)["paths"].values() for each in path.values()]
    for group in dict.fromkeys(each["tags"][0] for each in operations):
        entry = menu.locator(f"[data-sidebar-id$='/tag/{group}']").first
        button = entry.get_by_role("button").first
        if button.get_attribute("aria-expanded") != "true":
            button.click()
        listed = entry.locator("li[data-sidebar-id]")
        expect(listed).to_have_count(sum(each["tags"][0] == group for each in operations))
    closed(opened)


@pytest.mark.e2e
@pytest.mark.row("UI-7")
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_by_everybody_on_every_screen(
    browser: Browser, stack: Stack, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    opened = visit(browser, stack, stack.settings.api_url, size, scheme, "#tag/actions/POST/actions")
    page = opened.page
    expect(page.get_by_role("heading", name="Create Action", exact=True).last).to_be_in_viewport()
    expect(page.get_by_text('curl "$API/actions"').first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == size[0], "the page must not scroll sideways"
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [(each["id"], each["nodes"][:2]) for each in found if each["impact"] in SERIOUS] == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"docs-{size[0]}-{scheme}.png")
    closed(opened)


@pytest.mark.e2e
@pytest.mark.row("UI-7")
def test_a_signed_in_reader_tries_a_request(browser: Browser, stack: Stack) -> None:
    # The pool of this machine does not know the address, and makes an account.
    opened = visit(browser, stack, stack.url)
    page = opened.page
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    expect(page.locator("#who")).to_have_text(EMAIL)
    operation(page, "Get Me")
    page.get_by_role("button", name="Test Request (get /me)").click()
    page.get_by_role("button", name="Send").first.click()
    expect(page.get_by_text("200 OK").first).to_be_visible()
    expect(page.get_by_text(EMAIL).last).to_be_visible()
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert "eyJ" not in kept, "the token is in memory only"
    # The pool has refused the unknown address before the page signed it up.
    refused = [each for each in opened.complaints if "400" in each]
    assert refused[:1] == [f"{stack.settings.aws_url}/ returns 400"]
    assert opened.complaints == refused[:2]
    page.close()


@pytest.mark.e2e
@pytest.mark.row("UI-7")
def test_the_search_finds_a_word_of_a_description(browser: Browser, stack: Stack) -> None:
    opened = visit(browser, stack, stack.url)
    page = opened.page
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").fill("suppress")
    expect(page.get_by_role("option", name="Get Insight Policy")).to_be_visible()
    page.get_by_role("option", name="Get Insight Policy").click()
    expect(page.get_by_role("heading", name="Get Insight Policy").last).to_be_in_viewport()
    assert page.url.endswith("#tag/insights/GET/insights/policy")
    closed(opened)


@pytest.mark.e2e
def test_the_download_link_returns_the_document(browser: Browser, stack: Stack, tmp_path: Path) -> None:
    opened = visit(browser, stack, stack.url)
    with opened.page.expect_download() as download:
        opened.page.get_by_role("link", name="Download", exact=True).click()
    file = tmp_path / "openapi.json"
    download.value.save_as(file)
    assert json.loads(file.read_text()) == published(stack.url)
    closed(opened)


@pytest.mark.e2e
def test_the_menu_opens_on_a_phone(browser: Browser, stack: Stack) -> None:
    opened = visit(browser, stack, stack.url, PHONE)
    page = opened.page
    page.get_by_role("button", name="Open Menu").click()
    page.get_by_role("link", name="insights", exact=True).click()
    page.get_by_role("link", name="Create Insight").first.click()
    expect(page.get_by_role("heading", name="Create Insight", exact=True).last).to_be_in_viewport()
    closed(opened)

"""Tests of the console in a browser, from sign-in to a promoted model, a decision, and a reviewed argument.

The tests use one page and one space, in the order of this file: tokens are in the page's memory only.
"""

import base64
import csv
import hashlib
from collections.abc import Iterator
from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from infra.local.client import ApiClient
from infra.local.demo_data import DATA_SETS
from tests.e2e.conftest import JOB_SECONDS, Stack
from tests.fixtures.browser import Visit, open_browser
from tests.fixtures.console import (
    AXE,
    DESKTOP,
    HOSTILE,
    PAGES,
    PHONE,
    WAIT_MILLISECONDS,
    keep_picture,
    opened,
    row,
    sign_in,
    waiting_argument,
)

DATA_SET = next(each for each in DATA_SETS if each.name == "german-credit")
EMAIL = "console@example.com"


@pytest.fixture(scope="module")
def visit(stack: Stack) -> Iterator[Visit]:
    """A visit whose user has signed in."""
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, locale="en-US")
        scheme, host = urlsplit(stack.url)[:2]
        opened = Visit(page, f"{scheme}://{host}", allowed=(stack.settings.aws_url,))
        stack.user(EMAIL)
        sign_in(page, stack.url, EMAIL)
        yield opened


@pytest.fixture(scope="module")
def api(stack: Stack, visit: Visit) -> ApiClient:
    """A client of the same user, in the space that the first test has made in the browser."""
    client = stack.user(EMAIL)
    client.space_id = client.get("/me")["spaces"][0]["id"]
    return client


@pytest.fixture(autouse=True)
def nothing_to_complain_about(visit: Visit) -> Iterator[None]:
    yield
    complaints, visit.complaints[:] = list(visit.complaints), []
    assert complaints == []


def forget_empty_queue(visit: Visit) -> None:
    """Forgets that a queue was empty, which the API says by 404 and the browser by a line without the address."""
    answers = [each for each in visit.complaints if each.endswith("/arguments/queue/next returns 404")]
    lines = [each for each in visit.complaints if "404 (Not Found)" in each]
    assert len(answers) == len(lines)
    visit.complaints[:] = [each for each in visit.complaints if each not in (*answers, *lines)]


def drop(page: Page, name: str, content: str) -> None:
    """Drops a file on the page, as from a folder on the desktop."""
    script = """file => {
      const held = new DataTransfer();
      held.items.add(new File([file.content], file.name));
      return held;
    }"""
    held = page.evaluate_handle(script, {"name": name, "content": content})
    page.locator(".drop").dispatch_event("drop", {"dataTransfer": held})


@pytest.mark.e2e
@pytest.mark.row("UI-1")
def test_a_dropped_file_becomes_a_leaderboard(visit: Visit) -> None:
    page = visit.page
    page.get_by_label("Name").fill("Browser")
    page.get_by_role("button", name="Create space").click()
    page.get_by_role("link", name="Train a model").first.click()
    drop(page, "customers.csv", DATA_SET.files()[DATA_SET.training_file].decode())
    expect(page.get_by_role("region", name="First rows as they are read")).to_contain_text("duration_in_month")
    page.get_by_role("button", name="These rows are right").click()
    target = page.get_by_label("Column to predict")
    expect(target).to_be_visible()
    target.select_option(DATA_SET.target)
    page.get_by_role("button", name="Train", exact=True).click()
    leaderboard = page.get_by_role("button", name="Open the leaderboard")
    leaderboard.wait_for(timeout=2 * JOB_SECONDS * 1000)
    expect(page.get_by_text("2 of 2 models are evaluated.")).to_be_visible(timeout=JOB_SECONDS * 1000)
    leaderboard.click()
    expect(row(page, "customers, lightgbm")).to_be_visible()
    expect(row(page, "customers, xgboost")).to_be_visible()
    keep_picture(page, "leaderboard")


@pytest.mark.e2e
@pytest.mark.row("UI-2")
def test_models_are_compared_and_one_is_promoted(visit: Visit, api: ApiClient) -> None:
    page = visit.page
    for model in ("lightgbm", "xgboost"):
        page.get_by_label(f"Compare customers, {model}").check()
    page.get_by_role("link", name="Compare 2 models").click()
    for curve in ("ROC", "Precision and recall", "KS", "Gain", "Lift"):
        card = page.locator("section").filter(has=page.get_by_role("heading", name=curve, exact=True))
        expect(card.locator("canvas")).to_be_visible()
    calibration = page.locator("section").filter(has_text="Calibration of customers, lightgbm")
    expect(calibration.locator("canvas")).to_be_visible()
    expect(calibration).to_contain_text("Brier score 0.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Report of customers, lightgbm").click()
    assert download.value.path().read_text().startswith("<!doctype html>")
    threshold = page.locator("section").filter(has_text="Threshold of customers, lightgbm")
    contacted = threshold.get_by_text("of all customers contacted").inner_text()
    threshold.get_by_role("slider").focus()
    page.keyboard.press("Home")
    assert threshold.get_by_text("of all customers contacted").inner_text() != contacted
    keep_picture(page, "comparison")
    opened(page, "models", "Models")
    [ranked] = [each for each in api.get("/leaderboards")["data"] if each["name"] == "customers, lightgbm"]
    [interval] = [each["roc_auc"] for each in ranked["intervals"].values()]
    expect(row(page, "customers, lightgbm")).to_contain_text(f"{interval['low']:.4f} to {interval['high']:.4f}")
    row(page, "customers, lightgbm").get_by_role("button", name="Promote").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    expect(page.get_by_text("champion is now customers, lightgbm.")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    alias = api.get("/checkpoints/aliases/champion")
    checkpoint = next(each for each in api.rows("/checkpoints") if each["id"] == alias["checkpoint_id"])
    assert checkpoint["name"] == "customers, lightgbm"


@pytest.mark.e2e
@pytest.mark.row("UI-3")
def test_a_decision_is_explained_and_a_changed_value_is_compared(visit: Visit, api: ApiClient) -> None:
    page = visit.page
    group = api.post("/action-groups", {"name": "Offers", "description": "what we offer"})["id"]
    for name, priority in (("Loan", "high"), (HOSTILE, "low")):
        offer = {"name": name, "description": "x", "priority": priority, "type": "offer", "status": "active"}
        api.post("/actions", {**offer, "group": group, "model_id": "champion"})
    rows = csv.DictReader(DATA_SET.files()[DATA_SET.benchmark_file].decode().splitlines())
    fields = next(rows) | {"credit_amount": "2000"}
    del fields[DATA_SET.target]
    hostile = {"name": HOSTILE, "birthdate": "1980-01-01", "notes": HOSTILE}
    persona = api.post("/personas", {**hostile, "data": fields})["id"]
    opened(page, "decisions", "Decisions")
    page.get_by_label("Known customers").select_option(label=HOSTILE)
    page.get_by_role("button", name="Decide", exact=True).click()
    expect(page.get_by_role("heading", name="Offer: Loan")).to_be_visible()
    expect(row(page, HOSTILE)).to_contain_text("Its score is below the best score")
    expect(page.get_by_role("region", name="Contributions").locator(".bar").first).to_be_visible()
    expect(page.get_by_role("link", name="customers.csv")).to_be_visible()
    keep_picture(page, "decision")
    made = len(api.get(f"/clients/{persona}")["data"])
    page.get_by_label("credit_amount").fill("15000")
    page.keyboard.press("Enter")
    expect(page.get_by_text('credit_amount: "2000" → "15000"')).to_be_visible()
    assert len(api.get(f"/clients/{persona}")["data"]) == made
    page.get_by_role("button", name="Back to the real customer").click()
    page.get_by_role("button", name="rejected it").click()
    expect(page.get_by_text("The customer's reaction: rejected.")).to_be_visible()
    assert page.evaluate("window.hacked") is None


@pytest.mark.e2e
@pytest.mark.row("UI-4")
def test_the_queue_is_worked_through_by_keyboard(visit: Visit, api: ApiClient) -> None:
    page = visit.page
    made = [waiting_argument(api, name) for name in ("First", "Second")]
    opened(page, "review", "Review")
    expect(page.get_by_role("heading", name="First")).to_be_visible()
    expect(row(page, "balance")).to_contain_text("1500")
    page.keyboard.press("e")
    page.get_by_label("Text of the argument").fill("Your balance is 1500, so a deposit suits you.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".argument")).to_contain_text("a deposit suits you")
    keep_picture(page, "review")
    page.get_by_role("heading", name="First").click()
    page.keyboard.press("a")
    expect(page.get_by_role("heading", name="Second")).to_be_visible()
    page.keyboard.press("r")
    expect(page.get_by_text("You have decided 2.")).to_be_visible()
    stored = [api.get(f"/arguments/{each}") for each in made]
    assert [each["review"]["status"] for each in stored] == ["success", "failed"]
    assert stored[0]["argument"] == "Your balance is 1500, so a deposit suits you."
    forget_empty_queue(visit)


@pytest.mark.e2e
def test_a_chat_streams_its_answer_and_reports_guard_and_router(visit: Visit, api: ApiClient) -> None:
    page = visit.page
    opened(page, "chats", "Chats")
    page.get_by_label("Guard: check").uncheck()
    page.get_by_label("At most this many tokens").fill("8")
    page.get_by_label("Your message").fill("Say hello.")
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant")).to_have_count(1)
    expect(page.get_by_text("is off").first).to_be_visible()
    chat = next(api.rows("/chats"))
    assert api.get(f"/chats/{chat['id']}")["messages"][0]["content"] == "Say hello."


@pytest.mark.e2e
@pytest.mark.row("UI-5")
def test_a_key_is_made_and_revoked_and_the_log_shows_it(visit: Visit, api: ApiClient, stack: Stack) -> None:
    page = visit.page
    opened(page, "operations/keys", "Operations")
    page.get_by_label("Name").fill("Nightly job")
    page.get_by_role("button", name="Make the key").click()
    key = page.get_by_text("ik_").inner_text()
    assert ApiClient(stack.url, key, api.space_id).get("/data-models")["count"] == 1
    page.on("dialog", lambda dialog: dialog.accept())
    row(page, "Nightly job").get_by_role("button", name="Revoke").click()
    expect(row(page, "Nightly job")).to_contain_text("revoked")
    opened(page, "operations/members", "Operations")
    page.get_by_label("E-mail addresses").fill("colleague@example.com")
    page.get_by_role("button", name="Invite", exact=True).click()
    expect(row(page, "colleague@example.com")).to_contain_text("pending")
    opened(page, "operations/audit?entity=api_key", "Operations")
    expect(row(page, "api_key").first).to_contain_text(EMAIL)
    opened(page, "operations/calls", "Operations")
    expect(row(page, "argument").first).to_be_visible()
    keep_picture(page, "calls")


@pytest.mark.e2e
@pytest.mark.row("UI-6")
def test_the_sign_in_of_aws_proves_who_began_it_and_keeps_no_token(visit: Visit, stack: Stack, api: ApiClient) -> None:
    """The pool's pages are replaced at the browser's network: the emulated pool has none."""
    assert visit.page.context.browser is not None
    page, challenges = visit.page.context.browser.new_page(locale="en-US"), list[str]()
    page.set_default_timeout(WAIT_MILLISECONDS)
    pages = {name: f"{stack.url}/pool/{name}" for name in ("authorization_endpoint", "token_endpoint")}

    def authorize(route: Route) -> None:
        query = dict(parse_qsl(urlsplit(route.request.url).query))
        assert (query["response_type"], query["code_challenge_method"], query["client_id"]) == ("code", "S256", "web")
        challenges.append(query["code_challenge"])
        back = f"{query['redirect_uri']}?{urlencode({'code': 'once', 'state': query['state']})}"
        route.fulfill(body=f'<meta http-equiv="refresh" content="0;url={escape(back)}">', content_type="text/html")

    def exchange(route: Route) -> None:
        form = dict(parse_qsl(route.request.post_data or ""))
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == challenges[-1]
        assert (form["grant_type"], form["code"]) == ("authorization_code", "once")
        route.fulfill(json={"id_token": api.token, "refresh_token": "later"})

    page.route("**/console/config.json", lambda route: route.fulfill(json={"client_id": "web", **pages}))
    page.route("**/pool/authorization_endpoint*", authorize)
    page.route("**/pool/token_endpoint", exchange)
    page.goto(f"{stack.url}/console#/operations/members")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Operations", level=1)).to_be_visible()
    assert page.url == f"{stack.url}/console#/operations/members?space={api.space_id}"
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    page.goto(f"{stack.url}/console?code=stolen&state=forged")
    expect(page.get_by_role("alert")).to_contain_text("This sign-in was started elsewhere")
    page.close()


@pytest.mark.e2e
@pytest.mark.row("UI-6")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_is_accessible_and_fits(visit: Visit, api: ApiClient, size: tuple[int, int], scheme: str) -> None:
    page = visit.page
    api.call("PUT", f"/spaces/{api.space_id}", {"name": HOSTILE})
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.evaluate(AXE.read_text())
    found: dict[str, list[str]] = {}
    for place, heading in {**PAGES, **pages_of_items(api)}.items():
        opened(page, place, heading)
        found[place] = problems(page, size[0])
    for place, button in {"operations/members": "Rights", "models/aliases": "Change its gate"}.items():
        opened(page, place, place.partition("/")[0].capitalize())
        page.get_by_role("button", name=button).first.click()
        found[button] = problems(page, size[0])
        page.get_by_role("button", name="Close").click()
    forget_empty_queue(visit)
    assert {place: each for place, each in found.items() if each} == {}
    assert page.evaluate("window.hacked") is None


def pages_of_items(api: ApiClient) -> dict[str, str]:
    """Returns the pages of what the tests before have made, and their headings."""
    training = api.get("/trainings")["data"][0]
    connector = next(each["id"] for each in api.rows("/connectors"))
    offer = next(each["id"] for each in api.rows("/actions") if each["name"] == "Loan")
    return {
        f"models/trainings/{training['id']}": training["name"],
        f"data/{connector}/file?name=customers.csv": "customers.csv",
        f"decisions/offers/{offer}": "Loan",
        f"review/argument/{api.get('/arguments')[0]['id']}": "Argument",
    }


def problems(page: Page, width: int) -> list[str]:
    """Returns what axe finds serious, and whether the page, or on a phone a table, needs to be scrolled sideways."""
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    cut = page.locator(".table-frame").evaluate_all(
        "frames => frames.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.ariaLabel)"
    )
    return [
        *(
            f"{each['id']}: {each['nodes'][0]['html'][:200]}"
            for each in result["violations"]
            if each["impact"] in ("serious", "critical")
        ),
        *(f"the table {each} is cut" for each in cut if width == PHONE[0]),
        *(["scrolls sideways"] if page.evaluate("document.documentElement.scrollWidth") > width else []),
    ]

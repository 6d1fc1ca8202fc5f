"""The main task of each page from sign-in to done, by keyboard alone: on a dark phone, and on a light desktop."""

from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from infra.local.demo_data import DATA_SETS
from tests.e2e.conftest import JOB_SECONDS, Stack, TrainingSpace
from tests.fixtures.browser import Visit, open_browser
from tests.fixtures.console import DESKTOP, PHONE, Keyboard, keep_picture, row, sign_in, waiting_argument

pytestmark = [pytest.mark.e2e, pytest.mark.row("UI-6"), pytest.mark.timeout(900)]

EMAIL = "keyboard@example.com"
LOOKS: dict[str, tuple[tuple[int, int], Literal["dark", "light"]]] = {
    "phone": (PHONE, "dark"),
    "desktop": (DESKTOP, "light"),
}


@pytest.fixture(scope="module")
def place(stack: Stack) -> TrainingSpace:
    """A space with files, a benchmark file, customers and an offer."""
    api = stack.user(EMAIL)
    api.space_id = api.post("/spaces", {"name": "Keyboard", "description": "of a test"})["id"]
    data_set = next(each for each in DATA_SETS if each.name == "german-credit")
    place = TrainingSpace(stack, api, data_set)
    catalog = f"/connectors/{place.connector_id}/catalog"
    api.wait(catalog, lambda page: {each["status"] for each in page["data"]} == {"scanned"}, seconds=JOB_SECONDS)
    fields = {name: value for name, value in place.rows(1)[0].items() if name != data_set.target}
    api.post("/personas", {"name": "Clementine", "birthdate": "1980-01-01", "notes": "", "data": fields})
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module", params=LOOKS)
def visit(request: pytest.FixtureRequest, browser: Browser, stack: Stack, place: TrainingSpace) -> Iterator[Visit]:
    (width, height), scheme = LOOKS[request.param]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-US",
    )
    page.on("dialog", lambda dialog: dialog.accept())
    origin = "://".join(urlsplit(stack.url)[:2])
    visit = Visit(page, origin, allowed=(stack.settings.aws_url,))
    sign_in(page, stack.url, EMAIL)
    yield visit
    page.close()


@pytest.fixture
def keyboard(visit: Visit) -> Iterator[Keyboard]:
    yield Keyboard(visit.page)
    complaints, visit.complaints[:] = list(visit.complaints), []
    # A queue that is empty answers 404.
    assert [each for each in complaints if "queue/next" not in each and "404 (Not Found)" not in each] == []


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.page


def width(page: Page) -> int:
    assert page.viewport_size is not None
    return page.viewport_size["width"]


@pytest.mark.row("UI-1")
def test_a_model_is_trained_on_a_file_and_opened_on_the_leaderboard(
    page: Page, keyboard: Keyboard, place: TrainingSpace
) -> None:
    keyboard.open("Home", "Home")
    keyboard.press(page.get_by_role("link", name="Train a model", exact=True))
    files = page.get_by_label("A file that is here already")
    keyboard.reach(files)
    page.keyboard.type(place.data_set.training_file)
    keyboard.press(page.get_by_role("button", name="Use this file"))
    keyboard.choose(page.get_by_label("Column to predict"), place.data_set.target)
    keyboard.press(page.get_by_label("xgboost", exact=True), "Space")
    keyboard.write(page.get_by_label("Name"), f"By hand {width(page)}")
    keyboard.press(page.get_by_role("button", name="Train", exact=True))
    expect(page.get_by_text("1 of 1 models are evaluated.")).to_be_visible(timeout=2 * JOB_SECONDS * 1000)
    keyboard.press(page.get_by_role("button", name="Open the leaderboard"))
    expect(row(page, "By hand").first).to_contain_text("lightgbm")


@pytest.mark.row("UI-2")
def test_a_model_is_looked_into_and_promoted(page: Page, keyboard: Keyboard, place: TrainingSpace) -> None:
    keyboard.open("Leaderboard", "Models")
    keyboard.press(page.get_by_role("link", name="Show the curves"))
    slider = page.get_by_role("slider")
    contacted = page.get_by_text("of all customers contacted")
    before = contacted.inner_text()
    keyboard.press(slider, "End")
    expect(contacted).not_to_have_text(before)
    keep_picture(page, f"curves-{width(page)}")
    keyboard.press(page.get_by_role("link", name="Leaderboard", exact=True).last)
    keyboard.press(page.get_by_role("button", name="Promote").first)
    keyboard.press(page.get_by_role("dialog").get_by_role("button", name="Promote"))
    expect(page.get_by_text("champion is now")).to_be_visible()
    page.keyboard.press("Escape")
    assert place.api.get("/checkpoints/aliases/champion")["id"] == "champion"


def test_the_columns_of_a_file_are_looked_at(page: Page, keyboard: Keyboard, place: TrainingSpace) -> None:
    keyboard.open("Data", "Data")
    keyboard.press(page.get_by_role("link", name="Customers"))
    keyboard.press(page.get_by_role("link", name=place.data_set.training_file))
    expect(page.get_by_role("region", name="Columns")).to_contain_text(place.data_set.target)
    keyboard.press(page.get_by_role("button", name="Show the first rows"))
    expect(page.get_by_role("region", name="First rows as they are read")).to_be_visible()


@pytest.mark.row("UI-3")
def test_an_offer_is_made_and_decided_on(page: Page, keyboard: Keyboard, place: TrainingSpace) -> None:
    name = f"Loan {width(page)}"
    keyboard.open("Offers", "Decisions")
    keyboard.press(page.locator("summary", has_text="New offer"))
    keyboard.write(page.get_by_label("Name"), name)
    keyboard.write(page.get_by_label("Description"), "money")
    keyboard.choose(page.get_by_label("Model"), "champion")
    keyboard.write(page.get_by_label("Conditions, one a line"), "client.age_in_years != '0'")
    keyboard.press(page.get_by_role("button", name="Make the offer"))
    expect(row(page, name)).to_contain_text("active")
    keyboard.open("One customer", "Decisions")
    keyboard.choose(page.get_by_label("Known customers"), "Clementine")
    keyboard.press(page.get_by_role("button", name="Decide", exact=True))
    expect(page.get_by_role("heading", name="Offer: Loan")).to_be_visible()
    keyboard.write(page.get_by_label("credit_amount"), "15000")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What would change")).to_be_visible()


@pytest.mark.row("UI-3", "BD-3")
def test_a_what_if_is_decided_for_a_whole_file(page: Page, keyboard: Keyboard, place: TrainingSpace) -> None:
    keyboard.open("Runs", "Decisions")
    keyboard.press(page.locator("summary", has_text="New run"))
    keyboard.reach(page.get_by_label("Customers in"))
    page.keyboard.type(place.data_set.benchmark_file)
    keyboard.press(page.get_by_role("button", name="Add"))
    keyboard.write(page.get_by_label("At most"), "50")
    keyboard.press(page.get_by_role("button", name="Decide for all of them"))
    expect(page.get_by_role("heading", name="What-if run", level=1)).to_be_visible()
    expect(page.get_by_role("region", name="Capacity")).to_contain_text("50", timeout=JOB_SECONDS * 1000)
    expect(page.get_by_text("expected acceptances").first).to_be_visible()
    # The same customers with other settings, beside this run.
    keyboard.press(page.get_by_role("link", name="What if?"))
    expect(page.get_by_label("At most", exact=True)).to_have_value("50")
    keyboard.write(page.get_by_label("At most", exact=True), "20")
    keyboard.write(page.get_by_label("very high", exact=True), "3")
    offers = page.get_by_role("group", name="Offers that are otherwise")
    keyboard.press(offers.get_by_role("button", name="Add"))
    keyboard.choose(offers.get_by_label("Priority"), "very high")
    keyboard.press(page.get_by_role("button", name="Ask what would be"))
    difference = page.get_by_role("region", name="Beside the other run")
    expect(difference).to_contain_text("-30", timeout=JOB_SECONDS * 1000)
    expect(difference.locator(".pair").first).to_be_visible()
    changed = page.get_by_role("region", name="What was otherwise")
    expect(changed).to_contain_text("very high: 3")
    expect(changed.get_by_role("row").filter(has_text="priority")).to_contain_text("very high")
    keep_picture(page, f"what-if-{width(page)}")


@pytest.mark.row("UI-4")
def test_an_argument_is_commented_on_and_approved(page: Page, keyboard: Keyboard, place: TrainingSpace) -> None:
    made = waiting_argument(place.api, "Deposit")
    keyboard.open("Queue", "Review")
    expect(page.get_by_role("heading", name="Deposit")).to_be_visible()
    page.keyboard.press("c")
    page.keyboard.type("It holds.")
    page.keyboard.press("Tab")
    page.keyboard.press("a")
    expect(page.get_by_text("You have decided 1.")).to_be_visible()
    review = place.api.get(f"/arguments/{made}")["review"]
    assert (review["status"], review["comment"]) == ("success", "It holds.")


def test_a_question_is_asked(page: Page, keyboard: Keyboard, place: TrainingSpace) -> None:
    keyboard.open("Playground", "Chats")
    keyboard.press(page.get_by_label("Guard: check"), "Space")
    keyboard.write(page.get_by_label("At most this many tokens"), "8")
    keyboard.write(page.get_by_label("Your message"), "Say hello.")
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant")).to_have_count(1)


@pytest.mark.row("UI-5")
def test_a_key_is_made_and_revoked(page: Page, keyboard: Keyboard, place: TrainingSpace) -> None:
    name = f"Nightly {width(page)}"
    keyboard.open("Keys", "Operations")
    keyboard.write(page.get_by_label("Name"), name)
    keyboard.press(page.get_by_role("button", name="Make the key"))
    keyboard.press(row(page, name).get_by_role("button", name="Revoke"))
    expect(row(page, name)).to_contain_text("revoked")
    # Its button is gone. The focus stays in the table.
    expect(page.get_by_role("region", name="Keys")).to_be_focused()


@pytest.mark.row("UI-5")
def test_an_owner_sets_limits_rules_an_experiment_and_a_gate(
    page: Page, keyboard: Keyboard, place: TrainingSpace
) -> None:
    limit, days, share = (str(width(page) + each) for each in (0, 1, 2))
    keyboard.open("Limits", "Operations")
    keyboard.write(page.get_by_label("Calls a minute").first, limit)
    keyboard.press(page.get_by_role("button", name="Save"))
    expect(page.get_by_text("Saved. They hold from the next call on.")).to_be_visible()
    keyboard.open("Policy", "Decisions")
    keyboard.write(page.get_by_label("rejected it"), days)
    # Another part of the form is drawn anew, and the typed number stays.
    contacts = page.get_by_role("group", name="Limits of contacts with one customer")
    keyboard.press(contacts.get_by_role("button", name="Add"))
    keyboard.press(contacts.get_by_role("button", name="Remove"))
    keyboard.press(page.get_by_role("button", name="Save"))
    expect(page.get_by_text("Saved. The next decision follows it.")).to_be_visible()
    keyboard.open("Experiment", "Decisions")
    keyboard.press(page.get_by_role("button", name="Add"))
    arms = page.get_by_role("group", name="Arms")
    keyboard.write(arms.get_by_label("Name").last, f"Arm {share}")
    for number in range(arms.get_by_label("Share in %").count()):
        keyboard.write(arms.get_by_label("Share in %").nth(number), "50" if number or width(page) > 1000 else "100")
    keyboard.press(page.get_by_role("button", name="Save"))
    expect(row(page, f"Arm {share}")).to_be_visible()
    keyboard.open("In use", "Models")
    keyboard.press(page.get_by_role("button", name="Change its gate").first)
    dialog = page.get_by_role("dialog")
    if not dialog.get_by_label("Value").count():
        keyboard.press(dialog.get_by_role("button", name="Add"))
    keyboard.write(dialog.get_by_label("Value"), "0.5")
    keyboard.press(dialog.get_by_role("button", name="Save"))
    expect(page.get_by_text("Saved. It holds for the next promotion.")).to_be_visible()
    page.keyboard.press("Escape")
    api = place.api
    assert str(api.get(f"/spaces/{api.space_id}/limits")["space"]["requests_per_minute"]) == limit
    assert str(api.get("/insights/policy")["suppression_days"]["rejected"]) == days

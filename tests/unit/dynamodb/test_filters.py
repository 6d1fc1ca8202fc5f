"""Filtered lists return the same pages as a filter over a plain list of the stored items.

The folders ``inference_logs`` and ``leaderboards`` test their own lists.
"""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.arguments.store import Arguments
from shared.audit import store as audit_log
from shared.audit.store import AuditFilters, AuditLogs
from shared.chats.store import Chats, StoredChat
from shared.clock import new_id, utc_now
from shared.dynamodb import searches
from shared.dynamodb.repository import Repository
from shared.dynamodb.table import Table
from shared.dynamodb.time_ordered_ids import made_at
from shared.dynamodb.write_markers import WRITE_MARKER
from shared.models.argument import Argument, ReviewStatus
from shared.models.base import Page, SearchedPage
from shared.models.webhook_endpoint import DeliveryStatus, WebhookEventType
from shared.resources import Resources
from shared.webhooks import deliveries as webhook_deliveries
from shared.webhooks.deliveries import KEPT, WebhookDeliveries
from shared.webhooks.events import event
from tests.fixtures.arguments import add_argument
from tests.fixtures.inference_logs import id_at

NOW = datetime(2026, 3, 15, 10, 37, 21, 123456, tzinfo=UTC)
SOME = hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))

chances = st.randoms(use_true_random=False)


def moments() -> st.SearchStrategy[datetime]:
    """Generates few moments: some in the same millisecond, some just before or after the end of the retention."""
    days = st.sampled_from([0, 1, KEPT.days])
    return st.builds(lambda back, beside: NOW - timedelta(days=back, milliseconds=beside), days, st.integers(-1, 1))


def bounds() -> st.SearchStrategy[datetime | None]:
    return st.none() | st.builds(
        lambda moment, beside: moment + timedelta(microseconds=beside), moments(), st.sampled_from([-456, 0, 1])
    )


def check_pages(
    read: Callable[[str, int], Page[Any]], expected: Sequence[str], others: Sequence[str], chance: random.Random
) -> None:
    """Compares pages of random sizes with the expected ids, also after an unknown id and after one of ``others``."""
    seen: list[str] = []
    has_more = True
    while has_more:
        limit = chance.randint(1, 5)
        page = read(seen[-1] if seen else "", limit)
        assert page.count == len(expected)
        assert [row.id for row in page.data] == list(expected[len(seen) : len(seen) + limit])
        seen += [row.id for row in page.data]
        has_more = page.has_more
        assert has_more == (len(seen) < len(expected))
    never = chance.choice(["00000000-0000-0000-0000-000000000000", id_at(NOW - 2 * KEPT, 1), new_id()])
    for after in [never, *chance.sample(others, min(1, len(others)))]:
        page, rest = read(after, 3), [each for each in expected if each < after]
        assert ([row.id for row in page.data], page.has_more) == (rest[:3], len(rest) > 3)
        assert page.count == len(expected)


def check_short_pages(
    read: Callable[[str, int], SearchedPage[Any]], expected: Sequence[str], chance: random.Random
) -> None:
    """Compares pages of random sizes with the expected ids, when a request reads few rows."""
    seen: list[str] = []
    after: str | None = ""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(searches, "SEARCHED_AT_ONCE", chance.randint(1, 3))
        patches.setattr(searches, "READ_AT_ONCE", chance.randint(1, 3))
        while after is not None:
            limit = chance.randint(1, 5)
            page = read(after, limit)
            assert len(page.data) <= limit
            assert page.has_more == (page.next_after is not None)
            seen += [row.id for row in page.data]
            after = page.next_after
    assert seen == list(expected)


def newest_first(ids: Sequence[str]) -> list[str]:
    return sorted(ids, reverse=True)


WRITES = st.fixed_dictionaries(
    {
        "at": moments(),
        "actor": st.sampled_from(["ann", "bob"]),
        "api_key_id": st.sampled_from([None, "key", "other"]),
        "entity": st.sampled_from(["action", "training"]),
        "entity_id": st.sampled_from(["one", "two"]),
    }
)
AUDIT_FILTERS = st.builds(
    AuditFilters,
    entity=st.sampled_from([None, None, "action", "space"]),
    entity_id=st.sampled_from([None, None, "one", "three"]),
    actor=st.sampled_from([None, None, "ann"]),
    api_key_id=st.sampled_from([None, None, None, "key"]),
    start_date=bounds(),
    end_date=bounds(),
)


@pytest.mark.row("X-14", "C-7", "C-9")
@hypothesis_settings(SOME, max_examples=10)
@given(st.lists(WRITES, max_size=12), st.lists(AUDIT_FILTERS, min_size=3, max_size=3), chances)
def test_the_audit_log_returns_the_expected_pages_for_any_filter(
    table: Table, writes: list[dict[str, Any]], filters: list[AuditFilters], chance: random.Random
) -> None:
    space, logs = new_id(), AuditLogs(table, lambda: NOW, KEPT)
    ids = [id_at(each["at"], number) for number, each in enumerate(writes)]
    logs.record(
        [
            (
                None,
                {
                    "PK": f"{each['entity']}#{space}",
                    "SK": each["entity_id"],
                    WRITE_MARKER: "#".join(filter(None, (each["actor"], each["api_key_id"], write_id))),
                },
            )
            for write_id, each in zip(ids, writes, strict=True)
        ]
    )
    for asked in filters:
        oldest = max(asked.start_date or NOW - KEPT, NOW - KEPT)
        expected = newest_first(
            [
                write_id
                for write_id, each in zip(ids, writes, strict=True)
                if oldest <= made_at(write_id) <= (asked.end_date or NOW + KEPT)
                and all(each[name] == value for name, value in asked.wanted.items())
            ]
        )
        check_pages(partial(logs.list_after, space, asked), expected, ids, chance)
        check_short_pages(partial(logs.list_after, space, asked), expected, chance)


@pytest.mark.row("C-7", "C-9")
@SOME
@given(
    st.lists(st.tuples(moments(), st.sampled_from(DeliveryStatus)), max_size=9),
    st.lists(bounds().filter(bool), min_size=2, max_size=2),
    chances,
)
def test_deliveries_are_listed_by_any_status_and_failed_ones_since_any_time(
    table: Table, sent: list[tuple[datetime, DeliveryStatus]], times: list[datetime], chance: random.Random
) -> None:
    space, endpoint, deliveries = new_id(), new_id(), WebhookDeliveries(table, lambda: NOW)
    messages = {id_at(moment, number): status for number, (moment, status) in enumerate(sent)}
    for message_id, status in messages.items():
        message = event(message_id, space, WebhookEventType.TRAINING_STARTED, {})
        _, task = deliveries.add(space, endpoint, message)
        if task and status is not DeliveryStatus.PENDING and (claimed := deliveries.claim(task)):
            deliveries.record_attempt(task, claimed, status)
    kept = {message_id: status for message_id, status in messages.items() if made_at(message_id) >= NOW - KEPT}
    for asked in (None, *DeliveryStatus):
        expected = newest_first([message_id for message_id, status in kept.items() if asked in (None, status)])
        check_pages(partial(deliveries.list_after, space, endpoint, asked), expected, list(messages), chance)
    failed = [message_id for message_id, status in kept.items() if status is DeliveryStatus.FAILED]
    for since in times:
        found = list(deliveries.failed_since(space, endpoint, since))
        assert found == sorted(each for each in failed if made_at(each) >= since)


@pytest.mark.row("C-9")
def test_a_capped_count_is_marked_and_the_list_continues(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (audit_log, webhook_deliveries):
        monkeypatch.setattr(module, "COUNTED_ROWS", 2)
    space, endpoint = new_id(), new_id()
    deliveries, logs = WebhookDeliveries(table), AuditLogs(table, utc_now, KEPT)
    for total in (1, 2, 3):
        made = new_id()
        deliveries.add(space, endpoint, event(made, space, WebhookEventType.TRAINING_STARTED, {}))
        logs.record([(None, {"PK": f"action#{space}", "SK": made, WRITE_MARKER: f"ann#{made}"})])
        for page in (
            deliveries.list_after(space, endpoint, None, "", 10),
            logs.list_after(space, AuditFilters(actor="ann", entity="action"), "", 10),
        ):
            assert (page.count, page.count_capped, len(page.data)) == (min(total, 2), total > 2, total)


# Some letters change their length or their alphabet when their case changes.
NAMES = st.text("aAsS\u00df\u0130\u017f", min_size=1, max_size=6) | st.text(min_size=1, max_size=4)


@pytest.mark.row("CH-1", "C-7", "C-9")
@SOME
@given(st.lists(NAMES, min_size=3, max_size=8), st.data(), chances)
def test_chats_are_found_by_any_part_of_their_name(
    resources: Resources, names: list[str], data: st.DataObject, chance: random.Random
) -> None:
    values = resources.large_values
    space, chats = new_id(), Chats(resources.table, values)
    stored = Repository(resources.table, StoredChat, kind="chat")
    named = {}
    for name in names:
        made = stored.create(space, StoredChat(id=new_id(), created_at=NOW, updated_at=NOW, name=name))
        named[made.id] = name
    for chat_id in chance.sample(sorted(named), len(named) // 4):
        chats.delete(space, chat_id, None)
        del named[chat_id]
    parts = [name[start : start + length] for name in names for start in range(len(name)) for length in (1, 2)]
    some = data.draw(st.sampled_from(["ss", *parts]) | NAMES)
    for part in ("", "a", some, some.upper()):
        expected = newest_first([each for each, name in named.items() if part.casefold() in name.casefold()])
        check_pages(partial(chats.list_after, space, name=part), expected, list(named), chance)
        check_short_pages(partial(chats.list_after, space, name=part), expected, chance)


ACTIONS = (new_id(), new_id())


def reviewed(status: ReviewStatus, argument: Argument) -> dict[str, Any]:
    return {"review": argument.review.model_copy(update={"status": status})}


@pytest.mark.row("C-9")
@hypothesis_settings(SOME, max_examples=5)
@given(
    st.lists(st.tuples(st.sampled_from(ReviewStatus), st.sampled_from([None, *ACTIONS])), max_size=6),
    st.integers(1, 4),
    chances,
)
def test_arguments_are_listed_by_any_status_and_action(
    table: Table, made: list[tuple[ReviewStatus, str | None]], size: int, chance: random.Random
) -> None:
    space, arguments = new_id(), Arguments(table)
    stored = {
        add_argument(table, space, action_id=action_id, status=status): (status, action_id)
        for status, action_id in made
    }
    for argument_id in chance.sample(sorted(stored), len(stored) // 2):
        status, action_id = stored.pop(argument_id)
        following = [each for each in ReviewStatus if status.may_become(each)]
        if not following:
            arguments.delete(space, argument_id, None)
            continue
        becomes = chance.choice(following)
        arguments.change(space, argument_id, partial(reviewed, becomes), "somebody")
        stored[argument_id] = (becomes, action_id)
    for asked in (None, *chance.sample(list(ReviewStatus), 3)):
        for action_id in (None, *ACTIONS):
            expected = newest_first(
                [each for each, (at, of) in stored.items() if asked in (None, at) and action_id in (None, of)]
            )
            for number in range(1, len(expected) // size + 3):
                page = arguments.list_page(space, number, size, asked, action_id)
                assert [row.id for row in page.data] == expected[(number - 1) * size : number * size]
                assert (page.count, page.has_more) == (len(expected), number * size < len(expected))

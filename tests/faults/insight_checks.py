"""Checks of reactions to insights and of arguments."""

from collections import Counter, defaultdict

from tests.faults.stored_items import Problems, StoredItems


def reactions(items: StoredItems) -> Problems:
    """Compares the reactions of insights with those by time and by client, and with the counts of each action."""
    by_insight: dict[str, tuple[str, str]] = {}
    counted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for space_id, sk, insight in items.of("insight"):
        if reaction := insight.get("reaction"):
            by_insight[reaction["id"]] = (sk, reaction["reaction"])
            counts = counted[space_id, reaction["action_id"]]
            counts[reaction["reaction"]] += 1
            if (band := insight.get("band")) is not None:
                counts[f"offered_{band}"] += 1
                counts[f"accepted_{band}"] += reaction["reaction"] == "accepted"
    by_time = {sk: (item["insight_id"], item["reaction"]) for _, sk, item in items.of("insight_reaction")}
    if by_time != by_insight:
        yield f"reactions by time differ from those of insights: {by_time.items() ^ by_insight.items()}"
    # One partition of a space names the holds that were released, and no customer.
    ledgers = [(sk, item) for rest, sk, item in items.under("insight_contact") if rest.partition("#")[2] != "~released"]
    contacts = [(sk.partition("#")[2], item) for sk, item in ledgers if sk.startswith("~cont")]
    by_client = {insight: item["reaction"]["reaction"] for insight, item in contacts if "reaction" in item}
    if by_client != dict(by_insight.values()):
        yield "reactions by client differ from those of insights"
    places = Counter(sk.split("#", 2)[2] for sk, _ in ledgers if not sk.startswith("~"))
    if places != {contact: 1 + ("reaction" in item) for contact, item in contacts}:
        yield "contacts and reactions in the order of time differ from the contacts"
    for space_id, sk, item in items.under("insight_rate"):
        real = counted.pop((space_id, sk), Counter())
        stored = {name: value for name, value in item.items() if name not in ("PK", "SK") and value}
        if stored != {name: value for name, value in real.items() if value}:
            yield f"insight_rate {sk} has {stored}, there are {dict(real)}"
    yield from (f"the action {sk} has reactions that are not counted" for _, sk in counted)


def arguments(items: StoredItems) -> Problems:
    """Compares arguments with their lists and with the number of their changes."""
    wanted: set[tuple[str, str]] = set()
    for space_id, sk, item in items.of("argument"):
        status, action = item["review"]["status"], item.get("action_id")
        names = {f"{status}#any"} | ({f"any#{action}", f"{status}#{action}"} if action else set())
        wanted |= {(f"argument_index#{space_id}#{name}", sk) for name in names}
        if status == "waiting_review":
            queue = f"queue#{item['review'].get('assignee') or 'anyone'}"
            wanted.add((f"argument_index#{space_id}#{queue}", item.get("queued_id") or sk))
        changes = len(items.partitions.get(f"argument_change#{space_id}#{sk}", {}))
        if changes != item["version"] - 1:
            yield f"argument {sk} is at version {item['version']} after {changes} changes"
    found = {(item["PK"], sk) for rest, sk, item in items.under("argument_index") if not rest.endswith("#count")}
    yield from (f"{pk} {sk} is missing in the list, or only there" for pk, sk in wanted ^ found)

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.jobs.modelling.automatic_splits import automatic_holdout
from functions.jobs.modelling.splits import choose_holdout, group_draws, held_out_rows, row_draws, validation_folds
from functions.jobs.modelling.targets import label_texts, to_labels, two_labels
from shared.errors import JobFailedError
from shared.models.job import JobFile, JobSplit
from shared.propensity.holdouts import RandomHoldout

FILE = JobFile(bucket="b", key="k", etag="e", size_bytes=1)
labels_of_both = st.lists(st.integers(0, 1), min_size=4, max_size=200).filter(
    lambda rows: 1 < sum(rows) < len(rows) - 1
)


@given(labels_of_both, st.floats(0.05, 0.95), st.integers(0, 2**31 - 1))
def test_a_random_split_holds_out_the_same_share_of_both_classes(rows: list[int], fraction: float, seed: int) -> None:
    labels = np.array(rows, dtype=np.float32)
    draws = row_draws(seed, FILE, len(rows))
    split = JobSplit(kind="random", test_fraction=fraction)
    rule = choose_holdout(split, seed, pl.DataFrame(), draws, labels)

    held_out = held_out_rows(rule, pl.DataFrame(), draws, labels)

    for label in (0, 1):
        count = int((labels == label).sum())
        held = int(held_out[labels == label].sum())
        assert 1 <= held <= count - 1
        assert abs(held - fraction * count) <= 1


def test_the_draws_of_rows_depend_only_on_the_seed_and_the_content() -> None:
    moved = JobFile(bucket="other", key="elsewhere", etag="e", size_bytes=1)
    changed = FILE.model_copy(update={"etag": "f"})

    np.testing.assert_array_equal(row_draws(1, FILE, 50), row_draws(1, moved, 50))
    assert (row_draws(1, FILE, 50) != row_draws(1, changed, 50)).all()
    assert (row_draws(1, FILE, 50) != row_draws(2, FILE, 50)).all()


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60).filter(lambda groups: len(set(groups)) > 1))
def test_a_group_split_keeps_groups_together_and_leaves_no_side_empty(groups: list[str]) -> None:
    frame = pl.DataFrame({"group": groups})
    labels = np.zeros(len(groups), dtype=np.float32)
    rule = choose_holdout(JobSplit(kind="group", column="group"), 3, frame, labels.astype(float), labels)

    held_out = held_out_rows(rule, frame, labels.astype(float), labels)

    assert 0 < held_out.sum() < len(groups)
    held = np.array(groups)
    assert not set(held[held_out]) & set(held[~held_out])


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60).filter(lambda days: len(set(days)) > 1))
def test_a_time_split_holds_out_the_latest_rows_for_all_formats_of_times(days: list[int]) -> None:
    dates = [date(2024, 1, 1) + timedelta(days=day) for day in days]
    labels = np.zeros(len(days), dtype=np.float32)
    masks = []
    for column in (pl.Series(dates), pl.Series([f"{day:%d.%m.%Y}" for day in dates]), pl.Series(days)):
        frame = pl.DataFrame({"day": column})
        rule = choose_holdout(JobSplit(kind="time", column="day"), 0, frame, labels.astype(float), labels)
        masks.append(held_out_rows(rule, frame, labels.astype(float), labels))

    assert 0 < masks[0].sum() < len(days)
    assert max(np.array(days)[~masks[0]]) < min(np.array(days)[masks[0]])
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


@given(labels_of_both, st.integers(2, 5))
def test_folds_contain_every_row_once_and_balance_both_classes(rows: list[int], count: int) -> None:
    labels = np.array(rows, dtype=np.float32)

    folds = validation_folds(count, 0.2, labels, None, 1)

    assert (np.sum(folds, axis=0) == 1).all()
    for label in (0, 1):
        sizes = [int((labels[fold] == label).sum()) for fold in folds]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("positives", [2, 5, 200])
def test_a_small_share_for_validation_is_at_least_a_row_of_each_label(positives: int) -> None:
    labels = np.zeros(400, dtype=np.float32)
    labels[:positives] = 1
    (held,) = validation_folds(1, 0.0001, labels, None, 3)
    assert sorted(labels[held]) == [0, 1]


def test_folds_by_group_keep_groups_together() -> None:
    groups = group_draws(pl.Series([index // 3 for index in range(60)]), 0)

    for fold in validation_folds(4, 0.2, np.zeros(60, dtype=np.float32), groups, 1):
        assert not set(groups[fold]) & set(groups[~fold])


@pytest.mark.parametrize(
    ("counts", "asked", "positive"),
    [
        ({"Yes": 90, "No": 10}, None, "Yes"),
        ({"1": 5, "0": 5}, None, "1"),
        ({"TRUE": 8, "False": 2}, None, "TRUE"),
        ({"good": 3, "bad": 7}, None, "bad"),
        ({"MM": 3, "CH": 7}, None, "MM"),
        ({"a": 5, "b": 5}, None, "b"),
        ({"1": 30, "2": 70}, None, "1"),
        ({"Yes": 90, "No": 10}, "No", "No"),
        ({"1": 30, "2": 70}, " 2 ", "2"),
        ({"True": 30, "False": 70}, "false", "False"),
        ({"1": 30, "0": 70}, "0.0", "0"),
        ({"1.0": 70, "0.0": 30}, None, "1.0"),
        ({"t": 70, "f": 30}, None, "t"),
    ],
)
def test_the_positive_label_follows_a_documented_rule(counts: dict[str, int], asked: str | None, positive: str) -> None:
    chosen, other = two_labels("target", counts, asked)

    assert chosen == positive
    assert {chosen, other} == set(counts)


def test_labels_differ_by_their_canonical_text() -> None:
    assert label_texts(pl.Series([1.0, 0.0, None, float("nan")])).to_list() == ["1", "0", None, None]
    assert label_texts(pl.Series([" none ", "fraud", "", "NA"])).to_list() == ["none", "fraud", None, None]
    assert label_texts(pl.Series([True, False])).to_list() == ["true", "false"]
    assert label_texts(pl.Series(["True", "true", "1", "0", "no"])).to_list() == ["1", "1", "1", "0", "no"]
    assert label_texts(pl.Series(["TRUE", "false"]), ["True", "False"]).to_list() == ["True", "False"]
    assert to_labels(pl.Series(["a", "b"]), "b").tolist() == [0, 1]
    with pytest.raises(JobFailedError, match="List"):
        label_texts(pl.Series([[1], [2]]))


@pytest.mark.row("Y-3")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "time") for name in ("date", "Timestamp", "snapshot_date", "Event Date", "transactionTime", "as_of")),
        *((name, "time") for name in ("trans_date", "loan_date", "issue_d", "snapshot_dt", "txn_ts", "payment_date")),
        *((name, "random") for name in ("birth_date", "joined", "customer_since", "expiry_date", "update", "dates")),
    ],
)
def test_only_a_column_with_the_time_of_an_observation_causes_a_time_split(name: str, kind: str) -> None:
    days = [str(date(2024, 1, 1) + timedelta(days=day)) for day in range(60)]
    assert split_of(pl.DataFrame({name: days})) == (kind, name if kind == "time" else None)


@pytest.mark.row("Y-3")
@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("customer_id", [index // 3 for index in range(60)], "group"),
        ("CustomerID", [f"c{index // 2}" for index in range(60)], "group"),
        *((name, [index // 3 for index in range(60)], "group") for name in ("cust_id", "loan_id", "MSISDN", "acct_no")),
        ("customer_id", list(range(60)), "random"),  # each client has one row
        ("customer_id", [index // 20 for index in range(60)], "random"),  # three groups are too few for clients
        ("product_id", [index // 3 for index in range(60)], "random"),
    ],
)
def test_only_clients_with_several_rows_are_kept_together(name: str, values: list[object], kind: str) -> None:
    assert split_of(pl.DataFrame({name: values})) == (kind, name if kind == "group" else None)


MONTHS = [(2023 + index // 12, index % 12 + 1) for index in range(24)]


@pytest.mark.row("Y-3")
@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("period", [f"{year}-{month:02}" for year, month in MONTHS], "time"),
        ("period", [year * 100 + month for year, month in MONTHS], "time"),
        ("snapshot_dt", [(year * 100 + month) * 100 + 28 for year, month in MONTHS], "time"),
        ("issue_d", [f"{date(year, month, 1):%b-%Y}" for year, month in MONTHS], "time"),
        ("period", list(range(24)), "random"),  # neither months nor days
    ],
)
def test_months_and_compact_days_are_times(name: str, values: list[object], kind: str) -> None:
    frame = pl.DataFrame({name: [each for each in values for _ in range(5)]})
    assert split_of(frame) == (kind, name if kind == "time" else None)


@pytest.mark.row("Y-3")
@pytest.mark.parametrize(
    "columns",
    [
        {"date": ["2024-01-01"] * 30 + ["2024-02-01"] * 970},
        {"customer_id": [index if index < 40 else 0 for index in range(1000)]},
    ],
)
def test_an_automatic_split_holds_out_about_what_was_asked_for(columns: dict[str, list[object]]) -> None:
    frame = pl.DataFrame(columns)
    labels = np.array([index % 2 for index in range(1000)], dtype=np.float32)
    for seed in range(3):
        draws = row_draws(seed, FILE, 1000)
        holdout, reason = automatic_holdout(0.2, seed, frame, draws, labels)
        assert 0.1 <= held_out_rows(holdout, frame, draws, labels).mean() <= 0.4
        assert "test_fraction" in reason


def test_a_giant_group_does_not_decide_the_size_of_the_holdout() -> None:
    clients = [0] * 300 + [1 + index // 2 for index in range(700)]
    frame = pl.DataFrame({"customer_id": clients})
    labels = np.array([index % 2 for index in range(1000)], dtype=np.float32)
    for seed in range(8):
        draws = row_draws(seed, FILE, 1000)
        holdout, _ = automatic_holdout(0.2, seed, frame, draws, labels)
        assert holdout.kind == "group"
        assert 0.1 <= held_out_rows(holdout, frame, draws, labels).mean() <= 0.4


def split_of(frame: pl.DataFrame) -> tuple[str, str | None]:
    labels = np.array([index % 2 for index in range(frame.height)], dtype=np.float32)
    holdout, _ = automatic_holdout(0.2, 1, frame, row_draws(1, FILE, frame.height), labels)
    return holdout.kind, None if isinstance(holdout, RandomHoldout) else holdout.column

"""Previews: the first rows of a file, as given options read them."""

import gzip
import io
from typing import Any

import polars as pl
import pytest

from functions.connectors import preview
from shared.connectors.storage import ConnectorStorage, FileVersion
from tests.fixtures.connectors import CSV, Lab
from tests.functional.connectors.helpers import KEYS

DATES = b"id;day;note\n1;01/02/2024;a\n2;03/04/2024;b\n"
LINES = b"id,text\n" + b"".join(b'%d,"%s"\n' % (number, b"x" * 80) for number in range(110_000))


def ask(lab: Lab, connector_id: str, file: str = "a.csv", **body: Any) -> Any:
    return lab.client.post(f"/connectors/{connector_id}/preview", json={"file": file, **body})


def shown(lab: Lab, content: bytes, file: str = "a.csv", **body: Any) -> dict[str, Any]:
    """Returns the preview of a file of a new connector."""
    connector_id = lab.connector()
    lab.put(connector_id, file, content)
    response = ask(lab, connector_id, file, **body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.row("FL-11")
def test_a_file_that_was_not_scanned_yet_shows_its_rows_columns_and_doubts(lab: Lab) -> None:
    found = shown(lab, DATES, rows=1)
    assert {**found, "encoding": "", "warnings": []} == {
        "format": "csv",
        "encoding": "",
        "dialect": {"delimiter": ";", "quote": '"', "escape": None, "header_line": 1, "certainty": 1.0},
        "columns": [
            {"name": "id", "type": "int", "formats": []},
            {"name": "day", "type": "string", "formats": ["%d/%m/%Y", "%m/%d/%Y"]},
            {"name": "note", "type": "string", "formats": []},
        ],
        "rows": [[1, "01/02/2024", "a"]],
        "warnings": [],
        "warning_count": 1,
        "affected_rows": 0,
        "is_partial": False,
    }
    assert [(warning["code"], warning["column"]) for warning in found["warnings"]] == [("date_format", "day")]


@pytest.mark.row("FL-11")
def test_a_preview_tries_options_over_those_of_the_connector_and_the_file(lab: Lab) -> None:
    connector_id = lab.connector(read_options={"date_format": "%d/%m/%Y", "types": {"id": "float"}})
    lab.put(connector_id, "a.csv", DATES)
    assert ask(lab, connector_id).json()["rows"][0] == [1.0, "2024-02-01", "a"]
    upload = {"files": ["a.csv"], "read_options": {"a.csv": {"types": {"id": "string"}}}}
    lab.client.post(f"/connectors/{connector_id}/uploads", json=upload)
    assert ask(lab, connector_id).json()["rows"][0] == ["1", "2024-02-01", "a"]
    tried = ask(lab, connector_id, read_options={"date_format": "%m/%d/%Y"}).json()
    assert tried["rows"][0] == ["1", "2024-01-02", "a"]
    assert ask(lab, connector_id).json()["rows"][0] == ["1", "2024-02-01", "a"], "what is tried is not stored"
    assert lab.running(connector_id) is None


@pytest.mark.row("FL-2", "FL-11")
def test_a_preview_and_a_scan_read_as_many_odd_rows_as_the_owner_allows(lab: Lab) -> None:
    connector_id = lab.connector()
    lab.deliver(lab.put(connector_id, "a.csv", b"id,note\n" + b"1,x\n" * 80 + b"1,x,y\n" * 20))
    lab.work(connector_id)
    entry, refused = lab.catalog(connector_id)["a.csv"], ask(lab, connector_id)
    assert (entry["status"], refused.status_code) == ("error", 400)
    assert entry["error"] == refused.json()["error"]
    assert "max_affected_share" in entry["error"]
    tried = ask(lab, connector_id, read_options={"max_affected_share": 0.2}).json()
    assert (tried["affected_rows"], tried["warning_count"], tried["warnings"][0]["line"]) == (20, 20, 82)

    lab.client.put(f"/connectors/{connector_id}", json={"read_options": {"max_affected_share": 0.2}})
    lab.work(connector_id)
    entry = lab.catalog(connector_id)["a.csv"]
    assert (entry["status"], entry["rows"], entry["affected_rows"]) == ("scanned", 80, 20)
    stricter = {"read_options": {"max_affected_share": 0.1}}
    lab.client.patch(f"/connectors/{connector_id}/catalog/a.csv", json=stricter)
    lab.work(connector_id)
    assert lab.catalog(connector_id)["a.csv"]["status"] == "error"


@pytest.mark.row("FL-11")
def test_values_are_numbers_booleans_texts_or_nothing(lab: Lab) -> None:
    rows = b'{"n": 1, "x": 1.5, "b": true, "t": "%s", "d": "2024-02-01", "m": "2024-02-01T10:00:00Z", "e": null}\n'
    found = shown(lab, rows % (b"y" * 300), "a.jsonl")
    assert found["format"] == "jsonl"
    assert found["rows"] == [[1, 1.5, True, "y" * 200, "2024-02-01", "2024-02-01T10:00:00Z", None]]
    assert [column["type"] for column in found["columns"]] == [
        "int",
        "float",
        "boolean",
        "string",
        "date",
        "datetime",
        "string",
    ]


@pytest.mark.row("FL-11")
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_of_a_long_text_only_the_whole_lines_of_the_beginning_are_read(lab: Lab, pack: Any) -> None:
    found = shown(lab, pack(LINES), rows=100)
    assert found["is_partial"] is True
    assert found["warning_count"] == 0
    assert [row[0] for row in found["rows"]] == list(range(100))
    assert {len(row[1]) for row in found["rows"]} == {80}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32-le", "cp1252"])
def test_a_long_text_is_cut_after_a_line_in_every_encoding(encoding: str) -> None:
    text = "id,name\n" + "1,Ċ\n" * 100 if encoding.startswith("utf") else "id,name\n" + "1,é\n" * 100
    content = text.encode(encoding)
    for size in range(len(content) - 20, len(content)):
        whole = preview.whole_lines(content[:size], b'"').decode(encoding)
        assert text.startswith(whole)
        assert whole.endswith("\n")
        assert len(whole) >= len(text) - 30


def test_a_long_text_is_not_cut_within_quotes_unless_quotes_are_not_balanced_at_all() -> None:
    rows = b'id,text\n1,"one\nline"\n2,"two\nlines"\n'
    assert preview.whole_lines(rows[:-3], b'"') == b'id,text\n1,"one\nline"\n'
    assert preview.whole_lines(rows[:-3], b"") == b'id,text\n1,"one\nline"\n2,"two\n'
    stray = b'id,text\n1,5" pipe\n' + b"2,hose\n" * 50
    assert preview.whole_lines(stray + b"3,", b'"') == stray
    assert preview.whole_lines(b"one line", b'"') == b"one line"
    assert preview.whole_lines(b"a\r1\r2", b'"') == b"a\r1\r"


def parquet(rows: int) -> bytes:
    target = io.BytesIO()
    pl.DataFrame(
        {"id": range(rows), "text": [f"{number * 7919 % 1_000_003:>20}" for number in range(rows)]}
    ).write_parquet(target, compression="uncompressed")
    return target.getvalue()


@pytest.mark.row("FL-11")
def test_parquet_is_read_whole_up_to_a_limit_that_the_refusal_names(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet(300_000)
    assert len(content) > preview.TEXT_BYTES
    found = shown(lab, content, "a.parquet", rows=2)
    assert (found["format"], found["is_partial"], found["dialect"]) == ("parquet", False, None)
    assert [row[0] for row in found["rows"]] == [0, 1]
    monkeypatch.setattr(preview, "PARQUET_BYTES", len(content) - 1)
    connector_id = lab.connector()
    lab.put(connector_id, "a.parquet", content)
    refused = ask(lab, connector_id, "a.parquet")
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (400, "body.file")
    assert "a preview reads at most" in refused.json()["error"]


@pytest.mark.row("FL-11")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "The file is empty"),
        (gzip.compress(CSV, mtime=0)[:-4], "The gzip file is damaged or cut off"),
        (b"\x1f\x8b" + bytes(30), "The gzip file is damaged or cut off"),
        (b"PAR1" + bytes(30) + b"PAR1", "The Parquet file"),
        (b",".join(b"c%d" % number for number in range(5_001)) + b"\n", "The file has 5,001 columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_readers_words(lab: Lab, content: bytes, reason: str) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv", content)
    refused = ask(lab, connector_id)
    assert (refused.status_code, refused.json()["code"]) == (400, "validation_error")
    assert refused.json()["error"].startswith(reason)


@pytest.mark.row("FL-11")
def test_there_is_no_preview_of_a_missing_file_or_a_wrong_request(lab: Lab) -> None:
    connector_id = lab.connector()
    missing = ask(lab, connector_id, "b.csv")
    assert (missing.status_code, "b.csv" in missing.json()["error"]) == (404, True)
    for body in ({"rows": 0}, {"rows": 101}, {"read_options": {"encoding": "morse"}}, {"file": "../a.csv"}):
        assert ask(lab, connector_id, **body).status_code == 400, body


def test_a_file_that_changes_while_it_is_read_is_a_409(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connector_id = lab.connector()
    lab.put(connector_id, "a.csv")
    head = ConnectorStorage.head

    def head_of_the_old_content(storage: ConnectorStorage, file: str) -> FileVersion:
        found = head(storage, file)
        lab.put(connector_id, "a.csv", CSV + b"3,4\n")
        return found

    monkeypatch.setattr(ConnectorStorage, "head", head_of_the_old_content)
    assert ask(lab, connector_id).status_code == 409


def test_files_of_an_own_bucket_have_previews_too(lab: Lab, customer_bucket: Any) -> None:
    customer_bucket.put_object(Bucket="customer", Key="in/a.csv", Body=CSV)
    connector_id = lab.connector(s3=KEYS)
    assert ask(lab, connector_id).json()["rows"] == [[1, 10.0], [2, 1.5]]


def test_a_wide_table_shows_its_first_columns_and_as_many_rows_as_a_response_holds(lab: Lab) -> None:
    row = ",".join(["x" * 200] * 1_100) + "\n"
    content = ",".join(f"c{number}" for number in range(1_100)) + "\n" + row * 18
    found = shown(lab, content.encode())
    assert len(found["columns"]) == 1_000
    assert [len(row) for row in found["rows"]] == [1_000] * 15

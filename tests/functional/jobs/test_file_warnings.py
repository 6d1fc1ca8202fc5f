"""Warnings of the readers: they are in the notes of a training and of an evaluation, and too many odd rows end it."""

import threading

import pytest

from functions.jobs.train.job import train
from shared.errors import JobFailedError
from shared.files.notes import ReadNotes
from shared.models.reading import ReadOptions, WarningCode
from shared.propensity.checkpoints import StoredCheckpoint, read_checkpoint
from tests.functional.jobs.conftest import Box, Cloud, NotedByReader, training
from tests.functional.jobs.test_evaluate import evaluation, run
from tests.functional.jobs.test_train import customers

pytestmark = pytest.mark.row("FL-9")


def warn(notes: ReadNotes, rows: int, count: int = 1) -> None:
    """Notes what a reader notes about a file of 400 rows."""
    notes.warn(WarningCode.ENCODING, "It is read as cp1252.")
    for line in range(count):
        message = f"Line {line + 2} has 9 fields instead of 8 and was left out."
        notes.warn(WarningCode.ROW_LEFT_OUT, message, line=line + 2, rows=rows if line == 0 else 0)


def train_on(box: Box, cloud: Cloud, *names: str) -> StoredCheckpoint:
    files = [cloud.put_frame(name, customers(seed=index)) for index, name in enumerate(names)]
    train(training(files), box.container, threading.Event(), cloud.client)
    return read_checkpoint(box.container.model_folder)


def test_notes_of_a_training_and_an_evaluation_hold_the_first_warnings_of_each_file(
    box: Box, cloud: Cloud, noted: NotedByReader
) -> None:
    noted.warnings["a.csv"] = lambda notes: warn(notes, rows=4, count=1234)
    noted.warnings["b.csv"] = lambda notes: warn(notes, rows=0)

    notes = train_on(box, cloud, "a.csv", "b.csv").notes
    box.use_trained_model()
    found = run(evaluation([cloud.put_frame("b.csv", customers(seed=7))]), box).warnings

    assert [note for note in notes if note.startswith("a.csv: ")] == [
        "a.csv: It is read as cp1252.",
        *(f"a.csv: Line {line} has 9 fields instead of 8 and was left out." for line in range(2, 21)),
        "a.csv: 1,215 more warnings",
    ]
    assert (
        found
        == [note for note in notes if note.startswith("b.csv: ")]
        == ["b.csv: It is read as cp1252.", "b.csv: Line 2 has 9 fields instead of 8 and was left out."]
    )


def damaged(seed: int) -> bytes:
    """Returns 400 customers, of whom 32 have a field too many."""
    header, *rows = customers(seed=seed).write_csv().splitlines()
    return "\n".join(
        [header, *(row + ",x" * (place % 12 == 5 and place < 384) for place, row in enumerate(rows))]
    ).encode()


@pytest.mark.row("FL-2")
def test_a_job_reads_a_file_with_as_many_damaged_rows_as_its_owner_allows(box: Box, cloud: Cloud) -> None:
    damage = "Line 7 has 9 fields where the header has 8"
    file, other = cloud.put("a.csv", damaged(seed=1)), cloud.put("b.csv", damaged(seed=2))
    with pytest.raises(JobFailedError, match=f"'a.csv' cannot be read: {damage}.*max_affected_share"):
        train(training([file]), box.container, threading.Event(), cloud.client)
    assert not list(box.container.model_folder.iterdir())

    file.read_options = ReadOptions(max_affected_share=0.08)
    train(training([file]), box.container, threading.Event(), cloud.client)
    checkpoint = read_checkpoint(box.container.model_folder)
    assert checkpoint.trained_rows + checkpoint.measurement.rows == 368
    assert "a.csv: 12 more warnings" in checkpoint.notes

    box.use_trained_model()
    with pytest.raises(JobFailedError, match=f"'b.csv' cannot be read: {damage}"):
        run(evaluation([other]), box)
    other.read_options = ReadOptions(max_affected_share=0.08)
    assert run(evaluation([other]), box).measurement.rows == 368


def test_the_read_options_of_a_file_are_given_to_its_reader(box: Box, cloud: Cloud, noted: NotedByReader) -> None:
    options = ReadOptions(encoding="cp1252")
    files = [cloud.put_frame(name, customers()) for name in ("a.csv", "b.csv")]
    files[0].read_options = options

    train(training(files), box.container, threading.Event(), cloud.client)

    assert noted.options == {"a.csv": options, "b.csv": ReadOptions()}

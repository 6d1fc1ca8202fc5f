"""Warnings of the readers: they are in the notes of a training and of an evaluation, and too many of them end it."""

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


def test_a_file_with_many_damaged_rows_fails_the_training_with_the_reason(
    box: Box, cloud: Cloud, noted: NotedByReader
) -> None:
    noted.warnings["b.csv"] = lambda notes: warn(notes, rows=5)

    with pytest.raises(JobFailedError) as caught:
        train_on(box, cloud, "a.csv", "b.csv")

    assert str(caught.value) == (
        "Of the file 'b.csv', 5 rows were left out or repaired, and 400 could be read. The first warning: Line 2 has 9 "
        "fields instead of 8 and was left out. Correct the file, or state in its read options how it is written, and "
        "train again."
    )
    assert not list(box.container.model_folder.iterdir())


def test_the_read_options_of_a_file_are_given_to_its_reader(box: Box, cloud: Cloud, noted: NotedByReader) -> None:
    options = ReadOptions(encoding="cp1252")
    files = [cloud.put_frame(name, customers()) for name in ("a.csv", "b.csv")]
    files[0].read_options = options

    train(training(files), box.container, threading.Event(), cloud.client)

    assert noted.options == {"a.csv": options, "b.csv": ReadOptions()}

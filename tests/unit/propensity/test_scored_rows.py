import io

import numpy as np
import pytest

from shared.propensity.errors import CheckpointError
from shared.propensity.scored_rows import _ROW, read_scores


def header(shape: tuple[int, ...], descr: object = None) -> bytes:
    """Returns the beginning of a file that promises rows."""
    file = io.BytesIO()
    found = {"descr": descr or np.lib.format.dtype_to_descr(_ROW), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, found)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + b"no archive" * 10,
        header((10**13,)),
        header((2,)) + bytes(_ROW.itemsize),
        header((1, 1)) + bytes(_ROW.itemsize),
        header((1,), "|O") + b"cos\nsystem\n(S'true'\ntR.",
    ],
    ids=["nothing", "an archive", "more than there is", "cut off", "a table", "a pickle"],
)
def test_a_damaged_file_of_scores_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match="is damaged"):
        read_scores(content)

"""The counter for what is counted: its smallest room, and one of a given room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlpipe.counting.counted import Counter
from mlpipe.counting.keys import is_narrow
from mlpipe.stages.subjects import Subject

TABLE_BYTES = 4 << 20
"""For putting a table in order, at least: pieces of it, and 1 MiB that sorting takes in any case."""

PIECE_BYTES = 8 << 20
"""For pieces of rows that are wide."""

TALLY_KERNELS = 64 << 20
"""What compiling the kernels takes that count numbers, besides what every plan counts (measured: 50 MiB)."""

RECORD_KERNELS = 72 << 20
"""The same for those that count rows, pairs, strings, and values by label (measured: 58 MiB)."""

TEXT_KERNELS = 76 << 20
"""The same for those that count lines or words (measured: 64 MiB)."""


def least_room(subject: Subject, threads: int) -> int:
    """Bytes without which a counter does not work."""
    from mlpipe.counting.records import Field, RecordTally
    from mlpipe.counting.tally import Tally

    if subject.single and subject.value.kind not in "SU":
        return Tally.least(subject.value, threads)
    return RecordTally.least([Field(one.dtype, one.row_shape) for one in subject.fields], threads)


def kernel_bytes(subjects: Sequence[Subject], weighted: bool) -> int:
    """Bytes that compiling takes, where no run before has done that."""
    if not all(one.single and one.value.kind not in "SU" for one in subjects):
        return RECORD_KERNELS
    return TALLY_KERNELS if weighted or not all(is_narrow(one.value) for one in subjects) else 0


def least_table(subjects: Sequence[Subject]) -> int:
    """Bytes without which a table is not put in order."""
    widest = max(one.key_bytes for one in subjects)
    return TABLE_BYTES + min(PIECE_BYTES, widest << 16) + 8 * widest


def make_counter(
    subject: Subject, room: int, threads: int, directory: str, rows: int | None, weights: np.dtype[Any] | None
) -> Counter:
    """A counter of the keys of a subject.

    Parameters
    ----------
    subject : Subject
        What is counted.
    room : int
        Bytes it may hold.
    threads : int
        That fill it.
    directory : str
        For temporary files.
    rows : int or None
        Rows that will come, at most, if known.
    weights : numpy.dtype or None
        Of weights, if there are any.
    """
    from mlpipe.counting.records import Field, RecordTally
    from mlpipe.counting.tally import Tally

    keys = None if rows is None else rows * subject.keys_of_row
    if subject.single and subject.value.kind not in "SU":
        return Tally(subject.value, room=room, threads=threads, directory=directory, rows=keys, weights=weights)
    fields = [Field(one.dtype, one.row_shape) for one in subject.fields]
    return RecordTally(fields, room=room, threads=threads, directory=directory, weights=weights)

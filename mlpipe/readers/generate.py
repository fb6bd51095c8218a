"""``generate``: rows that are made up, for trials and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import UsageError
from mlpipe.kernels import randoms
from mlpipe.keys import key
from mlpipe.link import Array, Labels, Source, Spec
from mlpipe.npy_format import MAX_ARRAY_BYTES
from mlpipe.opening import Opening
from mlpipe.readers.closing import Closing
from mlpipe.readers.raw import parse_dtype

KINDS = ("normal", "uniform", "integers", "zipf")
WHOLE = ("integers", "zipf")

SCRATCH_BYTES = 1 << 20
"""Of drawn words or numbers, before they take their dtype."""

MOST_RANKS = 1 << 20
"""Of Zipf's law, which takes a table of 8 bytes each."""


@dataclass(frozen=True)
class Generate:
    """Made-up rows: normal, uniform, integers or zipf.

    Normals have mean 0 and variance 1; uniform numbers are from 0 up to, not including, 1; integers from 0 on, all
    equally likely; zipf are integers of which the k-th, counted from 1, has a probability in proportion to 1/k.
    A value depends on the seed, its row and its column only.

    Example: mlpipe run generate --rows 1000 --columns 16 --kind normal --classes 10 then nothing
    """

    rows: int = option(help="How many.", metavar="N")
    columns: int = option(help="Values of a row.", metavar="D")
    kind: Literal["normal", "uniform", "integers", "zipf"] = option("normal", help="What is drawn.")
    seed: int = option(0, help="Another seed, other values.", metavar="N")
    dtype: str | None = option(None, help="Of the values; by default float32, and int64 for integers.", metavar="T")
    distinct: int = option(1000, help="Number of different integers.", metavar="N")
    classes: int | None = option(None, help="Add labels from 0 on, of so many classes.", metavar="K")

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise UsageError(f"generate --rows {self.rows}: give 0 or more")
        if self.columns < 1:
            raise UsageError(f"generate --columns {self.columns}: give 1 or more")
        if self.kind not in KINDS:
            raise UsageError(f"generate --kind {self.kind}: give one of {', '.join(KINDS)}")
        if self.classes is not None and not 1 <= self.classes <= 2**32:
            raise UsageError(f"generate --classes {self.classes}: give 1 to {2**32}")
        most = MOST_RANKS if self.kind == "zipf" else 2**32
        if not 1 <= self.distinct <= most:
            raise UsageError(f"generate --distinct {self.distinct}: give 1 to {most} for {self.kind}")
        dtype = self._dtype()
        if self.rows * self.columns * dtype.itemsize > MAX_ARRAY_BYTES:
            raise UsageError(f"generate --rows {self.rows} --columns {self.columns}: more than any file can hold")
        if self.kind not in WHOLE and dtype.kind != "f":
            raise UsageError(f"generate --dtype {self.dtype}: {self.kind} numbers are float16, float32 or float64")
        if self.kind in WHOLE and self.distinct - 1 > _largest(dtype):
            raise UsageError(f"generate --dtype {self.dtype}: does not hold {self.distinct} integers; see --distinct")

    def open(self, opening: Opening) -> Source:
        """Nothing is opened."""
        dtype = self._dtype()
        return GeneratedSource(self.rows, self.columns, self.kind, self.seed, dtype, self.distinct, self.classes)

    def _dtype(self) -> np.dtype[Any]:
        default = "int64" if self.kind in WHOLE else "float32"
        return parse_dtype(self.dtype or default, "generate --dtype").newbyteorder("=")


def _largest(dtype: np.dtype[Any]) -> int:
    """Up to where a dtype holds every whole number; -1 if it is not for numbers like that."""
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).max)
    return 2 ** (np.finfo(dtype).nmant + 1) if dtype.kind == "f" else -1


class GeneratedSource(Closing):
    """Rows that are made up when asked for.

    Parameters
    ----------
    rows, columns : int
        How many.
    kind : str
        What is drawn.
    seed : int
        Another seed, other values.
    dtype : numpy.dtype
        Of the values.
    distinct : int
        Number of different integers.
    classes : int, optional
        Number of labels, if rows have them: int64.

    Examples
    --------
    >>> source = GeneratedSource(100, 3, "integers", 7, np.dtype("i8"), 10)
    >>> all_rows, one = np.empty((100, 3), "i8"), np.empty((1, 3), "i8")
    >>> source.read_rows(0, all_rows)
    >>> source.read_rows(42, one)
    >>> bool((all_rows[42] == one[0]).all())
    True
    """

    seekable = True

    def __init__(
        self,
        rows: int,
        columns: int,
        kind: str,
        seed: int,
        dtype: np.dtype[Any],
        distinct: int = 1000,
        classes: int | None = None,
    ) -> None:
        self.name = f"generate {kind}"
        labels = None if classes is None else Labels((), np.dtype(np.int64))
        self.spec = Spec(rows, (columns,), dtype, labels)
        self._kind, self._distinct, self._classes = kind, distinct, classes
        self._key, self._label_key = key(seed, 0, f"generate {kind}"), key(seed, 0, "generate labels")
        # Zipf's law with exponent 1, up to where each rank ends; divisions and sums round alike everywhere.
        self._ranks = np.cumsum(1.0 / np.arange(1, distinct + 1)) if kind == "zipf" else None

    def read_rows(self, start: int, out: Array) -> None:
        """Fill `out` with rows from `start` on, converted to its dtype."""
        if not 0 <= start <= start + len(out) <= (self.spec.rows or 0):
            raise IndexError(f"rows {start} to {start + len(out)} of {self.spec.rows}")
        columns = self.spec.row_shape[0]
        count = max(1, SCRATCH_BYTES // (8 * columns))
        for first in range(0, len(out), count):
            target = out[first : first + count]
            values = self._draw(start + first, (len(target), columns))
            np.copyto(target, values, casting="unsafe")

    def read_labelled(self, start: int, out: Array, labels: Array) -> None:
        """Fill `out` and `labels`."""
        self.read_rows(start, out)
        for first in range(0, len(labels), SCRATCH_BYTES // 8):
            target = labels[first : first + SCRATCH_BYTES // 8]
            words = np.empty((len(target), 1), np.uint64)
            randoms.words(self._label_key, start + first, words)
            np.copyto(target, words[:, 0] % np.uint64(self._classes or 1), casting="unsafe")

    def check_unchanged(self) -> None:
        """Nothing to check."""

    def close(self) -> None:
        """Nothing to close."""

    def _draw(self, start: int, shape: tuple[int, int]) -> Array:
        """Values of whole rows, before they take their dtype."""
        if self._kind == "integers":
            words = np.empty(shape, np.uint64)
            randoms.words(self._key, start, words)
            return words % np.uint64(self._distinct)
        values = np.empty(shape, np.float64)
        if self._kind == "normal":
            randoms.normal(self._key, start, values)
            return values
        randoms.uniform(self._key, start, values)
        if self._ranks is not None:
            found = np.searchsorted(self._ranks, values * self._ranks[-1], side="right")
            ranks: Array = np.minimum(found, self._distinct - 1)
            return ranks
        bits = np.finfo(self.spec.dtype).nmant + 1
        if bits < 53:  # rounded down, for 1 is not among them
            np.floor(np.ldexp(values, bits, out=values), out=values)
            np.ldexp(values, -bits, out=values)
        return values

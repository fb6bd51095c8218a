"""Which rows are in a sample: those whose place in a keyed order of all 64-bit numbers is near enough to the front."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from mlpipe.kernels.order import CHUNK, ROUNDS, choose, count_chosen, ranks
from mlpipe.keys import key
from mlpipe.link import Array

RANKS = 1 << 64
_PIECE = 1 << 16
_BUCKET_BITS = np.uint64(48)


def rank_key(seed: int) -> Array:
    """Key of the order in which rows are sampled."""
    return key(seed, 0, "sample", words=ROUNDS)


def rank_rows(words: Array, start: int, stop: int) -> Array:
    """Rank of each row, start … stop: uint64, all different."""
    out = np.empty(stop - start, np.uint64)
    ranks(words, start, out)
    return out


def fraction_ranks(fraction: float) -> int:
    """How many of the 2⁶⁴ ranks are in a sample of a fraction.

    Examples
    --------
    >>> fraction_ranks(0.25) == 2**62
    True
    """
    return round(Fraction(fraction) * RANKS)


def count_ranks(words: Array, rows: int, total: int) -> int:
    """How many of the 2⁶⁴ ranks are in a sample of exactly so many of `total` rows.

    The rank of the last row in the sample is found in two passes over all ranks: counts by their upper bits, then
    the few that share those of the one that is looked for.
    """
    if rows >= total:
        return RANKS
    if rows == 0:
        return 0
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, total, _PIECE):
        found = rank_rows(words, start, min(total, start + _PIECE)) >> _BUCKET_BITS
        counts += np.bincount(found.astype(np.int64), minlength=len(counts))
    ends = np.cumsum(counts)
    bucket = int(np.searchsorted(ends, rows))
    before = int(ends[bucket] - counts[bucket])
    parts = []
    for start in range(0, total, _PIECE):
        found = rank_rows(words, start, min(total, start + _PIECE))
        parts.append(found[found >> _BUCKET_BITS == np.uint64(bucket)])
    return int(np.sort(np.concatenate(parts))[rows - before - 1]) + 1


def chosen(words: Array, limit: int, start: int, stop: int) -> Array:
    """Whether each row, start … stop, is among those with a rank below the limit."""
    if limit == 0:
        return np.zeros(stop - start, np.bool_)
    found: Array = rank_rows(words, start, stop) <= np.uint64(limit - 1)
    return found


class Sampling:
    """A sample of rows of which the number is known: how many there are, and which is the n-th.

    What is held is one number for each `CHUNK` rows; a row is looked up by ranking those of its chunk anew.

    Parameters
    ----------
    words : ndarray of uint64
        From `rank_key`.
    limit : int
        Rows with a lower rank are in the sample.
    total : int
        Rows to choose from.

    Examples
    --------
    >>> words = rank_key(7)
    >>> sampling = Sampling(words, count_ranks(words, 3, 100), 100)
    >>> sampling.count, len(set(sampling.rows_at(np.arange(3)).tolist()))
    (3, 3)
    """

    def __init__(self, words: Array, limit: int, total: int) -> None:
        self._words, self._last, self._total = words, np.uint64(max(0, limit - 1)), total
        counts = np.zeros(-(-total // CHUNK) + 1, np.int64)
        if limit:
            count_chosen(words, total, self._last, counts[1:])
        self._starts = np.cumsum(counts)

    @property
    def count(self) -> int:
        """Rows in the sample."""
        return int(self._starts[-1])

    def rows_at(self, positions: Array) -> Array:
        """The rows at some positions of the sample, both int64."""
        out = np.empty(len(positions), np.int64)
        if len(out):
            choose(self._words, self._total, self._last, self._starts, positions, out)
        return out

"""Estimates in little memory, with their errors: how many distinct values, which are frequent, quantiles.

The sketches are those of Apache DataSketches, by its Python package. It takes most values one by one, so repeated ones
are kept from it where that changes nothing. Everything here depends on the values and their order alone, not on blocks;
but for quantiles, whose sketch throws coins of its own.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlpipe.counting.columns import Column, Text
from mlpipe.counting.counted import Entries
from mlpipe.counting.sketch_keys import CHUNK as CHUNK
from mlpipe.counting.sketch_keys import NAN, decoded, keys_of, numbers_only, strings_of, values_of
from mlpipe.errors import UsageError
from mlpipe.kernels import sketches as kernels
from mlpipe.link import Array
from mlpipe.workers import Workers

SIGMAS = 2
"""Bounds of the number of distinct values hold in 95 of 100 cases."""

LG_DISTINCT = 14
"""2¹⁴ registers: within 1.7 % in 95 of 100 cases."""

LG_FREQUENT = 14
"""Of the table of frequent values, of which three quarters are used."""

K_QUANTILES = 2048
"""A rank error of 0.14 %, with 99 % confidence."""

DISTINCT_BYTES = (2 << LG_DISTINCT) + (8 << kernels.TABLE_BITS) + 48 * CHUNK
"""What one sketch of distinct values holds at most, what it is fed with included."""

FREQUENT_GROUP = 1 << 18
"""Numbers counted exactly before a sketch takes them: counted from the first one, so that blocks do not show."""

STRINGS_GROUP = 1 << 16
"""Strings, likewise."""

FREQUENT_BYTES = 64 * FREQUENT_GROUP + (256 << LG_FREQUENT)
QUANTILE_BYTES = 32 * K_QUANTILES + 16 * CHUNK


class Estimate(NamedTuple):
    """A number, and between which bounds the true one is in 95 of 100 cases."""

    value: float
    low: float
    high: float


class DistinctSketch:
    """Estimates the number of distinct values, by HyperLogLog; the same for any order and any blocks.

    All NaN are one value, and -0.0 equals 0.0.

    Parameters
    ----------
    lg_k : int
        Binary logarithm of the number of registers, 7 to 21; a larger one makes the error smaller, by half for two.

    Raises
    ------
    UsageError
        When the package is not installed.

    Examples
    --------
    >>> sketch = DistinctSketch()
    >>> sketch.add(np.array([3, 1, 3, 3]))
    >>> round(sketch.estimate().value)
    2
    """

    def __init__(self, lg_k: int = LG_DISTINCT) -> None:
        if not 7 <= lg_k <= 21:
            raise UsageError(f"a sketch has 2^7 to 2^21 registers, not 2^{lg_k}")
        self._library, self._lg_k = library(), lg_k
        self._sketch = self._library.hll_sketch(lg_k, self._library.tgt_hll_type.HLL_8)
        self._table = np.empty(1 << kernels.TABLE_BITS, np.uint64)
        kernels.prepare(self._table)

    def add(self, values: Column) -> None:
        """Take in values: numbers of any shape, strings or text."""
        if isinstance(values, Text) or values.dtype.kind in "SU":
            for strings in strings_of(values):
                # An empty string would be passed over, so each gets a character more.
                _feed(self._sketch.update, ["=" + string for string in dict.fromkeys(strings)])
            return
        found = np.empty(CHUNK + 1, np.uint64)
        for keys in keys_of(values):
            fresh = found[: kernels.not_lately(keys, self._table, found)]
            _feed(self._sketch.update, fresh.view(np.int64).tolist())

    def merge(self, other: DistinctSketch) -> None:
        """Take in what another one saw."""
        union = self._union()
        union.update(other._sketch)
        self._sketch = union.get_result(self._library.tgt_hll_type.HLL_8)

    def estimate(self) -> Estimate:
        """Number of distinct values."""
        union = self._union()
        return Estimate(union.get_estimate(), union.get_lower_bound(SIGMAS), union.get_upper_bound(SIGMAS))

    def _union(self) -> Any:
        """The sketch twice: a union estimates by registers alone, and not by the order in which they were filled."""
        union = self._library.hll_union(self._lg_k)
        union.update(self._sketch)
        union.update(self._sketch)
        return union


@dataclass(frozen=True, eq=False)
class Frequent:
    """A table of frequent values, with estimates of how often they occur.

    Parameters
    ----------
    values : ndarray or Text
        Ascending.
    counts : ndarray of int64
        Estimates; never too low, and at most `error` too high.
    low : ndarray of int64
        How often each occurs at least.
    error : int
        How far an estimate may be too high. All values that occur more often than this are in the table.
    total : int
        Number of all values.
    missing : int
        How many of them are NaN.
    """

    values: Column
    counts: Array
    low: Array
    error: int
    total: int
    missing: int
    method: str = "sketch"
    spilled_bytes: int = 0

    @property
    def distinct(self) -> int:
        """Rows of the table."""
        return len(self.counts)

    @property
    def why(self) -> str:
        """How good it is."""
        if not self.error:
            return "so few distinct values that counts are exact"
        return f"counts are at most {self.error} too high; values that occur more often than that are all there"

    def by_value(self) -> Iterator[Entries]:
        """The table, in one piece."""
        if self.distinct:
            yield Entries((self.values,), self.counts)

    def close(self) -> None:
        """Nothing is left behind."""


class FrequentSketch:
    """Finds frequent values and estimates how often they occur, by a sketch of Misra and Gries.

    Groups of values are counted exactly first. Of a group with more distinct values than the sketch has room for, only
    the most frequent go on, all by the same number less, which is added to the error (Agarwal et al., Mergeable
    summaries, 2012).

    Parameters
    ----------
    dtype : numpy.dtype or None
        Of the values; None for `Text`.
    lg_size : int
        Binary logarithm of the size of its table, 3 to 26. The error is at most 3.5 / 2^lg_size of all values, and 4/3
        / 2^lg_size for what is left out before.

    Raises
    ------
    UsageError
        When the package is not installed.

    Examples
    --------
    >>> sketch = FrequentSketch(np.dtype("i8"))
    >>> sketch.add(np.array([3, 1, 3, 3]))
    >>> table = sketch.finish()
    >>> table.values.tolist(), table.counts.tolist(), table.error
    ([1, 3], [1, 3], 0)
    """

    def __init__(self, dtype: np.dtype[Any] | None, lg_size: int = LG_FREQUENT) -> None:
        if not 3 <= lg_size <= 26:
            raise UsageError(f"a sketch of frequent values has 2^3 to 2^26 places, not 2^{lg_size}")
        self._library, self._dtype = library(), dtype
        self._strings = dtype is None or dtype.kind in "SU"
        make = self._library.frequent_strings_sketch if self._strings else self._library.frequent_items_sketch
        self._sketch = make(lg_size)
        self._capacity = (3 << lg_size) // 4
        self._group = STRINGS_GROUP if self._strings else FREQUENT_GROUP
        self._waiting: list[Any] = []
        self._held = self._total = self._missing = self._left_out = 0

    def add(self, values: Column, workers: Workers | None = None, weights: Array | None = None) -> None:
        """Take in values: numbers of any shape, strings or text."""
        if weights is not None:
            raise UsageError("a sketch counts values; it does not add up weights")
        for part in strings_of(values) if self._strings else keys_of(numbers_only(values)):
            self._total += len(part)
            start = 0
            while start < len(part):
                more = min(self._group - self._held, len(part) - start)
                taken = part[start : start + more]
                self._waiting.append(taken if self._strings else np.array(taken))
                self._held, start = self._held + more, start + more
                if self._held == self._group:
                    self._flush()

    def _flush(self) -> None:
        """Count what waits, and hand it on."""
        if not self._held:
            return
        if self._strings:
            seen = Counter(itertools.chain.from_iterable(self._waiting))
            keys, counts = np.array(list(seen), object), np.array(list(seen.values()), np.int64)
        else:
            keys, counts = np.unique(np.concatenate(self._waiting), return_counts=True)
            keys = keys.view(np.int64)
            if self._dtype is not None and self._dtype.kind == "f":
                self._missing += int(counts[keys == NAN.view(np.int64)].sum())
        self._waiting, self._held = [], 0
        if len(counts) > self._capacity:
            less = int(np.partition(counts, -1 - self._capacity)[-1 - self._capacity])
            keys, counts = keys[counts > less], counts[counts > less] - less
            self._left_out += less
        _feed(self._sketch.update, keys.tolist(), counts.tolist())

    def merge(self, other: FrequentSketch) -> None:
        """Take in what another one of the same dtype saw."""
        self._flush()
        other._flush()
        self._sketch.merge(other._sketch)
        self._total, self._missing = self._total + other._total, self._missing + other._missing
        self._left_out += other._left_out

    def finish(self, workers: Workers | None = None) -> Frequent:
        """The table."""
        self._flush()
        absent: Any = "" if self._strings else 0
        unknown = self._sketch.get_upper_bound(absent) - self._sketch.get_lower_bound(absent)
        rows = self._sketch.get_frequent_items(self._library.frequent_items_error_type.NO_FALSE_NEGATIVES, 0)
        keys = [row[0] for row in rows]
        low, high = (np.array([row[place] for row in rows], np.int64) for place in (2, 3))
        values, order = self._ascending(keys)
        return Frequent(
            values, (high + self._left_out)[order], low[order], unknown + self._left_out, self._total, self._missing
        )

    def _ascending(self, keys: list[Any]) -> tuple[Column, Array]:
        """Keys as values, ascending, and which they were."""
        if self._strings:
            order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
            texts = [keys[place].encode("latin-1") for place in order]
            if self._dtype is None:
                return Text.of(texts), order
            unicode = self._dtype.kind == "U"
            return np.array([decoded(text) for text in texts] if unicode else texts, self._dtype), order
        values = values_of(np.array(keys, np.int64).view(np.uint64), self._dtype or np.dtype(np.float64))
        order = np.argsort(values, kind="stable")
        return values[order], order

    def close(self) -> None:
        """Give back memory."""
        self._waiting = []


class QuantileSketch:
    """Estimates quantiles, by the sketch of Karnin, Lang and Liberty; NaN is passed over.

    The sketch throws coins that cannot be fixed from outside. So estimates differ from run to run, within their error,
    as soon as it holds less than all values (`exact` tells).

    Parameters
    ----------
    k : int
        Size, 8 to 65535; a larger one makes the error smaller.

    Raises
    ------
    UsageError
        When the package is not installed.

    Examples
    --------
    >>> sketch = QuantileSketch()
    >>> sketch.add(np.arange(101))
    >>> sketch.quantiles([0.25, 1.0]), sketch.exact
    ([25.0, 100.0], True)
    """

    def __init__(self, k: int = K_QUANTILES) -> None:
        if not 8 <= k <= 65535:
            raise UsageError(f"a sketch of quantiles has a k of 8 to 65535, not {k}")
        self._sketch = library().kll_doubles_sketch(k)

    def add(self, values: Array) -> None:
        """Take in numbers of any shape; they are cast to float64."""
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            self._sketch.update(np.ascontiguousarray(flat[start : start + CHUNK], np.float64))

    def merge(self, other: QuantileSketch) -> None:
        """Take in what another one saw."""
        self._sketch.merge(other._sketch)

    @property
    def count(self) -> int:
        """How many values came in, without NaN."""
        return int(self._sketch.n)

    @property
    def exact(self) -> bool:
        """Whether it holds all values yet: then quantiles are values at exact ranks, in every run."""
        return not self._sketch.is_estimation_mode()

    @property
    def rank_error(self) -> float:
        """How far the rank of an estimate may be from the one asked for, as a share, with 99 % confidence."""
        return 0.0 if self.exact else float(self._sketch.normalized_rank_error(False))

    def quantiles(self, at: Sequence[float]) -> list[float]:
        """For each share, the smallest value with that share of all values at or below it; NaN without values."""
        if not self.count:
            return [math.nan for _ in at]
        return [float(value) for value in self._sketch.get_quantiles(list(at), True)]


def library() -> Any:
    """The package of sketches; raise UsageError if it is not installed."""
    try:
        import datasketches
    except ImportError:
        raise UsageError("estimates need the package datasketches; pip install 'mlpipe[sketches]'") from None
    return datasketches


def _feed(update: Any, *arguments: list[Any]) -> None:
    """Call a function for all arguments, in C."""
    deque(map(update, *arguments), maxlen=0)

"""Facts on values that pass by, for rules of how many bins they need: the same for any blocks and threads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mlpipe.errors import InputError
from mlpipe.kernels import histogram as kernels
from mlpipe.link import Array
from mlpipe.workers import Workers

GROUP = 65536
"""Values that are added up together, counted from the first one of all; NumPy's histogram has it, too."""

COLLECTED_BYTES, FEW_COLLECTED_BYTES = 4 << 20, 64 << 10
"""As soon as no more than so many bytes of values may be a quartile, they are gathered and sorted."""

DIGIT_BITS, FEW_DIGIT_BITS = 16, 8
"""Of the digits by which quartiles are found: narrow ones take less room, and more passes."""


class Groups:
    """A stream of values cut into groups that do not depend on its blocks.

    Parameters
    ----------
    dtypes : numpy.dtype
        Of the values, and of what goes along with each.

    Examples
    --------
    >>> groups = Groups(np.dtype("i8"))
    >>> [len(part) for (part,) in groups.whole(np.zeros(GROUP + 7, "i8"))], len(groups.rest()[0])
    ([65536], 7)
    """

    def __init__(self, *dtypes: np.dtype[Any]) -> None:
        self._held = [np.empty(GROUP, dtype) for dtype in dtypes]
        self._spare = [np.empty(GROUP, dtype) for dtype in dtypes]
        self._count = 0

    def whole(self, *arrays: Array) -> Iterator[tuple[Array, ...]]:
        """Groups that are complete, in order, good until the next call; what is left is kept."""
        start, size = 0, len(arrays[0])
        if self._count:
            start = self._keep(arrays, 0)
            if self._count == GROUP:
                yield tuple(self._held)
                self._held, self._spare, self._count = self._spare, self._held, 0
        while size - start >= GROUP:
            yield tuple(array[start : start + GROUP] for array in arrays)
            start += GROUP
        self._keep(arrays, start)

    def _keep(self, arrays: tuple[Array, ...], start: int) -> int:
        """Keep values from `start` as far as there is room; where the others begin."""
        more = min(GROUP - self._count, len(arrays[0]) - start)
        for held, array in zip(self._held, arrays, strict=True):
            held[self._count : self._count + more] = array[start : start + more]
        self._count += more
        return start + more

    @staticmethod
    def nbytes(*dtypes: np.dtype[Any]) -> int:
        """Bytes held."""
        return sum(2 * GROUP * dtype.itemsize for dtype in dtypes)

    def rest(self) -> tuple[Array, ...]:
        """The last group, which is not complete, if there is one; of no values otherwise."""
        return tuple(held[: self._count] for held in self._held)


class Inside:
    """Which values count: all, or those of a range."""

    def __init__(self, ends: tuple[Any, Any] | None) -> None:
        self._ends = ends

    def __call__(self, values: Array) -> Array:
        """These of the values; the array itself if all do."""
        if self._ends is None:
            return values
        keep = (values >= self._ends[0]) & (values <= self._ends[1])
        return values if keep.all() else values[keep]


class Extent:
    """Number, smallest and largest of values, and their sum if it is wanted."""

    def __init__(self, dtype: np.dtype[Any], inside: Inside, *, summed: bool) -> None:
        self._dtype, self._inside, self._summed = dtype, inside, summed
        self.size = self.missing = self.infinite = 0
        self.low: Any = None
        self.high: Any = None
        self.total = 0.0
        self._lost = 0.0

    def of(self, group: Array) -> tuple[int, int, int, Any, Any, float]:
        """What `merge` takes of one group."""
        kept, missing, infinite = self._inside(group), 0, 0
        if not kept.size:
            return 0, 0, 0, None, None, 0.0
        low, high = kept.min(), kept.max()
        if kept.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
            missing = int(np.isnan(kept).sum())
            infinite = int(np.isinf(kept).sum())
        with np.errstate(all="ignore"):
            total = float(np.sum(kept, dtype=np.float64)) if self._summed else 0.0
        return kept.size, missing, infinite, low, high, total

    def merge(self, size: int, missing: int, infinite: int, low: Any, high: Any, total: float) -> None:
        """Take in a group; in order."""
        self.missing, self.infinite = self.missing + missing, self.infinite + infinite
        if not size:
            return
        self.low = low if self.size == 0 else min(self.low, low)
        self.high = high if self.size == 0 else max(self.high, high)
        self.size += size
        self.total, self._lost = _added(self.total, self._lost, total)

    @property
    def mean(self) -> float:
        """Of the values, to rounding."""
        return (self.total + self._lost) / self.size if self.size else 0.0

    def ends(self) -> tuple[Any, Any]:
        """The smallest and the largest; 0 and 1 of no values, as NumPy has it.

        Raises
        ------
        InputError
            When a value is NaN or infinite.
        """
        if self.missing or self.infinite:
            raise InputError(
                f"{self.missing} values are NaN and {self.infinite} infinite, so that bins have no range; "
                "give edges or a range, and what lies outside is left out"
            )
        if not self.size:
            return 0, 1
        zero = self._dtype.type(0)
        return self.low + zero, self.high + zero  # never -0.0, which depends on the order


class Deviations:
    """Standard deviation and skewness, from sums of powers of what is left of the values without their mean."""

    def __init__(self, mean: float, inside: Inside) -> None:
        self._mean, self._inside = mean, inside
        self._size = 0
        self._sums, self._lost = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]

    def of(self, group: Array) -> tuple[int, float, float, float]:
        """What `merge` takes of one group."""
        kept = self._inside(group)
        with np.errstate(all="ignore"):
            left = kept.astype(np.float64) - self._mean
            square = left * left
            return kept.size, float(left.sum()), float(square.sum()), float((square * left).sum())

    def merge(self, size: int, *sums: float) -> None:
        """Take in a group; in order."""
        self._size += size
        for power, more in enumerate(sums):
            self._sums[power], self._lost[power] = _added(self._sums[power], self._lost[power], more)

    def finish(self) -> tuple[float, float]:
        """Deviation, and skewness: NaN if there is no deviation."""
        if not self._size:
            return 0.0, math.nan
        rest, square, cube = ((high + low) / self._size for high, low in zip(self._sums, self._lost, strict=True))
        deviation = float(np.sqrt(max(0.0, square - rest * rest)))
        if not 0.0 < deviation < math.inf:
            return deviation, math.nan
        central = cube - 3 * rest * square + 2 * rest**3
        return deviation, central / deviation / deviation / deviation


class Quartiles:
    """The values a quarter and three quarters of the way up, exact: their bits are found digit by digit.

    Each pass counts one digit of those values that share the digits before with a quartile. When few are left, a pass
    gathers them.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the values.
    inside : Inside
        Which of them count.
    threads : int
        That add values.
    small : bool
        Whether to do with little memory, and more passes.
    """

    def __init__(self, dtype: np.dtype[Any], inside: Inside, threads: int, *, small: bool = False) -> None:
        self._digit = FEW_DIGIT_BITS if small else DIGIT_BITS
        self._collected = FEW_COLLECTED_BYTES if small else COLLECTED_BYTES
        self._dtype, self._inside = dtype, inside
        self._wide = np.dtype(f"{dtype.kind}4") if dtype.itemsize < 4 else dtype
        self._bits = 8 * self._wide.itemsize
        self._unsigned = np.dtype(f"u{self._wide.itemsize}").type
        self._sign = self._unsigned(0 if dtype.kind == "u" else 1 << (self._bits - 1))
        self._after = self._bits  # bits of a value that are not known yet
        self._prefixes = np.zeros(1, self._unsigned)
        self._counts = np.zeros((threads, 1, 1 << self._digit), np.int64)
        self._targets: list[tuple[int, int]] = []  # prefix, and rank among the values with it
        self._gathered: list[Array] | None = None
        self._parts: list[float] = []

    @staticmethod
    def nbytes(threads: int, *, small: bool = False) -> int:
        """Bytes held at most: counters of four prefixes, their sums and the running totals of these; and values."""
        digit, collected = (FEW_DIGIT_BITS, FEW_COLLECTED_BYTES) if small else (DIGIT_BITS, COLLECTED_BYTES)
        return 4 * 8 * (threads + 2) * (1 << digit) + 3 * collected

    @staticmethod
    def passes(dtype: np.dtype[Any], *, small: bool = False) -> int:
        """Passes over all values at most."""
        return -(-8 * max(4, dtype.itemsize) // (FEW_DIGIT_BITS if small else DIGIT_BITS))

    def add(self, group: Array, worker: int) -> None:
        """Take in values, in any order."""
        kept = np.ascontiguousarray(self._inside(group), self._wide).view(self._unsigned)
        shift, floating = self._unsigned(self._after - self._digit), self._wide.kind == "f"
        if self._gathered is None:
            width = self._unsigned(self._digit)
            kernels.count_digit(kept, self._sign, floating, shift, width, self._prefixes, self._counts[worker])
        else:
            found = np.empty_like(kept)
            number = kernels.collect(kept, self._sign, floating, self._unsigned(self._after), self._prefixes, found)
            if number:
                self._gathered.append(found[:number].copy())

    def finish(self, size: int) -> tuple[float, float] | None:
        """The quartiles of so many values, or None when another pass is needed."""
        if not size:
            return math.nan, math.nan
        if not self._targets:
            places = [(size - 1) * share for share in (0.25, 0.75)]
            self._parts = [place - math.floor(place) for place in places]
            self._targets = [(0, min(math.floor(place) + more, size - 1)) for place in places for more in (0, 1)]
        if self._gathered is not None:
            return self._interpolated(self._sorted(np.sort(np.concatenate(self._gathered))))
        left = self._narrow()
        if not self._after:
            return self._interpolated([prefix for prefix, _ in self._targets])
        if left * self._wide.itemsize <= self._collected:
            self._gathered = []
        else:
            self._counts = np.zeros((len(self._counts), len(self._prefixes), self._counts.shape[2]), np.int64)
        return None

    def _narrow(self) -> int:
        """Follow each target into one digit; how many values begin as they do."""
        counts = self._counts.sum(axis=0)
        sums, found, left = counts.cumsum(axis=1), [], {}
        known = {int(prefix): slot for slot, prefix in enumerate(self._prefixes)}
        for prefix, rank in self._targets:
            slot = known[prefix]
            digit = int(np.searchsorted(sums[slot], rank, "right"))
            before = int(sums[slot, digit - 1]) if digit else 0
            longer = prefix << self._digit | digit
            found.append((longer, rank - before))
            left[longer] = int(counts[slot, digit])
        self._targets, self._after = found, self._after - self._digit
        self._prefixes = np.array(sorted(left), self._unsigned)
        return sum(left.values())

    def _sorted(self, keys: Array) -> list[int]:
        """Keys of the targets among those gathered."""
        starts = np.searchsorted(keys >> self._unsigned(self._after), self._prefixes)
        known = {int(prefix): int(start) for prefix, start in zip(self._prefixes, starts, strict=True)}
        return [int(keys[known[prefix] + rank]) for prefix, rank in self._targets]

    def _interpolated(self, keys: list[int]) -> tuple[float, float]:
        """The quartiles in float64, as `numpy.percentile` has them."""
        bits = np.array(keys, self._unsigned)
        if self._wide.kind == "f":
            bits = np.where(bits & self._sign, bits ^ self._sign, ~bits)
            numbers: list[Any] = list(bits.view(self._wide).astype(self._dtype))
        else:
            numbers = [int(number) for number in (bits ^ self._sign).view(self._wide)]
        lower, upper = (_between(numbers[2 * n], numbers[2 * n + 1], part) for n, part in enumerate(self._parts))
        return lower, upper


def _between(low: Any, high: Any, part: float) -> float:
    with np.errstate(all="ignore"):
        step = high - low
        if part >= 0.5:
            return float(float(high) - float(step) * (1 - part))
        return float(float(low) + float(step) * part)


def _added(total: float, lost: float, more: float) -> tuple[float, float]:
    """A sum in two parts, the second for what rounding takes from the first (Knuth)."""
    after = total + more
    part = after - total
    return after, lost + ((total - (after - part)) + (more - part))


def take(
    step: Extent | Deviations | None, quartiles: Quartiles | None, groups: Sequence[Array], workers: Workers
) -> None:
    """Take groups into what a pass is for: side by side, and merged in order."""
    results: list[Any] = [None] * len(groups)

    def work(place: int, worker: int) -> None:
        if step is not None:
            results[place] = step.of(groups[place])
        if quartiles is not None:
            quartiles.add(groups[place], worker)

    workers.run(work, range(len(groups)))
    if step is not None:
        for result in results:
            step.merge(*result)

"""How long batches take: a histogram of bounded size, from which quantiles are read."""

from __future__ import annotations

import math

_BITS = 7
_HALF = 1 << (_BITS - 1)
_LONGEST = 1 << 63


class Durations:
    """Times in nanoseconds, kept to their seven leading bits: quantiles are off by at most 0.8 %.

    Attributes
    ----------
    count : int
        How many there were.
    longest : int
        The longest, exactly.

    Examples
    --------
    >>> times = Durations()
    >>> for milliseconds in range(1, 101):
    ...     times.add(milliseconds * 1_000_000)
    >>> round(times.quantile(0.5) / 1e6), round(times.quantile(0.95) / 1e6), times.longest
    (50, 95, 100000000)
    """

    __slots__ = ("_counts", "_shortest", "count", "longest")

    def __init__(self) -> None:
        self.count = self.longest = 0
        self._shortest = _LONGEST
        self._counts: dict[int, int] = {}  # at most 64 for each power of two: 3700 up to 300 years

    def add(self, nanoseconds: int) -> None:
        """Note one more."""
        shift = nanoseconds.bit_length() - _BITS
        place = nanoseconds if shift <= 0 else _HALF * shift + (nanoseconds >> shift)
        counts = self._counts
        counts[place] = counts.get(place, 0) + 1
        self.count += 1
        if nanoseconds > self.longest:
            self.longest = nanoseconds
        if nanoseconds < self._shortest:
            self._shortest = nanoseconds

    def quantile(self, fraction: float) -> int | None:
        """The shortest time that this share of all does not exceed; None without any."""
        if not self.count:
            return None
        wanted, seen = max(1, math.ceil(fraction * self.count)), 0
        for place in sorted(self._counts):
            seen += self._counts[place]
            if seen >= wanted:
                break
        return min(self.longest, max(self._shortest, _middle(place)))


def _middle(place: int) -> int:
    """Of the times that are kept in one place."""
    shift = max(0, place // _HALF - 1)
    return ((place - _HALF * shift) << shift) + ((1 << shift) - 1) // 2

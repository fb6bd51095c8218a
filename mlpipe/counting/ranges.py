"""A map of the keys: which range of them goes to which partition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlpipe.kernels.count_parts import buckets
from mlpipe.link import Array

LINEAR_BITS = 13
"""Buckets of equal widths: their table takes 16 KiB, half of the nearest cache."""

OCTAVE_BITS = 8
"""Buckets of each power of two, where distances from the least key differ much."""

UNEVEN = 4
"""A bucket that has so many times the share of a partition is too large."""

FAR_OUT = 512
"""One in so many keys at either end may be far from the others, as NaN and infinities are."""


class Ranges(NamedTuple):
    """Partitions, ascending.

    Parameters
    ----------
    parts : int
        How many.
    table : ndarray of uint16
        The partition of each bucket.
    numbers : tuple
        What `mlpipe.kernels.count_parts.bucket` takes: the least and the largest key, how far to shift, what to
        subtract, whether buckets grow with the distance, and the last bucket.
    """

    parts: int
    table: Array
    numbers: tuple[Any, ...]

    def of(self, keys: Array) -> Array:
        """The partitions of some keys."""
        out = np.empty(len(keys), np.uint64)
        if len(keys):
            buckets(keys, *self.numbers, out)
        return self.table[out]

    @classmethod
    def of_sample(cls, sample: Array, parts: int) -> Ranges:
        """Split the keys so that each partition has as many of the sample's distinct keys, as far as possible.

        Examples
        --------
        >>> ranges = Ranges.of_sample(np.arange(1000, dtype=np.uint64), 4)
        >>> ranges.of(np.array([0, 300, 999, 2000], np.uint64)).tolist()
        [0, 1, 3, 3]
        """
        sample = np.sort(sample)  # np.unique takes three times as long
        sample = sample[np.flatnonzero(np.diff(sample, prepend=~sample[:1]))]
        low, high = int(sample[0]), int(sample[-1])
        numbers = _linear(low, high)
        placed = _placed(sample, numbers)
        if np.bincount(placed).max() * parts > UNEVEN * len(sample):
            few = min(-(-len(sample) // FAR_OUT), (len(sample) - 1) // 2)
            inner = int(sample[few]), int(sample[-1 - few])  # what is beyond goes to the first and last bucket
            others = [_logarithmic(low, high), _linear(*inner), _logarithmic(*inner)]
            numbers = min([numbers, *others], key=lambda one: int(np.bincount(_placed(sample, one)).max()))
            placed = _placed(sample, numbers)
        count = np.bincount(placed, minlength=int(numbers[-1]) + 1)
        before = np.cumsum(count) - (count + 1) // 2
        table = np.maximum.accumulate(np.minimum(parts - 1, before * parts // len(sample)))
        return cls(parts, table.astype(np.uint16), numbers)


def _linear(low: int, high: int) -> tuple[Any, ...]:
    """Buckets of equal widths."""
    shift = max(0, (high - low).bit_length() - LINEAR_BITS)
    return np.uint64(low), np.uint64(high), np.uint64(shift), np.uint64(0), False, np.uint64((high - low) >> shift)


def _logarithmic(low: int, high: int) -> tuple[Any, ...]:
    """Buckets that grow with the distance to the nearer end."""
    shift, first = 52 - OCTAVE_BITS, 0x3FF << OCTAVE_BITS
    half = (int(np.float64(max(1, (high - low + 1) // 2)).view(np.uint64)) >> shift) - first
    return np.uint64(low), np.uint64(high), np.uint64(shift), np.uint64(first), True, np.uint64(2 * half + 1)


def _placed(sample: Array, numbers: tuple[Any, ...]) -> Array:
    out = np.empty(len(sample), np.uint64)
    buckets(sample, *numbers, out)
    return out.astype(np.int64)

"""Kernels that write columns as text, and put rows in order by their counts."""

from __future__ import annotations

import numpy as np

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.shortest import float_text

_PAIRS = np.frombuffer("".join(f"{number:02d}" for number in range(100)).encode(), np.uint8)
"""The numbers 00 to 99: two digits for one division."""

_TEN, _HUNDRED = np.uint64(10), np.uint64(100)
_ZERO, _MINUS, _QUOTE = np.uint8(48), np.uint8(45), np.uint8(34)

DIGIT = 11
"""Bits of a digit by which rows are sorted: its histogram stays in the first cache."""

FLOAT_BYTES = 32
"""Room for any float as text, and some to spare."""


@kernel
def _digits(value):
    """How many decimal digits an unsigned number has."""
    count, limit = 1, _TEN
    while value >= limit and count < 19:
        limit *= _TEN
        count += 1
    # The last power of ten that fits has 20 digits, and the next one does not fit.
    return count + 1 if count == 19 and value >= limit else count


@kernel
def _magnitude(value):
    """The absolute value of an integer, as an unsigned one: that of the smallest has no place among the signed."""
    return ~np.uint64(value) + np.uint64(1) if value < 0 else np.uint64(value)


@kernel
def integer_widths(values, widths):
    """Add to `widths`, int64, how many characters each integer takes."""
    for i in range(values.shape[0]):
        widths[i] += _digits(_magnitude(values[i])) + (1 if values[i] < 0 else 0)


@kernel
def put_integers(values, before, places, out):
    """Write each integer in decimal.

    Parameters
    ----------
    values : ndarray of int64 or uint64
        The integers.
    before : ndarray of uint8
        What to write before each.
    places : ndarray of int64
        Where to in `out`; moved on behind what was written.
    out : ndarray of uint8
        Text.
    """
    for i in range(values.shape[0]):
        at = places[i]
        for k in range(before.shape[0]):
            out[at + k] = before[k]
        at += before.shape[0]
        rest = _magnitude(values[i])
        if values[i] < 0:
            out[at] = _MINUS
            at += 1
        end = at + _digits(rest)
        places[i] = end
        while rest >= _HUNDRED:
            quotient = rest // _HUNDRED
            pair = 2 * np.int64(rest - quotient * _HUNDRED)
            rest = quotient
            end -= 2
            out[end] = _PAIRS[pair]
            out[end + 1] = _PAIRS[pair + 1]
        if rest >= _TEN:
            out[end - 2] = _PAIRS[2 * np.int64(rest)]
            out[end - 1] = _PAIRS[2 * np.int64(rest) + 1]
        else:
            out[end - 1] = _ZERO + np.uint8(rest)


@kernel
def put_text(content, offsets, before, places, out):
    """Write strings, as `put_integers` does; `content` and `offsets` are those of a column of text."""
    for i in range(offsets.shape[0] - 1):
        at = places[i]
        for k in range(before.shape[0]):
            out[at + k] = before[k]
        at += before.shape[0]
        for k in range(offsets[i], offsets[i + 1]):
            out[at] = content[k]
            at += 1
        places[i] = at


@kernel
def put_floats(bits, fraction, exponent, powers, offsets, out):
    """Write floats one after the other, as Python does: the shortest text that reads back to the same value.

    Parameters
    ----------
    bits : ndarray of uint64
        Bits of the values.
    fraction, exponent : int
        How many bits of them are the fraction, and the exponent.
    powers : ndarray of uint64, shape (n, 2)
        From `mlpipe.kernels.shortest.powers`.
    offsets : ndarray of int64, shape (rows + 1,)
        Set to where each begins in `out`, and where the last one ends.
    out : ndarray of uint8
        `FLOAT_BYTES` for each.
    """
    at = 0
    for i in range(bits.shape[0]):
        offsets[i] = at
        at = float_text(bits[i], fraction, exponent, powers, out, at)
    offsets[bits.shape[0]] = at


@kernel
def fixed_text(strings, offsets, out):
    """Write fixed-width strings one after the other, without the zeros that fill them up.

    Parameters
    ----------
    strings : ndarray of uint8, shape (rows, bytes)
        The strings.
    offsets : ndarray of int64, shape (rows + 1,)
        Set to where each begins in `out`, and where the last one ends.
    out : ndarray of uint8
        As long as all of them.
    """
    at = 0
    for i in range(strings.shape[0]):
        offsets[i] = at
        width = strings.shape[1]
        while width > 0 and strings[i, width - 1] == 0:
            width -= 1
        for k in range(width):
            out[at] = strings[i, k]
            at += 1
    offsets[strings.shape[0]] = at


@kernel
def quoted_bytes(content, offsets, special):
    """How many bytes strings take when those that have a `special` byte, a mask of 256, are quoted."""
    total = 0
    for i in range(offsets.shape[0] - 1):
        needs, quotes = False, 0
        for k in range(offsets[i], offsets[i + 1]):
            needs |= special[content[k]]
            quotes += content[k] == _QUOTE
        total += offsets[i + 1] - offsets[i] + (2 + quotes if needs else 0)
    return total


@kernel
def quote(content, offsets, special, new_offsets, out):
    """Quote strings that have a `special` byte, the quotes in them doubled, as RFC 4180 has it."""
    at = 0
    for i in range(offsets.shape[0] - 1):
        new_offsets[i] = at
        needs = False
        for k in range(offsets[i], offsets[i + 1]):
            needs |= special[content[k]]
        if needs:
            out[at] = _QUOTE
            at += 1
        for k in range(offsets[i], offsets[i + 1]):
            if needs and content[k] == _QUOTE:
                out[at] = _QUOTE
                at += 1
            out[at] = content[k]
            at += 1
        if needs:
            out[at] = _QUOTE
            at += 1
    new_offsets[offsets.shape[0] - 1] = at


@kernel
def gather_text(content, offsets, places, new_offsets, out):
    """Copy strings in another order; `new_offsets` says where each goes in `out`."""
    for i in range(places.shape[0]):
        at = new_offsets[i]
        for k in range(offsets[places[i]], offsets[places[i] + 1]):
            out[at] = content[k]
            at += 1


@kernel
def sort_places(keys, other_keys, places, other_places, largest):
    """Sort unsigned keys and the places that go with them, stably, digit by digit from the lowest.

    Parameters
    ----------
    keys, other_keys : ndarray of uint64, shape (rows,)
        What to sort by; memory of the same size.
    places, other_places : ndarray of int64, shape (rows,)
        As the keys.
    largest : uint64
        The largest key.

    Returns
    -------
    bool
        Whether the result is in the other arrays.
    """
    counts = np.empty(1 << DIGIT, np.int64)
    mask, shift, swapped = np.uint64((1 << DIGIT) - 1), np.uint64(0), False
    while largest >> shift > 0:
        counts[:] = 0
        for i in range(keys.shape[0]):
            counts[np.int64((keys[i] >> shift) & mask)] += 1
        start = 0
        for k in range(counts.shape[0]):
            count = counts[k]
            counts[k] = start
            start += count
        for i in range(keys.shape[0]):
            digit = np.int64((keys[i] >> shift) & mask)
            other_keys[counts[digit]] = keys[i]
            other_places[counts[digit]] = places[i]
            counts[digit] += 1
        keys, other_keys = other_keys, keys
        places, other_places = other_places, places
        swapped = not swapped
        shift += np.uint64(DIGIT)
        if shift >= np.uint64(64):
            break
    return swapped


@kernel
def pad_text(content, offsets, out):
    """Copy strings into rows of a 2-D array of zeros."""
    for i in range(out.shape[0]):
        for k in range(offsets[i + 1] - offsets[i]):
            out[i, k] = content[offsets[i] + k]

"""The shortest text of a float that reads back to the same value: Schubfach (Giulietti 2020).

Of all decimals that a float rounds from, the shortest is written, and of those the nearest: what Python's `repr` does.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from mlpipe.kernels._jit import kernel

LEAST_POWER = -292
MOST_POWER = 324
"""Powers of ten that float64 takes."""

_ZERO, _ONE, _TWO, _FOUR, _TEN, _FORTY = (np.uint64(number) for number in (0, 1, 2, 4, 10, 40))
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_DIGIT_0, _POINT, _MINUS, _PLUS, _E = (np.uint8(ord(character)) for character in "0.-+e")
_NAN = np.frombuffer(b"nan", np.uint8)
_INF = np.frombuffer(b"inf", np.uint8)
_LARGEST_POSITIONAL, _SMALLEST_POSITIONAL = 16, -4
"""Between which places of the decimal point Python writes no exponent."""


@functools.cache
def powers() -> npt.NDArray[np.uint64]:
    """The 128 highest bits, rounded up, of each power of ten from `LEAST_POWER` on: upper and lower half.

    Examples
    --------
    >>> [hex(half) for half in powers()[-LEAST_POWER].tolist()]
    ['0x8000000000000000', '0x1']
    """
    table = np.empty((MOST_POWER - LEAST_POWER + 1, 2), np.uint64)
    for i in range(len(table)):
        power = i + LEAST_POWER
        if power >= 0:
            whole = 10**power
            excess = whole.bit_length() - 128
            bits = (whole >> excess if excess > 0 else whole << -excess) + 1
        else:
            whole = 10**-power
            bits = (1 << (127 + whole.bit_length())) // whole + 1
        table[i] = bits >> 64, bits & (2**64 - 1)
    return table


@kernel
def _product(x, y):
    """The upper and the lower half of a product of 64-bit numbers."""
    a, b, c, d = x >> _HALF, x & _LOW, y >> _HALF, y & _LOW
    low, cross, other, high = b * d, a * d, b * c, a * c
    middle = (low >> _HALF) + (cross & _LOW) + (other & _LOW)
    return high + (cross >> _HALF) + (other >> _HALF) + (middle >> _HALF), x * y


@kernel
def _scaled(high, low, value):
    """A number times a power of ten, rounded down, its last bit set if that dropped anything."""
    carry, _ = _product(low, value)
    upper, lower = _product(high, value)
    lower += carry
    if lower < carry:
        upper += _ONE
    return upper | (_ONE if lower > _ONE else _ZERO)


@kernel
def _shortest(significand, q, closer, powers):
    """The shortest decimal, as digits and a power of ten, that reads back to ``significand · 2^q``.

    `closer` says that the next smaller float is only half as far away as the next larger one.
    """
    k = (q * 1262611 - (524031 if closer else 0)) >> 22  # ⌊log₁₀ 2^q⌋, or of ¾ · 2^q
    shift = np.uint64(q + ((-k * 1741647) >> 19) + 1)
    high, low = powers[-k - LEAST_POWER, 0], powers[-k - LEAST_POWER, 1]
    odd = significand & _ONE
    middle = _scaled(high, low, (_FOUR * significand) << shift)
    lower = _scaled(high, low, (_FOUR * significand - (_ONE if closer else _TWO)) << shift) + odd
    upper = _scaled(high, low, (_FOUR * significand + _TWO) << shift) - odd
    s = middle >> _TWO
    if s >= _TEN:
        tens = s // _TEN
        down_fits, up_fits = lower <= _FORTY * tens, _FORTY * tens + _FORTY <= upper
        if down_fits != up_fits:
            return tens + (_ONE if up_fits else _ZERO), k + 1
    down_fits, up_fits = lower <= _FOUR * s, _FOUR * s + _FOUR <= upper
    if down_fits != up_fits:
        return s + (_ONE if up_fits else _ZERO), k
    half = _FOUR * s + _TWO
    up = middle > half or (middle == half and (s & _ONE) == _ONE)
    return s + (_ONE if up else _ZERO), k


@kernel
def _put(characters, out, at):
    for i in range(characters.shape[0]):
        out[at + i] = characters[i]
    return at + characters.shape[0]


@kernel
def _put_digits(digits, count, out, at):
    """Write a number of `count` digits; return what follows it."""
    for i in range(count - 1, -1, -1):
        quotient = digits // _TEN
        out[at + i] = _DIGIT_0 + np.uint8(digits - quotient * _TEN)
        digits = quotient
    return at + count


@kernel
def _fill(character, count, out, at):
    for i in range(count):
        out[at + i] = character
    return at + count


@kernel
def _put_point(digits, count, before, out, at):
    """Write digits, the decimal point after `before` of them: all of them, and zeros, if there are not so many."""
    if before <= 0:
        out[at], out[at + 1] = _DIGIT_0, _POINT
        return _put_digits(digits, count, out, _fill(_DIGIT_0, -before, out, at + 2))
    if before >= count:
        at = _fill(_DIGIT_0, before - count, out, _put_digits(digits, count, out, at))
        out[at], out[at + 1] = _POINT, _DIGIT_0
        return at + 2
    end = _put_digits(digits, count, out, at + 1)
    for i in range(before):
        out[at + i] = out[at + i + 1]
    out[at + before] = _POINT
    return end


@kernel
def _put_power(digits, count, power, out, at):
    """Write digits with one before the decimal point, and a power of ten."""
    end = _put_digits(digits, count, out, at + 1)
    out[at] = out[at + 1]
    out[at + 1] = _POINT
    at = end if count > 1 else at + 1
    out[at], out[at + 1] = _E, _MINUS if power < 0 else _PLUS
    size = abs(power)
    return _put_digits(np.uint64(size), 3 if size >= 100 else 2, out, at + 2)


@kernel
def float_text(bits, fraction, exponent, powers, out, at):
    """Write a float at `at`, as Python's `repr` does; return the place behind it.

    Parameters
    ----------
    bits : uint64
        Its bits.
    fraction, exponent : int
        How many bits of them are the fraction, and the exponent.
    powers : ndarray of uint64, shape (n, 2)
        The table `powers`.
    out : ndarray of uint8
        Text.
    at : int
        Where to.
    """
    rest = bits & ((_ONE << np.uint64(fraction)) - _ONE)
    power = np.int64((bits >> np.uint64(fraction)) & ((_ONE << np.uint64(exponent)) - _ONE))
    special = power == (1 << exponent) - 1
    if special and rest != _ZERO:
        return _put(_NAN, out, at)
    if (bits >> np.uint64(fraction + exponent)) & _ONE:
        out[at] = _MINUS
        at += 1
    if special:
        return _put(_INF, out, at)
    if power == 0 and rest == _ZERO:
        return _put_point(_ZERO, 1, 1, out, at)
    significand = rest if power == 0 else rest | (_ONE << np.uint64(fraction))
    q = max(power, 1) - ((1 << (exponent - 1)) - 1) - fraction
    digits, tens = _shortest(significand, q, rest == _ZERO and power > 1, powers)
    while digits % _TEN == _ZERO:
        digits //= _TEN
        tens += 1
    count, left = 0, digits
    while left > _ZERO:
        left //= _TEN
        count += 1
    point = count + tens
    if _SMALLEST_POSITIONAL < point <= _LARGEST_POSITIONAL:
        return _put_point(digits, count, point, out, at)
    return _put_power(digits, count, point - 1, out, at)

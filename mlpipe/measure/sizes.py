"""Quantities as people write and read them: bytes, seconds, counts."""

from __future__ import annotations

import re
from decimal import Decimal

from mlpipe.errors import UsageError

_PREFIXES = "kmgtpe"
_SIZE = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(?:([kmgtpe])(i?b)?|b)?\s*", re.ASCII | re.IGNORECASE)
_LARGEST = 2**63 - 1
_SHORT = ((0.9995e-6, 1e9, "ns"), (0.9995e-3, 1e6, "µs"), (0.9995, 1e3, "ms"), (59.95, 1.0, "s"))


def parse_size(text: str, flag: str = "--memory") -> int:
    """Read a number of bytes as a person writes it.

    Parameters
    ----------
    text : str
        A number and, optionally, a unit: ``KiB``, ``MiB``, ``GiB``, ``TiB`` … or the letter alone are powers
        of 1024; ``KB``, ``MB``, ``GB`` … are powers of 1000 (as GNU tools have it); upper or lower case.
    flag : str
        What the message calls the value.

    Returns
    -------
    int
        Bytes, rounded down.

    Raises
    ------
    UsageError
        For anything else, for less than one byte, and for 2⁶³ bytes or more.

    Examples
    --------
    >>> parse_size("512MiB"), parse_size("1.5G"), parse_size("2 kB"), parse_size("100000")
    (536870912, 1610612736, 2000, 100000)
    """
    match = _SIZE.fullmatch(text)
    # A fraction without a unit is a fraction of a byte: more likely a forgotten unit.
    if match is None or ("." in match[1] and match[2] is None):
        raise UsageError(f"{flag} {text!r} is not a size; write a number and a unit, such as 512MiB or 1.5GiB")
    power = _PREFIXES.index(match[2].lower()) + 1 if match[2] else 0
    base = 1000 if (match[3] or "").lower() == "b" else 1024
    size = int(Decimal(match[1]) * base**power)
    if not 1 <= size <= _LARGEST:
        raise UsageError(f"{flag} {text!r} is out of range; write between 1 byte and 8 EiB, such as 512MiB")
    return size


def visible(text: str) -> str:
    r"""Escape what would break a line or disturb a terminal.

    Examples
    --------
    >>> print(visible("read\nwrite"))
    read\nwrite
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def format_size(nbytes: float) -> str:
    """Write a number of bytes with three significant digits.

    Examples
    --------
    >>> format_size(1610612736), format_size(536870912), format_size(640), format_size(1023.6 * 1024)
    ('1.50 GiB', '512 MiB', '640 B', '1.00 MiB')
    """
    if abs(nbytes) < 1023.5:
        return f"{nbytes:.0f} B"
    value, unit = nbytes / 1024, 0
    while abs(value) >= 1023.5 and unit < len(_PREFIXES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{_three(value)} {_PREFIXES[unit].upper()}iB"


def size_argument(nbytes: int) -> str:
    """Write the smallest whole number of MiB that is not below `nbytes`: what a message can tell a user to type.

    Examples
    --------
    >>> size_argument(180 * 2**20 + 1)
    '181MiB'
    """
    return f"{max(1, -(-nbytes // 2**20))}MiB"


def format_duration(seconds: float) -> str:
    """Write a length of time in the unit that suits it.

    Examples
    --------
    >>> [format_duration(s) for s in (0, 42e-6, 0.35, 1.24, 75, 7384, 200_000)]
    ['0 s', '42.0 µs', '350 ms', '1.24 s', '1:15 min', '2:03 h', '2 d 8 h']
    """
    if seconds <= 0:
        return "0 s"
    for limit, scale, unit in _SHORT:
        if seconds < limit:
            return f"{_three(seconds * scale)} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, rest = divmod(round(seconds / 60), 60)
    if hours < 24:
        return f"{hours}:{rest:02d} h"
    days, rest = divmod(round(seconds / 3600), 24)
    return f"{days} d {rest} h"


def format_count(count: float) -> str:
    """Write a count: in full up to 99,999, with a decimal prefix above.

    Examples
    --------
    >>> format_count(20000), format_count(1_234_567), format_count(12.5)
    ('20,000', '1.23 M', '12.5')
    """
    if abs(count) < 99_999.5:
        return f"{count:,.0f}" if float(count).is_integer() or abs(count) >= 100 else _three(count)
    value, unit = count / 1000, 0
    while abs(value) >= 999.5 and unit < len(_PREFIXES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{_three(value)} {'kMGTPE'[unit]}"


def _three(value: float) -> str:
    """Three significant digits, never an exponent; whole above 100."""
    size = abs(value)
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"

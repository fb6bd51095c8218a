"""Thresholds of a comparison: ``METRIC OP CHANGE``, such as ``wall>+10%`` or ``stage.shuffle.anon_peak>+200MiB``.

The change always has a sign: it is what is added to the old figure. A threshold is crossed when the change that was
measured is above (``>``, ``>=``) or below (``<``, ``<=``) it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlpipe.declare import nearest
from mlpipe.errors import UsageError
from mlpipe.measure.metrics import PROCESS_METRICS, STAGE_METRICS, Kind, Metric, parse_metric
from mlpipe.measure.sizes import parse_size

Operator = Literal[">", ">=", "<", "<="]

EXAMPLE = "write METRIC OP CHANGE, such as 'wall>+10%' or 'stage.read.self>+0.5s'"

_FORM = re.compile(r"\s*(?P<metric>[^<>=]*?)\s*(?P<operator>>=|<=|>|<|==?|)\s*(?P<change>[^<>=]*?)\s*")
_CHANGE = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<number>[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?P<unit>[a-zµ%/]*)", re.IGNORECASE
)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_UNITS: dict[Kind, str] = {
    "seconds": "%, or ns, us, ms, s, min or h", "bytes": "%, or B, KiB, MiB or GiB", "count": "%, or no unit",
    "per second": "%, or no unit",
}  # fmt: skip
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Threshold:
    """How much a figure may change.

    Parameters
    ----------
    text : str
        As it was written.
    metric : Metric
        Which figure.
    operator : {">", ">=", "<", "<="}
        On which side of the change it is crossed.
    change : float
        In per cent of the old figure if `relative`, else in the unit of the figure.
    relative : bool
        Whether it is one of per cent.
    """

    text: str
    metric: Metric
    operator: Operator
    change: float
    relative: bool

    def crossed(self, old: float, new: float) -> bool:
        """Whether a change from `old` to `new` is beyond it.

        From 0, a change to anything else is more than any per cent.

        Examples
        --------
        >>> parse_threshold("wall>+10%").crossed(2.0, 2.3), parse_threshold("wall>+10%").crossed(2.0, 2.1)
        (True, False)
        """
        limit = self.change
        if not self.relative:
            return _COMPARE[self.operator](new - old, limit)
        # By products: exactly 10 % more than 10.0 is not above +10 %, whatever 11.0 / 10.0 - 1 is rounded to.
        return _COMPARE[self.operator]((new - old) * 100, limit * old)


def parse_threshold(text: str) -> Threshold:
    """Read a threshold.

    Parameters
    ----------
    text : str
        Name of a figure (``wall``, ``cpu``, ``anon_peak``, …, ``stage.NAME.self``, …), one of ``> >= < <=``, and a
        change with its sign: of per cent (``+10%``), of time (``+0.5s``, ``+20ms``), of bytes (``+200MiB``), or a
        plain number for counts and rates. Blanks may stand between them.

    Raises
    ------
    UsageError
        For anything else, with what is meant, as far as that can be told.

    Examples
    --------
    >>> found = parse_threshold("stage.shuffle.anon_peak > +200 MiB")
    >>> found.metric.stage, found.metric.field, found.operator, found.change, found.relative
    ('shuffle', 'anon_peak', '>', 209715200.0, False)
    >>> parse_threshold("wall>10%")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: --fail-on 'wall>10%': a change has a sign; write 'wall>+10%' for 10% more
    """
    match = _FORM.fullmatch(text)
    if match is None or match["operator"] not in _COMPARE or not match["change"] or not match["metric"]:
        raise UsageError(f"--fail-on {text!r}: {EXAMPLE}")
    name, comparison = match["metric"], match["operator"]
    metric = _metric(text, name)
    change = _CHANGE.fullmatch(match["change"])
    if change is None:
        raise UsageError(f"--fail-on {text!r}: {match['change']!r} is no change; {EXAMPLE}")
    number, unit = change["number"], change["unit"]
    if not change["sign"]:
        meant = f"{name}{comparison}+{number}{unit}"
        raise UsageError(f"--fail-on {text!r}: a change has a sign; write '{meant}' for {number}{unit} more")
    sign = -1 if change["sign"] == "-" else 1
    amount = float(number) if unit == "%" else _amount(text, metric.kind, number, unit)
    if unit == "%" and sign < 0 and comparison.startswith("<") and (amount > 100 or (amount, comparison) == (100, "<")):
        raise UsageError(f"--fail-on {text!r}: no figure falls by more than 100%; give a change it can fall below")
    return Threshold(text.strip(), metric, comparison, sign * amount, unit == "%")  # type: ignore[arg-type]


def _metric(text: str, name: str) -> Metric:
    metric = parse_metric(name)
    if metric is not None:
        return metric
    stage, _, field = name.removeprefix("stage.").rpartition(".")
    if name.startswith("stage.") and stage:
        raise UsageError(f"--fail-on {text!r}: stages have no {field!r}{nearest(field, STAGE_METRICS)}")
    known = [*PROCESS_METRICS, *(f"stage.NAME.{field}" for field in STAGE_METRICS)]
    raise UsageError(f"--fail-on {text!r}: no figure {name!r}{nearest(name, known)}")


def _amount(text: str, kind: Kind, number: str, unit: str) -> float:
    """What was written, in the unit of the figure."""
    if kind == "seconds" and unit in _SECONDS:
        return float(number) * _SECONDS[unit]
    if kind == "bytes" and unit:
        try:
            return float(parse_size(number + unit)) if float(number) else 0.0
        except UsageError:
            pass
    if kind in ("count", "per second") and not unit:
        return float(number)
    what = f"unit {unit!r}" if unit else "number without a unit"
    raise UsageError(f"--fail-on {text!r}: {what}; this figure takes {_UNITS[kind]}")

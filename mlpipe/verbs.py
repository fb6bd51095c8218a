"""Every verb there is: one line each, so that listing them imports nothing.

A verb is a frozen dataclass (see `mlpipe.declare`) with an `open` method that makes it a source, a stage or a
sink. Packages add theirs through the entry-point group ``mlpipe.verbs``, whose entries name such classes.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlpipe.declare import Parameter, nearest, parameters, summary, value_of
from mlpipe.errors import UsageError

GROUP = "mlpipe.verbs"

Kind = Literal["source", "stage", "sink"]

FLOWS = ("streaming", "buffering", "fitting", "reducing")


@dataclass(frozen=True, slots=True)
class Entry:
    """One verb of the table.

    Parameters
    ----------
    name : str
        As on the command line.
    kind : str
        Source, stage or sink.
    flow : str
        How much of its input it has to see: streaming, buffering, fitting or reducing.
    target : str
        ``module:class``.
    summary : str
        One line; the first of the class's docstring.
    """

    name: str
    kind: Kind
    flow: str
    target: str
    summary: str

    def load(self) -> Any:
        """Import the class."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


def _own(name: str, kind: Kind, flow: str, place: str, line: str) -> Entry:
    return Entry(name, kind, flow, f"mlpipe.{place}", line)


_OWN = (
    _own("read", "source", "streaming", "readers.read:Read", "Rows of .npy files, one after the other."),
    _own("read-raw", "source", "streaming", "readers.raw:ReadRaw", "Rows of a raw binary file."),
    _own(
        "generate",
        "source",
        "streaming",
        "readers.generate:Generate",
        "Made-up rows: normal, uniform, integers or zipf.",
    ),
    _own("head", "stage", "streaming", "stages.head:Head", "The first rows."),
    _own("batch", "stage", "streaming", "stages.batch:Batch", "Rows in batches of one size."),
    _own(
        "standardize",
        "stage",
        "fitting",
        "stages.standardize:Standardize",
        "Every column with mean 0 and standard deviation 1.",
    ),
    _own(
        "minmax",
        "stage",
        "fitting",
        "stages.minmax:MinMax",
        "Every column stretched to one range, by its smallest and largest value.",
    ),
    _own(
        "robust-scale",
        "stage",
        "fitting",
        "stages.robust_scale:RobustScale",
        "Every column less its median, divided by its interquartile range: outliers do not count.",
    ),
    _own("clip", "stage", "streaming", "stages.clip:Clip", "Values kept between two bounds."),
    _own("cast", "stage", "streaming", "stages.cast:Cast", "Values in another dtype."),
    _own("fill-nan", "stage", "streaming", "stages.fill_nan:FillNan", "A value in the place of NaN."),
    _own("log1p", "stage", "streaming", "stages.log1p:Log1p", "Natural logarithms of 1 + x."),
    _own("abs", "stage", "streaming", "stages.abs:Abs", "Absolute values."),
    _own("sqrt", "stage", "streaming", "stages.sqrt:Sqrt", "Square roots."),
    _own("power", "stage", "streaming", "stages.power:Power", "Values raised to a power."),
    _own("binarize", "stage", "streaming", "stages.binarize:Binarize", "1 for what is above a threshold, else 0."),
    _own("normalize", "stage", "streaming", "stages.normalize:Normalize", "Every row divided by its norm."),
    _own("select", "stage", "streaming", "stages.select:Select", "Only some columns, in the order given."),
    _own(
        "write",
        "sink",
        "streaming",
        "writers.write:Write",
        "A .npy file, or - for stdout, or DIR/ for a directory of them.",
    ),
    _own("nothing", "sink", "streaming", "writers.nothing:Nothing", "No output: rows are only counted and measured."),
)


_BY_NAME = {entry.name: entry for entry in _OWN}


def table() -> dict[str, Entry]:
    """All verbs by name, our own first.

    Examples
    --------
    >>> table()["head"].kind
    'stage'
    """
    return {**_BY_NAME, **_others()[0]}


def unusable() -> list[str]:
    """What is wrong with verbs of other packages, a line for each that was left out."""
    return list(_others()[1].values())


@functools.cache
def _others() -> tuple[dict[str, Entry], dict[str, str]]:
    """Verbs of other packages by name, and what is wrong with those that cannot be used."""
    found: dict[str, Entry] = {}
    wrong: dict[str, str] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        where = f"verb {point.name} of {point.dist.name if point.dist else point.value}"
        if point.name in found or point.name in _BY_NAME:
            wrong.setdefault(f"{point.name} again", f"{where}: left out, for there is another of that name")
            continue
        try:
            found[point.name] = _entry(point.name, point.value, point.load())
        except Exception as error:  # noqa: BLE001 - whatever another package does when it is imported
            reason = " ".join(str(error).split())
            wrong[point.name] = f"{where}: cannot be used: {type(error).__name__}: {reason}"
    return found, wrong


def _entry(name: str, target: str, verb: Any) -> Entry:
    """The line of the table for another package's class."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name == "then":
        raise ValueError("a verb is named in small letters, digits and dashes")
    kind: Any = getattr(verb, "kind", "stage" if hasattr(verb, "apply") else None)
    if kind not in typing.get_args(Kind) or not hasattr(verb, "open"):
        raise TypeError("a verb has a method open, and kind is source, stage or sink")
    parameters(verb)
    return Entry(name, kind, flow_of(verb), target, summary(verb))


def flow_of(verb: Any) -> str:
    """How much of its input a verb's class has to see, its options being what they are by default."""
    flow = getattr(object.__new__(verb), "flow", "streaming")
    if flow not in FLOWS:
        raise ValueError(f"flow is {flow!r}, not one of {', '.join(FLOWS)}")
    return str(flow)


def find(name: str) -> Entry:
    """Return the verb of a name; other packages are looked at only for what is not our own.

    Raises
    ------
    UsageError
        With the nearest names, if there is none.

    Examples
    --------
    >>> find("haed")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: no verb 'haed'; did you mean head?
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    entries = table()
    if name in entries:
        return entries[name]
    if name in _others()[1]:
        raise UsageError(_others()[1][name])
    near = difflib.get_close_matches(name, entries, n=3)
    advice = f"did you mean {' or '.join(near)}?" if near else "see 'mlpipe verbs'"
    raise UsageError(f"no verb {name!r}; {advice}")


def entry_of(verb: Any) -> Entry:
    """The line of the table for an instance of a verb.

    Raises
    ------
    UsageError
        If its class is in no table.
    """
    kind = type(verb)
    for entry in _OWN:
        if entry.target == f"{kind.__module__}:{kind.__qualname__}":
            return entry
    for entry in _others()[0].values():
        if entry.load() is kind:
            return entry
    raise UsageError(f"{kind.__name__} is no verb; add it to the entry-point group {GROUP}")


def name_of(verb: Any) -> str:
    """Name of a verb, from its class."""
    return entry_of(verb).name


def make(name: str, *values: Any, **options: Any) -> Any:
    """Return an instance of a verb; the command line, configs and Python all end here.

    Parameters
    ----------
    name : str
        The verb.
    *values
        Positional arguments, then options in the order in which they are declared.
    **options
        By the name of the field, or that of the key in a config with underscores.

    Raises
    ------
    UsageError
        For a verb or an option that does not exist, with the nearest name, and for a value of a wrong type.

    Examples
    --------
    >>> make("head", rows=3)
    Head(rows=3)
    """
    verb = find(name).load()
    declared = {one.name: one for one in sorted(parameters(verb), key=lambda one: not one.positional)}
    given = {**_placed(name, list(declared.values()), values)}
    for key, value in options.items():
        field = key if key in declared else f"{key}_"
        if field not in declared:
            raise UsageError(f"{name} has no option {key!r}{nearest(key, [one.name for one in declared.values()])}")
        if field in given:
            raise UsageError(f"{name} got {key} twice")
        given[field] = value
    for one in declared.values():
        if one.required and one.name not in given:
            raise UsageError(f"{name} needs {one.key}: {one.help}")
    return verb(**{field: value_of(declared[field], value) for field, value in given.items()})


def _placed(name: str, declared: Sequence[Parameter], values: Sequence[Any]) -> dict[str, Any]:
    """Values without a name, by the fields they belong to."""
    if values and declared and declared[0].positional and declared[0].many:
        alone = len(values) == 1 and isinstance(values[0], list | tuple)
        return {declared[0].name: tuple(values[0]) if alone else tuple(values)}
    if len(values) > len(declared):
        raise UsageError(
            f"{name} got {len(values)} values; it takes {', '.join(one.name for one in declared) or 'none'}"
        )
    return {one.name: value for one, value in zip(declared, values, strict=False)}

"""Every verb there is: one line each, so that listing them imports nothing.

A verb is a frozen dataclass (see `mlpipe.declare`) with an `open` method that makes it a source, a stage or a
sink. Packages add theirs through the entry-point group ``mlpipe.verbs``, whose entries name such classes.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
from dataclasses import dataclass
from typing import Any, Literal

from mlpipe.declare import summary
from mlpipe.errors import UsageError

GROUP = "mlpipe.verbs"

Kind = Literal["source", "stage", "sink"]


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
    _own("head", "stage", "streaming", "stages.head:Head", "The first rows."),
    _own("batch", "stage", "streaming", "stages.batch:Batch", "Rows in batches of one size."),
    _own("write", "sink", "streaming", "writers.write:Write", "A .npy file, or - for stdout."),
    _own("nothing", "sink", "streaming", "writers.nothing:Nothing", "No output: rows are only counted and measured."),
)


@functools.cache
def table() -> dict[str, Entry]:
    """All verbs by name, our own first.

    Examples
    --------
    >>> table()["head"].kind
    'stage'
    """
    found = {entry.name: entry for entry in _OWN}
    for point in importlib.metadata.entry_points(group=GROUP):
        if point.name not in found:
            verb = point.load()
            found[point.name] = Entry(point.name, verb.kind, verb.flow, point.value, summary(verb))
    return found


def find(name: str) -> Entry:
    """Return the verb of a name.

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
    entries = table()
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name, entries, n=3)
    advice = f"did you mean {' or '.join(near)}?" if near else "see 'mlpipe verbs'"
    raise UsageError(f"no verb {name!r}; {advice}")


def name_of(verb: Any) -> str:
    """Name of a verb's instance, from its class."""
    kind = type(verb)
    for entry in table().values():
        if entry.target.endswith(f":{kind.__name__}") and entry.target.split(":")[0] == kind.__module__:
            return entry.name
    raise UsageError(f"{kind.__name__} is no verb; add it to the entry-point group {GROUP}")

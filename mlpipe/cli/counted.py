"""What ``mlpipe count-features`` makes of what was counted: a file, or CSV, JSON or bars on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from mlpipe.cli.session import Session
from mlpipe.measure.sizes import format_size
from mlpipe.readers.files import shown_name
from mlpipe.stages.counting import Found
from mlpipe.stages.estimating import Estimated
from mlpipe.writers.tables import write_table

if TYPE_CHECKING:
    from mlpipe.counting.table import Table
    from mlpipe.link import Run, Source
    from mlpipe.opening import Opening
    from mlpipe.report.counts import Shown


class Delivery:
    """Takes the table when it is there, and says afterwards what became of it.

    Parameters
    ----------
    source : Source
        What was read; must not have changed when the table is written.
    output : str or None
        Where the table goes.
    as_json : bool
        As the flag.
    opening : Opening
        Whether it may replace what is there.
    noun : str
        What rows are called.
    limit : int
        Rows that a terminal shows.

    Attributes
    ----------
    facts : dict
        What the record keeps.
    """

    def __init__(
        self, source: Source, output: str | None, as_json: bool, opening: Opening, noun: str, limit: int
    ) -> None:
        self._sources, self._output, self._as_json, self._opening = [source], output, as_json, opening
        self._noun, self._limit = noun, limit
        self._shown: Shown | None = None
        self.facts: dict[str, Any] = {}

    def watch(self, sources: Iterable[Source]) -> None:
        """Look after further inputs."""
        self._sources += sources

    def __call__(self, found: Found, table: Table, run: Run) -> None:
        """Write or show the table."""
        for source in self._sources:
            source.check_unchanged()
        self.facts = facts_of(found, self._noun)
        if self._output is None and not self._as_json and sys.stdout.isatty():
            from mlpipe.report.counts import first_rows

            self._shown = first_rows(table, found.results[0].counted.total, self._limit)
            return
        form = ".json" if self._as_json and self._output is None else None
        rows = write_table(table, self._output or "-", self._opening, facts=self.facts, workers=run.workers, form=form)
        self.facts["table_rows"] = rows
        if self._output not in (None, "-"):
            self.facts["output"] = self._output

    def finish(self, session: Session) -> None:
        """Say what was counted, and where the table is."""
        if self._as_json and self._output is not None:
            typer.echo(json.dumps(self.facts))
        if self._shown is None:
            session.note(summary(self.facts, self._noun))
            return
        from mlpipe.report.console import ReportConsole
        from mlpipe.report.counts import counts_table

        ReportConsole(file=sys.stdout).print(counts_table(self._shown, joined(self.facts)))


def facts_of(found: Found, noun: str) -> dict[str, Any]:
    """What is said of the tables besides their rows; a list where there are several, with a part for each."""
    each = [result.counted for result in found.results]
    columns = [result.subject.table for result in found.results]
    several = columns[0] is not None

    def of(values: list[Any]) -> Any:
        return values if several else values[0]

    facts: dict[str, Any] = {
        **({"columns": columns} if several else {}),
        "rows": found.rows if noun == "rows" else each[0].total,
        "total": of([one.total for one in each]),
        "distinct": of([one.distinct for one in each]),
        "missing": of([one.missing for one in each]),
        "method": of([one.method for one in each]),
        "why": of([one.why for one in each]),
        "spilled_bytes": sum(one.spilled_bytes for one in each),
    }
    if isinstance(each[0], Estimated):
        bounds = [one.bounds for one in each if isinstance(one, Estimated)]
        facts.update({name: of([one[name] for one in bounds]) for name in bounds[0]})
    if hasattr(each[0], "outside"):  # bins
        facts.update(bins=facts.pop("distinct"), outside=of([getattr(one, "outside", 0) for one in each]))
    return facts


def joined(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of several tables as those of one.

    Examples
    --------
    >>> joined({"distinct": [3, 4], "missing": [0, 1], "method": ["dense", "dense"], "why": ["a", "b"]})
    {'distinct': 7, 'missing': 1, 'method': 'dense', 'why': 'a, b'}
    """
    if not isinstance(facts["missing"], list):
        return facts
    methods, reasons = (list(dict.fromkeys(facts[name])) for name in ("method", "why"))
    why = ", ".join(reasons) if len(reasons) < 4 else "as each column asked for"
    amounts = [name for name in ("distinct", "bins", "missing", "outside") if name in facts]
    together: dict[str, Any] = {name: sum(facts[name]) for name in amounts}
    return {**facts, **together, "method": ", ".join(methods), "why": why}


def summary(facts: dict[str, Any], noun: str) -> str:
    """A line for people."""
    whole = joined(facts)
    of = f" of {len(facts['columns'])} columns" if "columns" in facts else ""
    spilled = f", {format_size(whole['spilled_bytes'])} through temporary files" if whole["spilled_bytes"] else ""
    kinds = f"{whole['distinct']:,} distinct{of}" if "distinct" in whole else f"{whole['bins']:,} bins{of}"
    outside = f", {whole['outside']:,} outside" if whole.get("outside") else ""
    counted = (
        f"{whole['rows']:,} {noun}, {kinds}, {whole['missing']:,} missing{outside}; "
        f"{whole['method']}: {whole['why']}{spilled}"
    )
    if "output" not in facts:
        return counted
    return f"wrote {shown_name(facts['output'])}: {facts['table_rows']:,} values; {counted}"

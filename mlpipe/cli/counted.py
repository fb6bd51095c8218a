"""What ``mlpipe count-features`` makes of what was counted: a file, or CSV, JSON or bars on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from mlpipe.cli.session import Session
from mlpipe.stages.counting import Found
from mlpipe.writers.tables import write_table

if TYPE_CHECKING:
    from mlpipe.counting.table import Table
    from mlpipe.link import Run, Source
    from mlpipe.opening import Opening


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

    Attributes
    ----------
    facts : dict
        What the record keeps.
    """

    def __init__(self, source: Source, output: str | None, as_json: bool, opening: Opening) -> None:
        self._sources, self._output, self._as_json, self._opening = [source], output, as_json, opening
        self.facts: dict[str, Any] = {}

    def watch(self, sources: Iterable[Source]) -> None:
        """Look after further inputs."""
        self._sources += sources

    def __call__(self, found: Found, table: Table, run: Run) -> None:
        """Write or show the table."""
        for source in self._sources:
            source.check_unchanged()
        self.facts = facts_of(found)
        if self._output is None and not self._as_json and sys.stdout.isatty():
            self._show(table)
            return
        form = ".json" if self._as_json and self._output is None else None
        rows = write_table(table, self._output or "-", self._opening, facts=self.facts, workers=run.workers, form=form)
        self.facts["table_rows"] = rows
        if self._output not in (None, "-"):
            self.facts["output"] = self._output

    def _show(self, table: Table) -> None:
        raise NotImplementedError

    def finish(self, session: Session) -> None:
        """Say what was counted, and where the table is."""
        if self._as_json and self._output is not None:
            typer.echo(json.dumps(self.facts))
        session.note(_summary(self.facts))


def facts_of(found: Found) -> dict[str, Any]:
    """What is said of the tables besides their rows; a number for each where there are several."""
    each = [result.counted for result in found.results]

    def of(values: list[Any]) -> Any:
        return values[0] if len(values) == 1 and found.results[0].subject.table is None else values

    return {
        "rows": found.rows,
        "total": of([one.total for one in each]),
        "distinct": of([one.distinct for one in each]),
        "missing": of([one.missing for one in each]),
        "method": of([one.method for one in each]),
        "why": of([one.why for one in each]),
        "spilled_bytes": sum(one.spilled_bytes for one in each),
    }


def _summary(facts: dict[str, Any]) -> str:
    """A line for people."""
    parts = [f"{facts['rows']:,} rows"]
    if isinstance(facts["distinct"], list):
        parts.append(f"{sum(facts['distinct']):,} distinct values in {len(facts['distinct'])} columns")
        missing = sum(facts["missing"])
        methods = list(dict.fromkeys(facts["method"]))
        how = ", ".join(methods)
    else:
        parts.append(f"{facts['distinct']:,} distinct values")
        missing, how = facts["missing"], f"{facts['method']} ({facts['why']})"
    parts.append(f"{missing:,} missing")
    counted = f"{', '.join(parts)}; counted by {how}"
    return f"wrote {facts['output']}: {counted}" if "output" in facts else counted

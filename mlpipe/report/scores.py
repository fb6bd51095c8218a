"""How good predictions are, as text: a table of what was taken for what, or figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

MOST_SHOWN = 20
"""Classes of a table; of more only those that are confused most often are shown."""

MOST_CONFUSED = 10

NOBODY = "."
"""What stands for 0 where it is as it should be."""


def score_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Figures, each with its name.

    Examples
    --------
    >>> score_rows({"accuracy": 0.75, "right": 3, "rows": 4})
    [('accuracy', '75 %  3 of 4')]
    """
    if "accuracy" in facts:
        share = "-" if facts["accuracy"] is None else f"{100 * facts['accuracy']:.4g} %"
        return [("accuracy", f"{share}  {facts['right']:,} of {facts['rows']:,}")]
    names = {"r2": "R2", "rmse": "RMSE", "mae": "MAE"}
    rows = [(shown, "-" if facts[name] is None else f"{facts[name]:.6g}") for name, shown in names.items()]
    if facts["missing"]:
        rows.append(("not predicted", f"{facts['missing']:,}"))
    return rows


@overload
def confusion_table(facts: Mapping[str, Any], terminal: Literal[False]) -> str: ...
@overload
def confusion_table(facts: Mapping[str, Any], terminal: bool) -> RenderableType: ...
def confusion_table(facts: Mapping[str, Any], terminal: bool) -> RenderableType:
    """Render what was taken for what: a row for each class, a column for what its rows were taken for.

    Parameters
    ----------
    facts : mapping
        With ``classes``, ``confusion``, ``recall`` and ``precision``.
    terminal : bool
        Whether the reader is a person at a terminal, who sees what is confused most often if the table does not fit.

    Returns
    -------
    str or rich renderable
        Aligned plain text, ending in a newline; or something for a Rich console.

    Examples
    --------
    >>> facts = {"classes": [0, 7], "confusion": [[3, 1], [0, 2]], "recall": [0.75, 1.0], "precision": [1.0, 0.66]}
    >>> print(confusion_table(facts, terminal=False), end="")
    predicted      0   7  recall %
    truth 0        3   1        75
    truth 7        .   2       100
    precision %  100  66
    """
    if terminal:
        return _Terminal(facts)
    cells = _matrix(facts) if len(facts["classes"]) <= MOST_SHOWN else _confused(facts)
    widths = _widths(cells)
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells)
    return "".join(line + "\n" for line in lines)


class _Terminal:
    """The table in as much room as a console has."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table

        cells = _matrix(self._facts)
        if len(cells) > MOST_SHOWN + 2 or sum(_widths(cells)) + len(cells[0]) > options.max_width:
            cells = _confused(self._facts)
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for place, heading in enumerate(cells[0]):
            table.add_column(heading, justify="right" if place else "left", no_wrap=True)
        for i, row in enumerate(cells[1:]):
            table.add_row(*_marked(row, i, len(cells[0])))
        yield table


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _marked(row: Sequence[str], i: int, columns: int) -> list[str]:
    """Cells of a row; what was taken for what it is stands out, and what is as it should be steps back."""
    shown = []
    for place, cell in enumerate(row):
        right = place == i + 1 and place < columns - 1
        shown.append(f"[green]{cell}[/]" if right else f"[dim]{cell}[/]" if cell == NOBODY else cell)
    return shown


def _matrix(facts: Mapping[str, Any]) -> list[list[str]]:
    """All cells, with a heading, and shares at the end of rows and columns."""
    names = [str(label) for label in facts["classes"]]
    rows = [["predicted", *names, "recall %"]]
    for i, (name, counts) in enumerate(zip(names, facts["confusion"], strict=True)):
        cells = [f"{count:,}" if count or i == j else NOBODY for j, count in enumerate(counts)]
        rows.append([f"truth {name}", *cells, _percent(facts["recall"][i])])
    return [*rows, ["precision %", *map(_percent, facts["precision"]), ""]]


def _confused(facts: Mapping[str, Any]) -> list[list[str]]:
    """What is confused most often; of equal ones the smaller classes first."""
    counts = np.array(facts["confusion"])
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts, axis=None, kind="stable")[:MOST_CONFUSED]
    rows = [["truth", "predicted", "rows"]]
    for truth, predicted in zip(*np.unravel_index(most, counts.shape), strict=True):
        if counts[truth, predicted]:
            labels = facts["classes"]
            rows.append([str(labels[truth]), str(labels[predicted]), f"{counts[truth, predicted]:,}"])
    return rows


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3g}"

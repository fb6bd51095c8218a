"""Counts on a terminal: aligned, with bars, as wide as it is and in characters it has."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from mlpipe.counting.columns import Column, Text
from mlpipe.counting.table import Table, table_of
from mlpipe.report.counts import bar_of, counts_table, first_rows, summary_lines, texts

FACTS = {"rows": 1797, "distinct": 4, "missing": 1, "method": "dense", "why": "values span 0 to 16"}


def _shown(columns: dict[str, Column], width: int = 60, limit: int = 20, facts=None, **options) -> list[str]:
    counts = columns["count"]
    assert isinstance(counts, np.ndarray)
    shown = first_rows(table_of(columns), counts.sum().item(), limit)
    stream = io.TextIOWrapper(io.BytesIO(), options.pop("encoding", "utf-8"))
    console = Console(file=stream, width=width, **{"force_terminal": False, "_environ": {}, **options})
    console.print(counts_table(shown, facts))
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding).splitlines()


def _values(size: int = 4) -> dict[str, Column]:
    return {"value": np.array([0.5, np.nan, -3.0, 1e300])[:size], "count": np.array([1200, 300, 297, 1])[:size]}


def test_it_says_value_count_share_and_bar():
    assert [line.rstrip() for line in _shown(_values(), facts=FACTS)] == [
        " value  count   share",
        "   0.5  1,200  66.7 %  █████████████████████████████████████",
        "   nan    300  16.7 %  █████████▎",
        "  -3.0    297  16.5 %  █████████▏",
        "1e+300      1   0.1 %  ▏",
        "counted  1,797 rows, 4 distinct, 1 missing",
        "method   dense: values span 0 to 16",
    ]


def test_what_is_not_shown_is_counted():
    lines = _shown(_values(), limit=2)
    assert len(lines) == 4
    assert lines[-1] == "… 2 more values: -o counts.csv writes all"
    assert _shown(_values(), limit=3)[-1] == "… 1 more value: -o counts.csv writes all"
    many = {"value": np.arange(5000), "count": np.ones(5000, int)}
    assert _shown(many)[-1] == "… 4,980 more values: -o counts.csv writes all"


@pytest.mark.parametrize("width", range(8, 100, 3))
@pytest.mark.parametrize("kind", ["numbers", "text", "wide", "many"])
def test_lines_are_never_wider_than_the_terminal(width, kind):
    columns = {
        "numbers": {"value": np.arange(3) * 10**6},
        "text": {"line": Text.of([b"a long line of text " * 9, b"", b"\n"])},
        "wide": {"line": Text.of(["日本語の長い行です".encode() * 3, b"x", b"y"])},
        "many": {f"x{number}": np.arange(3) for number in range(40)},
    }[kind]
    counts = np.array([9, 5, 1])
    lines = _shown({**columns, "count": counts, "cumulative": np.cumsum(counts)}, width)
    assert all(cell_len(line) <= width for line in lines)
    assert len([line for line in lines if line]) >= 4


def test_bars_go_before_shares_and_shares_before_values():
    wide, narrow, narrowest = (_shown(_values(), width) for width in (30, 22, 14))
    assert "█" in wide[1]
    assert narrow[1].rstrip() == "   0.5  1,200  66.7 %"
    assert narrowest[1].rstrip() == "   0.5  1,200"


def test_of_many_columns_some_are_left_out_and_named():
    lines = _shown({**{f"x{number}": np.arange(2) for number in range(40)}, "count": np.ones(2, int)}, 30)
    assert lines[0].split()[:2] == ["x0", "x1"]
    assert lines[0].split()[-1] == "count"
    assert lines[-1] == "… 34 columns more, to x39"


def test_a_terminal_without_block_characters_gets_ascii():
    columns = {"line": Text.of(["é€".encode(), b"b" * 90]), "count": np.array([4, 2])}
    lines = _shown(columns, encoding="ascii", limit=1)
    assert lines[1].split() == ["\\xe9\\u20ac", "4", "66.7", "%", "#" * 33]
    assert lines[2] == "... 1 more value: -o counts.csv writes all"
    assert "b..." in _shown(columns, 40, encoding="ascii")[2]


def test_colours_are_for_terminals_that_want_them():
    coloured = _shown(_values(), force_terminal=True, color_system="standard", _environ={"TERM": "xterm"})
    assert any("\x1b[36m" in line for line in coloured)
    plain = _shown(_values(), force_terminal=True, color_system="standard", _environ={"NO_COLOR": "1"})
    assert not any("\x1b[36m" in line for line in plain)


def test_text_is_on_one_printable_line():
    assert texts(Text.of([b"a\tb\x1b[31m", b"\xff\xc3\xa9"])) == ["a\\tb\\x1b[31m", "\\xffé"]
    lines = _shown({"line": Text.of([b"[bold]x\ny"]), "count": np.ones(1, int)})
    assert lines[1].startswith("[bold]x\\ny")


def test_bins_are_intervals():
    edges = np.array([0.0, 0.1, 0.1 + 0.2, 1.0])
    lines = _shown({"low": edges[:-1], "high": edges[1:], "count": np.array([5, 0, 2])}, 50)
    assert [line[:10].strip() for line in lines] == ["bin", "[0, 0.1)", "[0.1, 0.3)", "[0.3, 1]"]
    assert "█" not in lines[2]
    lines = _shown({"low": edges[[2, 0]], "high": edges[[3, 1]], "count": np.array([5, 2])}, 50, limit=1)
    assert lines[1].startswith("[0.3, 1]")
    assert lines[2].startswith("… 1 more bin: ")


def test_close_edges_are_told_apart():
    edges = 1e9 + np.arange(3) / 8
    lines = _shown({"low": edges[:-1], "high": edges[1:], "count": np.array([5, 1])}, 70)
    assert "[1000000000, 1000000000.1)" in lines[1]
    assert "[1000000000.1, 1000000000.2]" in lines[2]


def test_weights_and_running_sums_are_figures():
    sums = {"value": np.array([True, False]), "count": np.array([2.5, 1e7]), "cumulative": np.array([2.5, 1e7 + 2.5])}
    lines = _shown(sums, 70)
    assert lines[0].split() == ["value", "count", "share", "cumulative"]
    assert lines[1].split()[:5] == ["True", "2.5", "<0.1", "%", "2.5"]
    assert lines[2].split()[1] == "10,000,000"
    shares = {"value": np.arange(2), "count": np.array([3, 1]), "share": np.array([0.3, 0.1]),
              "cumulative": np.array([0.3, 0.4])}  # fmt: skip
    assert _shown(shares)[2].split()[2:6] == ["10.0", "%", "40.0", "%"]


def test_an_empty_table_has_headings():
    assert _shown({"value": np.zeros(0), "count": np.zeros(0, int)})[0].split() == ["value", "count"]


def test_rows_that_nobody_knew_are_counted_and_the_table_is_closed():
    closed = []

    def pieces():
        try:
            for start in range(0, 100, 10):
                yield np.arange(start, start + 10), np.ones(10, int)
        finally:
            closed.append(True)

    dtypes = (np.dtype("i8"),) * 2
    assert first_rows(Table(("value", "count"), dtypes, None, pieces()), 100).more == 80
    assert first_rows(Table(("value", "count"), dtypes, 100, pieces()), 100, limit=15).more == 85
    assert closed == [True, True]


def test_the_summary_says_how_it_was_counted():
    facts = {**FACTS, "spilled_bytes": 3 << 30}
    assert summary_lines(facts) == [
        ("counted", "1,797 rows, 4 distinct, 1 missing"),
        ("method", "dense: values span 0 to 16, 3.00 GiB through temporary files"),
    ]
    assert summary_lines({"rows": 3}, "words") == [("counted", "3 words")]
    assert summary_lines({}) == []
    assert summary_lines({"method": "table"}) == [("method", "table")]


@pytest.mark.parametrize("ascii_only", [False, True])
def test_bars_grow_with_what_they_stand_for(ascii_only):
    bars = [bar_of(share / 1000, 10, ascii_only) for share in range(1001)]
    assert bars[0] == ""
    assert all(bars[1:])
    assert [len(bar) for bar in bars] == sorted(len(bar) for bar in bars)
    assert len(bars[-1]) == 10

"""Tables of counts: in the order and number asked for, whatever fits into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mlpipe.counting.columns import Text, concatenate, take
from mlpipe.counting.counted import Entries
from mlpipe.counting.order import ByCount, Most, descending, in_arrival_order, ranks
from mlpipe.counting.runs import Runs
from mlpipe.counting.table import Arrangement, Table, arranged, arranged_each, table_of

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=60)
ROOM = 1 << 20


class Made:
    """A finished table of counts that is in memory."""

    missing, method, why, spilled_bytes = 0, "table", "for the test", 0

    def __init__(self, keys, counts, piece: int = 1000) -> None:
        self.keys, self.counts, self.piece, self.closed = keys, np.asarray(counts), piece, False
        self.distinct, self.total = len(self.counts), self.counts.sum().item()

    def by_value(self) -> Iterator[Entries]:
        for start in range(0, self.distinct, self.piece):
            part = slice(start, start + self.piece)
            columns = [take(key, part).copy() for key in (*self.keys, self.counts)]
            yield Entries(tuple(columns[:-1]), columns[-1])
            for column in columns:  # its maker may use it again
                (column.content if isinstance(column, Text) else column)[...] = 0

    def close(self) -> None:
        self.closed = True


def _rows(table: Table) -> list[tuple]:
    columns: list[list] = [[] for _ in table.names]
    for piece in table.pieces:
        assert [None if isinstance(column, Text) else column.dtype for column in piece] == list(table.dtypes)
        for values, column in zip(columns, piece, strict=True):
            values += column.tolist()
    rows = list(zip(*columns, strict=True))
    assert table.rows in (None, len(rows))
    return rows


def _arranged(made: Made, directory: Path, names: tuple[str, ...] = ("value",), room: int = ROOM, **wanted) -> Table:
    return arranged(made, Arrangement(**wanted), names, room=room, directory=str(directory))


def _expected(keys: list, counts: list, sort: str, top: int | None, least: float | None) -> list[tuple]:
    rows = [row for row in zip(keys, counts, strict=True) if least is None or row[1] >= least]
    most = sorted(range(len(rows)), key=lambda row: -rows[row][1])[:top]
    return [rows[row] for row in (most if sort == "count" else sorted(most))]


COUNTS = st.lists(st.integers(1, 5) | st.integers(1, 2**62), max_size=50)


@FIXED
@given(COUNTS, st.sampled_from(["count", "value", "none"]), st.none() | st.integers(1, 60), st.none() | st.just(3))
def test_rows_are_those_that_were_asked_for(tmp_path_factory, counts, sort, top, least):
    directory = tmp_path_factory.getbasetemp()
    keys = list(range(len(counts)))
    made = Made([np.array(keys, np.int32)], np.array(counts, np.int64), piece=7)
    table = _arranged(made, directory, sort=sort, top=top, min_count=least)
    assert table.names == ("value", "count")
    assert _rows(table) == _expected(keys, counts, sort, top, least)


@pytest.mark.parametrize("counts", ["few", "ties", "weights", "wide", "one", "descending"])
@pytest.mark.parametrize("kind", ["numbers", "text", "rows"])
@pytest.mark.parametrize("top", [None, 70_000])
def test_what_does_not_fit_into_memory_is_in_the_same_order(tmp_path, counts, kind, top):
    size = 80_000
    random = np.random.default_rng(3)
    made = {
        "few": random.geometric(0.5, size),
        "ties": np.ones(size, np.int64),
        "weights": random.normal(size=size).round(2) ** 2,
        "wide": random.integers(1, 2**62, size),
        "one": np.where(np.arange(size) == 7, 2**40, 1),
        "descending": np.arange(size, 0, -1),
    }[counts]
    numbers = np.arange(size) * 3.0
    keys = {
        "numbers": [numbers],
        "text": [Text.of([b"%06d" % number + b"x" * (number % 50) for number in range(size)])],
        "rows": [np.column_stack([numbers, -numbers])],
    }[kind]
    order = np.argsort(-made, kind="stable")[:top]
    names = ("value",) if kind != "rows" else ("x0", "x1")
    table = _arranged(Made(keys, made), tmp_path, names, top=top)
    columns = [concatenate(list(parts)) for parts in zip(*table.pieces, strict=True)]
    assert table.rows == len(order)
    assert columns[-1].tolist() == made[order].tolist()
    first = keys[0] if kind != "rows" else keys[0][:, 0]
    assert columns[0].tolist() == take(first, order).tolist()
    if kind == "rows":
        assert columns[1].tolist() == (-numbers[order]).tolist()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("counts", ["few", "ties", "wide"])
def test_more_of_the_most_frequent_than_fit_into_memory_come_by_value(tmp_path, counts):
    size, top = 60_000, 45_000
    random = np.random.default_rng(4)
    made = {
        "few": random.geometric(0.5, size), "ties": np.ones(size, np.int64), "wide": random.integers(1, 2**62, size)
    }[counts]  # fmt: skip
    table = _arranged(Made([np.arange(size)], made), tmp_path, sort="value", top=top)
    kept = np.sort(np.argsort(-made, kind="stable")[:top])
    assert _rows(table) == list(zip(kept.tolist(), made[kept].tolist(), strict=True))


@FIXED
@given(COUNTS.filter(bool), st.integers(1, 60), st.integers(1, 20))
def test_both_ways_to_the_most_frequent_agree(tmp_path_factory, counts, limit, piece):
    made = Made([np.arange(len(counts))], np.array(counts, np.int64), piece)
    most = Most(limit)
    for keys, part in made.by_value():
        most.add((*keys, part))
    pieces = ((*keys, part) for keys, part in made.by_value())
    slow = list(in_arrival_order(pieces, limit, ROOM, str(tmp_path_factory.getbasetemp())))
    found = most.rows()
    assert found is not None
    assert found[0].tolist() == [key for piece in slow for key in piece[0].tolist()]


def test_most_hold_no_more_than_a_few_times_what_is_asked_for():
    most = Most(3)
    random = np.random.default_rng(1)
    counts = random.integers(1, 1000, 1_000_000)
    for start in range(0, len(counts), 10_000):
        most.add((np.arange(start, start + 10_000), counts[start : start + 10_000]))
    order = np.sort(np.argsort(-counts, kind="stable")[:3])
    found = most.rows()
    assert found is not None
    assert found[0].tolist() == order.tolist()
    assert Most(5).rows() is None


@FIXED
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30))
def test_ranks_are_in_the_order_of_the_counts(counts):
    array = np.array(counts)
    rank = ranks(array)
    assert np.array_equal(np.argsort(rank, kind="stable"), np.argsort(array, kind="stable"))


@FIXED
@given(st.lists(st.integers(0, 3) | st.integers(0, 2**63 - 1), min_size=1, max_size=100))
def test_descending_is_stable(counts):
    order = descending(np.array(counts, np.int64))
    expected = sorted(range(len(counts)), key=lambda row: -counts[row])
    assert (expected if order is None else order.tolist()) == expected
    assert (order is None) == (counts == sorted(counts, reverse=True))


@pytest.mark.parametrize("dtype", ["i8", "f8"])
def test_shares_are_of_all_and_sums_of_what_is_shown(tmp_path, dtype):
    made = Made([np.array([4, 5, 6, 7])], np.array([1, 4, 3, 2], dtype), piece=1)
    both = _arranged(made, tmp_path, top=3, normalize=True, cumulative=True)
    assert both.names == ("value", "count", "share", "cumulative")
    assert _rows(both) == [(5, 4, 0.4, 0.4), (6, 3, 0.3, 0.7), (7, 2, 0.2, 0.9)]
    sums = _arranged(made, tmp_path, sort="value", cumulative=True)
    assert sums.dtypes[-1] == np.dtype(dtype)
    assert _rows(sums) == [(4, 1, 1), (5, 4, 5), (6, 3, 8), (7, 2, 10)]


def test_the_shares_of_weights_that_are_all_0_are_no_numbers(tmp_path):
    made = Made([np.array([4, 5])], np.zeros(2))
    assert [np.isnan(row[2]) for row in _rows(_arranged(made, tmp_path, normalize=True))] == [True, True]


@FIXED
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_running_sums_do_not_depend_on_pieces(tmp_path_factory, weights, one, other):
    directory = tmp_path_factory.getbasetemp()
    made = [Made([np.arange(len(weights))], np.array(weights), piece) for piece in (one, other)]
    first, second = (_rows(_arranged(each, directory, sort="value", cumulative=True)) for each in made)
    assert first == second


def test_of_nothing_there_is_an_empty_table(tmp_path):
    empty = Made([np.zeros(0, "f4")], np.zeros(0, np.int64))
    for wanted in ({}, {"top": 3}, {"sort": "value"}, {"min_count": 2}, {"normalize": True, "cumulative": True}):
        assert _rows(_arranged(empty, tmp_path, **wanted)) == []
    made = Made([np.arange(3)], np.ones(3, np.int64))
    assert _rows(_arranged(made, tmp_path, min_count=2)) == []
    assert _rows(_arranged(made, tmp_path, min_count=2, top=1, sort="value")) == []


@pytest.mark.parametrize("wanted", [{}, {"top": 1}, {"min_count": 2}, {"sort": "value", "top": 1}])
def test_the_tables_of_several_columns_follow_one_another(tmp_path, wanted):
    made = [(2, Made([np.array([1, 3])], [1, 5])), (-1, Made([np.array([0])], [7])), (0, Made([np.zeros(0, int)], []))]
    made[2][1].counts = np.zeros(0, np.int64)
    table = arranged_each(made, Arrangement(**wanted), ("value",), room=ROOM, directory=str(tmp_path))
    assert table.names == ("column", "value", "count")
    rows = [(2, 3, 5), (2, 1, 1), (-1, 0, 7)]
    assert _rows(table) == (rows if not wanted else [rows[0], rows[2]])
    assert all(one.closed for _, one in made)


def test_names_are_as_many_as_key_columns(tmp_path):
    with pytest.raises(ValueError, match="1 names for 2 key columns"):
        _arranged(Made([np.zeros((3, 2))], [1, 1, 1]), tmp_path)


def test_temporary_files_go_when_nobody_wants_the_rest(tmp_path):
    made = Made([np.arange(100_000)], np.arange(100_000))
    table = _arranged(made, tmp_path)
    assert next(table.pieces)[0][0] == 99_999
    table.close()
    table.close()
    assert list(table.pieces) == []


def test_any_rows_of_a_run_can_be_read_back(tmp_path):
    columns = [np.arange(10, dtype="u2"), Text.of([b"x" * n for n in range(10)]), np.arange(30.0).reshape(10, 3)]
    with Runs(str(tmp_path)) as runs:
        first, second = runs.append(columns), runs.append(columns, np.arange(9, -1, -1))
        for run, step in ((first, 1), (second, -1)):
            back = runs.read(run, 3, 7)
            for column, expected in zip(back, columns, strict=True):
                assert column.tolist() == take(expected, slice(None, None, step)).tolist()[3:7]
        assert runs.bytes_of(first, 3, 7) == 4 * 2 + (3 + 4 + 5 + 6 + 5 * 8) + 4 * 24
        assert os.listdir(tmp_path) == []


def test_sorting_says_what_it_wrote(tmp_path):
    with ByCount(ROOM, str(tmp_path)) as sorting:
        for _ in range(10):
            sorting.add((np.arange(10_000), np.arange(10_000)))
        assert 0 < sorting.spilled_bytes < 10 * 10_000 * 16
        counts = [count for piece in sorting.pieces() for count in piece[1].tolist()]
        assert counts == sorted(list(range(10_000)) * 10, reverse=True)
        assert sorting.spilled_bytes == 10 * 10_000 * 16


def test_a_table_in_memory():
    table = table_of({"a": np.arange(2), "b": Text.of([b"x", b"y"])})
    assert (table.dtypes, _rows(table)) == ((np.dtype(np.int64), None), [(0, b"x"), (1, b"y")])

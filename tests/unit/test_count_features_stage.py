"""count-features as a stage: the same table as `collections.Counter` gives, however the rows come."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mlpipe
from mlpipe.errors import InputError, MemoryCeilingError, UsageError
from mlpipe.link import Array, Labels, Room, Spec
from mlpipe.opening import Opening
from mlpipe.stages.count_features import CountFeatures
from mlpipe.stages.counting import Found
from mlpipe.workers import Workers
from tests.flow import blocks_of, spec_of
from tests.passing import PassingRun

Key = tuple[Any, ...]
Table = list[tuple[Any, ...]]

DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
FIXED = settings(
    derandomize=True, deadline=None, database=None, max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def counted(
    options: dict[str, Any], rows: Array, labels: Array | None = None, *, sizes: Sequence[int] = (7,), threads: int = 1,
    least: bool = False, directory: str = ".",
) -> tuple[Table, Found]:  # fmt: skip
    """The table of a verb as rows of Python values, and what was found."""
    got: Table = []
    kept: list[Found] = []

    def deliver(found: Found, table: Any, run: Any) -> None:
        kept.append(found)
        for piece in table.pieces:
            got.extend(zip(*(column.tolist() for column in piece), strict=True))

    spec = spec_of(rows, labels)
    with ExitStack() as files, Workers(threads) as workers:
        verb = CountFeatures(**options, temp_dir=directory)
        stage = verb.stage(Opening(files), deliver)
        stage.plan(spec)
        run = PassingRun(workers)
        nbytes = 256 << 20
        if least:
            with pytest.raises(MemoryCeilingError) as caught:
                stage.hold(spec, Room(0, threads, block_rows=max(sizes)))
            nbytes = caught.value.needs
        while stage.flow == "fitting":
            given: list[int] = []
            held = stage.hold(spec, Room(nbytes, threads, block_rows=max(sizes)))
            stage = stage.fit(blocks_of(rows, labels, sizes, given), held, run)  # type: ignore[attr-defined]
            assert given == [1] * len(given), "every block is released once"
        held = stage.hold(spec, Room(nbytes, threads, block_rows=max(sizes)))
        assert sum(held.nbytes.values()) <= nbytes
        given = []
        share = sum(block.share for block in stage.apply(blocks_of(rows, labels, sizes, given), held, run))
        assert given == [1] * len(given), "every block is released once"
        assert share == pytest.approx(1) or not len(rows)
    return got, kept[0]


def plain(value: Any) -> Any:
    """A value such that equal ones are equal: one NaN, no -0."""
    if isinstance(value, float):
        return math.nan if value != value else value + 0.0
    return value


def ordered(key: Key) -> tuple[Any, ...]:
    """What sorts by value, NaN last."""
    return tuple((1, 0) if one != one else (0, one) for one in key)


def naive(keys: Sequence[Key], weights: Sequence[Any], options: dict[str, Any]) -> Table:
    """The table that counts of these keys make."""
    counts: Counter[Any] = Counter()
    for key, weight in zip(keys, weights, strict=True):
        counts[ordered(tuple(map(plain, key)))] += weight
    total = sum(counts.values())
    found = [(tuple(math.nan if nan else value for nan, value in key), count) for key, count in sorted(counts.items())]
    found = [(key, count) for key, count in found if count >= options.get("min_count", 0)]
    by_count = sorted(found, key=lambda one: -one[1])
    if "top" in options:
        by_count = by_count[: options["top"]]
    made = by_count if options.get("sort", "count") == "count" else [one for one in found if one in by_count]
    table: Table = []
    running = 0
    for key, count in made:
        running += count
        more = [count / total if total else math.nan] if options.get("normalize") else []
        if options.get("cumulative"):
            more.append((running / total if total else math.nan) if options.get("normalize") else running)
        table.append((*key, count, *more))
    return table


def same(got: Table, wanted: Table) -> None:
    """Compare, NaN being equal to NaN."""
    assert [ordered(row) for row in got] == [ordered(row) for row in wanted]


@st.composite
def values(draw: st.DrawFn, dtypes: Sequence[str]) -> Array:
    """Rows with many values alike, and all that is special."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rows, columns = draw(st.sampled_from([0, 1, 2, 5, 40, 300])), draw(st.sampled_from([None, 1, 2, 3]))
    shape = (rows,) if columns is None else (rows, columns)
    special: list[Any] = [0, 1]
    if dtype.kind in "iu":
        special += [np.iinfo(dtype).min, np.iinfo(dtype).max]
    if dtype.kind == "f":
        special += [-0.0, math.nan, math.inf, -math.inf, 0.1, -1.5, float(np.finfo(dtype).max)]
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    made = np.array(special, dtype)[random.integers(0, len(special), shape)]
    if draw(st.booleans()) and dtype.kind != "b":
        made = np.where(random.random(shape) < 0.5, made, random.integers(0, 100, shape).astype(dtype))
    return made.astype(dtype)


@st.composite
def cases(draw: st.DrawFn, dtypes: Sequence[str] = DTYPES) -> tuple[Array, str, dict[str, Any], dict[str, Any]]:
    """Rows, what is counted of them, options of the table, and how rows come."""
    rows = draw(values(dtypes))
    what = draw(st.sampled_from(["flat", "column", "columns", "each", "pairs", "rows"]))
    table: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "sort": st.sampled_from(["count", "value"]), "top": st.sampled_from([1, 2, 10]),
                "min_count": st.sampled_from([1, 2, 5]), "normalize": st.just(True), "cumulative": st.just(True),
            },
        )
    )  # fmt: skip
    how = {
        "sizes": draw(st.sampled_from([(1, 30), (7, 60), (3, 110, 1), (1000,)])),
        "threads": draw(st.sampled_from([1, 2, 3])),
        "least": draw(st.booleans()),
    }  # fmt: skip
    return rows, what, table, how


def keys_of(rows: Array, what: str) -> tuple[dict[str, Any], dict[int, list[list[Key]]]]:
    """Options for what is counted, and the keys of each row of each table."""
    flat = rows.reshape(len(rows), -1) if rows.size else rows.reshape(len(rows), rows.shape[1] if rows.ndim > 1 else 1)
    last, listed = flat.shape[1] - 1, flat.tolist()
    if what == "column":
        return {"column": (-1,)}, {-1: [[(row[-1],)] for row in listed]}
    if what == "columns":
        chosen = list(dict.fromkeys([last, 0]))
        tables = {column: [[(row[column],)] for row in listed] for column in chosen}
        return {"column": (-1, 0, last)}, tables if len(chosen) > 1 else {-1: tables[0]}
    if what == "each":
        return {"each_column": True}, {column: [[(row[column],)] for row in listed] for column in range(last + 1)}
    if what == "pairs":
        return {"pairs": (-1, 0)}, {-1: [[(row[-1], row[0])] for row in listed]}
    if what == "rows":
        return {"rows": True}, {-1: [[tuple(row)] for row in listed]}
    return {}, {-1: [[(value,) for value in row] for row in listed]}


def expected(tables: dict[int, list[list[Key]]], weights: list[Any], options: dict[str, Any]) -> Table:
    """The tables one below the other, with their columns."""
    found: Table = []
    for column, keys in tables.items():
        alone = [key for row in keys for key in row]
        weighed = [weight for row, weight in zip(keys, weights, strict=True) for _ in row]
        found += [(*([column] if column >= 0 else []), *row) for row in naive(alone, weighed, options)]
    return found


@FIXED
@given(cases())
@example((np.zeros((0, 3), "f4"), "each", {}, {}))
@example((np.array([0.0, -0.0, math.nan, -math.nan]), "flat", {"normalize": True}, {}))
def test_same_as_counter(tmp_path: Path, case: tuple[Array, str, dict[str, Any], dict[str, Any]]) -> None:
    rows, what, table, how = case
    options, tables = keys_of(rows, what)
    got, found = counted({**options, **table}, rows, directory=str(tmp_path), **how)
    same(got, expected(tables, [1] * len(rows), table))
    assert found.rows == len(rows)
    assert [one.counted.total for one in found.results] == [sum(map(len, keys)) for keys in tables.values()]
    if what != "rows" and what != "pairs":
        missing = [sum(key[0] != key[0] for row in keys for key in row) for keys in tables.values()]
        assert [one.counted.missing for one in found.results] == missing
    assert list(tmp_path.iterdir()) == []


@FIXED
@given(cases(), st.sampled_from(["i8", "u1", "f8", "?"]), st.booleans(), st.integers(0, 99))
def test_by_label_and_with_weights(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[Array, str, dict[str, Any], dict[str, Any]],
    kind: str,
    carried: bool,
    seed: int,
) -> None:
    rows, what, table, how = case
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, len(rows)).astype(kind)
    weights = (random.integers(0, 9, len(rows)) / (4 if kind == "f8" else 1)).astype(kind)
    np.save(folder / "Y.npy", labels)
    np.save(folder / "W.npy", weights[:, None])
    options, tables = keys_of(rows, what)
    options |= {"by": "labels" if carried else str(folder / "Y.npy"), "weights": str(folder / "W.npy")}
    got, _ = counted({**options, **table}, rows, labels if carried else None, directory=str(folder), **how)
    labelled = {
        column: [[(label, *key) for key in row] for label, row in zip(labels.tolist(), keys, strict=True)]
        for column, keys in tables.items()
    }
    same(got, expected(labelled, (weights + 0).tolist(), table))


@FIXED
@given(
    cases(["?", "u8", "f4"]),
    st.sampled_from(["x[-1] > 0", "not x[0] == 1", "isnan(x[0]) or x[0] < 2", "x[0]"]),
    st.booleans(),
)
def test_where_and_cast(
    tmp_path: Path, case: tuple[Array, str, dict[str, Any], dict[str, Any]], where: str, cast: bool
) -> None:
    rows, what, table, how = case
    rows = rows.reshape(len(rows), -1) if rows.size else np.zeros((0, 2), rows.dtype)
    with np.errstate(invalid="ignore"):
        first, last = rows[:, 0].astype("f8"), rows[:, -1].astype("f8")
    holds = {
        "x[-1] > 0": last > 0, "not x[0] == 1": first != 1, "isnan(x[0]) or x[0] < 2": ~(first >= 2),
        "x[0]": first != 0,
    }[where]  # fmt: skip
    options, _ = keys_of(rows, what)
    _, tables = keys_of(rows[holds].astype("f8") if cast else rows[holds], what)
    more = {"where": where, **({"cast": "float64"} if cast else {})}
    got, _ = counted({**options, **table, **more}, rows, directory=str(tmp_path), **how)
    same(got, expected(tables, [1] * int(holds.sum()), table))


def test_where_of_each_value() -> None:
    rows = np.array([[1, 5, 0], [7, 5, 2]])
    got, _ = counted({"where": "x > 1 and x < 7", "sort": "value"}, rows)
    assert got == [(2, 1), (5, 2)]
    labels = np.array([3, 4])
    got, _ = counted({"where": "x >= 5", "by": "labels", "sort": "value"}, rows, labels)
    assert got == [(3, 5, 1), (4, 5, 1), (4, 7, 1)]
    with pytest.raises(UsageError, match=r"--where 'x > 1': x is each value, .*; name a column, such as x\[0\]"):
        counted({"where": "x > 1", "rows": True}, rows)
    assert counted({"where": "1", "sort": "value"}, rows)[0] == [(0, 1), (1, 1), (2, 1), (5, 2), (7, 1)]
    assert counted({"where": "0"}, rows)[0] == []


@pytest.mark.parametrize(
    ("value", "to", "wanted"),
    [(-1.9, "int64", -1), (255.9, "uint8", 255), (-0.5, "uint8", 0), (0.5, "bool", True), (1e300, "float32", None),
     (math.nan, "int8", None), (math.inf, "int64", None), (256.0, "uint8", None), (9.3e18, "int64", None)],
)  # fmt: skip
def test_cast_cuts_off_fractions_or_refuses(value: float, to: str, wanted: Any) -> None:
    rows = np.array([1.5, 1.5, value])
    if wanted is None:
        with pytest.raises(InputError, match=rf"count-features --cast {to}: row 2 holds .*, which {to} cannot; "):
            counted({"cast": to}, rows, sizes=(2,))
        with pytest.raises(InputError, match=r": row 2 holds "):
            counted({"cast": to, "where": "x != 1.5"}, rows, sizes=(3,))
        assert counted({"cast": to, "where": "x == 1.5"}, rows)[0] == [(1.5 if to[0] == "f" else 1, 2)]
    else:
        assert (wanted, 1 if wanted != 1 else 3) in counted({"cast": to}, rows)[0]


@pytest.mark.parametrize("bins", [1, 5, 17, "auto", "fd", "doane", "scott", "rice", "sturges", "sqrt"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "?"])
def test_bins_are_those_of_numpy(bins: Any, dtype: str) -> None:
    rows = np.random.default_rng(3).normal(20, 5, (200, 2)).astype(dtype)
    got, found = counted({"bins": bins, "normalize": True}, rows, sizes=(13, 50), threads=2)
    values = rows.view("u1") if dtype == "?" else rows
    counts, edges = np.histogram(values, bins)
    assert got == [
        (low, high, count, count / rows.size)
        for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    ]
    assert found.results[0].counted.total == rows.size


@pytest.mark.parametrize("bins", [7, "auto", "doane"])
@pytest.mark.parametrize("dtype", ["u1", "i8", "f4"])
def test_bins_within_the_least_memory_that_is_named(bins: Any, dtype: str) -> None:
    rows = np.random.default_rng(1).normal(0, 50, (30_000, 3)).clip(0).astype(dtype)
    for threads in (1, 2):
        got, found = counted({"bins": bins}, rows, sizes=(10_000,), threads=threads, least=True)
        counts, edges = np.histogram(rows, bins)
        assert [row[2] for row in got] == counts.tolist()
        assert [row[0] for row in got] == edges[:-1].tolist()
        got, found = counted({"bins": bins, "each_column": True}, rows, sizes=(10_000,), threads=threads, least=True)
        for column, result in enumerate(found.results):
            counts, edges = np.histogram(rows[:, column], bins)
            assert result.counted.distinct == len(counts)
            assert [row[3] for row in got if row[0] == column] == counts.tolist()


def test_what_many_tables_of_bins_take(tmp_path: Path) -> None:
    spec = Spec(10**6, (64,), np.dtype("f4"))
    with ExitStack() as files:
        stage = CountFeatures(bins="auto", each_column=True).stage(Opening(files), lambda *_: None)
        with pytest.raises(MemoryCeilingError) as caught:
            stage.hold(spec, Room(0, 2))
        assert caught.value.needs < 128 << 20
        few, many = (stage.hold(spec, Room(nbytes, 2)) for nbytes in (caught.value.needs, 8 << 30))
    assert few.facts["passes_over_source"] > many.facts["passes_over_source"]


def test_edges_columns_and_weights_in_bins(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows, weights = random.random((50, 2)), random.integers(0, 5, 50)
    np.save(tmp_path / "W.npy", weights)
    edges = (0.0, 0.25, 0.5, 0.5, 1.0)
    got, _ = counted({"edges": edges, "weights": str(tmp_path / "W.npy"), "each_column": True}, rows)
    wanted = [np.histogram(rows[:, column], edges, weights=weights)[0].tolist() for column in range(2)]
    assert got == [(c, edges[b], edges[b + 1], wanted[c][b]) for c in range(2) for b in range(4)]
    got, _ = counted({"bins": 3, "each_column": True, "top": 1, "where": "x[0] < 0.9"}, rows, threads=2)
    for column, low, high, count in got:
        counts, ends = np.histogram(rows[rows[:, 0] < 0.9, column], 3)
        assert (low, high, count) == (ends[counts.argmax()], ends[counts.argmax() + 1], counts.max())


def test_sketches_say_how_good_they_are() -> None:
    pytest.importorskip("datasketches")
    rows = np.random.default_rng(3).geometric(0.3, 5000)
    got, found = counted({"approx": True, "top": 3}, rows, sizes=(999,), threads=2)
    assert got == [(value, int((rows == value).sum())) for value in (1, 2, 3)]
    assert found.results[0].counted.distinct == len(np.unique(rows))
    assert "distinct in 95 of 100 cases" in found.results[0].counted.why


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": (3,)}, "--column 3: rows have 3 columns, from 0 to 2, or -3 to -1"),
        ({"column": (0, -4)}, "--column -4: rows have 3 columns, from 0 to 2, or -3 to -1"),
        ({"pairs": (0, 3)}, "--pairs 3: rows have 3 columns, from 0 to 2, or -3 to -1"),
        ({"where": "x[3] > 0"}, r"--where: x\[3\], but rows have 3 columns, from 0 to 2, or -3 to -1"),
        ({"by": "labels"}, "--by labels: rows carry no labels; name a file, or read some with read --labels"),
    ],
)
def test_rows_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^count-features {message}$"):
        counted(options, np.zeros((2, 3)))


@pytest.mark.parametrize("kind", ["c8", "c16"])
def test_complex_numbers_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match="where bool, integers or floats are needed"):
        counted({}, np.zeros(3, kind))


def test_rows_of_more_dimensions() -> None:
    rows = np.arange(12).reshape(2, 3, 2) % 5
    assert counted({"sort": "value"}, rows)[0] == [(0, 3), (1, 3), (2, 2), (3, 2), (4, 2)]
    assert counted({"rows": True}, rows[[0, 0, 1]])[0][0] == (0, 1, 2, 3, 4, 0, 2)
    with pytest.raises(InputError, match=r"--column: rows of shape \(3, 2\) have no columns to choose from; reshape"):
        counted({"column": (0,)}, rows)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1, -2, 3]), "row 1 weighs -2; weights are finite numbers from 0 on"),
        (np.array([1, math.nan, 3]), "row 1 weighs nan; weights"),
        (np.array([1, 2, math.inf]), "row 2 weighs inf; weights"),
        (np.array([1, 2, 2**63], "u8"), "row 2 weighs 9223372036854775808; weights"),
        (np.full(3, 2**62), "by row 1 weights add up to 9223372036854775808, more than"),
        (np.array([1, 2]), r"W.npy: 2 values for 3 rows; there must be one for each"),
        (np.ones((3, 2)), r"W.npy: shape \(3, 2\); there must be one value for each row"),
        (np.ones(3, "c8"), "complex64 where bool, integers or floats are needed"),
    ],
)
def test_weights_that_make_no_sense(tmp_path: Path, array: Array, message: str) -> None:
    path = tmp_path / "W.npy"
    np.save(path, array)
    with pytest.raises(InputError, match=message):
        counted({"weights": str(path)}, np.zeros(3), sizes=(2,))


def test_files_beside_rows_of_unknown_number(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.arange(10) % 3)
    np.save(tmp_path / "W.npy", np.ones(4, int))
    chain = mlpipe.read(tmp_path / "X.npy").dedup()
    with pytest.raises(InputError, match=r"--weights .*W.npy: 4 values for 3 rows; there must be one for each"):
        list(chain.count_features(weights=tmp_path / "W.npy"))
    np.save(tmp_path / "W.npy", np.ones(2, int))
    with pytest.raises(InputError, match="2 values, but there are 3 rows or more"):
        list(chain.count_features(weights=tmp_path / "W.npy"))
    np.save(tmp_path / "W.npy", np.array([5, 6, 7]))
    assert np.concatenate(list(chain.count_features(weights=tmp_path / "W.npy"))).tolist() == [[2, 7], [1, 6], [0, 5]]


@pytest.mark.parametrize(
    ("kind", "options", "made"),
    [
        ("i4", {}, "i8"), ("?", {}, "i8"), ("u8", {}, "u8"), ("f2", {}, "f8"), ("u8", {"normalize": True}, "f8"),
        ("u8", {"each_column": True}, "u8"), ("i8", {"cumulative": True}, "i8"), ("u2", {"edges": [0, 1]}, "f8"),
    ],
)  # fmt: skip
def test_rows_of_an_array(tmp_path: Path, kind: str, options: dict[str, Any], made: str) -> None:
    rows = (np.arange(20).reshape(10, 2) % 4).astype(kind)
    np.save(tmp_path / "X.npy", rows)
    chain = mlpipe.read(tmp_path / "X.npy").count_features(**options)
    found = list(chain)
    assert {block.dtype for block in found} == {np.dtype(made)}
    wanted, _ = counted(options, rows)
    assert np.concatenate(found).tolist() == [list(map(float if made == "f8" else int, row)) for row in wanted]
    chain.write(tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").tolist() == np.concatenate(found).tolist()
    assert sum(map(len, mlpipe.read(tmp_path / "X.npy").count_features(**options).head(1))) == 1


def test_an_array_that_is_not_exact_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.array([2**53 + 1, 1]))
    with pytest.raises(InputError, match="value 9007199254740993 is not exact in float64"):
        list(mlpipe.read(tmp_path / "X.npy").count_features(normalize=True))


def test_endless_rows_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.arange(5))
    with pytest.raises(UsageError, match="counts all rows, but they never stop coming; put head before it"):
        list(mlpipe.read(tmp_path / "X.npy").repeat(epochs="forever").count_features())


def test_a_ceiling_too_small_names_one_that_works() -> None:
    with ExitStack() as files:
        stage = CountFeatures().stage(Opening(files))
        spec = Spec(None, (3,), np.dtype("i8"), Labels((), np.dtype("i8")))
        with pytest.raises(MemoryCeilingError) as caught:
            stage.hold(spec, Room(1 << 10, 2, block_rows=10))
        for threads in (1, 2, 5):
            stage.hold(spec, Room(caught.value.needs * threads, threads, block_rows=10))


def options_that_contradict() -> Iterator[tuple[dict[str, Any], str]]:
    what = {"rows": True, "pairs": (0, 1), "column": (1,), "each_column": True}
    flags = {name: f"--{name.replace('_', '-')}" for name in what}
    for place, one in enumerate(what):
        for other in list(what)[place + 1 :]:
            yield {one: what[one], other: what[other]}, f"{flags[one]} and {flags[other]}: each says what is counted"
    yield {"bins": 3, "edges": (0, 1)}, "--bins and --edges: each says where bins end"
    for name in ("rows", "pairs"):
        yield {"bins": 3, name: what[name]}, f"--bins and {flags[name]}: bins are of single values"
        yield {"approx": True, name: what[name]}, f"--approx and {flags[name]}: sketches take single values"
    yield {"approx": True, "weights": "W.npy"}, "--approx and --weights: sketches count"


@pytest.mark.parametrize(("options", "message"), list(options_that_contradict()))
def test_contradictions_name_both(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^count-features {message}"):
        CountFeatures(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "--top 0: give 1 or more"),
        ({"min_count": -1}, "--min-count -1: give 1 or more"),
        ({"pairs": (1,)}, "--pairs: 1 columns; give two"),
        ({"bins": 0}, "--bins 0: give 1 to"),
        ({"bins": "stone"}, "--bins stone: give a number of bins, or one of auto"),
        ({"edges": (1.0,)}, "--edges: 1 given; bins need two or more"),
        ({"edges": (1.0, math.nan)}, "--edges: nan is among them"),
        ({"edges": (1.0, 0.5)}, "--edges 1,0.5: give them in ascending order"),
        ({"where": "x.y"}, r"--where 'x.y', column 2: nothing has attributes here"),
        ({"where": "x, 1"}, "--where 'x, 1': several expressions; join conditions with and, or, not"),
    ],
)
def test_values_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^count-features {message}"):
        CountFeatures(**options)

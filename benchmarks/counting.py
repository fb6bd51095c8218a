"""How often each value occurs: `mlpipe.value_counts` in memory, and `mlpipe count-features` under a ceiling.

In memory: everybody gets the same array, Polars and DuckDB in the form that costs them no conversion, and each is timed
in its fastest form, by turns with ours. In the file: whole processes, interpreter included, from a file in the page
cache to a file of values and counts; DuckDB and Polars read the same values from Parquet, uncompressed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mlpipe
from benchmarks.harness import THREADS, Goal, Part, Table, milliseconds, results_directory, seconds, times
from benchmarks.startup import command
from benchmarks.whole_process import measure

MEMORY = "512MiB"
CEILING = 512 << 20
PIECE_ROWS = 5_000_000
ROUNDS = 5

DUCKDB = """
import sys, duckdb
source, target, directory, threads = sys.argv[1:]
link = duckdb.connect()
link.execute(f"SET threads={threads}; SET memory_limit='512MB'; SET temp_directory='{directory}'")
link.execute("SET preserve_insertion_order=false")
link.execute(f"COPY (SELECT v, count(*) AS n FROM read_parquet('{source}') GROUP BY v) TO '{target}' "
             "(FORMAT parquet, COMPRESSION uncompressed)")
"""

POLARS = """
import os, sys
source, target, _, threads = sys.argv[1:]
os.environ["POLARS_MAX_THREADS"] = threads
import polars as pl
pl.scan_parquet(source).group_by("v").agg(pl.len()).sink_parquet(target, compression="uncompressed")
"""


def cases(rows: int) -> Iterator[tuple[str, Any, float]]:
    """Arrays with their names, and how many times as fast as the best peer we want to be."""
    random = np.random.default_rng(11)
    million = f"{rows // 10**6} M" if rows >= 10**6 else f"{rows}"
    yield f"{million} int64, 1000 distinct", random.integers(0, 1000, rows), 2.5
    yield f"{million} int64, zipf(1.3)", random.zipf(1.3, rows), 1.5
    for distinct in (rows // 20, rows // 2):
        yield f"{million} int64, {distinct} distinct, dense", random.integers(0, distinct, rows), 1.5
        some = random.integers(-(2**63), 2**63 - 1, distinct)
        yield f"{million} int64, {distinct} distinct, any", some[random.integers(0, distinct, rows)], 1.5
    floats = random.standard_normal(rows // 200)
    floats[:100] = np.nan
    yield f"{million} float64, {len(floats)} distinct, NaN", floats[random.integers(0, len(floats), rows)], 1.5


def peers(x: Any) -> dict[str, Callable[[], object]]:
    """Everybody else, each in its forms."""
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    series, frame, table = pl.Series("v", x), pd.Series(x), pa.table({"v": x})
    polars = series.to_frame()
    link = duckdb.connect()
    link.execute(f"SET threads={THREADS}")
    link.register("t", table)
    query = "SELECT v, count(*) AS n FROM t GROUP BY v"
    return {
        "numpy.unique": lambda: np.unique(x, return_counts=True),
        "pandas value_counts(sort=False)": lambda: frame.value_counts(sort=False, dropna=False),
        "Polars value_counts": series.value_counts,
        "Polars group_by": lambda: polars.group_by("v").len(),
        "Polars group_by, streaming": lambda: polars.lazy().group_by("v").agg(pl.len()).collect(engine="streaming"),
        "DuckDB": lambda: link.sql(query).to_arrow_table(),
    }


def _check(name: str, x: Any) -> None:
    """Refuse to time what counts something else."""
    values, counts = mlpipe.value_counts(x, threads=THREADS)
    expected = np.unique(x, return_counts=True)
    if not (np.array_equal(values, expected[0], equal_nan=x.dtype.kind == "f") and np.array_equal(counts, expected[1])):
        raise AssertionError(f"{name}: wrong counts; the times would mean nothing")


def memory_part(quick: bool, goals: list[Goal]) -> Table:
    """Milliseconds of everybody."""
    header = ["values", "mlpipe, any order", "mlpipe, by value"]
    lines: list[list[str]] = []
    for name, x, wanted in cases(200_000 if quick else 20_000_000):
        _check(name, x)
        ways: dict[str, Callable[[], object]] = {
            "mlpipe, any order": partial(mlpipe.value_counts, x, sort=None, threads=THREADS),
            "mlpipe, by value": partial(mlpipe.value_counts, x, sort="value", threads=THREADS),
            **peers(x),
        }
        best = dict.fromkeys(ways, float("inf"))
        for number in range(2 if quick else ROUNDS):
            for way, function in ways.items():
                if number < 2 or best[way] < 1:  # what takes seconds is run twice
                    best[way] = min(best[way], seconds(function))
        header = ["values", *ways]
        lines.append([name, *map(milliseconds, best.values())])
        theirs = min(value for way, value in best.items() if not way.startswith("mlpipe"))
        ratio = theirs / best["mlpipe, any order"]
        goals.append(Goal(f"count {name}: ≥ {wanted}× the best peer", times(ratio), ratio >= wanted))
    return Table("counting in memory", f"Milliseconds, best of several; {THREADS} threads.", header, lines)


def _write(folder: Path, rows: int, distinct: int, spread: bool) -> tuple[Path, Path]:
    """The same values as .npy and as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    random = np.random.default_rng(12)
    array, copy = folder / "X.npy", folder / "X.parquet"
    out = np.lib.format.open_memmap(array, mode="w+", dtype=np.int64, shape=(rows,))
    schema = pa.schema([("v", pa.int64())])
    with parquet.ParquetWriter(copy, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, PIECE_ROWS):
            piece = random.integers(0, distinct, min(PIECE_ROWS, rows - start))
            if spread:  # an odd factor: as many distinct values, all over the range
                piece = (piece.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)
            out[start : start + len(piece)] = piece
            writer.write_table(pa.table({"v": piece}))
    out.flush()
    return array, copy


def file_part(quick: bool, goals: list[Goal], spread: bool) -> Table:
    """Seconds and peak memory of processes."""
    rows, distinct = (400_000, 100_000) if quick else (200_000_000, 50_000_000)
    ways: dict[str, list[str]] = {}
    lines, walls, peak = [], {}, 0
    with tempfile.TemporaryDirectory(dir=results_directory(quick)) as directory:
        folder = Path(directory)
        array, copy = _write(folder, rows, distinct, spread)
        mine = ["--memory", MEMORY, "--threads", str(THREADS), "--sort", "none", "-o", str(folder / "out.npy")]
        ways["mlpipe count-features"] = [*command("-q", "count-features", str(array)), *mine, "-f"]
        script = [str(copy), str(folder / "out.parquet"), str(folder / "temporary"), str(THREADS)]
        ways["DuckDB, memory_limit='512MB'"] = [sys.executable, "-c", DUCKDB, *script]
        ways["Polars, streaming"] = [sys.executable, "-c", POLARS, *script]
        for name, arguments in ways.items():
            usages = [measure(arguments) for _ in range(2)]
            walls[name] = min(usage.wall for usage in usages)
            largest = max(usage.anonymous for usage in usages)
            peak = peak or largest
            lines.append([name, f"{walls[name]:.1f}", f"{largest >> 20} MiB"])
        found = len(np.load(folder / "out.npy", mmap_mode="r"))
        if not quick and abs(found - distinct * -np.expm1(-rows / distinct)) > 0.001 * distinct:
            raise AssertionError(f"{found} distinct values; the times would mean nothing")
    where = "all over the range" if spread else "dense"
    what = f"{rows // 10**6} M int64 in a file, {distinct / 1e6:g} M distinct, {where}, --memory {MEMORY}"
    ours = walls.pop("mlpipe count-features")
    goals += [
        Goal(f"{what}: less time than {name}", times(other / ours), ours < other) for name, other in walls.items()
    ]
    goals.append(Goal(f"{what}: peak anonymous memory within it", f"{peak >> 20} MiB", peak <= CEILING))
    return Table(f"counting: {what}", "Seconds, best of two.", ["process", "s", "peak anonymous"], lines)


def run(quick: bool) -> Part:
    """All of them."""
    goals: list[Goal] = []
    tables = [memory_part(quick, goals), *(file_part(quick, goals, spread) for spread in (True, False))]
    return Part("counting", goals, tables)

"""Statistics as files: JSON, CSV, a ``.npz`` that `--from` takes, matrices as ``.npy``."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlpipe.link import Array
from mlpipe.npy_format import build_header
from mlpipe.opening import Opening
from mlpipe.readers.stats import DESCRIPTION
from mlpipe.statistics.results import COUNTS, Statistics
from mlpipe.writers.atomic import AtomicFile, AtomicFiles
from mlpipe.writers.stats import stats_bytes

QUARTILES = {0.25: "lower", 0.5: "median", 0.75: "upper"}
"""Names by which ``robust-scale --from`` finds them."""


@dataclass(frozen=True)
class Outputs:
    """Files of statistics, which appear together.

    Parameters
    ----------
    table, covariance, correlation : str or None
        Where the statistics and the matrices go.
    opening : Opening
        Whether they may replace what is there, and what they may not.
    """

    table: str | None
    covariance: str | None
    correlation: str | None
    opening: Opening

    @property
    def paths(self) -> list[str]:
        """Those there are."""
        return [path for path in (self.table, self.covariance, self.correlation) if path is not None]

    def check(self) -> None:
        """Raise OutputError for what can be known to fail."""
        AtomicFiles([self._file(path, None) for path in self.paths]).check()

    def write(self, statistics: Statistics) -> None:
        """Write what there is."""
        contents: dict[str, tuple[bytes, Array]] = {}
        if self.table is not None:
            contents[self.table] = (table_bytes(statistics, Path(self.table).suffix), np.empty(0))
        for path, matrix in ((self.covariance, statistics.covariance), (self.correlation, statistics.correlation)):
            if path is not None and matrix is not None:
                matrix = np.ascontiguousarray(matrix)
                contents[path] = (build_header(matrix.shape, matrix.dtype), matrix)
        files = [self._file(path, len(first) + rest.nbytes) for path, (first, rest) in contents.items()]
        with AtomicFiles(files):
            for file, (first, rest) in zip(files, contents.values(), strict=True):
                file.pwrite(first, 0)
                file.pwrite(rest, len(first))

    def _file(self, path: str, size: int | None) -> AtomicFile:
        return AtomicFile(path, size=size, force=self.opening.force, inputs=self.opening.inputs)


def table_bytes(statistics: Statistics, suffix: str) -> bytes:
    """The contents of a file of statistics, by its suffix."""
    if suffix == ".npz":
        return stats_bytes(arrays_of(statistics))
    if suffix == ".csv":
        return csv_text(statistics).encode()
    return (json.dumps(json_facts(statistics), indent=1) + "\n").encode()


def arrays_of(statistics: Statistics) -> dict[str, Array]:
    """Arrays of a ``.npz`` by name: one number for each column, in the shape of a row; of all values with ``overall_``.

    Minimum, maximum, mean and variance (always divided by the count) are float64, as `--from` takes them. Quantiles
    are rows of ``quantiles``, in the order of ``quantile_fractions``; quartiles also go by their names.
    """
    shape = statistics.row_shape
    arrays: dict[str, Array] = {DESCRIPTION: np.array(1)}
    for name, numbers in statistics.columns.items():
        if name == "std":
            continue
        kind = np.int64 if name in COUNTS or (name == "distinct" and statistics.distinct_error is None) else np.float64
        overall = statistics.overall[name]
        if name == "variance":
            numbers, overall = statistics.variance, statistics.overall_variance
        arrays[name] = np.asarray(numbers).astype(kind).reshape(shape)
        arrays[f"overall_{name}"] = np.array(overall, kind)
    if statistics.quantiles:
        arrays["quantile_fractions"] = np.array(statistics.quantiles)
        arrays["quantiles"] = statistics.of_columns.reshape(len(statistics.quantiles), *shape)
        arrays["overall_quantiles"] = statistics.of_all
        for place, fraction in enumerate(statistics.quantiles):
            if fraction in QUARTILES:
                arrays[QUARTILES[fraction]] = statistics.of_columns[place].reshape(shape)
    return arrays


def json_facts(statistics: Statistics) -> dict[str, Any]:
    """What a JSON file says; what is not a finite number is null."""
    facts: dict[str, Any] = {
        "schema_version": 1,
        "rows": statistics.rows,
        "shape": [statistics.rows, *statistics.row_shape],
        "dtype": statistics.dtype,
        "ddof": statistics.ddof,
    }
    for name in ("rank_error", "distinct_error"):
        if (error := getattr(statistics, name)) is not None:
            facts[name] = error
    facts["columns"] = [{"column": name, **_facts_of(statistics, place)} for place, name in enumerate(statistics.names)]
    facts["overall"] = _facts_of(statistics, None)
    for name in ("covariance", "correlation"):
        if (matrix := getattr(statistics, name)) is not None:
            facts[name] = [[plain(value) for value in row] for row in matrix]
    return facts


def _facts_of(statistics: Statistics, column: int | None) -> dict[str, Any]:
    """Those of a column, or of all values."""
    facts: dict[str, Any] = {name: plain(value) for name, value in numbers_of(statistics, column)}
    if statistics.quantiles:
        values = statistics.of_all if column is None else statistics.of_columns[:, column]
        pairs = zip(statistics.quantiles, values, strict=True)
        facts["quantiles"] = {f"{fraction!r}": plain(value) for fraction, value in pairs}
    return facts


def numbers_of(statistics: Statistics, column: int | None) -> Iterator[tuple[str, Any]]:
    """Names and numbers of a column, or of all values, without quantiles."""
    for name, numbers in statistics.columns.items():
        yield name, statistics.overall[name] if column is None else numbers[column]


def plain(value: Any) -> int | float | None:
    """A number as JSON has it; None for one that it has not, and for the row of an extreme that there is not.

    Examples
    --------
    >>> plain(np.int8(3)), plain(np.float32(0.5)), plain(np.nan), plain(np.inf)
    (3, 0.5, None, None)
    """
    found: int | float = value.item() if hasattr(value, "item") else value
    return found if math.isfinite(found) else None


def csv_text(statistics: Statistics) -> str:
    r"""A line for each column, then one for all values; floats as short as they can be written exactly."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fractions = [f"q{fraction!r}" for fraction in statistics.quantiles]
    writer.writerow(["column", *statistics.columns, *fractions])
    for column in (*range(len(statistics)), None):
        name = "overall" if column is None else statistics.names[column]
        values = statistics.of_all if column is None else statistics.of_columns[:, column]
        cells = [*(value for _, value in numbers_of(statistics, column)), *values]
        writer.writerow([name, *(_cell(cell) for cell in cells)])
    return text.getvalue()


def _cell(value: Any) -> str:
    return repr(value.item() if hasattr(value, "item") else value)

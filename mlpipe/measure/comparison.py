"""What a comparison leaves behind: one schema for tables, pictures and ``--json``.

A key that has no value for a method is None there, never 0: a method that was skipped has no times, and what is not
compiled has no compile time.
"""

from __future__ import annotations

from typing import Any, TypedDict

SCHEMA_VERSION = 1


class Comparison(TypedDict):
    """What all three comparisons say of themselves."""

    schema_version: int
    bench: str  # kernels, loading or scaling
    started: str  # ISO 8601, with the offset from UTC
    wall_s: float
    versions: dict[str, str | None]
    host: dict[str, Any]
    settings: dict[str, Any]  # what the flags said, defaults filled in
    inputs: list[dict[str, Any]]  # path, shape, dtype; none for made-up data
    notes: list[str]  # what has to be known to read the figures


class Timing(TypedDict):
    """One method at one task."""

    method: str
    label: str
    skipped: str | None  # the reason
    best_s: float | None  # of one call on all rows
    median_s: float | None
    samples_s: list[float]  # of one call each, in order, on the rows that were measured
    loops: int | None  # calls that one sample is the mean of
    compile_s: float | None  # first call less later ones
    measured_rows: int | None
    extrapolated: bool  # times are those of `measured_rows`, scaled to all rows
    against_python: float | None  # how many times faster
    against_numpy: float | None
    largest_difference: float | None  # from NumPy's result, relative to its largest value


class Task(TypedDict):
    """One thing to compute, and how long each method takes for it."""

    task: str  # pair, batch or count
    title: str
    rows: int
    dtype: str
    skipped: str | None
    tolerance: float | None
    methods: list[Timing]


class KernelsComparison(Comparison):
    """``mlpipe bench kernels``."""

    tasks: list[Task]


class Loading(TypedDict):
    """One way to load."""

    method: str
    label: str
    order: str  # in which rows come
    skipped: str | None  # the reason
    failed: str | None  # the reason, where it began but did not end
    complete: bool  # all rows of all epochs, within the budget
    rows: int | None  # seen, over all epochs
    seconds: float | None
    rows_per_s: float | None
    later_rows_per_s: float | None  # without the first batch of each epoch, and what came before it
    epochs_s: list[float]
    first_batch_s: float | None
    import_s: float | None
    anonymous_peak: int | None  # children included
    anonymous_start: int | None  # after importing, before loading
    read_bytes: int | None  # from the disk, by the process itself; None when the system does not say
    checksum: int | None
    compiled: int | None  # kernels that had to be compiled, and were before a second run, which is this one


class LoadingComparison(Comparison):
    """``mlpipe bench loading``."""

    rows: int
    row_bytes: int
    bytes: int
    files: int
    methods: list[Loading]


class Point(TypedDict):
    """One size of a series."""

    value: int
    best_s: float
    median_s: float
    samples_s: list[float]
    efficiency: float | None  # of threads: time of one divided by what all of these took together


class Series(TypedDict):
    """How time grows with one thing, the others fixed."""

    task: str  # distances or count
    title: str
    varies: str  # rows, features or threads
    fixed: dict[str, int]
    points: list[Point]
    exponent: float | None  # time grows as value to that power; of threads it is None
    exponent_error: float | None  # standard error of the fit
    expected: float | None


class ScalingComparison(Comparison):
    """``mlpipe bench scaling``."""

    series: list[Series]

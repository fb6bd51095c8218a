"""The record of a run as plain JSON: what every key is (`mlpipe.measure.schema` checks it).

None (``null``) stands for what was not measured, or for a state that a link never was in; the key of what was not
measured is in ``not_measured``, with the reason. A zero was measured. Seconds are seconds, sizes are bytes.
docs/record.md says it in words.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

SCHEMA_VERSION = 2

State = Literal["self", "wait_in", "wait_out", "compile"]
STATES: tuple[State, ...] = ("self", "wait_in", "wait_out", "compile")
Status = Literal["done", "failed", "interrupted"]
Cache = Literal["cold", "warm", "mixed"]
BottleneckKind = Literal["compute", "disk", "source", "sink", "compile", "startup", "unknown"]


class FingerprintFacts(TypedDict):
    """What changes when a file is replaced or written to; of several files: of the first, their sum, their latest."""

    inode: int
    size: int
    mtime_ns: int


class ArrayFacts(TypedDict):
    """An array written; rows and bytes are None while they are not known (of a pipe)."""

    path: str
    bytes: int | None
    shape: list[int | None]
    dtype: str


class InputFacts(ArrayFacts):
    """An array read; no fingerprint where there is no file."""

    fingerprint: FingerprintFacts | None


class TimelineFacts(TypedDict):
    """Share of each step, 0 to 1, that a link spent in each state; the first step begins with the run.

    Shares are of a whole step, the last one too, so that their sum times ``step_s`` is the time in that state.
    """

    step_s: float
    self: list[float]
    wait_in: list[float]
    wait_out: list[float]
    compile: list[float]


class StageFacts(TypedDict):
    """Where the time of one link went in one thread, in seconds, and what passed through it."""

    name: str
    thread: str
    phase: int
    began_s: float
    ended_s: float
    self_s: float | None
    first_wait_s: float | None
    wait_in_s: float | None
    wait_out_s: float | None
    compile_s: float | None
    cpu_s: float | None
    batches: int | None
    rows: int | None
    bytes_in: int | None
    bytes_out: int | None
    batch_p50_s: float | None
    batch_p95_s: float | None
    batch_max_s: float | None
    bytes_asked: int | None
    bytes_read: int | None
    cache: Cache | None
    in_flight_peak: int | None
    gpu_transfer_s: float | None
    gpu_kernel_s: float | None
    accounted: float | None
    timeline: TimelineFacts


class ThreadFacts(TypedDict):
    """What one thread used, of one phase; those that only run kernels for others have no stages of their own.

    `delay_s` is how long it was ready to run while other threads or programs had the processors. Those that only help
    have a timeline here; that of the others is with their stages.
    """

    name: str
    phase: int
    stages: list[str]
    began_s: float | None
    ended_s: float | None
    cpu_s: float | None
    delay_s: float | None
    major_faults: int | None
    bytes_read: int | None
    accounted: float | None
    timeline: TimelineFacts | None


class SampleFacts(TypedDict):
    """Memory in bytes and the blocks waiting in each queue over time: lists of equal length."""

    t_s: list[float]
    anonymous: list[int | None]
    file_backed: list[int | None]
    rss: list[int | None]
    rss_peak: list[int | None] | None
    in_flight: list[int]
    queues: dict[str, list[int]]


class ProcessFacts(TypedDict):
    """What the whole process used, its children included; `note` says why a figure is missing."""

    anonymous_peak: int | None
    file_backed_peak: int | None
    rss_peak: int | None
    cpu_s: float | None
    major_faults: int | None
    bytes_read: int | None
    bytes_written: int | None
    in_flight_peak: int | None
    note: str | None
    samples: SampleFacts


class BottleneckFacts(TypedDict):
    """What kept the run from being faster, and what would help."""

    kind: BottleneckKind
    stage: str | None
    share: float | None
    sentence: str
    help: str


class ProfileRunFacts(TypedDict):
    """One of several runs of the same command; figures of stages by name."""

    wall_s: float
    cpu_s: float | None
    anonymous_peak: int | None
    file_backed_peak: int | None
    rss_peak: int | None
    exit_code: int
    stages: dict[str, dict[str, float | None]]


class SpreadFacts(TypedDict):
    """How a figure differs between runs; `mad` is the median distance to the median."""

    median: float
    min: float
    max: float
    mad: float


class ProfileSampleFacts(TypedDict):
    """Memory of a child over time, as sampled from outside."""

    t_s: list[float]
    rss: list[int | None]
    anonymous: list[int | None]
    file_backed: list[int | None]
    rss_peak: list[int | None] | None


class SourceLineFacts(TypedDict):
    """One line of the user's function."""

    number: int
    source: str
    hits: int | None
    time_s: float | None
    memory: int | None
    increment: int | None


class FunctionFacts(TypedDict):
    """One function of the user's, line by line."""

    file: str
    function: str
    lines: list[SourceLineFacts]


class ProfileFacts(TypedDict):
    """What ``mlpipe profile`` saw from outside, of one or more runs."""

    runs: list[ProfileRunFacts]
    spread: dict[str, SpreadFacts]
    interval_s: float | None
    samples: ProfileSampleFacts | None
    sampler: str | None
    children: int | None
    lines: list[FunctionFacts] | None


class HostFacts(TypedDict):
    """Where it ran; nothing that names the machine or its user."""

    system: str | None
    architecture: str | None
    cpu: str | None
    simd: str | None
    processors: int | None
    usable_processors: int | None
    memory: int | None
    threading_layer: str | None


class RecordFacts(TypedDict):
    """One run."""

    schema_version: Literal[2]
    command: list[str]
    status: Status
    complete: bool
    error: str | None
    exit_code: int | None
    started: str
    startup_s: float | None
    wall_s: float | None
    cpu_s: float | None
    versions: dict[str, str | None]
    host: HostFacts
    inputs: list[InputFacts]
    output: ArrayFacts | None
    plan: dict[str, Any]
    seed: int | None
    threads: int | None
    memory_ceiling: int | None
    stages: list[StageFacts]
    thread_facts: list[ThreadFacts]
    process: ProcessFacts
    accounted: float | None
    bottleneck: BottleneckFacts
    not_measured: dict[str, str]
    result: dict[str, Any] | None
    profile: ProfileFacts | None

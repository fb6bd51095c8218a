"""Records made by hand: whole ones, as a run leaves them, and odd ones."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from mlpipe.measure.schema import HostFacts, ProcessFacts, RecordFacts, StageFacts, ThreadFacts, check_record

MIB = 1 << 20
STEPS = 200
WALL = 1.6
STATES = ("self", "wait_in", "wait_out", "compile")


def timeline(began: float, ended: float, shares: dict[str, Any], wall: float = WALL) -> dict[str, Any]:
    """Shares of each step for a stage at work from `began` to `ended`: a number, or a function of the time, each."""
    step = wall / STEPS
    line: dict[str, Any] = {"step_s": step, **{state: [0.0] * STEPS for state in STATES}}
    for place in range(STEPS):
        at = (place + 0.5) * step
        alive = max(0.0, min(ended, (place + 1) * step) - max(began, place * step)) / step
        given = {state: share(at) if callable(share) else share for state, share in shares.items()}
        whole = sum(given.values()) or 1.0
        for state, share in given.items():
            line[state][place] = round(alive * share / whole, 4)
    return line


def stage(
    name: str, thread: str, began: float, ended: float, shares: dict[str, Any], *, phase: int = 0, **more: Any
) -> dict[str, Any]:
    """A stage whose seconds follow from its timeline."""
    line = timeline(began, ended, shares)
    seconds = {state: sum(line[state]) * line["step_s"] for state in STATES}
    facts: dict[str, Any] = {
        "name": name,
        "thread": thread,
        "phase": phase,
        "began_s": began,
        "ended_s": ended,
        "first_wait_s": None,
        **{f"{state}_s": spent if state in shares else None for state, spent in seconds.items()},
        "cpu_s": seconds["self"] * 0.93,
        "batches": 140,
        "rows": 17_970,
        "bytes_in": 4_600_320,
        "bytes_out": 4_600_320,
        "batch_p50_s": seconds["self"] / 150,
        "batch_p95_s": seconds["self"] / 60,
        "batch_max_s": seconds["self"] / 20,
        "bytes_asked": None,
        "bytes_read": None,
        "cache": None,
        "in_flight_peak": None,
        "gpu_transfer_s": None,
        "gpu_kernel_s": None,
        "accounted": 0.9991,
        "timeline": line,
    }
    return {**facts, **more}


def _stages() -> list[dict[str, Any]]:
    def wave(at: float) -> float:
        return 0.5 + 0.4 * math.sin(at * 9)

    return [
        stage(
            "read",
            "read",
            0.02,
            0.55,
            {"self": 0.5, "wait_out": 0.5},
            bytes_asked=1_150_080,
            bytes_read=0,
            cache="warm",
            bytes_in=None,
            in_flight_peak=3 * MIB,
        ),
        stage(
            "standardize (learning)",
            "compute",
            0.02,
            0.56,
            {"self": lambda at: wave(at) if at > 0.3 else 0.0, "wait_in": 0.2, "compile": lambda at: 3.0 * (at < 0.3)},
            first_wait_s=0.012,
            bytes_out=None,
        ),
        stage(
            "read",
            "read",
            0.56,
            1.57,
            {"self": lambda at: 1.2 - at / 2, "wait_out": lambda at: at / 2},
            phase=1,
            bytes_asked=1_150_080,
            bytes_read=40_960,
            cache="mixed",
            bytes_in=None,
            in_flight_peak=4 * MIB,
        ),
        stage("shuffle", "compute", 0.56, 1.57, {"self": 0.11, "wait_in": 0.07, "wait_out": 0.82}, phase=1),
        stage("batch", "compute", 0.56, 1.575, {"self": 0.05, "wait_in": 0.18, "wait_out": 0.77}, phase=1),
        stage(
            "standardize",
            "compute",
            0.57,
            1.58,
            {"self": wave, "wait_in": 0.25, "compile": lambda at: 0.5 * (at < 0.7)},
            phase=1,
            first_wait_s=0.02,
            bytes_out=9_200_640,
        ),
        stage("write", "write", 0.57, 1.595, {"self": 0.25, "wait_in": 0.75}, phase=1, bytes_out=9_200_640),
    ]


def _samples() -> dict[str, Any]:
    at = [round(0.01 * place, 3) for place in range(161)]
    anonymous = [int((60 + 90 * (1 - math.exp(-moment * 4)) + 8 * math.sin(moment * 20)) * MIB) for moment in at]
    files = [int((42 + 30 * moment) * MIB) for moment in at]
    return {
        "t_s": at,
        "anonymous": anonymous,
        "file_backed": files,
        "rss": [one + other + 2 * MIB for one, other in zip(anonymous, files, strict=True)],
        "rss_peak": None,
        "in_flight": [int(4 * MIB * abs(math.sin(moment * 6))) for moment in at],
        "queues": {
            "read": [int(2.4 * abs(math.sin(moment * 3))) for moment in at],
            "write": [1 if moment > 0.7 and int(moment * 50) % 3 else 0 for moment in at],
        },
    }


def _plan() -> dict[str, Any]:
    def link(name: str, dtype: str, held: int) -> dict[str, Any]:
        return {"link": name, "rows": 17970, "shape": [64], "dtype": dtype, "labels": None, "bytes_held": held}

    return {
        "memory_ceiling": 256 * MIB,
        "memory_base": 110 * MIB,
        "bytes_held": 26 * MIB,
        "bytes_read": 1_150_080,
        "bytes_written": 9_200_640,
        "threads": 2,
        "stages": [
            {"stage": "batch", "bytes_held": {"batches": 24_576}, "batch": 128},
            {"stage": "standardize", "bytes_held": {"statistics": 9216, "kernels": 20 * MIB}, "tile": [256, 1797]},
        ],
        "passes_over_source": 2,
        "links": [
            link("read", "uint8", 0),
            link("shuffle", "uint8", 3 * MIB),
            link("batch", "uint8", 24_576),
            link("standardize", "float64", 20 * MIB),
            link("write", "float64", 0),
        ],
    }


def made(**changes: Any) -> RecordFacts:
    """A record of a run with a pass of learning; `changes` replace what is at the top."""
    record: dict[str, Any] = {
        "schema_version": 2,
        "command": [
            "run",
            "read",
            "digits.npy",
            "then",
            "shuffle",
            "--seed",
            "7",
            "then",
            "batch",
            "--size",
            "128",
            "then",
            "standardize",
            "then",
            "write",
            "out dir/scaled.npy",
        ],
        "status": "done",
        "complete": True,
        "error": None,
        "exit_code": 0,
        "started": "2026-01-02T03:04:05.678+00:00",
        "startup_s": 0.31,
        "wall_s": WALL,
        "cpu_s": 2.25,
        "versions": {"mlpipe": "0.1.0", "python": "3.13.1", "numpy": "2.4.6", "numba": "0.68.1", "llvmlite": None},
        "host": {
            "system": "Linux 6.12",
            "architecture": "x86_64",
            "cpu": "A processor",
            "simd": "avx512",
            "processors": 8,
            "usable_processors": 2,
            "memory": 25_276_502_016,
            "threading_layer": "workqueue",
        },
        "inputs": [
            {
                "path": "digits.npy",
                "bytes": 1_150_080,
                "shape": [17970, 64],
                "dtype": "uint8",
                "fingerprint": {"inode": 4711, "size": 1_150_208, "mtime_ns": 1_767_312_000_000_000_000},
            }
        ],
        "output": {"path": "out dir/scaled.npy", "bytes": 9_200_640, "shape": [17970, 64], "dtype": "float64"},
        "plan": _plan(),
        "seed": 7,
        "threads": 2,
        "memory_ceiling": 256 * MIB,
        "stages": _stages(),
        "thread_facts": [
            {
                "name": "read",
                "phase": 0,
                "stages": ["read"],
                "cpu_s": 0.2,
                "major_faults": 0,
                "bytes_read": 0,
                "accounted": 0.999,
            },
            {
                "name": "read",
                "phase": 1,
                "stages": ["read"],
                "cpu_s": 0.61,
                "major_faults": 2,
                "bytes_read": 40_960,
                "accounted": 0.9984,
            },
            {
                "name": "compute",
                "phase": 1,
                "stages": ["shuffle", "batch", "standardize"],
                "cpu_s": 0.94,
                "major_faults": 1,
                "bytes_read": 0,
                "accounted": 0.9991,
            },
            {
                "name": "kernels 1",
                "phase": 1,
                "stages": [],
                "cpu_s": 0.31,
                "major_faults": None,
                "bytes_read": None,
                "accounted": None,
            },
        ],
        "process": {
            "anonymous_peak": 152 * MIB,
            "file_backed_peak": 91 * MIB,
            "rss_peak": 245 * MIB,
            "cpu_s": 2.25,
            "major_faults": 3,
            "bytes_read": 40_960,
            "bytes_written": 9_200_640,
            "in_flight_peak": 4 * MIB,
            "note": None,
            "samples": _samples(),
        },
        "accounted": 0.9984,
        "bottleneck": {
            "kind": "compute",
            "stage": "standardize",
            "share": 0.71,
            "sentence": "compute-bound in standardize; 2 of 2 threads busy",
            "help": "More threads (--threads) or a faster processor would help; a faster disk would not.",
        },
        "not_measured": {
            "stages.gpu_transfer_s": "no GPU was used",
            "stages.gpu_kernel_s": "no GPU was used",
            "process.samples.rss_peak": "the kernel does not allow to reset it",
            "thread_facts.kernels 1.major_faults": "the thread had ended",
        },
        "result": {"rows": 17970, "mean": 4.88, "shape": [17970, 64], "note": "a < b & c"},
        "profile": None,
        **changes,
    }
    return check_record(_whole(record))


def _whole(record: dict[str, Any]) -> dict[str, Any]:
    """Put null where a record made by hand says nothing; the schema refuses it where that is not allowed."""
    for key, kind in (("stages", StageFacts), ("thread_facts", ThreadFacts)):
        record[key] = [{**dict.fromkeys(kind.__annotations__), **each} for each in record[key]]
    for key, facts in (("host", HostFacts), ("process", ProcessFacts)):
        record[key] = {**dict.fromkeys(facts.__annotations__), **record[key]}
    return {**dict.fromkeys(RecordFacts.__annotations__), **record}


def profiled(**changes: Any) -> RecordFacts:
    """A record with five runs and a function's lines."""
    walls = [1.62, 1.58, 1.71, 1.6, 1.59]
    runs = [
        {
            "wall_s": wall,
            "cpu_s": wall * 1.4,
            "anonymous_peak": int(150 * MIB * wall / 1.6),
            "file_backed_peak": 91 * MIB,
            "rss_peak": 245 * MIB,
            "exit_code": 0,
            "stages": {"standardize": {"self_s": wall / 2, "wait_in_s": None}},
        }
        for wall in walls
    ]
    at = [0.1 * place for place in range(17)]
    source = ["def scale(row):", "    low = row.min()", "    return (row - low) / (row.max() - low)  # <b>&amp;</b>"]
    lines = [
        {
            "number": 10 + place,
            "source": line,
            "hits": place * 17970 or None,
            "time_s": [None, 0.21, 0.64][place],
            "memory": 150 * MIB,
            "increment": place * 4096,
        }
        for place, line in enumerate(source)
    ]
    profile = {
        "runs": runs,
        "spread": {
            "wall_s": {"median": 1.6, "min": 1.58, "max": 1.71, "mad": 0.02},
            "anonymous_peak": {"median": 150.0 * MIB, "min": 148.0 * MIB, "max": 160.0 * MIB, "mad": 1.0 * MIB},
        },
        "interval_s": 0.1,
        "samples": {
            "t_s": at,
            "rss": [200 * MIB] * 17,
            "anonymous": [None, *[140 * MIB] * 16],
            "file_backed": [60 * MIB] * 17,
            "rss_peak": None,
        },
        "sampler": "memory-profiler 0.61.0",
        "children": 1,
        "lines": [{"file": "steps/my scale.py", "function": "scale", "lines": lines}],
    }
    return made(profile=profile, **changes)


def empty(**changes: Any) -> RecordFacts:
    """A record of a run that ended before anything was done or measured."""
    samples = {
        "t_s": [],
        "anonymous": [],
        "file_backed": [],
        "rss": [],
        "rss_peak": None,
        "in_flight": [],
        "queues": {},
    }
    process = dict.fromkeys(
        (
            "anonymous_peak",
            "file_backed_peak",
            "rss_peak",
            "cpu_s",
            "major_faults",
            "bytes_read",
            "bytes_written",
            "in_flight_peak",
        )
    )
    nothing = {
        "status": "failed",
        "complete": False,
        "error": "X.npy: no such file",
        "exit_code": 3,
        "startup_s": None,
        "wall_s": None,
        "cpu_s": None,
        "inputs": [],
        "output": None,
        "plan": {},
        "seed": None,
        "threads": None,
        "memory_ceiling": None,
        "stages": [],
        "thread_facts": [],
        "process": {**process, "note": "no /proc", "samples": samples},
        "accounted": None,
        "bottleneck": {"kind": "unknown", "stage": None, "share": None, "sentence": "", "help": ""},
        "result": None,
        "not_measured": {"wall_s": "the run had not begun"},
    }
    return made(**{**nothing, **changes})


_TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a" * 5000,
        "日本語 ‮gpj.npy",
        "\udcff\x00",
        "NaN",
        "--></style>",
    ]
)
_SECONDS = st.none() | st.floats(0, 1e7, allow_subnormal=False)
_COUNT = st.none() | st.integers(0, 2**70)
_SHARE = st.floats(0, 1)


@st.composite
def odd_stages(draw: st.DrawFn) -> dict[str, Any]:
    """A stage of any figures, which need not fit each other."""
    length = draw(st.integers(0, 6))
    line = {state: draw(st.lists(_SHARE, min_size=length, max_size=length)) for state in STATES}
    facts = stage(draw(_TEXT), draw(_TEXT), 0.0, 1.0, {"self": 1.0})
    for key in facts:
        if key.endswith("_s") and key not in ("began_s", "ended_s"):
            facts[key] = draw(_SECONDS)
        elif key in ("batches", "rows", "bytes_in", "bytes_out", "bytes_asked", "bytes_read", "in_flight_peak"):
            facts[key] = draw(_COUNT)
    began, ended = draw(st.floats(0, 1e6)), draw(st.floats(0, 1e6))
    step = draw(st.floats(0, 1e4))
    return {
        **facts,
        "began_s": began,
        "ended_s": ended,
        "phase": draw(st.integers(0, 9)),
        "timeline": {"step_s": step, **line},
    }


@st.composite
def odd_records(draw: st.DrawFn) -> RecordFacts:
    """Any record that the schema lets pass."""
    length = draw(st.integers(0, 5))
    points = st.lists(_COUNT, min_size=length, max_size=length)
    whole = st.lists(st.integers(0, 2**40), min_size=length, max_size=length)
    samples = {
        "t_s": draw(st.lists(st.floats(0, 1e6), min_size=length, max_size=length)),
        "anonymous": draw(points),
        "file_backed": draw(points),
        "rss": draw(points),
        "rss_peak": draw(st.none() | points),
        "in_flight": draw(whole),
        "queues": draw(st.dictionaries(_TEXT, whole, max_size=2)),
    }
    record: dict[str, Any] = dict(draw(st.sampled_from([made(), profiled(), empty()])))
    record["process"] = {
        **record["process"],
        "samples": samples,
        "anonymous_peak": draw(_COUNT),
        "note": draw(st.none() | _TEXT),
    }
    record["stages"] = draw(st.lists(odd_stages(), max_size=3))
    record["command"] = draw(st.lists(_TEXT, max_size=3))
    record["wall_s"] = draw(_SECONDS)
    record["status"] = draw(st.sampled_from(["done", "failed", "interrupted"]))
    record["error"] = draw(st.none() | _TEXT)
    record["memory_ceiling"] = draw(_COUNT)
    record["inputs"] = [
        {"path": draw(_TEXT), "bytes": draw(_COUNT), "shape": [None, 3], "dtype": draw(_TEXT), "fingerprint": None}
    ]
    record["not_measured"] = draw(st.dictionaries(_TEXT, _TEXT, max_size=3))
    values = st.recursive(
        st.none() | st.booleans() | _TEXT | st.integers() | st.floats(), lambda inner: st.lists(inner, max_size=3)
    )
    record["result"] = draw(st.none() | st.dictionaries(_TEXT, values, max_size=3))
    record["plan"] = draw(
        st.just(record["plan"]) | st.dictionaries(st.sampled_from(["stages", "links", "threads", "x"]), values)
    )
    record["bottleneck"] = {**record["bottleneck"], "stage": draw(st.none() | _TEXT), "sentence": draw(_TEXT)}
    return check_record(record)

"""What a meter and a sampler found, as the facts of a record."""

from __future__ import annotations

from collections.abc import Sequence

from mlpipe.measure.facts import Cache, ProcessFacts, StageFacts, State, ThreadFacts, TimelineFacts
from mlpipe.measure.memory import MemorySampler
from mlpipe.measure.meter import Lane, Meter
from mlpipe.measure.samples import Samples
from mlpipe.measure.threads import ThreadMeter, Use
from mlpipe.measure.timeline import step_for

COLD, WARM = 0.9, 0.05
"""Shares of what was asked for that came from storage: at least, at most; reading ahead takes some more."""


def stage_facts(lane: Lane, meter: Meter | None = None) -> StageFacts:
    """Turn a lane into its entry in the record.

    Parameters
    ----------
    lane : Lane
        Stopped.
    meter : Meter, optional
        Of the run; without it the run is as long as the lane.

    Examples
    --------
    >>> facts = stage_facts(Lane("write"))
    >>> facts["rows"] is None, facts["thread"], facts["timeline"]["self"]
    (True, 'write', [])
    """

    def seconds(state: State) -> float | None:
        spent = lane.totals_ns.get(state)
        return None if spent is None else spent / 1e9

    counted = lane.batches > 0
    passed = lane.bytes_in is not None or lane.bytes_out is not None
    wall = lane.ended_ns if meter is None else meter.wall_ns
    phase = lane.lifetime_ns if meter is None else meter.phase_wall_ns(lane.phase)
    read = None if meter is None or lane.bytes_asked is None else _bytes_read(meter, lane)
    times = lane.durations
    median, late = times.quantile(0.5), times.quantile(0.95)
    return {
        "name": lane.name,
        "thread": lane.thread,
        "phase": lane.phase,
        "began_s": lane.began_ns / 1e9,
        "ended_s": lane.ended_ns / 1e9,
        "self_s": seconds("self"),
        "first_wait_s": None if lane.first_wait_ns is None or seconds("wait_in") is None else lane.first_wait_ns / 1e9,
        "wait_in_s": seconds("wait_in"),
        "wait_out_s": seconds("wait_out"),
        "compile_s": seconds("compile"),
        "cpu_s": None if lane.cpu_ns is None else lane.cpu_ns / 1e9,
        "batches": lane.batches if counted else None,
        "rows": lane.rows if counted else None,
        "bytes_in": lane.bytes_asked if lane.bytes_in is None else lane.bytes_in,
        "bytes_out": lane.bytes_out if passed or not counted else lane.nbytes,
        "batch_p50_s": None if median is None else median / 1e9,
        "batch_p95_s": None if late is None else late / 1e9,
        "batch_max_s": times.longest / 1e9 if times.count else None,
        "bytes_asked": lane.bytes_asked,
        "bytes_read": read,
        "cache": cache_of(lane.bytes_asked, read),
        "in_flight_peak": (lane.in_flight.peak or None) if lane.in_flight else None,
        "gpu_transfer_s": None,
        "gpu_kernel_s": None,
        "accounted": sum(lane.totals_ns.values()) / phase if phase > 0 and lane.totals_ns else None,
        "timeline": _timeline(lane, wall),
    }


def _timeline(lane: Lane, wall: int) -> TimelineFacts:
    """What a lane did when; nothing if it never was started."""
    return lane.timeline.facts(lane.totals_ns, wall if lane.totals_ns else 0, step_for(wall))


def cache_of(asked: int | None, read: int | None) -> Cache | None:
    """Whether what was asked for lay in the page cache.

    Examples
    --------
    >>> cache_of(1000, 1008), cache_of(1000, 0), cache_of(1000, 500), cache_of(1000, None)
    ('cold', 'warm', 'mixed', None)
    """
    if not asked or read is None:
        return None
    share = read / asked
    return "cold" if share >= COLD else "warm" if share <= WARM else "mixed"


def thread_facts(meter: Meter) -> list[ThreadFacts]:
    """What each thread of each phase used, and how much of its phase the clocks in it explain."""
    found = []
    for number, phase in enumerate(meter.phases):
        wall = meter.phase_wall_ns(number)
        names = dict.fromkeys([lane.thread for lane in phase.lanes] + [thread.name for thread in phase.threads])
        for name in names:
            lanes = [lane for lane in phase.lanes if lane.thread == name]
            helping = next((lane for lane in phase.helpers if lane.name == name and not lanes), None)
            use = _used([thread for thread in phase.threads if thread.name == name])
            clocks = lanes if helping is None else [helping]
            least = min((sum(lane.totals_ns.values()) for lane in clocks), default=None)
            found.append(
                ThreadFacts(
                    name=name,
                    phase=number,
                    stages=[lane.name for lane in lanes],
                    began_s=min(lane.began_ns for lane in clocks) / 1e9 if clocks else None,
                    ended_s=max(lane.ended_ns for lane in clocks) / 1e9 if clocks else None,
                    cpu_s=None if use.cpu_ns is None else use.cpu_ns / 1e9,
                    delay_s=None if use.delay_ns is None else use.delay_ns / 1e9,
                    major_faults=use.major_faults,
                    bytes_read=use.bytes_read,
                    accounted=None if least is None or wall <= 0 else least / wall,
                    timeline=None if helping is None else _timeline(helping, meter.wall_ns),
                )
            )
    return found


def process_facts(meter: Meter, memory: MemorySampler) -> ProcessFacts:
    """What the whole process used."""
    faults, read, written = meter.process_use
    return {
        "anonymous_peak": memory.peak_anonymous,
        "file_backed_peak": memory.peak_file_backed,
        "rss_peak": memory.peak_rss,
        "cpu_s": meter.cpu_ns / 1e9,
        "major_faults": faults,
        "bytes_read": read,
        "bytes_written": written,
        "in_flight_peak": meter.in_flight.peak,
        "note": memory.reason,
        "samples": memory.samples.facts(),
    }


def nothing_used(why: str) -> ProcessFacts:
    """The facts of a run that never was.

    Examples
    --------
    >>> nothing_used("it did not begin")["note"]
    'it did not begin'
    """
    return {
        "anonymous_peak": None,
        "file_backed_peak": None,
        "rss_peak": None,
        "cpu_s": None,
        "major_faults": None,
        "bytes_read": None,
        "bytes_written": None,
        "in_flight_peak": None,
        "note": why,
        "samples": Samples().facts(),
    }


def _bytes_read(meter: Meter, lane: Lane) -> int | None:
    """What the thread of a lane that reads got from storage."""
    threads = meter.phases[lane.phase].threads
    return _used([thread for thread in threads if thread.name == lane.thread]).bytes_read


def _used(threads: Sequence[ThreadMeter]) -> Use:
    """What threads of one name used, one after the other."""
    uses = [thread.use for thread in threads if thread.use is not None]
    if not uses:
        return Use(None, None, None)
    return Use(*(None if None in figures else sum(figures) for figures in zip(*uses, strict=True)))

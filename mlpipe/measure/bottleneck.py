"""What kept a run from being faster: a rule on its record, which names it in a sentence, with what would help.

Links that run beside one another are as fast as the busiest of them; so the thread is looked for that was at work
longest, and in it the link. Whether that link computed or waited for a device, its CPU time tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from mlpipe.measure.facts import BottleneckFacts, BottleneckKind, RecordFacts, StageFacts
from mlpipe.measure.sizes import format_duration

SHORT_S = 0.02
"""Of a run that says nothing."""

MOST_OF_IT = 0.5
COMPILING = 0.3
IDLE = 0.5
"""Share of its time at work above which a link waits for something outside rather than computes."""

CROWDED = 0.4
"""Share of the time that threads could have run, but for other threads and programs."""

COMPUTE = "compute"


@dataclass(frozen=True)
class _Group:
    """Links whose times add up: those of the computing thread, or one link in any number of threads."""

    stages: list[StageFacts]
    wall: float

    def share(self, key: str) -> float:
        """Share of the run that a thread of the group spent so, on average over threads beside one another."""
        total = 0.0
        for phase in {stage["phase"] for stage in self.stages}:
            found = [stage for stage in self.stages if stage["phase"] == phase]
            total += _total(found, key) / len({stage["thread"] for stage in found})
        return total / self.wall

    @property
    def busiest(self) -> StageFacts:
        """The link that took most of it."""
        return max(self.stages, key=lambda stage: stage["self_s"] or 0.0)


def find_bottleneck(facts: RecordFacts) -> BottleneckFacts:
    """Name what kept a run from being faster.

    Parameters
    ----------
    facts : RecordFacts
        The record; what it says of a bottleneck already is not looked at.

    Returns
    -------
    BottleneckFacts
        With kind ``"unknown"`` where nothing stands out.
    """
    wall, startup = facts["wall_s"], facts["startup_s"] or 0.0
    if wall is None or wall <= 0 or not facts["stages"]:
        return _found("unknown", None, None, "nothing was measured", "")
    if startup > wall and startup / (startup + wall) > MOST_OF_IT:
        return _found(
            "startup", None, startup / (startup + wall),
            f"starting took {format_duration(startup)}, the run itself {format_duration(wall)}",
            "give more work to one command: several files, or several stages in one chain",
        )  # fmt: skip
    groups = _groups(facts["stages"], wall)
    compiling = max(groups, key=lambda group: group.share("compile_s"))
    working = _busiest(groups)
    share = compiling.share("compile_s")
    if share >= COMPILING and share >= working.share("self_s"):
        stage = max(compiling.stages, key=lambda one: one["compile_s"] or 0.0)
        return _found(
            "compile", stage, share, f"compiling and loading kernels took {_percent(share)} of the time",
            "run it again: kernels are kept in the cache (MLPIPE_CACHE_DIR); mlpipe warmup compiles them ahead",
        )  # fmt: skip
    if wall < SHORT_S:
        return _found("unknown", None, None, "the run was too short to tell", "")
    if working.share("self_s") < MOST_OF_IT:
        return _nobody(groups)
    stage = working.busiest
    name = _role(stage)
    given, usable = facts["threads"] or 1, facts["host"]["usable_processors"] or 1
    waited = _waited(facts, working)
    if waited > CROWDED and (given <= usable or name != "compute"):
        kinds: dict[str, BottleneckKind] = {"compute": "compute", "reading": "source", "writing": "sink"}
        return _found(
            kinds[name], stage, working.share("self_s"),
            f"bound by {stage['name']}, which waited {_percent(waited)} of its time for a processor",
            "other programs use the processors: let them end first, or give fewer --threads",
        )  # fmt: skip
    return {"compute": _computing, "reading": _reading, "writing": _writing}[name](facts, working, stage)


def _groups(stages: Iterable[StageFacts], wall: float) -> list[_Group]:
    found: dict[str, list[StageFacts]] = {}
    for stage in stages:
        key = f"thread {COMPUTE}" if stage["thread"] == COMPUTE else stage["name"]
        found.setdefault(key, []).append(stage)
    return [_Group(stages, wall) for stages in found.values()]


def _role(stage: StageFacts) -> str:
    return "compute" if stage["thread"] == COMPUTE else "reading" if stage["bytes_asked"] is not None else "writing"


def _busiest(groups: list[_Group]) -> _Group:
    """The group that was at work longest; the one that writes only if the last stage waits for it for long."""
    for group in groups:
        if _role(group.busiest) == "compute":
            waited = (group.stages[-1]["wait_out_s"] or 0.0) / group.wall
            if group.share("self_s") > max(MOST_OF_IT, waited):
                groups = [one for one in groups if _role(one.busiest) != "writing"]
    return max(groups, key=lambda group: group.share("self_s"))


def _reading(facts: RecordFacts, group: _Group, stage: StageFacts) -> BottleneckFacts:
    """The source is slow: its disk, or what it does with the bytes."""
    share, name = group.share("self_s"), stage["name"]
    idle = _idle(facts, group)
    if idle > IDLE * share and stage["cache"] in ("cold", "mixed"):
        return _found(
            "disk", stage, idle, f"waiting for the disk {_percent(idle)} of the time: {name} is {stage['cache']}",
            "a faster disk, or files of a smaller dtype; a second run is faster if the page cache holds the files",
        )  # fmt: skip
    if idle > IDLE * share:
        return _found(
            "source", stage, share,
            f"waiting for the source: {name} took {_percent(share)} of the time, most of it idle",
            "speed up what feeds it: the pipe, the network, or the file system the files are on",
        )  # fmt: skip
    return _found(
        "source", stage, share, f"bound by reading: {name} is busy {_percent(share)} of the time",
        "store rows in C order and the dtype they are used in, so that they need not be converted; "
        "put head, sample and shuffle right after read",
    )  # fmt: skip


def _computing(facts: RecordFacts, group: _Group, stage: StageFacts) -> BottleneckFacts:
    """A stage is slow; and how many threads were busy with it."""
    name, share = stage["name"], (stage["self_s"] or 0.0) / group.wall
    given, usable = facts["threads"] or 1, facts["host"]["usable_processors"] or 1
    at_work = (group.share("self_s") + group.share("compile_s")) * group.wall
    cpu, delay = _used(facts, group)
    busy = max(1, min(given, round((cpu + delay) / at_work)))
    if given > usable:
        return _found(
            "compute", stage, share, f"compute-bound in {name}; {given} threads share {usable} processors",
            f"give --threads {usable}: more of them only take turns",
        )  # fmt: skip
    if cpu + delay < IDLE * at_work:
        return _found(
            "compute", stage, share, f"{name} took {_percent(share)} of the time, most of it idle",
            "it sleeps, or waits for a disk, a lock or another program: look there",
        )  # fmt: skip
    sentence = f"compute-bound in {name}; {busy} of {given} thread{'s' * (given > 1)} busy"
    if busy < given:
        help_ = "it runs in fewer threads than it may: larger blocks (--memory) or another stage may use them all"
        if "apply-python" in name:
            help_ = "plain Python runs in one thread at a time: let it be compiled (no --object-mode)"
        return _found("compute", stage, share, sentence, help_)
    more = f"--threads {usable}, " if given < usable else ""
    return _found("compute", stage, share, sentence, f"{more}a machine with more processors, or a smaller dtype")


def _writing(facts: RecordFacts, group: _Group, stage: StageFacts) -> BottleneckFacts:
    """The sink is slow."""
    share, name = group.share("self_s"), stage["name"]
    if _idle(facts, group) > IDLE * share:
        return _found(
            "sink", stage, share, f"waiting for the output: {name} took {_percent(share)} of the time, most of it idle",
            "a faster disk, or less to write: a smaller dtype, or a summary instead of all rows",
        )  # fmt: skip
    if stage["bytes_out"] is None:
        help_ = "it runs in one thread, whatever --threads says: let fewer rows reach it"
        return _found("sink", stage, share, f"bound by {name}, which is busy {_percent(share)} of the time", help_)
    return _found(
        "sink", stage, share, f"bound by writing: {name} is busy {_percent(share)} of the time",
        "write .npy rather than text or compressed files",
    )  # fmt: skip


def _used(facts: RecordFacts, group: _Group) -> tuple[float, float]:
    """Seconds that the threads of a group ran, and that they could have run; helpers work for the one that computes."""
    names = {(stage["thread"], stage["phase"]) for stage in group.stages}
    computing = any(name == COMPUTE for name, _ in names)
    cpu = delay = 0.0
    for thread in facts["thread_facts"]:
        if (thread["name"], thread["phase"]) in names or (computing and thread["name"].startswith("worker ")):
            cpu += thread["cpu_s"] or 0.0
            delay += thread["delay_s"] or 0.0
    return cpu, delay


def _waited(facts: RecordFacts, group: _Group) -> float:
    """Share of the time a group could have run that others had the processors; 0 if it was idle most of the time."""
    cpu, delay = _used(facts, group)
    at_work = (group.share("self_s") + group.share("compile_s")) * group.wall
    return delay / (cpu + delay) if cpu + delay >= IDLE * at_work and delay else 0.0


def _idle(facts: RecordFacts, group: _Group) -> float:
    """Share of the run that a group was at work without computing, or being kept from it by other programs."""
    beside = len({stage["thread"] for stage in group.stages})
    delay = _used(facts, group)[1] / beside / group.wall
    return max(0.0, group.share("self_s") - group.share("cpu_s") - delay)


def _nobody(groups: list[_Group]) -> BottleneckFacts:
    """Each waits for the others."""
    busiest = sorted(groups, key=lambda group: -group.share("self_s"))[:2]
    shares = ", ".join(f"{group.busiest['name']} {_percent(group.share('self_s'))}" for group in busiest)
    return _found(
        "unknown", None, None, f"no link was busy for half of the time: {shares}",
        "--prefetch 4 lets them overlap more; so do smaller blocks",
    )  # fmt: skip


def _total(stages: Iterable[StageFacts], key: str) -> float:
    return sum(cast("Any", stage)[key] or 0.0 for stage in stages)


def _percent(share: float) -> str:
    return f"{100 * min(1.0, share):.0f} %"


def _found(
    kind: BottleneckKind, stage: StageFacts | None, share: float | None, sentence: str, help_: str
) -> BottleneckFacts:
    name = None if stage is None else stage["name"]
    return {"kind": kind, "stage": name, "share": share, "sentence": sentence, "help": help_}

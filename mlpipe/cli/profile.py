"""``mlpipe profile``: any mlpipe command, run as a child and measured from outside."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpipe.cli.report_compare import Anyway, FailOn
from mlpipe.cli.session import Session, session_of
from mlpipe.cli.text import complain
from mlpipe.errors import InputError, Interrupted, OutputError, UsageError

if TYPE_CHECKING:
    from mlpipe.measure.child import Ended
    from mlpipe.measure.profiles import Run
    from mlpipe.measure.schema import RecordFacts
    from mlpipe.report.compare import Comparison

SETTINGS = {"allow_interspersed_args": False}
"""What follows the name of the command belongs to it, flags included."""

CONFIG = "mlpipe.toml"
MOST_RUNS = 1000
SHORTEST, LONGEST = 0.001, 3600.0


def _complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of commands, in the first place."""
    from mlpipe.cli.main import COMMANDS

    if context.params.get("command"):
        return []
    return [(name, text) for name, text in COMMANDS.items() if name.startswith(incomplete) and name != "profile"]


Seconds = Annotated[float, typer.Option("--interval", metavar="S", help="Seconds between samples of memory.")]


def profile(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="Any mlpipe command and its arguments.",
            show_default=f"run --config {CONFIG}",
            autocompletion=_complete,
        ),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Sample the memory of the process and its children from outside.")
    ] = False,
    interval: Seconds = 0.1,
    lines: Annotated[
        bool, typer.Option("--lines", help="Also profile the functions of apply-python --object-mode line by line.")
    ] = False,
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="Run it so often: medians and spread.")] = 1,
    warmup: Annotated[int, typer.Option("--warmup", metavar="N", help="Run it so often before, unmeasured.")] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="Write the record.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE.html", help="Write a page of it.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record as JSON; what the command prints goes to stderr.")
    ] = False,
    compare_to: Annotated[
        Path | None, typer.Option("--compare-to", metavar="OLD.json", help="Compare with the record of an earlier run.")
    ] = None,
    fail_on: FailOn = None,
    anyway: Anyway = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Replace existing files of -o and --html.")] = False,
) -> None:
    """Run any mlpipe command and say where its time and its memory went.

    Flags of profile come before the command. It runs as a process of its own, with the same standard streams; signals
    are handed on to it. If it fails, its exit code is that of profile. With --runs, what it prints comes from the last
    run, and outputs have to be replaceable (-f). Without a command, mlpipe.toml in the current directory is run.

    Example: mlpipe profile --memory --html where.html run read X.npy then shuffle --seed 7 then write Y.npy
    """
    session = session_of(context)
    wanted = _Wanted(
        _command(command), memory, _checked_interval(interval), lines, _checked(runs, 1, "--runs"),
        _checked(warmup, 0, "--warmup"), as_json,
    )  # fmt: skip
    against = _Against.of(compare_to, fail_on or [], anyway)
    wanted.check()
    files = _Files(output, html, force, [*wanted.command, *([compare_to] if compare_to else [])])
    files.check()
    measured, ended = _measure(wanted, session)
    if measured is not None:
        files.write(measured, against.old)
        if as_json:
            from mlpipe.measure.record import json_text

            typer.echo(json_text(measured), nl=False)
        elif not session.quiet and (measured["stages"] or not ended.exit_code):
            from mlpipe.cli.profiling import show_record

            show_record(measured, err=True)
    _end_like(ended, wanted, session)
    if measured is not None:
        against.check(measured, session)


@dataclass(frozen=True)
class _Wanted:
    """What is to be run, and how."""

    command: list[str]
    memory: bool
    interval: float
    lines: bool
    runs: int
    warmup: int
    as_json: bool

    def check(self) -> None:
        """Raise UsageError for what cannot work."""
        if self.lines:
            from mlpipe.measure.lines import check_installed

            check_installed()
        reads = [
            after for before, after in zip(["", *self.command], self.command, strict=False) if before not in _SINKS
        ]
        if self.runs + self.warmup > 1 and "-" in reads:
            raise UsageError("standard input can be read once; name a file, or leave out --runs and --warmup")


_SINKS = ("-o", "--output", "write")


def _command(words: list[str] | None) -> list[str]:
    """The command; that of the current directory's config if there is none."""
    from mlpipe.cli.main import COMMANDS
    from mlpipe.declare import nearest

    if not words:
        if not Path(CONFIG).is_file():
            raise UsageError(
                f"no command, and no {CONFIG} in the current directory; give a command, such as: mlpipe profile "
                f"distances X.npy, or write a config by: mlpipe run --save-config {CONFIG} …"
            )
        return ["run", "--config", CONFIG]
    if words[0] == "profile":
        raise UsageError("profile cannot profile itself; give it another command")
    if words[0].startswith("-"):
        raise UsageError(f"{words[0]}: flags for all commands, such as -q, come before profile")
    if words[0] not in COMMANDS:
        known = [name for name in COMMANDS if name != "profile"]
        raise UsageError(f"no command {words[0]!r} to profile{nearest(words[0], known)}")
    return words


def _checked(number: int, least: int, flag: str) -> int:
    if not least <= number <= MOST_RUNS:
        raise UsageError(f"{flag} {number}: give a number from {least} to {MOST_RUNS}")
    return number


def _checked_interval(seconds: float) -> float:
    if not SHORTEST <= seconds <= LONGEST:
        raise UsageError(f"--interval {seconds:g}: give seconds from {SHORTEST:g} to {LONGEST:g}")
    return seconds


@dataclass(frozen=True)
class _Files:
    """Where the record and its page go; never onto a file that the command names."""

    output: Path | None
    html: Path | None
    force: bool
    kept: list[str | Path]

    def check(self) -> None:
        """Raise before anything is run for what would fail afterwards."""
        from mlpipe.cli.carry_out import check_outputs
        from mlpipe.cli.profiling import check_text

        check_outputs([("--output", self.output), ("--html", self.html)])
        for ending, path in ((".json", self.output), (".html", self.html)):
            if path is not None:
                check_text(path, ending, force=self.force, kept=self.kept)

    def write(self, record: RecordFacts, old: RecordFacts | None) -> None:
        """Write them."""
        from mlpipe.cli.profiling import page_of, write_text
        from mlpipe.measure.record import json_text

        if self.output is not None:
            write_text(self.output, ".json", json_text(record), force=self.force, kept=self.kept)
        if self.html is not None:
            write_text(self.html, ".html", page_of(record, old), force=self.force, kept=self.kept)


@dataclass(frozen=True)
class _Against:
    """An earlier record, and by how much figures may differ from it."""

    name: str = ""
    old: RecordFacts | None = None
    thresholds: tuple[Any, ...] = ()
    anyway: bool = False

    @classmethod
    def of(cls, path: Path | None, fail_on: list[str], anyway: bool) -> _Against:
        """Read it, and find out what can be known to be wrong about the thresholds."""
        if path is None:
            if fail_on:
                raise UsageError("--fail-on needs the record of an earlier run; add --compare-to OLD.json")
            return cls()
        from mlpipe.measure.metrics import figures
        from mlpipe.measure.schema import load_record
        from mlpipe.measure.thresholds import parse_threshold

        old = load_record(path)
        thresholds = tuple(parse_threshold(text) for text in fail_on)
        for threshold in thresholds:
            figures(old, threshold.metric, str(path), of_runs=False)
        return cls(str(path), old, thresholds, anyway)

    def check(self, new: RecordFacts, session: Session) -> None:
        """Show both side by side; raise for a threshold that is crossed."""
        if self.old is None:
            return
        from mlpipe.cli.profiling import show_comparison
        from mlpipe.report.compare import Comparison, check_thresholds

        found: Comparison = Comparison((self.name, "this run"), self.old, new)
        differing = found.check(anyway=self.anyway)
        if not session.quiet:
            show_comparison(found, differing, err=True)
        check_thresholds(found, self.thresholds)


def _measure(wanted: _Wanted, session: Session) -> tuple[RecordFacts | None, Ended]:
    """Run the command as often as asked for, or until it fails; the record, if there is anything to record."""
    from mlpipe.measure.profiles import profiled

    measured: list[Run] = []
    with ExitStack() as files:
        record, lines = _unnamed(files), _unnamed(files)
        for number in range(wanted.warmup + wanted.runs):
            last = number == wanted.warmup + wanted.runs - 1
            run = _run_once(wanted, session, record, lines, silent=not last)
            if number >= wanted.warmup or run.failed:
                measured.append(run)
            if run.failed or run.ended.signum is not None:
                if not last:
                    session.note(f"stopped after run {number + 1} of {wanted.warmup + wanted.runs}")
                break
    if not measured:
        return None, run.ended
    sampler = f"memory-profiler {_version('memory-profiler')}" if wanted.memory else None
    interval = wanted.interval if wanted.memory else None
    return profiled(wanted.command, measured, interval=interval, sampler=sampler, lines=wanted.lines), run.ended


def _unnamed(files: ExitStack) -> Path:
    """A file in memory where the command leaves something: however we end, nothing stays behind.

    It is in a temporary directory where the system has no such thing.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("mlpipe-profile")
        files.callback(os.close, descriptor)
        path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        if path.exists():
            return path
    with _temporary_place():
        return Path(files.enter_context(tempfile.TemporaryDirectory(prefix="mlpipe-profile-"))) / "found"


@contextmanager
def _temporary_place() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"no temporary directory: {error.strerror}; set TMPDIR to one that can be written") from None


def _run_once(wanted: _Wanted, session: Session, record: Path, lines: Path, *, silent: bool) -> Run:
    """Run the command once; its record and its lines come there. What a silent run says is told if it fails."""
    from mlpipe.cli.recording import RECORD_TO
    from mlpipe.measure.child import run_to_end
    from mlpipe.measure.lines import LINES_MEMORY, LINES_TO
    from mlpipe.measure.profiles import Run

    for path in (record, lines):
        path.write_bytes(b"")  # what an earlier run left
    environment = {key: value for key, value in os.environ.items() if key not in (LINES_TO, LINES_MEMORY)}
    environment[RECORD_TO] = str(record)
    if wanted.lines:
        environment |= {LINES_TO: str(lines), LINES_MEMORY: "1" if wanted.memory else ""}
    flags = [flag for flag, given in _session_flags(session) if given]
    command = [sys.executable, "-m", "mlpipe", *flags, *wanted.command]
    interval = wanted.interval if wanted.memory else None
    with ExitStack() as files:
        nowhere = files.enter_context(open(os.devnull, "wb"))
        with _temporary_place():
            aside = files.enter_context(tempfile.TemporaryFile()) if silent else None
        stdout = nowhere if silent else sys.stderr.fileno() if wanted.as_json else None
        ended = run_to_end(command, environment, interval, stdout, aside)
        if aside is not None and ended.exit_code:
            aside.seek(0)
            typer.echo(aside.read().decode(errors="backslashreplace"), err=True, nl=False)
    found, reasons = _read_lines(lines)
    return Run(ended, _read_record(record, wanted.command), found, reasons)


def _session_flags(session: Session) -> list[tuple[str, bool]]:
    return [("--quiet", session.quiet), ("--verbose", session.verbose), ("--debug", session.debug)]


def _read_record(path: Path, command: list[str]) -> RecordFacts | None:
    """What the command wrote of itself, if it came to that; not what other commands did that it started."""
    from mlpipe.measure.schema import load_record

    try:
        record = load_record(path) if path.stat().st_size else None
    except InputError:  # it was killed while it wrote
        return None
    return record if record is not None and record["command"] == command else None


def _read_lines(path: Path) -> tuple[list[Any] | None, list[str]]:
    if not path.stat().st_size:
        return None, []
    found = json.loads(path.read_bytes())
    return found["functions"], found["reasons"]


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _end_like(ended: Ended, wanted: _Wanted, session: Session) -> None:
    """End as the command did, unless it did what it should."""
    if ended.signum is not None and not ended.exit_code:
        raise Interrupted(ended.signum)  # it was done already, but we were asked to end
    if ended.exit_code > 128 and ended.killed:
        reason = "; did the system run out of memory?" if ended.exit_code == 137 else ""
        complain(f"{wanted.command[0]} was ended by a signal, with exit code {ended.exit_code}{reason}")
    if ended.exit_code:
        raise typer.Exit(ended.exit_code)

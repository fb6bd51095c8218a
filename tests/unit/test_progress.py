from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import threading

import pytest

from mlpipe.report.progress import WINDOW, BarProgress, Gauge, LogProgress, Progress, make_progress

MIB = 2**20
RUN = (
    "from mlpipe.report.progress import make_progress\nwith make_progress({mode!r}, {total}, label='job') as p: {body}"
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Log(io.StringIO):
    """A stream that tells when lines have come."""

    def __init__(self) -> None:
        super().__init__()
        self.three = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("\n") >= 3:
            self.three.set()
        return written


def test_figures_of_a_known_total(clock):
    gauge = Gauge(1000 * MIB, clock=clock)
    assert gauge.figures() == "0 %, 0 B of 1000 MiB"
    clock.now += 2
    gauge.advance(100 * MIB)
    gauge.advance(150 * MIB)
    assert gauge.figures() == "25 %, 250 MiB of 1000 MiB, 125 MiB/s, 6.00 s left"
    clock.now += 1
    gauge.advance(750 * MIB)
    assert gauge.figures() == "100 %, 1000 MiB of 1000 MiB, 333 MiB/s"
    assert gauge.summary() == "100 %, 1000 MiB of 1000 MiB, 333 MiB/s, took 3.00 s"


def test_figures_of_an_unknown_total(clock):
    gauge = Gauge(None, clock=clock)
    assert gauge.figures() == "0 B"
    clock.now += 4
    gauge.advance(8 * MIB)
    assert gauge.figures() == "8.00 MiB, 2.00 MiB/s"
    assert gauge.summary() == "8.00 MiB, 2.00 MiB/s, took 4.00 s"


def test_figures_of_other_units(clock):
    gauge = Gauge(200_000, "rows", clock)
    clock.now += 2
    gauge.advance(50_000)
    assert gauge.figures() == "25 %, 50,000 rows of 200 k rows, 25,000 rows/s, 6.00 s left"


def test_nothing_to_do_is_complete(clock):
    gauge = Gauge(0, clock=clock)
    assert gauge.figures() == "100 %, 0 B of 0 B"
    assert gauge.summary() == "100 %, 0 B of 0 B, took 0 s"


@pytest.mark.parametrize(("done", "share"), [(999_999, "99 %"), (1_000_000, "100 %"), (1_000_001, "100 %")])
def test_a_hundred_percent_means_complete_and_more_is_not_claimed(clock, done, share):
    gauge = Gauge(1_000_000, clock=clock)
    clock.now += 1
    gauge.advance(done)
    figures = gauge.figures()
    assert figures.startswith(f"{share}, ")
    assert ("left" in figures) is (done < 1_000_000)


def test_the_rate_is_of_late_and_the_summary_of_the_whole(clock):
    gauge = Gauge(None, clock=clock)
    for _ in range(40):
        clock.now += 1
        gauge.advance(10 * MIB)
        gauge.figures()
    for _ in range(int(WINDOW)):
        clock.now += 1
        gauge.advance(2 * MIB)
        last = gauge.figures()
    assert last == "430 MiB, 2.00 MiB/s"
    assert gauge.summary() == "430 MiB, 7.82 MiB/s, took 55.0 s"


def test_a_standstill_shows_and_promises_no_end(clock):
    gauge = Gauge(100 * MIB, clock=clock)
    clock.now += 1
    gauge.advance(10 * MIB)
    for _ in range(3):
        clock.now += WINDOW
        last = gauge.figures()
    assert last == "10 %, 10.0 MiB of 100 MiB, 0 B/s"


def test_advance_loses_nothing_between_threads(clock):
    gauge = Gauge(None, clock=clock)
    threads = [threading.Thread(target=lambda: [gauge.advance(1) for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gauge.done == 80_000


def test_log_writes_lines_while_it_runs_and_one_at_the_end(clock):
    stream = Log()
    with LogProgress(Gauge(10 * MIB, clock=clock), stream, "job", interval=0.001) as progress:
        progress.advance(5 * MIB)
        assert stream.three.wait(30)
        clock.now += 2
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 4
    assert all(line.startswith("job: ") for line in lines)
    assert lines[-1] == "job: 50 %, 5.00 MiB of 10.0 MiB, 2.50 MiB/s, took 2.00 s"


def test_log_of_a_short_run_is_one_line():
    stream = io.StringIO()
    with make_progress("log", 10, unit="rows", label="job", stream=stream) as progress:
        progress.advance(10)
        progress.close()
    assert re.fullmatch(r"job: 100 %, 10 rows of 10 rows, .+ rows/s, took .+\n", stream.getvalue())


def test_display_ends_when_the_run_fails():
    stream = io.StringIO()

    def fail() -> None:
        with make_progress("log", 10, unit="rows", label="job", stream=stream) as progress:
            progress.advance(5)
            raise ValueError("boom")

    before = threading.active_count()
    with pytest.raises(ValueError, match="boom"):
        fail()
    assert threading.active_count() == before
    assert stream.getvalue().startswith("job: 50 %")


class Gone(io.StringIO):
    """A stream whose other end went away."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = threading.Event()

    def write(self, text: str) -> int:
        self.tried.set()
        raise BrokenPipeError("gone")


@pytest.mark.parametrize("display", [LogProgress, BarProgress])
def test_a_display_that_went_away_does_not_end_the_run(display):
    stream = Gone()
    with display(Gauge(10), stream, "job", interval=0.001) as progress:
        assert stream.tried.wait(30)
        progress.advance(10)
    assert progress.gauge.done == 10


def test_a_closed_stream_is_no_terminal():
    stream = io.StringIO()
    stream.close()
    assert type(make_progress("auto", 10, stream=stream)) is Progress


def test_none_and_auto_off_a_terminal_show_nothing():
    for mode in ("none", "auto"):
        stream = io.StringIO()
        with make_progress(mode, 10, stream=stream) as progress:
            progress.advance(10)
        assert type(progress) is Progress
        assert stream.getvalue() == ""


@pytest.mark.parametrize("total", [None, 0, 10 * MIB])
def test_bar_shows_the_same_figures_and_goes_away(clock, total, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    stream = io.StringIO()
    with BarProgress(Gauge(total, clock=clock), stream, "job [x]", interval=60) as progress:
        clock.now += 2
        progress.advance(4 * MIB)
        progress._show()
        shown = stream.getvalue()
        figures = progress.gauge.figures()
    assert "job [x]" in shown
    assert figures in shown
    assert "2.00 MiB/s" in figures
    after = stream.getvalue()[len(shown) :]
    assert "\x1b[2K" in after
    assert "job" not in after.rpartition("\x1b[2K")[2]


def _on_pty(code: str, **environment: str) -> tuple[str, str]:
    """Run code whose standard error is a terminal; returns what came out there and on standard output."""
    master, slave = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    done = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=slave, env={**env, "TERM": "xterm", **environment}
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the last writer has gone
        while chunk := os.read(master, 65536):
            shown += chunk
    out, _ = done.communicate()
    os.close(master)
    assert done.returncode == 0
    return shown.decode(), out.decode()


def test_auto_on_a_terminal_is_a_bar_on_standard_error():
    shown, out = _on_pty(RUN.format(mode="auto", total=2**21, body="p.advance(2**20)"))
    assert re.search(r"job .*━.*\d+ %, .* of 2\.00 MiB", shown)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
    assert re.search(r"\x1b\[\d+m", shown)
    assert out == ""


def test_no_color_is_honoured():
    shown, _ = _on_pty(RUN.format(mode="auto", total=2**21, body="p.advance(2**20)"), NO_COLOR="1")
    assert "2.00 MiB" in shown
    colours = {code for group in re.findall(r"\x1b\[([\d;]*)m", shown) for code in group.split(";")}
    assert colours <= {"", "0", "1", "2", "3", "22", "39", "49"}


def test_auto_on_a_terminal_that_cannot_redraw_shows_nothing():
    shown, _ = _on_pty(RUN.format(mode="auto", total=2**21, body="p.advance(2**21)"), TERM="dumb")
    assert shown == ""


def test_off_a_terminal_no_rich_is_imported():
    code = RUN.format(mode="auto", total=5, body="p.advance(5)") + "\nimport sys; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_a_broken_pipe_under_a_bar_leaves_standard_output_alone():
    code = "import sys\n" + RUN.format(mode="bar", total=2**21, body="p.advance(2**20)") + "\nprint('the array')"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writer, text=True)
    os.close(writer)
    assert done.stdout == "the array\n"

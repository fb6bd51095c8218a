from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from mlpipe.measure.record import Record
from mlpipe.measure.schema import RecordFacts
from mlpipe.report.table import process_lines, stage_table


def _stage(name: str, **known):
    keys = ("self_s", "wait_in_s", "wait_out_s", "compile_s", "cpu_s", "rows", "bytes_in", "bytes_out", "batches")
    return {"name": name, **dict.fromkeys(keys), **known}


def _record(**changed) -> RecordFacts:
    stages = [
        _stage("read", self_s=0.0123, wait_out_s=74.9, cpu_s=0.01, rows=40_000, bytes_out=10_240_000, batches=30),
        _stage(
            "compute", self_s=61.3, wait_in_s=12.3e-6, wait_out_s=0.0, compile_s=3.21, cpu_s=59.0,
            rows=20_000, bytes_out=1_600_000_000,
        ),
        _stage("write", self_s=1.44, wait_in_s=73.4, cpu_s=1.1, rows=20_000, bytes_in=1_600_000_000, batches=400),
    ]  # fmt: skip
    process = {
        "anonymous_peak": 301 << 20,
        "rss_peak": 420 << 20,
        "file_backed_peak": 88 << 20,
        "cpu_s": 121.3,
        "note": None,
    }
    limit = {"kind": "compute", "sentence": "compute-bound in compute; 2 of 2 threads busy", "help": "--threads 4"}
    values = {
        "wall_s": 75.24, "cpu_s": 121.3, "accounted": 0.99987, "memory_ceiling": 512 << 20, "stages": stages,
        "process": process, "bottleneck": limit,
    }  # fmt: skip
    return {**Record([]).to_dict(), **values, **changed}


def _on_terminal(record: RecordFacts, width: int, **options) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, _environ={}, **options)
    console.print(stage_table(record, terminal=True))
    return console.file.getvalue().splitlines()


EXPECTED = """\
stage        self   wait in  wait out  compile      cpu    rows     bytes  rows/s   bytes/s
read      12.3 ms         -  1:15 min        -  10.0 ms  40,000  9.77 MiB  3.25 M   794 MiB
compute  1:01 min   12.3 µs       0 s   3.21 s   59.0 s  20,000  1.49 GiB     326  24.9 MiB
write      1.44 s  1:13 min         -        -   1.10 s  20,000  1.49 GiB  13,889  1.03 GiB
rates   per second of self
time    1:15 min, cpu 2:01 min (1.61 processors), 99.9 % accounted for
memory  anonymous peak 301 MiB of 512 MiB, resident peak 420 MiB, files peak 88.0 MiB
limit   compute-bound in compute; 2 of 2 threads busy
try     --threads 4
"""


def test_plain_text_is_aligned_and_a_dash_is_not_a_zero():
    assert stage_table(_record(), terminal=False) == EXPECTED


def test_a_wide_terminal_shows_what_plain_text_shows():
    lines = _on_terminal(_record(), 120, no_color=True, color_system=None)
    assert [line.rstrip() for line in lines] == EXPECTED.splitlines()


def test_eighty_columns_keep_the_throughput_and_leave_out_the_cpu_time():
    lines = _on_terminal(_record(), 80, color_system=None)
    assert " ".join(lines[0].split()) == "stage self wait in wait out compile rows bytes rows/s bytes/s"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 70, 79])
def test_a_narrow_terminal_loses_columns_but_never_part_of_a_figure(width):
    lines = _on_terminal(_record(), width, color_system=None)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert lines[0].split()[:2] == ["stage", "self"]
    assert lines[2].startswith("compute")
    assert "1:01 min" in lines[2]


def test_colour_only_where_it_is_wanted():
    yellow = "\x1b[33m"
    assert any(yellow in line for line in _on_terminal(_record(), 80, color_system="standard"))
    assert not any(yellow in line for line in _on_terminal(_record(), 80, color_system="standard", no_color=True))
    assert "\x1b" not in stage_table(_record(), terminal=False)


def test_what_is_missing_is_left_out_and_what_was_asked_for_is_explained():
    process = {"anonymous_peak": None, "rss_peak": 5 << 20, "file_backed_peak": None, "note": "no /proc here"}
    record = _record(process=process, cpu_s=None, accounted=None, stages=[])
    assert process_lines(record) == [
        ("time", "1:15 min"),
        ("memory", "anonymous not measured (no /proc here), resident peak 5.00 MiB"),
    ]
    assert stage_table(record, terminal=False).count("\n") == 2
    assert len(_on_terminal(record, 80)) == 2


def test_without_a_ceiling_the_peak_stands_alone():
    assert "anonymous peak 301 MiB, resident" in dict(process_lines(_record(memory_ceiling=None)))["memory"]


def test_a_record_that_measured_nothing_renders_as_nothing():
    assert stage_table(Record([]).to_dict(), terminal=False) == ""
    assert _on_terminal(Record([]).to_dict(), 80) == []


def test_no_rate_without_a_time():
    stages = [_stage("a", self_s=0.0, rows=5, bytes_out=40), _stage("b", rows=5, bytes_out=40), _stage("c", self_s=1.0)]
    lines = stage_table(_record(stages=stages), terminal=False).splitlines()[1:4]
    assert [line.split()[-2:] for line in lines] == [["-", "-"]] * 3


@pytest.mark.parametrize(("share", "text"), [(0.99999, "99.9 %"), (1.0, "100.0 %"), (0.5, "50.0 %"), (0.0, "0.0 %")])
def test_the_share_accounted_for_is_never_rounded_up(share, text):
    assert f" {text} accounted for" in stage_table(_record(accounted=share), terminal=False)


def test_plain_text_needs_no_rich():
    code = (
        "import sys; from mlpipe.measure.record import Record; from mlpipe.report.table import stage_table\n"
        "stage_table(Record([], wall_s=1.0).to_dict(), False)\n"
        "print(sorted({'rich', 'numpy', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""``mlpipe report``: records shown, compared and drawn."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlpipe.measure.schema import RecordFacts
from tests import made_records
from tests.cli.conftest import Run
from tests.made_records import MIB, empty


def _plain(record: Any) -> Any:
    """Without the shares of each step, of which there are many to check."""
    for stage in record["stages"]:
        stage["timeline"] = {"step_s": 0.1, "self": [], "wait_in": [], "wait_out": [], "compile": []}
    return record


MADE, PROFILED = _plain(made_records.made()), _plain(made_records.profiled())


def made() -> Any:
    return copy.deepcopy(MADE)


def profiled() -> Any:
    return copy.deepcopy(PROFILED)


Save = Callable[[str, RecordFacts], str]


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    monkeypatch.chdir(tmp_path)

    def write(name: str, record: RecordFacts) -> str:
        Path(name).write_text(json.dumps(record))
        return name

    return write


def slower(factor: float) -> Any:
    """The made record, `factor` times as slow."""
    record = made()
    record["wall_s"] = (record["wall_s"] or 0) * factor
    record["process"]["anonymous_peak"] = int((record["process"]["anonymous_peak"] or 0) * factor)
    for stage in record["stages"]:
        stage["self_s"] = None if stage["self_s"] is None else stage["self_s"] * factor
    return record


def test_show_prints_the_table_to_stdout(run: Run, save: Save) -> None:
    code, out, err = run("report", "show", save("a.json", made()))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("mlpipe run read digits.npy then shuffle --seed 7")
    assert any(line.startswith("standardize ") for line in lines)
    assert any(line.startswith("memory ") and "152 MiB" in line for line in lines)


def test_show_of_a_profile_has_the_runs_and_the_lines(run: Run, save: Save) -> None:
    code, out, _ = run("report", "show", save("a.json", profiled()))
    assert code == 0
    assert "process wall 1.60 s (1.58 s to 1.71 s, MAD 20.0 ms)" in out
    assert "steps/my scale.py:scale, 850 ms in all" in out
    [slow] = [line for line in out.splitlines() if " * " in line]
    assert slow.split()[:4] == ["12", "35,940", "640", "ms"]
    assert "75.3" in slow


def test_show_of_a_run_that_failed_says_so(run: Run, save: Save) -> None:
    code, out, _ = run("report", "show", save("a.json", empty()))
    assert code == 0
    assert out.splitlines()[1] == "failed, exit code 3: X.npy: no such file"


def test_show_as_json_gives_the_record_back(run: Run, save: Save) -> None:
    code, out, _ = run("report", "show", "--json", save("a.json", profiled()))
    assert code == 0
    assert json.loads(out) == profiled()


@pytest.mark.parametrize("command", [["show"], ["compare", "b.json"], ["html"]])
def test_what_is_no_record_is_refused(run: Run, save: Save, command: list[str]) -> None:
    save("b.json", made())
    Path("c.json").write_text("{}")
    assert run("report", *command, "c.json").code == 4
    assert run("report", *command, "missing.json").code == 3


def test_compare_shows_medians_side_by_side(run: Run, save: Save) -> None:
    code, out, err = run("report", "compare", save("a.json", made()), save("b.json", slower(1.25)))
    assert (code, err) == (0, "")
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert rows["wall"] == "1.60 s 2.00 s +25.0 %"
    assert rows["anon_peak"] == "152 MiB 190 MiB +25.0 %"
    assert rows["rss_peak"] == "245 MiB 245 MiB +0.0 %"
    assert rows["stage.standardize.self"].endswith("+25.0 %")
    assert rows["stage.standardize.rows_per_s"].endswith("-20.0 %")


@pytest.mark.parametrize(
    ("threshold", "code"),
    [
        ("wall>+10%", 8), ("wall>+30%", 0), ("wall>+0.3s", 8), ("wall > +500 ms", 0), ("wall<-10%", 0),
        ("anon_peak>+30MiB", 8), ("anon_peak>+39MiB", 0), ("stage.standardize.self>+10%", 8),
        ("stage.standardize.rows_per_s<-10%", 8), ("stage.standardize.rows_per_s<-30%", 0), ("rss_peak>=+0%", 8),
        ("rss_peak>+0%", 0),
    ],
)  # fmt: skip
def test_thresholds_end_with_exit_code_8(run: Run, save: Save, threshold: str, code: int) -> None:
    files = save("a.json", made()), save("b.json", slower(1.25))
    ended = run("-q", "report", "compare", *files, "--fail-on", threshold)
    assert (ended.code, ended.out) == (code, "")
    assert (threshold in ended.err) == (code == 8)


def test_every_threshold_that_is_crossed_is_named_with_its_amount(run: Run, save: Save) -> None:
    files = save("a.json", made()), save("b.json", slower(1.25))
    flags = ["--fail-on", "wall>+10%", "--fail-on", "cpu>+1%", "--fail-on", "anon_peak>+5%"]
    code, _, err = run("report", "compare", *files, *flags)
    assert code == 8
    assert err == (
        "mlpipe: error: 2 thresholds were crossed: wall 1.60 s -> 2.00 s (+25.0 %): wall>+10%; "
        "anon_peak 152 MiB -> 190 MiB (+25.0 %): anon_peak>+5%\n"
    )


def test_what_was_not_measured_never_passes(run: Run, save: Save) -> None:
    record = made()
    record["process"]["anonymous_peak"] = None
    record["not_measured"]["process.anonymous_peak"] = "there is no /proc"
    files = save("a.json", made()), save("b.json", record)
    code, _, err = run("-q", "report", "compare", *files, "--fail-on", "anon_peak>+5%")
    assert (code, err) == (4, "mlpipe: error: b.json: anon_peak was not measured: there is no /proc\n")
    code, _, err = run("-q", "report", "compare", *files, "--fail-on", "stage.standardise.self>+5%")
    assert (code, err) == (
        4, "mlpipe: error: a.json: has no stage 'standardise'; did you mean standardize?\n",
    )  # fmt: skip
    assert run("-q", "report", "compare", *files, "--fail-on", "wall>5%").code == 2


def changed(key: str, value: Any) -> Any:
    record: Any = made()
    *path, last = key.split(".")
    inner = record
    for part in path:
        inner = inner[int(part) if part.isdigit() else part]
    inner[last] = value
    return record


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("inputs.0.shape", [9, 64], "inputs differ in shape (digits.npy [17970, 64], digits.npy [9, 64])"),
        ("inputs.0.dtype", "int8", "inputs differ in dtype (digits.npy uint8, digits.npy int8)"),
        ("inputs.0.bytes", 1, "inputs differ in bytes (digits.npy 1150080, digits.npy 1)"),
        ("inputs", [], "inputs differ in number (1, 0)"),
        (
            "command",
            ["run", "read", "digits.npy", "then", "nothing"],
            "commands differ (run read digits.npy then shuffle",
        ),
        ("host.cpu", "Another", "hosts differ in cpu (A processor, Another)"),
        ("host.usable_processors", 1, "hosts differ in usable processors (2, 1)"),
        ("host.memory", 1 << 30, "hosts differ in memory (23.5 GiB, 1.00 GiB)"),
        ("threads", 1, "threads differ (2, 1)"),
        ("status", "failed", "the run of b.json failed"),
        ("status", "interrupted", "the run of b.json was interrupted"),
        ("complete", False, "the run of b.json failed"),
    ],
)
def test_what_cannot_be_compared_is_refused_unless_told_otherwise(
    run: Run, save: Save, key: str, value: Any, reason: str
) -> None:
    files = save("a.json", made()), save("b.json", changed(key, value))
    code, out, err = run("report", "compare", *files)
    assert (code, out) == (4, "")
    assert err.startswith("mlpipe: error: a.json and b.json: ")
    assert reason in err
    assert err.endswith("; compare with --anyway\n")
    code, out, err = run("report", "compare", "--anyway", *files)
    assert (code, err) == (0, "")
    assert f"warning: {reason}" in out


@pytest.mark.parametrize(
    ("key", "value", "note"),
    [
        ("versions.numba", "0.69.0", "numba: 0.68.1, now 0.69.0"),
        ("host.system", "Linux 6.13", "system: Linux 6.12, now Linux 6.13"),
        ("memory_ceiling", 64 * MIB, "memory ceiling: 256 MiB, now 64.0 MiB"),
        ("host.memory", 25_276_000_000, None),
    ],
)
def test_what_may_differ_is_noted(run: Run, save: Save, key: str, value: Any, note: str | None) -> None:
    files = save("a.json", made()), save("b.json", changed(key, value))
    code, out, _ = run("report", "compare", *files)
    assert code == 0
    assert note is None or note in out.splitlines()


def test_where_files_are_and_how_it_is_told_makes_no_other_command(run: Run, save: Save) -> None:
    old, new = made(), made()
    new["command"] = [word.replace("digits.npy", "/data/digits.npy") for word in new["command"]]
    new["inputs"][0]["path"] = "/data/digits.npy"
    new["command"][1:1] = ["--report", "b.json", "--progress=log", "-f"]
    assert run("report", "compare", save("a.json", old), save("b.json", new)).code == 0


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("neighbors a.npy b.npy -k 2 -o near", "-q neighbors c/a.npy c/b.npy --memory 1GiB -k 2 -o ./x/", True),
        ("stats a.npy --memory=1GiB", "stats b.npy", True),
        ("stats da", "stats db/", True),
        ("distances a.npy --weights=w.npy -oD.npy", "distances a.npy --weights=v.npy -fo E.npy", True),
        ("neighbors a.npy -o n.csv", "neighbors a.npy -o n.npz", False),
        ("neighbors a.npy b.npy", "neighbors a.npy a.npy", False),
        ("neighbors a.npy -k 2", "neighbors a.npy -k 3", False),
        ("run --config a.toml", "run --config b.toml", False),
    ],
)
def test_places_of_files_and_the_ceiling_make_no_other_command(
    run: Run, save: Save, old: str, new: str, same: bool
) -> None:
    records = []
    for command, directory in ((old, "da"), (new, "db")):
        record = made()
        record["command"], record["output"] = command.split(), None
        record["inputs"][0]["path"] = f"{directory}/1.npy … {directory}/9.npy"
        records.append(record)
    code, _, err = run("report", "compare", save("a.json", records[0]), save("b.json", records[1]))
    assert (code, "commands differ" in err) == ((0, False) if same else (4, True))


def test_what_would_break_a_row_is_made_visible(run: Run, save: Save) -> None:
    code, out, _ = run("report", "show", save("a.json", changed("stages.0.name", "re\nad\x1b[31m")))
    assert code == 0
    assert r"re\nad\x1b[31m" in out


def test_a_record_that_is_not_there(run: Run) -> None:
    assert run("report", "show", "none.json")[::2] == (3, "mlpipe: error: none.json: no such file; check the path\n")


def test_a_profile_and_a_plain_record_are_compared_by_the_times_of_the_run(run: Run, save: Save) -> None:
    files = save("a.json", made()), save("b.json", profiled())
    code, out, _ = run("report", "compare", "--json", *files)
    assert code == 0
    [wall] = [one for one in json.loads(out)["metrics"] if one["metric"] == "wall"]
    assert (wall["old"]["median"], wall["new"]["median"], wall["change_percent"]) == (1.6, 1.6, 0.0)


def test_two_profiles_are_compared_by_the_medians_of_their_runs(run: Run, save: Save) -> None:
    new = profiled()
    assert new["profile"] is not None
    for one in new["profile"]["runs"]:
        one["wall_s"] *= 2
    files = save("a.json", profiled()), save("b.json", new)
    code, out, err = run("report", "compare", *files, "--fail-on", "wall>+99%")
    assert code == 8
    assert "wall 1.60 s -> 3.20 s (+100.0 %)" in err
    assert "1.58 s to 1.71 s" in out


def test_compare_as_json(run: Run, save: Save) -> None:
    files = save("a.json", made()), save("b.json", slower(1.25))
    code, out, err = run("report", "compare", "--json", *files, "--fail-on", "wall>+10%")
    facts = json.loads(out)
    assert code == 8
    assert facts["crossed"] == ["wall 1.60 s -> 2.00 s (+25.0 %): wall>+10%"]
    assert (facts["differences"], facts["notes"]) == ([], [])
    assert "a threshold was crossed" in err
    wall = facts["metrics"][0]
    assert (wall["metric"], wall["unit"], wall["change_percent"]) == ("wall", "seconds", pytest.approx(25))


def test_a_page_is_written_once_unless_forced(run: Run, save: Save) -> None:
    save("a.json", made())
    assert run("report", "html", "a.json") == (0, "", "mlpipe: wrote a.html\n")
    page = Path("a.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert run("report", "html", "a.json").code == 5
    assert run("report", "html", "a.json", "-f").code == 0
    assert run("report", "html", "a.json", "-o", "a.json", "-f").code == 2
    assert run("report", "html", save("r.html", made()), "-o", "r.html", "-f").code == 5  # it is the record
    assert run("-q", "report", "html", "a.json", save("b.json", slower(2)), "-o", "c.html") == (0, "", "")
    assert Path("c.html").read_text() != page
    assert json.loads(Path("a.json").read_text()) == made()

"""`mlpipe run --config` and `--save-config`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run

X = np.arange(70, dtype="f4").reshape(10, 7)
CHAIN = ["read", "X.npy", "then", "head", "--rows", "6", "then", "write", "Y.npy"]
LINKS = """
[[link]]
verb = "read"
paths = ["X.npy"]

[[link]]
verb = "head"
rows = 6

[[link]]
verb = "write"
path = "Y.npy"
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MEMORY", "THREADS", "PROGRESS", "PREFETCH", "DEBUG"):
        monkeypatch.delenv(f"MLPIPE_{name}", raising=False)
    np.save("X.npy", X)


def refused(run: Run, *arguments: str) -> str:
    """The message of a run that ends with code 2 and leaves nothing behind."""
    before = sorted(os.listdir())
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sorted(os.listdir()) == before
    return err.removeprefix("mlpipe: error: ").strip()


def threads_of(run: Run, *flags: str) -> int:
    return int(json.loads(run("run", "-n", "--json", *flags).out)["threads"])


def test_round_trip(run: Run) -> None:
    assert run("run", "--threads", "1", "--memory", "1GiB", "--save-config", "c.toml", *CHAIN).code == 0
    assert Path("c.toml").read_text() == (
        f"[run]\nmemory = {1 << 30}\nthreads = 1\n{LINKS}".replace('["X.npy"]', '[\n    "X.npy",\n]')
    )
    first = Path("Y.npy").read_bytes()
    os.remove("Y.npy")
    assert run("run", "--config", "c.toml", "--save-config", "d.toml").code == 0
    assert Path("Y.npy").read_bytes() == first
    assert Path("d.toml").read_bytes() == Path("c.toml").read_bytes()


def test_saving_is_not_running_after_a_dry_run(run: Run) -> None:
    assert run("run", "-n", "--save-config", "c.toml", *CHAIN).code == 0
    assert sorted(os.listdir()) == ["X.npy", "c.toml"]
    assert run("run", "--config", "c.toml").code == 0
    np.testing.assert_array_equal(np.load("Y.npy"), X[:6])


def test_a_chain_without_a_sink_stays_one(spawn: Run) -> None:
    assert spawn("run", "-n", "--save-config", "c.toml", "read", "X.npy").code == 0
    assert Path("c.toml").read_text().count("[[link]]") == 1


def test_an_existing_config_is_kept(run: Run) -> None:
    Path("c.toml").write_text("old")
    code, _, err = run("run", "--save-config", "c.toml", *CHAIN)
    assert (code, "c.toml: exists; use --force" in err) == (5, True)
    assert (Path("c.toml").read_text(), Path("Y.npy").exists()) == ("old", False)
    assert run("run", "--force", "--save-config", "c.toml", *CHAIN).code == 0
    assert Path("c.toml").read_text() == f"[run]\nforce = true\n{LINKS}".replace('["X.npy"]', '[\n    "X.npy",\n]')


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["read", "X.npy", "then", "haed"], 2),
        (["read", "X.npy", "then", "read", "X.npy"], 2),
        (["read", "no.npy", "then", "nothing"], 3),
        (["--memory", "1MiB", "read", "X.npy", "then", "nothing"], 7),
        (["read", "X.npy", "then", "write", "no/Y.npy"], 5),
        (["read", "X.npy", "then", "write", "./c.toml"], 2),
        (["--report", "c.toml", "read", "X.npy", "then", "nothing"], 2),
    ],
)
def test_nothing_is_saved_of_what_does_not_work(run: Run, arguments: list[str], code: int) -> None:
    assert run("run", "--save-config", "c.toml", *arguments).code == code
    assert os.listdir() == ["X.npy"]


def test_a_config_replaces_no_input(run: Run) -> None:
    before = Path("X.npy").read_bytes()
    assert run("run", "-f", "--save-config", "X.npy", *CHAIN).code == 5
    assert Path("X.npy").read_bytes() == before
    Path("c.toml").write_text(LINKS)
    assert run("run", "-f", "--config", "c.toml", "--save-config", "./c.toml").code == 5
    assert run("run", "-f", "--config", "c.toml", "--report", "./c.toml").code == 5
    Path("d.toml").write_text(LINKS.replace("Y.npy", "d.toml"))
    assert run("run", "-f", "--config", "d.toml").code == 5
    assert (Path("c.toml").read_text(), Path("X.npy").read_bytes()) == (LINKS, before)


def test_flags_win_over_variables_and_these_over_the_config(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("c.toml").write_text("[run]\nthreads = 3\n" + LINKS)
    assert threads_of(run, "--config", "c.toml") == 3
    monkeypatch.setenv("MLPIPE_THREADS", "4")
    assert threads_of(run, "--config", "c.toml") == 4
    assert threads_of(run, "--config", "c.toml", "--threads", "5") == 5
    assert threads_of(run, "--threads", "6", "--config", "c.toml") == 6


def test_every_key_of_run(run: Run) -> None:
    flags = '[run]\nmemory = "1GiB"\nthreads = 1\nprefetch = 2\nprogress = "log"\nforce = true\nreport = "R.json"\n'
    Path("c.toml").write_text(flags + LINKS)
    Path("Y.npy").write_text("old")
    assert run("run", "--config", "c.toml").code == 0
    record = json.loads(Path("R.json").read_text())
    assert (record["threads"], record["memory_ceiling"]) == (1, 1 << 30)
    assert run("run", "--config", "c.toml", "--save-config", "d.toml").code == 0
    saved = Path("d.toml").read_text()
    assert saved.startswith(
        flags.replace('"1GiB"', str(1 << 30)).replace("force = true\nreport", "force = true\nreport")
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("memroy = 1", "c.toml: [run]: no key 'memroy'; did you mean memory?"),
        ("dry-run = true", "c.toml: [run]: no key 'dry-run'; known are memory, threads,"),
        ("memory = true", "c.toml: [run]: memory = True: give a whole number or text"),
        ("memory = {a = 1}", "c.toml: [run]: memory = {'a': 1}: give a whole number or text"),
        ('memory = "x"', "--memory 'x' is not a size"),
        ("memory = -5", "-5"),
        ("memory = 1979-05-27", "c.toml: [run]: memory = datetime.date(1979, 5, 27): give"),
        ("threads = 0", "--threads 0: give a whole number from 1 to 1024"),
        ('threads = "2"', "c.toml: [run]: threads = '2': give a whole number"),
        ("threads = 2.0", "c.toml: [run]: threads = 2.0: give a whole number"),
        ("threads = [2]", "c.toml: [run]: threads = [2]: give a whole number"),
        ("prefetch = 0", "--prefetch 0: give a whole number from 1 to 1024"),
        ('progress = "maybe"', "Invalid value for '--progress'"),
        ("progress = 3", "c.toml: [run]: progress = 3: give text"),
        ('force = "yes"', "c.toml: [run]: force = 'yes': give true or false"),
        (f"threads = 0x{'f' * 6000}", "c.toml: [run]: threads"),
    ],
)
def test_flags_that_make_no_sense(run: Run, flags: str, message: str) -> None:
    Path("c.toml").write_text(f"[run]\n{flags}\n{LINKS}")
    assert message in refused(run, "run", "--config", "c.toml")


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ('verb = "haed"', "c.toml: link 2 (haed): no verb 'haed'; did you mean head?"),
        ("rows = 3", 'c.toml: link 2: needs a key verb, such as verb = "head"'),
        ("verb = 3", 'c.toml: link 2: needs a key verb, such as verb = "head"'),
        ('verb = "head"\nrwos = 3', "c.toml: link 2 (head): no key 'rwos'; did you mean rows?"),
        ('verb = "head"\nrows = "x"', "c.toml: link 2 (head): rows = 'x': give a whole number"),
        ('verb = "head"\nrows = true', "c.toml: link 2 (head): rows = True: give a whole number"),
        ('verb = "head"\nrows = 1.5', "c.toml: link 2 (head): rows = 1.5: give a whole number"),
        ('verb = "head"\nrows = [1]', "c.toml: link 2 (head): rows = [1]: give a whole number"),
        ('verb = "head"\nrows = {a = 1}', "c.toml: link 2 (head): rows = {'a': 1}: give a whole number"),
        ('verb = "head"\nrows = 1979-05-27', "c.toml: link 2 (head): rows = datetime.date(1979, 5, 27): give a whole"),
        ('verb = "head"\nrows = -1', "c.toml: link 2 (head): --rows -1: give 0 or more"),
        (f'verb = "head"\nrows = {10**40}', "c.toml: link 2 (head): rows = a number of 133 bits: too large; give"),
        (f'verb = "head"\nrows = 0x{"f" * 6000}', "c.toml: link 2 (head): rows = a number of 24000 bits: too large"),
        ('verb = "batch"', "c.toml: link 2 (batch): needs size: Rows of a batch."),
        ('verb = "batch"\nsize = 3\ndrop-last = "no"', "c.toml: link 2 (batch): drop-last = 'no': give true or false"),
        ('verb = "write"\npath = "Z.npy"', "link 2 (write): a sink ends a chain, but write follows"),
        ('verb = "read"\npaths = "X.npy"', "link 2 (read): a source can only come first; read takes several files"),
        ('verb = "read"\npaths = 3', "c.toml: link 2 (read): paths = 3: give text"),
        ('verb = "read"\npaths = [3]', "c.toml: link 2 (read): paths = 3: give text"),
    ],
)
def test_links_that_make_no_sense(run: Run, link: str, message: str) -> None:
    Path("c.toml").write_text(LINKS.replace('verb = "head"\nrows = 6', link))
    assert refused(run, "run", "--config", "c.toml").startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c.toml: needs a table [[link]] for each verb, from a source on"),
        ("link = []", "c.toml: needs a table [[link]]"),
        ("link = 3", "c.toml: needs a table [[link]]"),
        ('[link]\nverb = "read"', "c.toml: needs a table [[link]]"),
        ("link = [3]", "c.toml: link 1: needs a key verb"),
        ("lnik = 3", "c.toml: no key 'lnik'; did you mean link?"),
        ("run = 3", "c.toml: run is no table; write [run] above its keys"),
        ("[", "c.toml: no TOML: "),
        (f"x = {'9' * 5000}", "c.toml: no TOML: "),
        (f"x = {'[' * 5000}", "c.toml: no TOML: "),
        ("\x00", "c.toml: no TOML: "),
        ("#" * (1 << 20) + "\n", "c.toml: longer than 1 MiB; a config is short"),
    ],
    ids=range(12),
)
def test_text_that_is_no_config(run: Run, text: str, message: str) -> None:
    Path("c.toml").write_text(text)
    assert refused(run, "run", "--config", "c.toml").startswith(message)


def test_bytes_that_are_no_text(run: Run) -> None:
    Path("c.toml").write_bytes(b"# \xff")
    assert refused(run, "run", "--config", "c.toml") == "c.toml: not UTF-8 at byte 2; a config is TOML"


def test_a_config_that_is_not_there(run: Run) -> None:
    Path("directory").mkdir()
    os.mkfifo("pipe")
    for name in ("no.toml", "directory", "pipe", "a\nb"):
        code, out, err = run("run", "--config", name)
        assert (code, out, err.count("\n")) == (3, "", 1)


def test_a_config_beside_links(run: Run) -> None:
    Path("c.toml").write_text(LINKS)
    message = "--config holds the chain; leave out 'head' and what follows"
    assert refused(run, "run", "--config", "c.toml", "head") == message


def test_a_path_that_is_not_utf8_cannot_be_saved(run: Run) -> None:
    name = os.fsdecode(b"\xff.npy")
    np.save(name, X)
    err = refused(run, "run", "--save-config", "c.toml", "read", name, "then", "nothing")
    assert err == "c.toml: the chain has text that is not UTF-8; a config cannot hold it"


def test_one_path_may_stand_for_a_list(run: Run) -> None:
    Path("c.toml").write_text(LINKS.replace('["X.npy"]', '"X.npy"'))
    assert run("run", "--config", "c.toml").code == 0

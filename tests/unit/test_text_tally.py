from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlpipe.counting import entries
from mlpipe.counting import text as text_module
from mlpipe.counting.columns import Text
from mlpipe.counting.text import TextTally
from mlpipe.errors import InputError, MemoryCeilingError
from mlpipe.workers import Workers

FIXED = settings(max_examples=150, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rooms and shares of threads be so small that little data is cut up and goes through files."""
    monkeypatch.setattr(entries, "LEAST_ROOM", 1 << 12)
    monkeypatch.setattr(text_module, "LEAST_PART", 16)


def tally(
    content: bytes,
    *,
    split: bool = False,
    room: int = 1 << 20,
    threads: int = 1,
    sizes: Sequence[int] = (1000,),
    directory: str | Path = ".",
) -> tuple[list[bytes], list[int], Any]:
    """Lines or words, counts and what else is known, of text that comes in blocks."""
    counter = TextTally(split=split, room=room, threads=threads, directory=str(directory))
    keys: list[bytes] = []
    counts: list[int] = []
    try:
        with Workers(threads) as workers:
            start, turn = 0, 0
            while start < len(content):
                stop = start + sizes[turn % len(sizes)]
                block = np.frombuffer(content[start:stop], np.uint8).copy()
                counter.add(block, workers)
                block[:] = 65  # it may be reused
                start, turn = stop, turn + 1
            counted = counter.finish(workers)
            for piece in counted.by_value():
                (column,) = piece.keys
                assert isinstance(column, Text)
                keys += column.tolist()
                counts += piece.counts.tolist()
    finally:
        counter.close()
    assert (counted.distinct, counted.total, counted.missing) == (len(keys), sum(counts), 0)
    return keys, counts, counted


def lines_of(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def check(keys: list[bytes], counts: list[int], expected: list[bytes]) -> None:
    found = Counter(expected)
    assert keys == sorted(found)
    assert counts == [found[key] for key in keys]


texts = st.lists(
    st.sampled_from([b"a", b"b", b"\n", b"\n\n", b" ", b"\t", b"\r\n", b"\x0b", b"\x0c", b"\0", b"\xff", b"abcdefgh"])
    | st.binary(max_size=12),
    max_size=60,
).map(b"".join)
sizes = st.lists(st.integers(1, 90), min_size=1, max_size=4)


@FIXED
@given(texts, st.booleans(), sizes, st.sampled_from([1, 2]))
@example(b"", False, [1], 1)
@example(b"\n", False, [1], 2)
@example(b"a\0\na\na\0\0\0\0\0\0\0\0\n\0\n\0\0\n\n", False, [3], 1)
@example(b"one line without its end", False, [5], 1)
@example(b"\x1c\x85\xa0 \x1f", True, [5], 1)
def test_lines_and_words(content: bytes, split: bool, sizes: list[int], threads: int) -> None:
    keys, counts, _ = tally(content, split=split, sizes=sizes, threads=threads)
    # bytes.split() takes the same six bytes for blanks
    check(keys, counts, content.split() if split else lines_of(content))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("room", [1 << 12, 20_000, 150_000, 1 << 24])
@pytest.mark.parametrize("different", [1, 60, 4_000])
@pytest.mark.parametrize("split", [True, False])
def test_the_memory_changes_nothing(tmp_path: Path, split: bool, different: int, room: int, threads: int) -> None:
    rng = np.random.default_rng(different)
    words = [b"w" * int(rng.integers(1, 9)) + str(number).encode() for number in range(different)]
    content = b"".join(
        words[i] + (b" " if j % 7 and split else b"\n") for j, i in enumerate(rng.integers(0, different, 5_000))
    )
    keys, counts, counted = tally(
        content, split=split, room=room, threads=threads, sizes=(4001, 99), directory=tmp_path
    )
    check(keys, counts, content.split())
    if room < 20_000 and different == 4_000:
        assert counted.spilled_bytes
        assert counted.method == "partitions on disk"
    if room == 1 << 24:
        assert not counted.spilled_bytes
    assert not list(tmp_path.iterdir())


def test_many_lines_are_in_order() -> None:
    rng = np.random.default_rng(4)
    numbers = rng.integers(0, 10**12, 15_000).tolist()
    lines = [b"%d" % number if number % 2 else b"the same beginning of a line %d" % number for number in numbers]
    lines += [b"\0" * length for length in range(20)]
    check(*tally(b"\n".join(lines) + b"\n", room=1 << 24, sizes=(100_000,))[:2], lines)


@pytest.mark.parametrize("room", [1 << 14, 1 << 20])
def test_long_lines(tmp_path: Path, room: int) -> None:
    rng = np.random.default_rng(0)
    longest = TextTally(split=False, room=room, threads=1, directory=".")._longest
    alphabet = np.frombuffer(b"ab\0\r \xc3", np.uint8)
    some = [rng.choice(alphabet, int(rng.integers(0, longest + 1))).tobytes() for _ in range(60)]
    some += [some[0][:-1], some[0] + b"\0", b"x" * longest, b"x" * longest]
    some = [line[:longest] for line in some]
    check(*tally(b"\n".join(some) + b"\n", room=room, sizes=(10_000, 3), directory=tmp_path)[:2], some)


@pytest.mark.parametrize("size", [10, 777, 100_000])
@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_too_long_is_named(threads: int, split: bool, size: int) -> None:
    counter = TextTally(split=split, room=1 << 14, threads=threads, directory=".")
    longest = counter._longest
    counter.close()
    fine = b"a b\n" * 20 + b"x" * longest + b"\n"
    tally(fine, split=split, room=1 << 14, threads=threads, sizes=(size,))
    for ending in (b"", b"\n", b"\nmore\n"):
        content = b"a b\n" * 20 + b"x" * (longest + 1) + ending
        with pytest.raises(InputError, match=rf"^line 21: .* longer than {longest} bytes.*--memory$"):
            tally(content, split=split, room=1 << 14, threads=threads, sizes=(size,))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("split", [True, False])
def test_the_least_room_works_and_less_is_refused(tmp_path: Path, split: bool, threads: int) -> None:
    least = TextTally.least(threads)
    with pytest.raises(MemoryCeilingError) as caught:
        TextTally(split=split, room=least - 1, threads=threads, directory=str(tmp_path))
    assert caught.value.needs == least
    content = b"\n".join(str(number % 700).encode() for number in range(2_000))
    keys, counts, _ = tally(content, split=split, room=least, threads=threads, sizes=(64,), directory=tmp_path)
    check(keys, counts, content.split())


@pytest.mark.skipif(not shutil.which("sort") or not shutil.which("uniq"), reason="needs sort and uniq")
def test_as_sort_and_uniq_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    content = rng.choice(np.frombuffer(b"ab \t\r\n\xff\xc3\xa9", np.uint8), 20_000).tobytes() + b"end"
    path = tmp_path / "text"
    path.write_bytes(content)
    environment = {**os.environ, "LC_ALL": "C"}
    for split in (False, True):
        text = content if not split else b"\n".join(content.split()) + b"\n"
        done = subprocess.run(["sort"], input=text, env=environment, capture_output=True, check=True).stdout
        done = subprocess.run(["uniq", "-c"], input=done, env=environment, capture_output=True, check=True).stdout
        expected = [(line[8:], int(line[:7])) for line in done.split(b"\n")[:-1]]
        keys, counts, _ = tally(content, split=split, sizes=(313,), threads=2)
        assert list(zip(keys, counts, strict=True)) == expected


def test_blocks_without_bytes() -> None:
    counter = TextTally(split=False, room=1 << 20, threads=1, directory=".")
    with Workers(1) as workers:
        for content in (b"", b"a", b"", b"b\n", b""):
            counter.add(np.frombuffer(content, np.uint8), workers)
        pieces = list(counter.finish(workers).by_value())
    assert [piece.keys[0].tolist() for piece in pieces] == [[b"ab"]]
    counter.close()

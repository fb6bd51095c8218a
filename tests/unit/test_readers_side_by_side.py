"""Several threads read rows that lie anywhere: order, errors, early ends, and that no thread stays."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.chain import Chain
from mlpipe.engine.budget import Plan, plan
from mlpipe.engine.local import iterate, run
from mlpipe.errors import InputError
from mlpipe.link import Array, Source
from mlpipe.measure.meter import Meter

ROWS = np.arange(5000 * 3, dtype="i4").reshape(5000, 3)


@pytest.fixture(autouse=True)
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Seven files of different length, whose labels are the numbers of the rows."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("X")
    os.mkdir("y")
    bounds = [0, 1, 700, 700, 2500, 2501, 4000, 5000]
    for n, (start, stop) in enumerate(pairwise(bounds)):
        np.save(f"X/{n}.npy", ROWS[start:stop])
        np.save(f"y/{n}.npy", np.arange(start, stop))
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@contextmanager
def planned(chain: Chain, *, threads: int = 7, rows: int = 64, in_flight: int = 8) -> Iterator[Plan]:
    """A plan with so many readers at most, and small blocks."""
    with chain.opened() as pipeline:
        made = plan(pipeline, 1 << 30, threads)
        yield replace(made, block_rows=rows, blocks_ahead=in_flight)


def rows_of(chain: Chain, **how: Any) -> tuple[Array, Array | None]:
    with planned(chain, **how) as made:
        blocks = [(block.data.copy(), block.labels) for block in iterate(made)]
    labels = [beside for _, beside in blocks if beside is not None]
    return np.concatenate([data for data, _ in blocks]), np.concatenate(labels) if labels else None


CHAINS = {
    "shards": mlpipe.read("X").shuffle(seed=3),
    "labels": mlpipe.read("X", labels="y").shuffle(seed=3),
    "label column": mlpipe.read("X", label_column=1).shuffle(seed=3),
    "part": mlpipe.read("X", labels="y", rows="100:4321", columns="2,0").shuffle(seed=3),
    "view of a view": mlpipe.read("X", labels="y").sample(fraction=0.7, seed=1).shuffle(seed=3).head(2000).skip(5),
    "epochs": mlpipe.read("X", labels="y").shuffle(seed=3).repeat(3),
    "generated": mlpipe.generate(rows=3000, columns=3, kind="integers", classes=9).shuffle(seed=3),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize(("threads", "in_flight"), [(7, 8), (2, 3), (7, 2), (3, 40)], ids=str)
def test_order_is_kept(name: str, threads: int, in_flight: int) -> None:
    chain = CHAINS[name]
    one, beside = rows_of(chain, threads=1, rows=1000)
    for rows in (1, 64) if len(one) < 3500 else (64, 333):
        several, labels = rows_of(chain, threads=threads, rows=rows, in_flight=in_flight)
        np.testing.assert_array_equal(several, one)
        np.testing.assert_array_equal(labels, beside)


def test_several_threads_read() -> None:
    with planned(CHAINS["labels"]) as made:
        assert made.readers == 7
        meter = Meter()
        for _ in iterate(made, meter):
            pass
        read = [lane for lane in meter.lanes if lane.name == made.pipeline.reading]
        assert len(read) == 7
        assert sum(lane.rows for lane in read) == 5000


def test_fewer_buffers_than_threads() -> None:
    with planned(CHAINS["shards"], threads=7) as made:
        assert replace(made, blocks_ahead=3).readers == 2
        assert replace(made, blocks_ahead=2).readers == 1


def test_what_comes_in_order_has_one_reader() -> None:
    with planned(mlpipe.read("X").head(4000)) as made:
        assert made.readers == 1


def test_rows_that_never_end() -> None:
    with planned(mlpipe.read("X", labels="y").shuffle(seed=3).repeat("forever"), rows=77) as made:
        seen = 0
        blocks = iterate(made)
        for block in blocks:
            assert block.start == seen
            np.testing.assert_array_equal(block.data[:, 0], 3 * block.labels)
            seen += len(block.data)
            if seen > 12_000:
                break
        blocks.close()
    head, _ = rows_of(mlpipe.read("X").shuffle(seed=3).repeat("forever").head(12_000))
    np.testing.assert_array_equal(head, rows_of(mlpipe.read("X").shuffle(seed=3).repeat(3).head(12_000))[0])


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_consumer_that_stops_early(taken: int) -> None:
    with planned(CHAINS["labels"]) as made:
        blocks = iterate(made)
        for _ in range(taken):
            next(blocks)
        blocks.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("mlpipe")]


class Broken:
    """A source whose rows from some position on cannot be read; the later ones fail first."""

    scattered = True

    def __init__(self, source: Source, first: int) -> None:
        self._source, self._first, self._later = source, first, threading.Event()
        self.spec, self.name, self.seekable = source.spec, source.name, True

    def read_rows(self, start: int, out: Array) -> None:
        if start > self._first:
            self._later.set()
        if start >= self._first:
            if start == self._first:
                self._later.wait(10)
            raise InputError(f"row {start} cannot be read")
        self._source.read_rows(start, out)

    def check_unchanged(self) -> None:
        """Nothing."""

    def close(self) -> None:
        self._source.close()


@pytest.mark.parametrize("first", [0, 64, 640, 4992])
def test_the_first_error_is_raised_in_its_place(first: int) -> None:
    with planned(CHAINS["shards"]) as made:
        broken: Any = Broken(made.pipeline.source, first)
        if first == 4992:  # there is no later block
            broken._later.set()
        made = replace(made, pipeline=replace(made.pipeline, source=broken))
        for _ in range(3):
            seen: list[int] = []
            with pytest.raises(InputError, match=rf"^link 1 \(read\): row {first} cannot be read$"):
                seen.extend(len(block.data) for block in iterate(made))
            assert sum(seen) == first, "all rows before it came"


def test_an_error_that_nobody_gets_to() -> None:
    with planned(CHAINS["shards"].head(1000)) as made:
        broken: Any = Broken(made.pipeline.source, 1024)
        made = replace(made, pipeline=replace(made.pipeline, source=broken))
        assert sum(len(block.data) for block in iterate(made)) == 1000


def test_an_error_discards_the_output() -> None:
    from mlpipe.registry import make

    chain = mlpipe.Pipeline((*CHAINS["shards"].verbs, make("write", "out.npy")))
    with planned(chain) as made:
        broken: Any = Broken(made.pipeline.source, 640)
        with pytest.raises(InputError, match="row 640 cannot"):
            run(replace(made, pipeline=replace(made.pipeline, source=broken)))
    assert not Path("out.npy").exists()


def test_memory_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise MemoryError

    with planned(CHAINS["labels"]) as made:
        monkeypatch.setattr("mlpipe.engine.reader.aligned_empty", refuse)
        with pytest.raises(MemoryError):
            list(iterate(made))


def test_a_file_that_vanishes_midway() -> None:
    with planned(CHAINS["shards"], rows=16) as made:
        blocks = iterate(made)
        next(blocks)
        os.remove("X/3.npy")
        with pytest.raises((InputError, mlpipe.errors.InputMissingError), match=r"3\.npy"):
            list(blocks)


def test_no_more_memory_than_planned() -> None:
    """Blocks that are not kept go round: as many as there are in flight, and some to spare."""
    with planned(CHAINS["shards"], in_flight=4) as made:
        places = {block.data.__array_interface__["data"][0] for block in iterate(made, keep=False)}
    assert len(places) <= 4

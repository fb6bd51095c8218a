from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import squareform

from mlpipe.errors import OutputError
from mlpipe.link import Block, Sink, Spec
from mlpipe.writers.npy import NpySink, StreamSink
from mlpipe.writers.pages import PAGE

F4 = np.dtype("f4")


@pytest.fixture(autouse=True, scope="module")
def _no_wait_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        yield


@pytest.fixture(autouse=True)
def _no_descriptor_leaks() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "D.npy"


def spec_of(array: np.ndarray) -> Spec:
    return Spec(len(array), array.shape[1:], array.dtype)


def made(*shape: int, dtype: Any = F4) -> np.ndarray:
    return np.random.default_rng(7).random(shape).astype(dtype)


def condensed_of(square: np.ndarray) -> np.ndarray:
    return square[np.triu_indices(len(square), 1)]


def store(sink: Sink, spec: Spec, blocks: list[Block]) -> None:
    sink.check(spec)
    sink.compile(spec)
    with sink.open(spec) as writing:
        for block in blocks:
            writing.write(block)


def saved(array: np.ndarray, directory: Path) -> bytes:
    np.save(directory / "saved.npy", array)
    return (directory / "saved.npy").read_bytes()


SHAPES = [(0,), (7,), (1, 1), (5, 7), (0, 3), (3, 0), (4, 3, 2), (2, 0, 3), (10**6, 1)]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bytes_are_those_of_numpy(tmp_path: Path, path: Path, shape: tuple[int, ...], dtype: str) -> None:
    array = made(*shape, dtype=dtype)
    store(NpySink(path), spec_of(array), [Block(0, array)])
    assert path.read_bytes() == saved(array, tmp_path)
    with path.open("wb") as file:
        store(StreamSink(file), spec_of(array), [Block(0, array)])
    assert path.read_bytes() == saved(array, tmp_path)


def test_numpy_can_map_it(path: Path) -> None:
    array = made(30, 20)
    store(NpySink(path), spec_of(array), [Block(0, array)])
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), array)


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[int]:
    inner = draw(st.sets(st.integers(1, length - 1), max_size=4)) if length > 1 else set()
    return [0, *sorted(inner), length]


MEMORY: list[Callable[[np.ndarray], np.ndarray]] = [
    np.ascontiguousarray,
    np.asfortranarray,
    lambda tile: np.repeat(tile, 2, axis=1)[:, ::2],
    lambda tile: tile[::-1].copy()[::-1],
]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data(), rows=st.integers(1, 9), columns=st.integers(1, 9), memory=st.sampled_from(MEMORY))
def test_tiles_may_come_in_any_order(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    rows: int,
    columns: int,
    memory: Callable[[np.ndarray], np.ndarray],
) -> None:
    path = tmp_path_factory.getbasetemp() / "tiles.npy"
    array = made(rows, columns)
    row_cuts, column_cuts = data.draw(cuts(rows)), data.draw(cuts(columns))
    tiles = [
        Block(top, memory(array[top:bottom, left:right]), left)
        for top, bottom in itertools.pairwise(row_cuts)
        for left, right in itertools.pairwise(column_cuts)
    ]
    store(NpySink(path, force=True), spec_of(array), data.draw(st.permutations(tiles)))
    np.testing.assert_array_equal(np.load(path), array, strict=True)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data(), side=st.integers(1, 9), memory=st.sampled_from(MEMORY))
def test_condensed_tiles_keep_what_lies_above_the_diagonal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, side: int, memory: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = tmp_path_factory.getbasetemp() / "condensed.npy"
    square = made(side, side)
    square[np.tril_indices(side)] = np.nan
    wanted = condensed_of(square)
    row_cuts, column_cuts = data.draw(cuts(side)), data.draw(cuts(side))
    tiles = [
        Block(top, memory(square[top:bottom, left:right]), left)
        for top, bottom in itertools.pairwise(row_cuts)
        for left, right in itertools.pairwise(column_cuts)
        if right > top + 1  # others lie wholly below
    ]
    store(NpySink(path, force=True, layout="condensed"), spec_of(wanted), data.draw(st.permutations(tiles)))
    np.testing.assert_array_equal(np.load(path), wanted, strict=True)
    with path.open("wb") as file:
        rows = [Block(top, memory(square[top:bottom])) for top, bottom in itertools.pairwise(row_cuts)]
        store(StreamSink(file, layout="condensed"), spec_of(wanted), rows)
    np.testing.assert_array_equal(np.load(path), wanted, strict=True)


def test_condensed_is_scipy_s_order(path: Path) -> None:
    half = made(9, 9)
    square = np.triu(half, 1) + np.triu(half, 1).T
    store(NpySink(path, layout="condensed"), Spec(36, (), F4), [Block(0, square)])
    np.testing.assert_array_equal(squareform(np.load(path)), square)


def test_no_pairs_at_all(path: Path) -> None:
    for blocks in ([], [Block(0, np.empty((0, 0), F4))], [Block(0, made(1, 1))]):
        store(NpySink(path, layout="condensed", force=True), Spec(0, (), F4), blocks)
        np.testing.assert_array_equal(np.load(path), np.empty(0, F4), strict=True)


@pytest.mark.parametrize("columns", [3001, 4096])
def test_large_blocks_that_lie_in_memory_as_in_the_file(path: Path, columns: int) -> None:
    array = made(1000, columns)
    memory = np.empty(300 * columns * 4 + 2 * PAGE, np.uint8)

    def blocks() -> Iterator[Block]:
        for start in range(0, 1000, 300):
            rows = array[start : start + 300]
            begin = (128 + start * columns * 4 - memory.ctypes.data) % PAGE
            place = memory[begin : begin + rows.nbytes].view(F4).reshape(rows.shape)
            place[:] = rows
            yield Block(start, place)
            place[:] = np.nan

    with NpySink(path).open(spec_of(array)) as writing:
        for block in blocks():
            writing.write(block)
    np.testing.assert_array_equal(np.load(path), array, strict=True)


def test_an_output_that_was_not_filled_is_not_kept(path: Path) -> None:
    with pytest.raises(RuntimeError, match="only 4 of 6 elements"):
        store(NpySink(path), Spec(3, (2,), F4), [Block(0, made(2, 2))])
    assert os.listdir(path.parent) == []
    with open(os.devnull, "wb") as null, pytest.raises(RuntimeError, match="only 4 of 6 elements"):
        store(StreamSink(null), Spec(3, (2,), F4), [Block(0, made(2, 2))])


@pytest.mark.parametrize("layout", ["matrix", "condensed"])
@pytest.mark.parametrize(
    "block",
    [
        Block(3, made(2, 4)),
        Block(-1, made(1, 4)),
        Block(0, made(4, 5)),
        Block(0, made(4, 4), 1),
        Block(0, made(4, 4), -1),
        Block(0, made(4, 4, dtype="f8")),
        Block(0, made(4, 4, dtype=">f4")),
    ],
)
def test_a_tile_that_does_not_fit_is_a_bug(path: Path, layout: Any, block: Block) -> None:
    spec = Spec(4, (4,), F4) if layout == "matrix" else Spec(6, (), F4)
    with pytest.raises(ValueError, match="tile of shape"):
        store(NpySink(path, layout=layout), spec, [block])
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (7, 3), (7,), (7, 0), (5, 2, 2)])
def test_a_file_grows_to_the_bytes_it_has_when_its_size_is_known(path: Path, shape: tuple[int, ...]) -> None:
    values = made(*shape)
    sink = NpySink(path)
    blocks = [Block(start, values[start : start + 3]) for start in range(0, len(values), 3)]
    store(sink, Spec(None, shape[1:], F4), blocks)
    assert sink.rows == shape[0]
    assert path.read_bytes() == saved(values, path.parent)


def test_checking_a_sink_creates_nothing_and_says_what_to_do(path: Path) -> None:
    NpySink(path).check(Spec(10, (10,), F4))
    with pytest.raises(OutputError, match=r"D\.npy: needs 3\.47 EiB, .*; fewer rows do$"):
        NpySink(path, hint="fewer rows do").check(Spec(10**9, (10**9,), F4))
    assert os.listdir(path.parent) == []
    path.touch()
    with pytest.raises(OutputError, match="exists; use --force"):
        NpySink(path).check(Spec(1, (1,), F4))
    with pytest.raises(OutputError, match="also an input"):
        NpySink(path, force=True, inputs=[path.stat()]).check(Spec(1, (1,), F4))


def through_pipe(write: Callable[[int], None], *, blocking: bool = True) -> bytes:
    """What a slow reader at the other end of a pipe gets."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    got = []

    def read() -> None:
        while data := os.read(reader, 10_000):
            got.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        write(writer)
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)
    return b"".join(got)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_gets_the_bytes_of_the_file(tmp_path: Path, blocking: bool) -> None:
    array = made(1000, 300)
    blocks = [Block(start, array[start : start + 170]) for start in range(0, 1000, 170)]
    got = through_pipe(lambda fd: store(StreamSink(fd), spec_of(array), blocks), blocking=blocking)
    assert got == saved(array, tmp_path)


@pytest.mark.parametrize(
    "blocks",
    [
        [Block(2, made(2, 4)), Block(0, made(2, 4))],
        [Block(0, made(2, 4)), Block(0, made(2, 4))],
        [Block(0, made(4, 2)), Block(0, made(4, 2), 2)],
    ],
    ids=["swapped", "twice", "halves"],
)
def test_a_pipe_takes_whole_rows_in_order(blocks: list[Block]) -> None:
    with open(os.devnull, "wb") as null, pytest.raises(ValueError, match="whole rows in order"):
        store(StreamSink(null), Spec(4, (4,), F4), blocks)


def test_sinks_say_what_they_want(path: Path) -> None:
    assert (NpySink(path).sequential, NpySink(path).stored) == (False, True)
    assert (StreamSink(1).sequential, StreamSink(1).stored) == (True, True)

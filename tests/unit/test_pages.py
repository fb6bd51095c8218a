from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpipe.writers.pages import DIRECT_BYTES, PAGE, WRITEBACK_BYTES, PageFile

MIB = 1 << 20


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "out.bin", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 4 * MIB)
    yield fd
    os.close(fd)


def made(length: int, phase: int) -> np.ndarray:
    """Bytes that start `phase` bytes into a page of memory."""
    memory = np.empty(length + 2 * PAGE, np.uint8)
    start = (phase - memory.ctypes.data) % PAGE
    values = memory[start : start + length]
    values[:] = np.random.default_rng(length + phase).integers(0, 256, length, np.uint8)
    return values


def is_direct(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)


class Watched:
    """os.pwrite, noting what it did; it may write less than asked for, or refuse."""

    def __init__(self, at_most: int = 1 << 40, refuse_direct: int = 0) -> None:
        self.real, self.at_most, self.refuse_direct = os.pwrite, at_most, refuse_direct
        self.direct: list[int] = []
        self.cached: list[int] = []

    def __call__(self, fd: int, data: Any, offset: int) -> int:
        if is_direct(fd) and self.refuse_direct:
            raise OSError(self.refuse_direct, os.strerror(self.refuse_direct))
        written = self.real(fd, data[: self.at_most], offset)
        (self.direct if is_direct(fd) else self.cached).append(written)
        return written


def write(fd: int, values: np.ndarray, offset: int) -> None:
    file = PageFile(fd)
    file.pwrite(values, offset)
    file.close()
    assert os.pread(fd, len(values), offset) == values.tobytes()


@pytest.mark.parametrize("offset", [0, 1, 128, PAGE - 1, PAGE, 3 * PAGE + 128])
@pytest.mark.parametrize("apart", [0, 1, 64, 512])
@pytest.mark.parametrize("length", [0, 1, 5000, DIRECT_BYTES, DIRECT_BYTES + PAGE - 128, 2 * MIB + 7])
def test_bytes_arrive_from_any_memory_at_any_place(fd: int, offset: int, apart: int, length: int) -> None:
    write(fd, made(length, offset + apart), offset)
    assert os.pread(fd, offset, 0) == bytes(offset)
    assert not any(os.pread(fd, 4 * MIB, offset + length))


@pytest.mark.parametrize("offset", [0, 128, PAGE + 5])
def test_whole_pages_that_lie_alike_go_past_the_page_cache(
    fd: int, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"this file system has no O_DIRECT: {error}")
    watched = Watched()
    monkeypatch.setattr(os, "pwrite", watched)
    end = 2 * MIB + PAGE // 2
    write(fd, made(end - offset, offset), offset)
    first = -(-offset // PAGE) * PAGE
    assert watched.direct == [2 * MIB - first]
    assert watched.cached == [first - offset] * (first > offset) + [PAGE // 2]


@pytest.mark.parametrize("length", [DIRECT_BYTES - 1, 100])
def test_short_writes_go_through_the_page_cache(fd: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(os, "pwrite", watched)
    write(fd, made(length, 0), 0)
    assert (watched.direct, watched.cached) == ([], [length])


@pytest.mark.parametrize("at_most", [100_000, 512 * 1024, 512 * 999])
def test_what_the_system_does_not_take_at_once_follows(fd: int, at_most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(at_most // 512 * 512)
    monkeypatch.setattr(os, "pwrite", watched)
    write(fd, made(3 * MIB, 128), 128)
    assert sum(watched.direct + watched.cached) == 3 * MIB
    assert len(watched.direct + watched.cached) > 4


def test_a_file_system_without_a_way_past_the_page_cache(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refusing(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refusing)
    write(fd, made(2 * MIB, 128), 128)


def test_a_file_system_that_aligns_in_another_way(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(refuse_direct=errno.EINVAL)
    monkeypatch.setattr(os, "pwrite", watched)
    write(fd, made(2 * MIB, 0), 0)
    assert watched.cached == [2 * MIB]


def test_other_errors_past_the_page_cache_are_errors(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", Watched(refuse_direct=errno.EIO))
    file = PageFile(fd)
    with pytest.raises(OSError, match="Input/output error"):
        file.pwrite(made(2 * MIB, 0), 0)
    file.close()
    file.close()


def test_long_runs_are_sent_on_up_to_the_last_whole_page(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, length, advice: sent.append((start, length)))
    file = PageFile(fd)
    step = WRITEBACK_BYTES // 5 + 100
    for start in range(128, 128 + 12 * step, step):
        file.pwrite(made(step, 1), start)
    first, second = 128 + 5 * step, 128 + 10 * step
    assert sent == [(0, first // PAGE * PAGE), (0, second // PAGE * PAGE)]
    sent.clear()
    for start in range(0, 20 * step, 2 * step):  # rows of a narrow tile
        file.pwrite(made(step, 1), start)
    assert sent == []


def test_advice_that_is_refused_is_no_error(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    write(fd, made(WRITEBACK_BYTES, 1), 0)


def test_arrays_of_any_shape_and_dtype(fd: int) -> None:
    file = PageFile(fd)
    for values in (
        np.arange(12, dtype=">f4").reshape(3, 4),
        np.ones((2, 3), np.float16),
        np.empty((5, 0)),
        np.array([True]),
    ):
        file.pwrite(values, 77)
        assert os.pread(fd, values.nbytes, 77) == values.tobytes()
    file.pwrite(b"bytes", 3)
    file.pwrite(b"", 3)
    assert os.pread(fd, 5, 3) == b"bytes"

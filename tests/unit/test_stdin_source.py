"""A ``.npy`` array through a pipe."""

from __future__ import annotations

import io
import os
import pty
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mlpipe.errors import InputError, InputMissingError, MlpipeError, UsageError
from mlpipe.readers.stdin import StdinSource
from tests.malformed import CASES, MALFORMED, Malformed

WHOLE = np.arange(23 * 5, dtype="f4").reshape(23, 5)


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@contextmanager
def piped(content: bytes, piece: int = 1 << 16, pause: float = 0.0) -> Iterator[int]:
    """The reading end of a pipe through which this comes, some bytes at a time."""
    out, into = os.pipe()

    def send() -> None:
        try:
            for at in range(0, len(content), piece):
                os.write(into, content[at : at + piece])
                time.sleep(pause)
        except BrokenPipeError:
            pass
        finally:
            os.close(into)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield out
    finally:
        os.close(out)
        thread.join()


@pytest.mark.parametrize("array", [WHOLE, WHOLE.astype(">i2"), WHOLE[:0], WHOLE[:, 0], WHOLE[:1].T, WHOLE[:, :0]])
@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_rows_in_order(array: np.ndarray, piece: int) -> None:
    with piped(saved(array), piece) as fd:
        source = StdinSource(fd)
        spec = source.spec
        assert (spec.rows, spec.row_shape, spec.dtype) == (len(array), array.shape[1:], array.dtype)
        assert not source.seekable
        for start in range(0, len(array), 4):
            out = np.empty(array[start : start + 4].shape, "f8" if start % 8 else array.dtype)
            source.read_rows(start, out)
            np.testing.assert_array_equal(out, array[start : start + 4])
        source.check_unchanged()
        source.close()


def test_rows_may_be_passed_over_but_not_come_again() -> None:
    with piped(saved(WHOLE)) as fd:
        source, out = StdinSource(fd), np.empty((2, 5), "f4")
        source.read_rows(19, out)
        np.testing.assert_array_equal(out, WHOLE[19:21])
        source.check_unchanged()  # what follows was not asked for
        for start in (0, 20, 22):
            with pytest.raises(ValueError, match="which is at row 21"):
                source.read_rows(start, out)


def test_a_pipe_that_does_not_block() -> None:
    with piped(saved(WHOLE), 50, pause=0.001) as fd:
        os.set_blocking(fd, False)
        source, out = _when_ready(fd), np.empty_like(WHOLE)
        source.read_rows(0, out)
        np.testing.assert_array_equal(out, WHOLE)


def _when_ready(fd: int) -> StdinSource:
    return StdinSource(fd)


def test_an_early_end() -> None:
    with piped(saved(WHOLE)[:-1]) as fd:
        source = StdinSource(fd)
        source.read_rows(0, np.empty((22, 5), "f4"))
        with pytest.raises(InputError, match=r"standard input: ends early: 460 bytes of shape \(23, 5\)"):
            source.read_rows(22, np.empty((1, 5), "f4"))


@pytest.mark.parametrize("rows", [0, 23])
def test_more_than_was_announced(rows: int) -> None:
    with piped(saved(WHOLE[:rows]) + b"\n") as fd:
        source = StdinSource(fd)
        source.read_rows(0, np.empty((rows, 5), "f4"))
        with pytest.raises(InputError, match="standard input: goes on after"):
            source.check_unchanged()


def test_fortran_order_is_refused_where_it_matters() -> None:
    with piped(saved(np.asfortranarray(WHOLE))) as fd, pytest.raises(InputError, match="Fortran order"):
        StdinSource(fd)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.exit_code == MALFORMED and "that is there" not in case.name],
    ids=lambda case: case.name,
)
def test_malformed_streams(case: Malformed, tmp_path: Path) -> None:
    with piped(case.build(tmp_path).read_bytes()) as fd, pytest.raises(MlpipeError) as caught:
        drain(fd)
    assert caught.value.exit_code == MALFORMED
    assert "\n" not in str(caught.value)


def drain(fd: int) -> None:
    """Read all there is, a few rows at a time."""
    source = StdinSource(fd)
    spec = source.spec
    for start in range(0, spec.rows or 0, 4):
        source.read_rows(start, np.empty((min(4, (spec.rows or 0) - start), *spec.row_shape), spec.dtype))
    source.check_unchanged()


def test_a_terminal_is_refused() -> None:
    ours, theirs = pty.openpty()
    try:
        with pytest.raises(UsageError, match="terminal"):
            StdinSource(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="cannot be read"):
        StdinSource(987)
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(InputMissingError, match="cannot be read: Is a directory"):
        StdinSource(fd)
    os.close(fd)


def test_complex_numbers_keep_their_imaginary_part() -> None:
    with piped(saved(np.array([1j, 2.0]))) as fd, pytest.raises(InputError, match="take real, imag or abs first"):
        StdinSource(fd).read_rows(0, np.empty(2))

"""Raw binary files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlpipe
from mlpipe.errors import InputError, InputMissingError, UsageError
from mlpipe.readers.raw import ReadRaw

WHOLE = np.arange(60, dtype=">i2").reshape(10, 6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "x.bin").write_bytes(b"head" + WHOLE.tobytes())
    return tmp_path / "x.bin"


def read(path: Path, **options: Any) -> np.ndarray:
    return np.concatenate(list(mlpipe.read_raw(path, **{"dtype": ">i2", "offset": 4, **options}).batch(3)))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("10,6", (10, 6)),
        ("auto,6", (10, 6)),
        ("auto", (60,)),
        ("auto,2,3", (10, 2, 3)),
        ("60", (60,)),
        ("5,12", (5, 12)),
    ],
)
def test_shapes(path: Path, shape: str, wanted: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(read(path, shape=shape), WHOLE.reshape(wanted))


def test_other_dtypes(path: Path) -> None:
    raw = np.frombuffer(WHOLE.tobytes(), "u1").reshape(-1, 5)
    np.testing.assert_array_equal(read(path, dtype="uint8", shape="auto,5"), raw)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "11,6"}, r"x\.bin: truncated: shape \(11, 6\) of int16 takes 132 bytes, the file holds 120"),
        ({"shape": "9,6"}, "12 bytes too many"),
        ({"shape": "auto,7"}, "120 bytes from --offset 4 on are 8 rows of 14 bytes and 8 bytes more"),
        ({"shape": "auto,6", "offset": 5}, "and 11 bytes more"),
        ({"shape": "auto,6", "offset": 500}, "ends after 124 bytes, before --offset 500"),
    ],
)
def test_a_size_that_does_not_fit(path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "f16"}, "--dtype f16: give bool"),
        ({"dtype": "f4,f4"}, "--dtype f4,f4: give bool"),
        ({"dtype": "O"}, "--dtype O"),
        ({"dtype": "U3"}, "--dtype U3"),
        ({"dtype": ""}, "--dtype"),
        ({"dtype": "(2,"}, "--dtype"),
        ({"shape": "auto,0"}, "cannot be counted"),
        ({"shape": "6,auto"}, "give lengths"),
        ({"shape": ""}, "give lengths"),
        ({"shape": "-1,6"}, "give lengths"),
        ({"offset": -1}, "--offset -1: give 0 or more"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ReadRaw(**{"path": "x", "dtype": "i2", "shape": "auto,6", **options})


def test_a_missing_file() -> None:
    with pytest.raises(InputMissingError, match=r"gone\.bin: no such file"):
        read(Path("gone.bin"), shape="auto")

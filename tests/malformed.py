"""Every way we could think of in which an input can be wrong, as a table.

`CASES` is used three times: on the reader, through ``mlpipe info`` and through ``mlpipe distances``.
Builders get a directory and return the path of the bad input in it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MISSING, MALFORMED = 3, 4
NOBODY = 65534
GOOD_FIELDS = {"descr": "'<f4'", "fortran_order": "False", "shape": "(3, 2)"}
GOOD_DATA = np.arange(6, dtype=np.float32).tobytes()


@dataclass(frozen=True)
class Malformed:
    """A bad input: how to make it, and what must be said about it."""

    name: str
    build: Callable[[Path], Path]
    exit_code: int
    words: tuple[str, ...]
    unprivileged: bool = False

    def user(self) -> contextlib.AbstractContextManager[None]:
        """Context in which the input is as bad as meant, even for root."""
        return unprivileged() if self.unprivileged else contextlib.nullcontext()


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be a user whom file permissions bind."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def framed(header: bytes | str, data: bytes = GOOD_DATA, version: tuple[int, int] = (1, 0), length: int = -1) -> bytes:
    """A file with this header, right or wrong; `length` overrides what the length field says."""
    raw = header if isinstance(header, bytes) else header.encode("latin-1")
    width = 2 if version == (1, 0) else 4
    size = (len(raw) if length < 0 else length).to_bytes(width, "little")
    return b"\x93NUMPY" + bytes(version) + size + raw + data


def dictionary(**fields: str) -> str:
    """The source of a header: a good one with some values replaced."""
    return "{" + ", ".join(f"'{key}': {value}" for key, value in (GOOD_FIELDS | fields).items()) + "}\n"


def saved(array: np.ndarray) -> bytes:
    """What numpy.save writes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


CASES: list[Malformed] = []


def content(name: str, raw: bytes, *words: str) -> None:
    """Add a file of these bytes."""

    def build(directory: Path) -> Path:
        path = directory / "bad.npy"
        path.write_bytes(raw)
        return path

    CASES.append(Malformed(name, build, MALFORMED, words))


def special(
    name: str, *words: str, code: int = MISSING, unprivileged: bool = False
) -> Callable[[Callable[[Path], Path]], None]:
    """Add what the decorated function builds."""

    def add(build: Callable[[Path], Path]) -> None:
        CASES.append(Malformed(name, build, code, words, unprivileged))

    return add


# Not .npy at all.
content("empty", b"", "empty")
content("one byte", b"\x93", "not a .npy file")
content("magic only", b"\x93NUMPY", "truncated")
content("magic and version only", b"\x93NUMPY\x01\x00", "truncated")
content("prefix cut in the length", b"\x93NUMPY\x02\x00\x76\x00\x00", "truncated")
content("first byte wrong", b"\x92" + saved(np.zeros(3))[1:], "not a .npy file", "92 4e 55 4d 50 59")
content("magic in lower case", b"\x93numpy" + saved(np.zeros(3))[6:], "not a .npy file")
content("magic as UTF-8", "\x93NUMPY".encode() + saved(np.zeros(3))[6:], "not a .npy file")
content("blank lines", b"\n\n\n\n" * 8, "not a .npy file")
content("CSV", b"x,y\n1.5,2.5\n3.5,4.5\n", "not a .npy file", "'x,y\\n1.5,2.5", "numpy.save")
content("short CSV", b"1,2\n", "not a .npy file", "text")
content("JSON", b'{"shape": [3, 2]}\n', "not a .npy file", "text")
content("pickle", pickle.dumps(np.zeros(3)), "not a .npy file", "pickle", "never")
content("zip archive", b"PK\x03\x04" + bytes(60), "not a .npy file", ".npz")
content("gzip", gzip.compress(saved(np.zeros(3))), "not a .npy file", "decompress")
content("HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100), "not a .npy file", "HDF5")
content("Parquet", b"PAR1" + bytes(100), "not a .npy file", "Parquet")
content("zeros", bytes(4096), "not a .npy file", "00 00")

# Version and length.
for _version in ((0, 0), (0, 1), (1, 1), (2, 1), (4, 0), (255, 255)):
    content(
        f"version {_version[0]}.{_version[1]}",
        framed(dictionary(), version=_version),
        "version {}.{}".format(*_version),
        "1.0, 2.0 and 3.0",
    )
content("header of no bytes", framed("", bytes(24)), "bad header", "''")
content("header longer than file", framed(dictionary(), b"", length=60_000), "truncated", "60000 bytes")
content("header of 64 KiB longer than file", framed(dictionary(), b"", (2, 0), 65_536), "truncated", "65536")
content("header above the limit", framed(dictionary(), b"", (2, 0), 65_537), "65537 bytes", "limit of 65536")
content("header of 4 GiB", framed(dictionary(), b"", (2, 0), 2**32 - 1), "4294967295 bytes", "limit of 65536")
content("header of 4 GiB, version 3", framed(dictionary(), b"", (3, 0), 2**32 - 1), "4294967295", "limit of 65536")


@special("header of 4 GiB that is there", "4294967295 bytes", "limit of 65536", code=MALFORMED)
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    path.write_bytes(framed(dictionary(), version=(2, 0), length=2**32 - 1))
    os.truncate(path, 2**32 + 4096)
    return path


# The text of the header.
content("not a literal", framed("__import__('os').system('true')"), "not a dictionary of literals", "__import__")
content("call in a value", framed(dictionary(shape="tuple(x for x in (3, 2))")), "not a dictionary of literals")
content("lambda", framed(dictionary(descr="lambda: 0")), "not a dictionary of literals")
content("list", framed("['<f4', False, (3, 2)]"), "not a dictionary of literals")
content("JSON header", framed('{"descr": "<f4", "fortran_order": false, "shape": [3, 2]}'), "fortran_order is false")
content("set", framed("{'descr', 'fortran_order', 'shape'}"), "not a dictionary of literals")
content("never closed", framed("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2),"), "not a dictionary")
content("string never closed", framed("{'descr': '<f4, 'fortran_order': False, 'shape': (3, 2)}"), "not a dictionary")
content("comma missing", framed("{'descr': '<f4' 'fortran_order': False, 'shape': (3, 2)}"), "not a dictionary")
content("comma twice", framed("{'descr': '<f4',, 'fortran_order': False, 'shape': (3, 2)}"), "not a dictionary")
content("text after the dictionary", framed(dictionary() + "# comment"), "not a dictionary of literals")
content("two dictionaries", framed(dictionary().strip() + dictionary()), "bad header")
content("padded with zeros", framed(dictionary() + "\0" * 10), "not a dictionary of literals", "\\x00")
content("padded with no-break spaces", framed(dictionary() + "\xa0"), "not a dictionary of literals")
content("no-break space inside", framed(dictionary().replace("}", ",\xa0}")), "not a dictionary of literals", "\\xa0}")
content("random bytes", framed(bytes(range(118))), "not a dictionary of literals")
content("not UTF-8", framed(b"{'descr': '\xff\xfe'}", version=(3, 0)), "not UTF-8", "byte 11")
content("escapes", framed(dictionary(descr=r"'\x3cf4'")), r"dtype '\x3cf4'", "no dtype")
content("control characters", framed(dictionary(descr="'\x1b[31m\n'")), "\\x1b[31m\\n")
content("deep parentheses", framed("{'shape': " + "(" * 65_000), "not a dictionary of literals")
content("deep parentheses, closed", framed("{'shape': " + "(" * 30_000 + ")" * 30_000 + "}"), "not a dictionary")
content("deep minus", framed("{'shape': " + "-" * 65_000 + "1}"), "bad header")
content("deep sum", framed("{'shape': 1" + "+1" * 30_000 + "}"), "bad header")
content("deep brackets", framed("{" + "[" * 30_000 + "]" * 30_000 + "}"), "not a dictionary of literals")

# Its keys.
content("no keys", framed("{}"), "keys none", "descr, fortran_order, shape")
for _key in GOOD_FIELDS:
    _rest = ", ".join(f"'{key}': {value}" for key, value in GOOD_FIELDS.items() if key != _key)
    content(f"{_key} missing", framed("{" + _rest + "}"), "bad header: keys", "exactly descr, fortran_order, shape")
content("key too many", framed(dictionary(extra="1")), "'extra'", "exactly descr, fortran_order, shape")
content("key misspelt", framed(dictionary().replace("shape", "Shape")), "'Shape'", "exactly")
content("key twice", framed(dictionary().replace("}", ", 'shape': (6, 1)}")), "'shape' twice")
content("unhashable key", framed(dictionary().replace("}", ", []: 1}")), "not a dictionary of literals", "[]: 1}")
content("number as key", framed("{1: 2}"), "not a dictionary of literals", "1: 2}")
content("bytes as key", framed(dictionary().replace("'descr'", "b'descr'")), "not a dictionary of literals")
content("very many keys", framed("{" + "".join(f"'{i}': {i}," for i in range(4500)) + "}"), "keys '0', '1'", "...")

# Its values.
for _order in ("0", "1", "None", "'False'", "TRUE", "(False,)"):
    content(f"fortran_order {_order}", framed(dictionary(fortran_order=_order)), "fortran_order is", "True or False")
for _shape in ("[3, 2]", "6", "'(3, 2)'", "None", "(True, 2)", "(3.0, 2)", "(3, 0x2)", "(3, '2')", "(3,,2)", "(,)"):
    content(f"shape {_shape}", framed(dictionary(shape=_shape)), f"shape {_shape} is not a tuple of whole numbers")
content("shape without comma", framed(dictionary(shape="(6)")), "shape (6)", "comma")
content("shape nested", framed(dictionary(shape="((3,), 2)")), "not a dictionary of literals")
content("negative length", framed(dictionary(shape="(-3, 2)")), "shape (-3, 2)", "negative")
content("negative lengths", framed(dictionary(shape="(-3, -2)")), "shape (-3, -2)", "negative")
content("huge length", framed(dictionary(shape="(1" + "0" * 30 + ", 2)")), "more than", "any file")
content(
    "length of 60000 digits", framed(dictionary(shape="(" + "9" * 60_000 + ",)")), "more than", "any file", "999..."
)
content("size overflows to 0", framed(dictionary(shape="(4294967296, 4294967296)"), b""), "more than", "any file")
content(
    "size overflows to fit", framed(dictionary(shape="(4611686018427387906, 4)"), bytes(32)), "more than", "any file"
)
content("huge length beside 0", framed(dictionary(shape="(0, 9223372036854775807)"), b""), "more than", "any file")
content("65 dimensions", framed(dictionary(shape="(" + "1, " * 65 + ")")), "more than 64 dimensions")
content("65 dimensions, no last comma", framed(dictionary(shape="(" + "1, " * 64 + "1)")), "more than 64 dimensions")
content("20000 dimensions", framed(dictionary(shape="(" + "1, " * 20_000 + ")")), "more than 64 dimensions")
content("shape ()", saved(np.array(1.5)), "shape ()", "without rows")

# dtypes.
content("objects", saved(np.array([None, {}], dtype=object)), "'|O'", "Python objects", "never unpickles")
content("structured", saved(np.zeros(3, [("a", "<f4"), ("b", "<i8", (2,))])), "structured", "'a'")
content("nested structured", framed(dictionary(descr="[('a', [('b', '<f4')])]")), "structured")
content("subarray", framed(dictionary(descr="('<f4', 2)")), "structured")
content("void", saved(np.zeros(3, "V8")), "'|V8'", "void")
content("unicode text", saved(np.array(["one", "two"])), "'<U3'", "text")
content("byte text", saved(np.array([b"one", b"two"])), "'|S3'", "text")
content("dates", saved(np.zeros(3, "M8[ns]")), "'<M8[ns]'", "dates")
content("time differences", saved(np.zeros(3, "m8[s]")), "'<m8[s]'", "time differences")
content("long double", framed(dictionary(descr="'<f16'")), "'<f16'", "1 to 8 bytes")
content("complex long double", framed(dictionary(descr="'<c32'")), "'<c32'", "complex")
for _descr in (
    "'<f3'",
    "'<i16'",
    "'!f4'",
    "'f4,f4'",
    "'bfloat16'",
    "''",
    "'<'",
    "5",
    "None",
    "float",
    "'<f4 '",
    "'4f4'",
):
    content(f"descr {_descr}", framed(dictionary(descr=_descr)), f"dtype {_descr}:")

# The data.
_GOOD = framed(dictionary())
content("no data", framed(dictionary(), b""), "truncated", "24 bytes", "holds 0")
content("last byte missing", _GOOD[:-1], "truncated", "24 bytes", "holds 23")
content("half the data", framed(dictionary(), GOOD_DATA[:12]), "truncated", "shape (3, 2) of float32")
content("shape far beyond the data", framed(dictionary(shape="(300000000000, 2)")), "truncated", "2400000000000 bytes")
content("one byte too many", _GOOD + b"\n", "1 bytes too many")
content("trailing junk", _GOOD + bytes(1000), "1000 bytes too many", "holds 1024")
content("two files in one", _GOOD + _GOOD, "bytes too many")
content("data for shape (0,)", framed(dictionary(shape="(0,)")), "24 bytes too many")
content("truncated Fortran order", framed(dictionary(fortran_order="True"), GOOD_DATA[:20]), "truncated")


# What is not a file, or not ours to read.
@special("missing", "no-such.npy", "no such file")
def _(directory: Path) -> Path:
    return directory / "no-such.npy"


@special("missing directory", "no such file")
def _(directory: Path) -> Path:
    return directory / "no" / "such.npy"


@special("file as directory", "Not a directory")
def _(directory: Path) -> Path:
    (directory / "file").touch()
    return directory / "file" / "x.npy"


@special("name too long", "name too long")
def _(directory: Path) -> Path:
    return directory / ("x" * 300)


@special("directory", "a directory", "regular")
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    path.mkdir()
    return path


@special("FIFO nobody writes to", "a pipe", "regular")
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    os.mkfifo(path)
    return path


@special("endless device", "/dev/zero", "a device", "regular")
def _(directory: Path) -> Path:
    return Path("/dev/zero")


@special("empty device", "/dev/null", "a device", "regular")
def _(directory: Path) -> Path:
    return Path("/dev/null")


@special("link to a device", "bad.npy", "a device", "regular")
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    path.symlink_to("/dev/zero")
    return path


@special("socket", "a socket", "regular")
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))
    return path


@special("dangling link", "symbolic link to gone.npy", "does not exist")
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    path.symlink_to("gone.npy")
    return path


@special("link loop", "symbolic links")
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    path.symlink_to("bad.npy")
    return path


@special("unreadable", "Permission denied", "permissions", unprivileged=True)
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    path.write_bytes(_GOOD)
    path.chmod(0)
    return path


@special("unreadable directory", "Permission denied", unprivileged=True)
def _(directory: Path) -> Path:
    path = directory / "closed" / "bad.npy"
    path.parent.mkdir()
    path.write_bytes(_GOOD)
    path.parent.chmod(0)
    return path


# Names that would break a line, a terminal or an encoding.
@special("missing, newline in the name", "no\\nsuch.npy", "no such file")
def _(directory: Path) -> Path:
    return directory / "no\nsuch.npy"


@special("truncated, escapes in the name", "bad\\x1b[31m\\r\\n.npy", "truncated", code=MALFORMED)
def _(directory: Path) -> Path:
    path = directory / "bad\x1b[31m\r\n.npy"
    path.write_bytes(_GOOD[:-1])
    return path


@special("name that is not UTF-8", "bad\\udcff.npy", "truncated", code=MALFORMED)
def _(directory: Path) -> Path:
    path = directory / os.fsdecode(b"bad\xff.npy")
    path.write_bytes(_GOOD[:-1])
    return path


@special("link to a strange name", "symbolic link to no\\nsuch", "does not exist")
def _(directory: Path) -> Path:
    path = directory / "bad.npy"
    path.symlink_to("no\nsuch")
    return path

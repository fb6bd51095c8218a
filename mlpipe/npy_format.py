"""The ``.npy`` header: read without trusting it, written as NumPy writes it.

A header is Python source, but only one sentence of it is ever valid: a dictionary of three keys whose
values are a string, a bool and a tuple of integers. That sentence is matched here with regular
expressions in linear time. `ast.literal_eval` understands far more: a hostile header of 64 KiB
costs it 32 MB, deep ones raise RecursionError or MemoryError, and it drops duplicate keys silently.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpipe.errors import InputError, InputMissingError

MAGIC = b"\x93NUMPY"
VERSIONS = {(1, 0): "latin-1", (2, 0): "latin-1", (3, 0): "utf-8"}
KEYS = ("descr", "fortran_order", "shape")
PREFIX_BYTES = 12
MAX_HEADER_BYTES = 64 * 1024
MAX_DIMENSIONS = 64  # NumPy's own limit
MAX_ARRAY_BYTES = 2**63 - 1  # what a file offset can hold

# NumPy leaves room to rewrite the growing axis in place: the digits of 8 * 2**64 - 1.
_GROWTH_DIGITS = 21

_BLANKS = " \t\r\n"  # str.strip and \s alone take more than Python's own grammar does
_ITEM = re.compile(
    r"""_*(?:'(?P<single>[^'\\]*)'|"(?P<double>[^"\\]*)")_*:_*
        (?P<value>'[^']*'|"[^"]*"|\[.*\]|\([^()]*\)|[\w.+-]+)_*(?:,_*|(?=\}))""".replace("_*", "[ \\t\\r\\n]*"),
    re.DOTALL | re.VERBOSE,
)
_INTEGER = re.compile(r"(-?(?:0|[1-9][0-9]*))L?")  # Python 2 wrote 10L
_DESCR = re.compile(r"[<>|=]?(?:\?|b1|[iu][1248]|f[248]|c8|c16)")
_TEXT = re.compile(r"[<>|=]?[SU][0-9]{1,9}")
_REFUSED_KINDS = {
    "O": "Python objects, which only unpickling could read and mlpipe never unpickles",
    "V": "raw void records",
    "U": "text",
    "S": "text",
    "a": "text",
    "M": "dates",
    "m": "time differences",
    "f": "floats of a size other than 2, 4 or 8 bytes",
    "g": "long doubles",
    "c": "complex numbers of a size other than 8 or 16 bytes",
}
_FOREIGN = (
    (b"PK\x03\x04", "a zip or .npz archive; extract the array from it first"),
    (b"\x80", "a pickle, which mlpipe never loads; save the array with numpy.save"),
    (b"\x1f\x8b", "gzip-compressed; decompress it first"),
    (b"\x89HDF", "an HDF5 file; save the array with numpy.save"),
    (b"PAR1", "a Parquet file; save the array with numpy.save"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a ``.npy`` file says.

    Parameters
    ----------
    version : tuple of int
        Format version: (1, 0), (2, 0) or (3, 0).
    dtype : numpy.dtype
        Type of the elements as stored, maybe in foreign byte order.
    shape : tuple of int
        Shape of the array; ``()`` for a single value.
    fortran_order : bool
        Whether the first index varies fastest in the file.
    offset : int
        Position of the first element in the file.

    Examples
    --------
    >>> header = Header((1, 0), np.dtype("f4"), (10, 4), False, 128)
    >>> header.count, header.nbytes, header.file_bytes
    (40, 160, 288)
    """

    version: tuple[int, int]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.count * self.dtype.itemsize

    @property
    def file_bytes(self) -> int:
        """Bytes the whole file must have."""
        return self.offset + self.nbytes


def read_header(fd: int, name: str, *, check_size: bool = True, text: bool = False) -> Header:
    """Read and validate the header of an open ``.npy`` file; the file position is not used.

    Parameters
    ----------
    fd : int
        Descriptor of a regular file.
    name : str
        What messages call the file.
    check_size : bool
        Also require the file to be exactly as long as its header says. Without it, call
        `check_file_size` before touching data.
    text : bool
        Also understand arrays of strings of fixed width, which are refused otherwise.

    Returns
    -------
    Header

    Raises
    ------
    InputError
        If the file is not a ``.npy`` file mlpipe reads.
    InputMissingError
        If the system cannot read it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     np.save(file, np.zeros((3, 2), np.float32))
    ...     file.flush()
    ...     read_header(file.fileno(), "X.npy").shape
    (3, 2)
    """
    try:
        size = os.fstat(fd).st_size
        prefix = os.pread(fd, PREFIX_BYTES, 0)
        version, start, length = _measure(prefix, size, name)
        raw = os.pread(fd, length, start)
    except OSError as error:
        raise InputMissingError(f"{name}: cannot be read: {error.strerror}") from error
    if len(raw) < length:
        raise InputError(f"{name}: truncated while its header was read; write it again")
    header = parse_header(raw, version, start + length, name, text=text)
    if check_size:
        check_file_size(header, size, name)
    return header


def read_stream_header(read: Callable[[int], bytes], name: str, *, text: bool = False) -> Header:
    """Read and validate the header of a stream by `read`, which returns fewer bytes than asked for only at the end.

    With `text`, arrays of strings are taken, too.

    Examples
    --------
    >>> import io
    >>> np.save(file := io.BytesIO(), np.zeros((3, 2), np.float32))
    >>> _ = file.seek(0)
    >>> read_stream_header(file.read, "standard input").shape, file.tell()
    ((3, 2), 128)
    """
    prefix = read(PREFIX_BYTES)
    version, start, length = _measure(prefix, MAX_ARRAY_BYTES, name)
    raw = (prefix[start:] + read(max(0, start + length - PREFIX_BYTES)))[:length]
    if len(raw) < length:
        raise InputError(f"{name}: truncated: a header of {length} bytes, but the stream ends after {len(raw)}")
    return parse_header(raw, version, start + length, name, text=text)


def check_file_size(header: Header, size: int, name: str) -> None:
    """Raise InputError unless a file of `size` bytes holds exactly the array of `header`.

    Examples
    --------
    >>> check_file_size(Header((1, 0), np.dtype("f4"), (10, 4), False, 128), 200, "X.npy")
    Traceback (most recent call last):
    mlpipe.errors.InputError: X.npy: truncated: shape (10, 4) of float32 takes 160 bytes, the \
file holds 72; copy or write it again
    """
    found, wanted = size - header.offset, header.nbytes
    what = f"shape {_clip(str(header.shape))} of {header.dtype.name} takes {wanted} bytes"
    if found < wanted:
        raise InputError(f"{name}: truncated: {what}, the file holds {found}; copy or write it again")
    if found > wanted:
        raise InputError(f"{name}: {found - wanted} bytes too many: {what}, the file holds {found}; write it again")


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Raise InputError unless `dtype` is a bool, an integer or a float of at most 8 bytes.

    Parameters
    ----------
    dtype : numpy.dtype
        Type of the elements, in either byte order.
    name : str
        What messages call the input.

    Raises
    ------
    InputError
        For anything else, complex numbers included.

    Examples
    --------
    >>> check_dtype(np.dtype(">f4"), "X.npy")
    """
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        cure = "take real, imag or abs first" if dtype.kind == "c" else "convert it first"
        raise InputError(f"{name}: {dtype} where bool, integers or floats are needed; {cure}")


def build_header(shape: tuple[int, ...], dtype: npt.DTypeLike, *, align: int = 64) -> bytes:
    """Header of a C-order ``.npy`` file.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    dtype : dtype-like
        Type of the elements.
    align : int
        The data start at a multiple of this many bytes. With 64 the bytes are those of `numpy.save`.

    Returns
    -------
    bytes
        The whole header: version 1.0, or 2.0 when 1.0 cannot hold its length.

    Examples
    --------
    >>> header = build_header((1797, 64), "f4", align=4096)
    >>> len(header), header[10:70].decode()
    (4096, "{'descr': '<f4', 'fortran_order': False, 'shape': (1797, 64)")
    """
    shape = tuple(int(length) for length in shape)
    text = f"{{'descr': {np.dtype(dtype).str!r}, 'fortran_order': False, 'shape': {shape}, }}"
    if shape:
        text += " " * (_GROWTH_DIGITS - len(str(shape[0])))
    header = _frame(text, (1, 0), 2, align)
    return header or _frame(text, (2, 0), 4, align)


def parse_header(raw: bytes, version: tuple[int, int], offset: int, name: str, *, text: bool = False) -> Header:
    """Parse the dictionary of a header: the bytes after the length field.

    Parameters
    ----------
    raw : bytes
        The dictionary, padding included.
    version : tuple of int
        Format version, which decides the encoding.
    offset : int
        Where the data start.
    name : str
        What messages call the file.
    text : bool
        Also understand strings of fixed width.

    Returns
    -------
    Header

    Raises
    ------
    InputError
        If it is not exactly the dictionary the format asks for.

    Examples
    --------
    >>> raw = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"
    >>> parse_header(raw, (1, 0), 80, "X.npy").shape
    (3,)
    """
    try:
        source = raw.decode(VERSIONS[version]).strip(_BLANKS)
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: bad header: not UTF-8 at byte {error.start}") from error
    fields = _fields(source, name)
    if fields["fortran_order"] not in ("True", "False"):
        order = _clip(fields["fortran_order"])
        raise InputError(f"{name}: bad header: fortran_order is {order}, not True or False")
    dtype = _dtype(fields["descr"], name, text)
    shape = _shape(fields["shape"], dtype, name)
    return Header(version, dtype, shape, fields["fortran_order"] == "True", offset)


def _frame(text: str, version: tuple[int, int], width: int, align: int) -> bytes:
    """Put magic, version, a length of `width` bytes and padding around `text`; nothing if too long."""
    start = len(MAGIC) + 2 + width
    # As in NumPy: a newline at the end and at least one space before it.
    length = len(text) + 1 + align - (start + len(text) + 1) % align
    if length >= 256**width:
        return b""
    prefix = MAGIC + bytes(version) + length.to_bytes(width, "little")
    return prefix + text.ljust(length - 1).encode("ascii") + b"\n"


def _measure(prefix: bytes, size: int, name: str) -> tuple[tuple[int, int], int, int]:
    """Find version, start and length of the header from the first bytes of a file of `size` bytes."""
    if not prefix:
        raise InputError(f"{name}: empty file, not a .npy file; write it again")
    if not prefix.startswith(MAGIC):
        raise InputError(f"{name}: not a .npy file: {_guess(prefix)}")
    if len(prefix) < PREFIX_BYTES:
        raise InputError(f"{name}: truncated: ends within the first {PREFIX_BYTES} bytes")
    version = (prefix[6], prefix[7])
    if version not in VERSIONS:
        raise InputError(f"{name}: .npy format version {version[0]}.{version[1]}; mlpipe reads 1.0, 2.0 and 3.0")
    start = 10 if version == (1, 0) else 12
    length = int.from_bytes(prefix[8:start], "little")
    if length > MAX_HEADER_BYTES:
        raise InputError(f"{name}: bad header: {length} bytes long, more than the limit of {MAX_HEADER_BYTES}")
    if start + length > size:
        raise InputError(f"{name}: truncated: a header of {length} bytes, but the file ends after {size - start}")
    return version, start, length


def _guess(prefix: bytes) -> str:
    """Say what a file that is not ``.npy`` seems to be."""
    for magic, what in _FOREIGN:
        if prefix.startswith(magic):
            return what
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in prefix):
        return f"it starts with the text {prefix.decode('ascii')!r}; save the array with numpy.save"
    return f"it starts with the bytes {prefix.hex(' ')}; save the array with numpy.save"


def _fields(text: str, name: str) -> dict[str, str]:
    """Find the source text of each of the three values."""
    items: list[tuple[str, str]] = []
    position = int(text.startswith("{"))
    while position and (match := _ITEM.match(text, position)):
        items.append((match["single"] or match["double"] or "", match["value"]))
        position = match.end()
    if not position or text[position:].strip(_BLANKS) != "}":
        raise InputError(f"{name}: bad header: not a dictionary of literals at {_quote(text[position:])}")
    fields = dict(items)
    wanted = ", ".join(KEYS)
    if len(fields) < len(items):
        twice, _ = Counter(key for key, _ in items).most_common(1)[0]
        raise InputError(f"{name}: bad header: key {_quote(twice)} twice; it needs {wanted} once each")
    if fields.keys() != set(KEYS):
        found = _clip(", ".join(map(repr, fields))) or "none"
        raise InputError(f"{name}: bad header: keys {found}; it needs exactly {wanted}")
    return fields


def _dtype(source: str, name: str, text: bool) -> np.dtype[Any]:
    """Build the dtype of the descr field; np.dtype only ever sees strings of the allow-list."""
    if source[0] in "[(":
        raise InputError(f"{name}: structured dtype {_clip(source)}; save one plain field of it")
    descr = source[1:-1] if source[0] in "'\"" else ""
    if _DESCR.fullmatch(descr):
        return np.dtype(descr)
    if text and _TEXT.fullmatch(descr):
        try:
            return np.dtype(descr)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: dtype {_clip(source)}: longer than any text of NumPy; write it again") from error
    kind = _REFUSED_KINDS.get(descr.lstrip("<>|=")[:1], "no dtype mlpipe knows")
    raise InputError(f"{name}: dtype {_clip(source)}: {kind}; save bool, integers or floats of 1 to 8 bytes")


def _shape(source: str, dtype: np.dtype[Any], name: str) -> tuple[int, ...]:
    """Read the shape field; its size is one that a file can have."""
    shown = f"{name}: bad header: shape {_clip(source)}"
    inner = source[1:-1].strip(_BLANKS)
    parts = inner.removesuffix(",").split(",", MAX_DIMENSIONS) if inner else []
    if len(parts) > MAX_DIMENSIONS:
        raise InputError(f"{shown} has more than {MAX_DIMENSIONS} dimensions")
    matches = [_INTEGER.fullmatch(part.strip(_BLANKS)) for part in parts]
    if source[0] != "(" or not all(matches):
        raise InputError(f"{shown} is not a tuple of whole numbers")
    if len(parts) == 1 and not inner.endswith(","):
        raise InputError(f"{shown} is a number, not a tuple: a comma is missing")
    digits = [match[1] for match in matches if match]
    if any(number.startswith("-") for number in digits):
        raise InputError(f"{shown} has a negative length")
    # NumPy multiplies the lengths other than 0 even where one is 0; nor may int() see endless digits.
    size = dtype.itemsize
    for number in digits:
        size *= max(1, int(number[:20]))
    if size > MAX_ARRAY_BYTES:
        raise InputError(f"{shown} of {dtype.name} is more than the {MAX_ARRAY_BYTES} bytes of any file")
    return tuple(int(number) for number in digits)


def _clip(text: str) -> str:
    """Put `text` on one printable line of bounded length."""
    short = text if len(text) <= 80 else text[:77] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)


def _quote(text: str) -> str:
    """Put `text` in quotes, on one printable line of bounded length."""
    return repr(text if len(text) <= 40 else text[:37] + "...")

"""How verbs are declared, and what their fields take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from mlpipe.declare import argument, given_values, nearest, option, parameters, shown, summary, value_of
from mlpipe.errors import UsageError


def halves(text: str) -> tuple[int, ...]:
    if ":" not in text:
        raise UsageError(f"--span {text}: give A:B")
    return tuple(map(int, text.split(":")))


@dataclass(frozen=True)
class Sample:
    """A verb with a field of every kind.

    More about it.
    """

    paths: tuple[str, ...] = argument(help="Files.", metavar="FILE")
    count: int = option(help="How many.", short="-c")
    share: float = option(0.5, help="Of all.")
    keep: bool = option(False, help="Whether.")
    norm: Literal["l1", "l2"] = option("l2", help="Which.")
    sizes: tuple[float, ...] = option((), help="Several.")
    columns: tuple[int, ...] | None = option(None, help="Which.")
    from_: str | None = option(None, help="Where.")
    span: tuple[int, int] | None = option(None, help="From and to.", parse=halves)


FIELDS = {one.name: one for one in parameters(Sample)}


def test_parameters() -> None:
    assert list(FIELDS) == ["paths", "count", "share", "keep", "norm", "sizes", "columns", "from_", "span"]
    assert [(one.type, one.many, one.optional) for one in FIELDS.values()] == [
        (str, True, False), (int, False, False), (float, False, False), (bool, False, False),
        (Literal["l1", "l2"], False, False), (float, True, False), (int, True, True), (str, False, True),
        (int, True, True),
    ]  # fmt: skip
    assert [one.required for one in FIELDS.values()] == [True, True, *[False] * 7]
    assert (FIELDS["from_"].flag, FIELDS["from_"].key) == ("--from", "from")
    assert (FIELDS["count"].short, FIELDS["paths"].positional, FIELDS["paths"].metavar) == ("-c", True, "FILE")
    assert summary(Sample) == "A verb with a field of every kind."


@pytest.mark.parametrize(
    ("name", "given", "held"),
    [
        ("paths", ["a", "b"], ("a", "b")),
        ("paths", "a", ("a",)),
        ("paths", [Path("a")], ("a",)),
        ("paths", [], ()),
        ("count", np.int32(3), 3),
        ("count", -(2**63), -(2**63)),
        ("count", 2**64 - 1, 2**64 - 1),
        ("share", 1, 1.0),
        ("share", np.float32(0.5), 0.5),
        ("share", float("inf"), float("inf")),
        ("keep", np.bool_(True), True),
        ("norm", "l1", "l1"),
        ("sizes", [1, 2.5], (1.0, 2.5)),
        ("sizes", np.array([1, 2]), (1.0, 2.0)),
        ("sizes", 3, (3.0,)),
        ("columns", None, None),
        ("columns", (1, 2), (1, 2)),
        ("from_", None, None),
        ("from_", Path("x.npz"), "x.npz"),
        ("span", "3:7", (3, 7)),
        ("span", [3, 7], (3, 7)),
    ],
)
def test_values(name: str, given: Any, held: Any) -> None:
    value = value_of(FIELDS[name], given)
    assert (value, repr(value)) == (held, repr(held))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("count", None, "count = None: give a whole number"),
        ("count", True, "count = True: give a whole number"),
        ("count", 3.0, "count = 3.0: give a whole number"),
        ("count", 2**64, "count = a number of 65 bits: too large; give a whole number of at most 64 bits"),
        ("share", "0.5", "share = '0.5': give a number"),
        ("share", True, "share = True: give a number"),
        ("share", 10**400, "share = a number of 1329 bits: give a number"),
        ("keep", 1, "keep = 1: give true or false"),
        ("norm", "l3", "norm = 'l3'; known are l1, l2"),
        ("norm", ["l1"], "norm = ['l1']; "),
        ("sizes", ["x"], "sizes = 'x': give a number"),
        ("sizes", None, "sizes = None: give a number"),
        ("from_", 3, "from = 3: give text"),
        ("from_", b"x", "from = b'x': give text"),
        ("paths", [["a"]], "paths = ['a']: give text"),
        ("span", "3", "--span 3: give A:B"),
        ("count", "x" * 100, f"count = '{'x' * 56}...: give a whole number"),
    ],
)
def test_values_of_another_type(name: str, given: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        value_of(FIELDS[name], given)
    assert str(caught.value).startswith(message)


def test_given_values_tell_zeros_apart() -> None:
    @dataclass(frozen=True)
    class Fill:
        """."""

        value: float = option(0.0, help="Which.")

    assert given_values(Fill(0.0)) == {}
    assert repr(given_values(Fill(-0.0))) == "{'value': -0.0}"
    assert list(given_values(Fill(float("nan")))) == ["value"]


def test_fields_that_are_not_declared_are_left_alone() -> None:
    @dataclass(frozen=True)
    class Other:
        """."""

        rows: int = option(3, help="How many.")
        hidden: int = 0

    assert [one.name for one in parameters(Other)] == ["rows"]


def test_nearest() -> None:
    assert nearest("rwos", ["rows"]) == "; did you mean rows?"
    assert nearest("x", []) == "; it has none"


def test_shown() -> None:
    assert shown("a" * 100) == "'" + "a" * 56 + "..."
    assert shown(7) == "7"

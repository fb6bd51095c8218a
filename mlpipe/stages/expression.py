"""Expressions of a row's values, such as ``log1p(abs(x)) / 3``: the grammar, and nothing that could run code.

A text is read into a tree of our own. Python's parser only finds its structure: each kind of node is then either
one of the few below, or an error that points at its column. What is compiled later is written from the tree, with
numbers handed over as numbers, so that no text of a user's ever reaches a compiler.
"""

from __future__ import annotations

import ast
import difflib
import math
import string
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlpipe.errors import UsageError

LENGTH = 4096
"""Characters of an expression, at most."""

DEPTH = 40
"""How deep parts may lie within others; sums, products and comparisons of any length count as one level."""

CONSTANTS = {"pi": math.pi, "e": math.e, "nan": math.nan, "inf": math.inf}

FUNCTIONS = {
    **dict.fromkeys(("abs", "sign", "floor", "ceil", "trunc", "round"), 1),
    **dict.fromkeys(("sqrt", "exp", "expm1", "log", "log1p", "log2", "log10"), 1),
    **dict.fromkeys(("sin", "cos", "tan", "arcsin", "arccos", "arctan"), 1),
    **dict.fromkeys(("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"), 1),
    **dict.fromkeys(("isnan", "isinf", "isfinite"), 1),
    **dict.fromkeys(("minimum", "maximum", "arctan2", "hypot"), 2),
    **dict.fromkeys(("clip", "where"), 3),
}
"""Functions by name, as in NumPy, each with how many arguments it takes."""

TRUTHS = ("isnan", "isinf", "isfinite")
"""Functions that say yes or no."""

_SIGNS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.And: "and", ast.Or: "or",
}  # fmt: skip
_SUMS, _PRODUCTS = ("+", "-"), ("*", "/")

_CHARACTERS = frozenset(string.ascii_letters + string.digits + string.whitespace + "_+-*/%<>=!()[],.")


@dataclass(frozen=True, slots=True)
class Number:
    """A number that was written down.

    Parameters
    ----------
    value : float
        What it is.
    """

    value: float


@dataclass(frozen=True, slots=True)
class Element:
    """``x``: each value by itself."""


@dataclass(frozen=True, slots=True)
class Column:
    """``x[index]``: one value of the row.

    Parameters
    ----------
    index : int
        Which; from the end if negative.
    place : int
        Where the expression names it, for messages.
    """

    index: int
    place: int


@dataclass(frozen=True, slots=True)
class Operators:
    """Operands with operators between them, evaluated from the left: ``a + b - c``, ``a < b <= c``, ``a and b``.

    Parameters
    ----------
    signs : tuple of str
        One fewer than operands.
    operands : tuple of Node
        What stands between them.
    """

    signs: tuple[str, ...]
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function of some values; besides those of `FUNCTIONS`, ``negative`` and ``not``.

    Parameters
    ----------
    function : str
        Its name.
    arguments : tuple of Node
        As many as it takes.
    """

    function: str
    arguments: tuple[Node, ...]


Node = Number | Element | Column | Operators | Call


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression, or several with commas between them.

    Parameters
    ----------
    text : str
        As the user wrote it.
    parts : tuple of Node
        Each by itself.
    several : bool
        Whether there was a comma.
    """

    text: str
    parts: tuple[Node, ...]
    several: bool

    def columns(self) -> list[Column]:
        """The columns it names, in order."""
        return [node for part in self.parts for node in walk(part) if isinstance(node, Column)]


def walk(node: Node) -> Iterator[Node]:
    """All nodes of a tree."""
    yield node
    if isinstance(node, Operators | Call):
        for inner in node.operands if isinstance(node, Operators) else node.arguments:
            yield from walk(inner)


def is_elementwise(node: Node) -> bool:
    """Whether a tree gives a value for each of the row, not one for the row."""
    return any(isinstance(inner, Element) for inner in walk(node))


def parse(text: str) -> Expression:
    """Read an expression.

    Parameters
    ----------
    text : str
        In the grammar of ``docs/expressions.md``.

    Raises
    ------
    UsageError
        For anything else, with the column at which it stands, from 1.

    Examples
    --------
    >>> parse("x / 2").parts
    (Operators(signs=('/',), operands=(Element(), Number(value=2.0))),)
    >>> parse("x.__class__")
    Traceback (most recent call last):
    mlpipe.errors.UsageError: apply 'x.__class__', column 2: nothing has attributes here
    """
    return _Reader(text).read()


def wrong(text: str, place: int, reason: str) -> UsageError:
    """Return the error for the part of an expression at `place`, from 0."""
    start = 0 if len(text) <= 60 else max(0, place - 20)
    shown = ("…" if start else "") + text[start : start + 60] + ("…" if start + 60 < len(text) else "")
    return UsageError(f"apply {shown!r}, column {place + 1}: {reason}")


class _Reader:
    """Reads one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._indent = len(text) - len(text.lstrip())

    def read(self) -> Expression:
        self._check_characters()
        body = self._structure()
        several = isinstance(body, ast.Tuple)
        parts = body.elts if isinstance(body, ast.Tuple) else [body]
        if not parts:
            raise wrong(self._text, 0, "nothing to compute")
        return Expression(self._text, tuple(self._node(part, DEPTH) for part in parts), several)

    def _check_characters(self) -> None:
        """Only the characters that the grammar needs: no quotes, no comments, no letters that look like others."""
        text = self._text
        if not text.strip():
            raise wrong(text, 0, "nothing to compute")
        if len(text) > LENGTH:
            raise wrong(text, LENGTH, f"{len(text)} characters; at most {LENGTH} are taken")
        for place, character in enumerate(text):
            if character not in _CHARACTERS:
                raise wrong(text, place, f"{character!r} is no part of an expression")

    def _structure(self) -> ast.expr:
        """What Python's parser makes of it; nothing is evaluated."""
        line = "".join(" " if character.isspace() else character for character in self._text).strip()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(line, mode="eval").body
        except SyntaxError as error:
            place = min(error.offset or len(line), len(line)) - 1  # the end of the line comes as 0
            raise wrong(self._text, self._indent + place, error.msg.partition(".")[0]) from None
        except (ValueError, OverflowError, RecursionError, MemoryError):
            raise wrong(self._text, self._indent, "nested too deeply") from None

    def _wrong(self, node: ast.expr, reason: str) -> UsageError:
        return wrong(self._text, self._indent + node.col_offset, reason)

    def _node(self, node: ast.expr, depth: int) -> Node:
        """One of our nodes for one of Python's."""
        if depth == 0:
            raise self._wrong(node, f"nested too deeply; at most {DEPTH} levels are taken")
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return self._name(node)
            case ast.Subscript():
                return self._column(node)
            case ast.UnaryOp():
                return self._unary(node, depth)
            case ast.BinOp():
                return self._binary(node, depth)
            case ast.Compare():
                self._check_signs(node, node.ops, "is, in and their like compare objects, not numbers")
                return self._operators([_SIGNS[type(one)] for one in node.ops], [node.left, *node.comparators], depth)
            case ast.BoolOp():
                return self._operators([_SIGNS[type(node.op)]] * (len(node.values) - 1), node.values, depth)
            case ast.IfExp():
                return self._call("where", [node.test, node.body, node.orelse], depth)
            case ast.Call():
                return self._function(node, depth)
            case ast.Attribute(value=value):
                raise wrong(self._text, self._indent + (value.end_col_offset or 0), "nothing has attributes here")
        raise self._wrong(node, _REFUSED.get(type(node), "no part of an expression"))

    def _number(self, node: ast.Constant) -> Number:
        value: Any = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(node, f"{value!r} is no real number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            raise self._wrong(node, "a number too large for float64; write inf if that is meant")
        return Number(number)

    def _name(self, node: ast.Name) -> Node:
        name = node.id
        if name == "x":
            return Element()
        if name in CONSTANTS:
            return Number(CONSTANTS[name])
        if name in FUNCTIONS:
            raise self._wrong(node, f"{name} is a function; write {name}(x)")
        raise self._wrong(node, f"no name {name!r}{_nearest(name, ('x', *CONSTANTS, *FUNCTIONS))}")

    def _column(self, node: ast.Subscript) -> Column:
        if not (isinstance(node.value, ast.Name) and node.value.id == "x"):
            raise self._wrong(node, "only x has columns, as in x[3]")
        index: ast.expr = node.slice
        negative = isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.USub)
        if isinstance(index, ast.UnaryOp) and negative:
            index = index.operand
        if not (isinstance(index, ast.Constant) and type(index.value) is int):
            raise self._wrong(node.slice, "a column is a whole number that is written down, as in x[3] or x[-1]")
        if abs(index.value) > 2**62:
            raise self._wrong(node.slice, "no row has so many columns")
        return Column(-index.value if negative else index.value, self._indent + node.col_offset)

    def _unary(self, node: ast.UnaryOp, depth: int) -> Node:
        if isinstance(node.op, ast.UAdd):
            return self._node(node.operand, depth - 1)
        function = {ast.USub: "negative", ast.Not: "not"}.get(type(node.op))
        if function is None:
            raise self._wrong(node, _BITS)
        call = self._call(function, [node.operand], depth)
        operand = call.arguments[0]
        return Number(-operand.value) if function == "negative" and isinstance(operand, Number) else call

    def _binary(self, node: ast.BinOp, depth: int) -> Node:
        """An operator, and those on its left that may stand in one line with it."""
        self._check_signs(node, [node.op], _BITS)
        sign = _SIGNS[type(node.op)]
        alike = next((group for group in (_SUMS, _PRODUCTS) if sign in group), ())
        signs, operands = [sign], [node.right]
        left = node.left
        while isinstance(left, ast.BinOp) and _SIGNS.get(type(left.op)) in alike:
            signs.append(_SIGNS[type(left.op)])
            operands.append(left.right)
            left = left.left
        return self._operators(signs[::-1], [left, *operands[::-1]], depth)

    def _check_signs(self, node: ast.expr, signs: list[Any], reason: str) -> None:
        if any(type(sign) not in _SIGNS for sign in signs):
            raise self._wrong(node, reason)

    def _operators(self, signs: list[str], operands: list[ast.expr], depth: int) -> Operators:
        return Operators(tuple(signs), tuple(self._node(operand, depth - 1) for operand in operands))

    def _function(self, node: ast.Call, depth: int) -> Call:
        if not isinstance(node.func, ast.Name):
            raise self._wrong(node, "only functions that have a name are called")
        name = node.func.id
        if name not in FUNCTIONS:
            raise self._wrong(node, f"no function {name!r}{_nearest(name, tuple(FUNCTIONS))}")
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self._wrong(argument, "no starred arguments")
        wanted = FUNCTIONS[name]
        if node.keywords or len(node.args) != wanted:
            raise self._wrong(node, f"{name} takes {wanted} argument{'s' if wanted > 1 else ''}, without names")
        return self._call(name, node.args, depth)

    def _call(self, function: str, arguments: list[ast.expr], depth: int) -> Call:
        return Call(function, tuple(self._node(argument, depth - 1) for argument in arguments))


_BITS = "operators on bits and matrices are not taken; and, or and not are"

_REFUSED: dict[type[ast.expr], str] = {
    ast.Tuple: "several expressions stand side by side, not within another",
    ast.List: "no lists; columns are written x[3]",
    ast.Lambda: "no functions of your own; apply-python takes them",
    ast.Starred: "no starred arguments",
}


_ELSEWHERE = {
    "min": "minimum", "max": "maximum", "fabs": "abs", "ln": "log", "rint": "round", "pow": "**", "power": "**",
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "X": "x", "NaN": "nan", "PI": "pi",
}  # fmt: skip
"""What names from elsewhere are called here."""


def _nearest(word: str, known: tuple[str, ...]) -> str:
    if word in _ELSEWHERE:
        return f"; it is {_ELSEWHERE[word]} here"
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"

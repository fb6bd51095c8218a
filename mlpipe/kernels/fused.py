"""Stages' steps as one compiled loop over a block.

The loop is written as source text from the steps, which come from our own stages and never from a user, and
compiled once for each text and set of dtypes. Between two stages a value stays in a register, rounded to the
dtype in which it would have been stored. What needs a number of the whole row first (`RowReduce`) ends one
pass over the row and begins another, on a copy of the row that stays in the first-level cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlpipe.kernels import memory
from mlpipe.kernels.conversion import convert
from mlpipe.kernels.program import NAMES, Check, Program
from mlpipe.kernels.program import storage as storage
from mlpipe.kernels.steps import (
    JOINED,
    Constant,
    Draw,
    Map,
    RowNumber,
    RowReduce,
    Search,
    Select,
    Step,
    Steps,
    register,
    working,
)

FEW_EDGES = 16
"""Among so many, comparing with all of them is quicker than a search by halves."""

_NAME = re.compile(r"(?<!\w)\.?[A-Za-z_]\w*")  # an attribute is no name we know
_WORDS = {"if", "else", "and", "or", "not"}


def write(stages: Sequence[tuple[Steps, np.dtype[Any]]], dtype: np.dtype[Any], width: int, in_place: bool) -> Program:
    """Write the program of stages, each with the dtype to which its result is rounded.

    Parameters
    ----------
    stages : sequence of (Steps, dtype)
        What to do.
    dtype : numpy.dtype
        Of the values that come in.
    width : int
        How many there are in a row.
    in_place : bool
        Whether the input takes the output; nothing may be checked then.

    Examples
    --------
    >>> print(write([([Map("v + v")], np.dtype("f4"))], np.dtype("f4"), 3, in_place=True).text)
    def fused(x, out, first, span):
        width, rows = x.shape[1], 1
        for i in range(x.shape[0]):
            x_row, out_row = i * width, i * out.shape[1]
            for j0 in range(width):
                v1 = load_x(x, x_row + j0)
                v2 = float32(v1 + v1)
                v3 = one_nan(v2)
                store_x(x, x_row + j0, v3)
        return -1
    <BLANKLINE>
    """
    writer = _Writer(np.dtype(dtype), width, in_place, _joined([step for steps, _ in stages for step in steps], width))
    for place, (steps, after) in enumerate(stages):
        writer.stage(place, steps, np.dtype(after))
    return writer.finish()


def _joined(steps: Steps, width: int) -> int:
    """How many rows may be joined to one, 0 for any number: a loop over few values would be slow."""
    sources = " ".join(step.source for step in steps if isinstance(step, Map | RowReduce))
    if any(isinstance(step, Select) for step in steps) or {"row", "column"} & set(_NAME.findall(sources)):
        return 1
    constants = [one for step in steps if isinstance(step, Map | RowReduce) for one in step.constants.values()]
    if any(np.ndim(one) for one in constants) or any(isinstance(step, RowReduce | Draw) for step in steps):
        return max(1, JOINED // max(1, width))
    return 0


def _renamed(source: str, given: Mapping[str, str]) -> str:
    """Text with other names; ValueError for one that is neither given nor a function."""

    def renamed(match: re.Match[str]) -> str:
        name = match.group()
        if name not in given and name not in NAMES and name not in _WORDS:
            raise ValueError(f"{source!r} uses {name!r}, which is not defined")
        return given.get(name, name)

    return _NAME.sub(renamed, source)


class _Writer:
    """Writes a program step by step.

    A number per row is kept in an array, one for each row that is joined; for a pass over joined rows it is spread,
    so that it lies beside each value.
    """

    def __init__(self, dtype: np.dtype[Any], width: int, in_place: bool, joined: int) -> None:
        self.program = Program(dtype, width, in_place, dtype, width, joined=joined)
        self.joined = max(1, joined)
        self.terms: dict[int, str] = {}  # scratch for what is added up, by the width of a row
        self.spreads: dict[tuple[str, str], str] = {}
        self.dtype, self.width = dtype, width
        self.value, self.count = "", 0
        self.lines: list[str] = []  # of the present pass over the row, for one value
        self.blocks: list[str] = []  # passes that are complete
        self.arguments: list[str] = []
        self.reduced: dict[str, str] = {}
        self.drawn: dict[str, str] = {}
        self.computed = False
        self.begin("from_half(load_x(x, x_row + j0))" if dtype == np.float16 else "load_x(x, x_row + j0)", "width")

    # Values and passes.

    def new(self, expression: str) -> None:
        """Make the result of an expression the value."""
        self.count += 1
        self.value = f"v{self.count}"
        self.lines.append(f"{self.value} = {expression}")

    def begin(self, origin: str, length: str) -> None:
        """Begin a pass over a row of values that `origin` loads."""
        self.origin, self.length, self.level, self.choices = origin, length, 0, list[str]()
        self.lines, self.changed = [], False
        self.new(origin)

    def loop(self, body: list[str]) -> None:
        """End a pass that does `body` at last for each value."""
        indices = list(reversed(self.choices))
        inner = "".join(f"            {line}\n" for line in [*indices, *self.lines, *body])
        self.blocks.append(f"        for j{self.level} in range({self.length}):\n{inner}")

    def scratch(self, dtype: np.dtype[Any], length: int) -> str:
        """An argument that is scratch."""
        self.program.scratch.append((dtype, length))
        return f"s{len(self.program.scratch) - 1}"

    def row_scratch(self, dtype: np.dtype[Any]) -> str:
        """Scratch for the values of a row, or of those that are joined."""
        return self.scratch(dtype, self.width * self.joined + memory.LANES)

    # Steps.

    def stage(self, place: int, steps: Steps, after: np.dtype[Any]) -> None:
        """Write one stage."""
        self.reduced, self.drawn, self.computed = {}, {}, False
        for at, step in enumerate(steps):
            self.step(place, at, step)
        if self.computed and register(self.dtype).kind == "f":
            self.new(f"one_nan({self.value})")
        self.convert(after)

    def step(self, place: int, at: int, step: Step) -> None:
        """Write one step."""
        if isinstance(step, Map):
            self.map(step)
        elif isinstance(step, RowReduce):
            self.reduce(step)
        elif isinstance(step, RowNumber):
            self.number(step)
        elif isinstance(step, Select):
            self.select(step)
        elif isinstance(step, Draw):
            self.draw(step)
        elif isinstance(step, Search):
            self.search(step)
        else:
            failed = f"bad{len(self.program.checks)}"
            if self.convert(step.dtype, failed if step.checked else None):
                self.program.checks.append(Check(place, at, step, self.before))

    def map(self, step: Map) -> None:
        """Write an expression."""
        kind = working(self.dtype, step.whole)
        self.into(kind)
        self.new(f"{kind.name}({self.expression(step.source, step.constants, kind)})")
        self.dtype, self.changed = kind, True
        self.computed = self.computed or not step.whole

    def into(self, kind: np.dtype[Any]) -> None:
        """Take the value into the dtype of a computation; that is never narrower."""
        if register(self.dtype) != kind:
            self.new(f"{kind.name}({self.value})")

    def expression(self, source: str, constants: Mapping[str, Constant], kind: np.dtype[Any]) -> str:
        """The text of a step with our names in place of its own."""
        given = {"v": self.value, "row": "(first + i)", "column": f"j{self.level}"}
        names = set(_NAME.findall(source))
        given |= {name: self.beside(number, kind) for name, number in self.reduced.items() if name in names}
        given |= {name: f"{kind.name}(load_{place}({place}, j{self.level}))" for name, place in self.drawn.items()}
        for name, constant in constants.items():
            given[name] = self.constant(name, constant, kind)
        return _renamed(source, given)

    def beside(self, number: str, kind: np.dtype[Any]) -> str:
        """How a pass reads a number of the row."""
        if self.joined == 1:
            return f"{kind.name}(load_{number}({number}, 0))"
        if (number, kind.name) not in self.spreads:
            self.spreads[number, kind.name] = self.row_scratch(kind)
            self.blocks.append(f"        spread({number}, span, rows, {self.spreads[number, kind.name]})\n")
        place = self.spreads[number, kind.name]
        return f"load_{place}({place}, j0)"

    def constant(self, name: str, constant: Constant, kind: np.dtype[Any]) -> str:
        """An argument for a constant; how it is read."""
        argument = f"c{len(self.arguments)}"
        self.arguments.append(argument)
        array = np.asarray(constant).astype(kind)
        if array.ndim == 0:
            self.program.constants.append(array[()])
            return argument
        if array.shape != (self.width,):
            raise ValueError(f"constant {name!r} has shape {array.shape} where rows have {self.width} values")
        self.program.constants.append(np.ascontiguousarray(array))
        return f"load_{argument}({argument}, j{self.level})"

    def convert(self, dtype: np.dtype[Any], failed: str | None = None) -> bool:
        """Write a conversion; return whether it may fail."""
        self.before = self.dtype
        lines, self.value, self.count, may_fail = convert(self.value, self.count, self.dtype, dtype, failed)
        self.lines += lines
        self.changed = self.changed or bool(lines)
        self.dtype = dtype
        return may_fail

    def select(self, step: Select) -> None:
        """Write a choice of columns: from here on, what came before is done to these alone."""
        argument = f"c{len(self.arguments)}"
        self.arguments.append(argument)
        first = int(step.columns[0]) if len(step.columns) else 0
        inner, self.level = f"j{self.level}", self.level + 1
        length = f"n{argument}"
        if np.array_equal(step.columns, np.arange(first, first + len(step.columns))):
            self.arguments.append(length)
            self.program.constants += [np.int64(first), np.int64(len(step.columns))]
            self.choices.append(f"{inner} = j{self.level} + {argument}")
        else:
            self.program.constants.append(np.ascontiguousarray(step.columns, np.int64))
            self.choices.append(f"{inner} = load_{argument}({argument}, j{self.level})")
            length = f"{argument}.size"
        self.length, self.width, self.changed = length, len(step.columns), True

    def reduce(self, step: RowReduce) -> None:
        """Write a number for the row, which takes a pass of its own.

        A pass that also computes the row would run at the width of float64 all through (measured: 25 % slower).
        """
        if self.changed:
            copy = self.row_scratch(register(self.dtype))
            self.loop([f"store_{copy}({copy}, j{self.level}, {self.value})"])
            self.begin(f"load_{copy}({copy}, j0)", self.length)
        origin, length = self.origin, self.length
        kind = np.dtype(np.float64)
        if self.width not in self.terms:
            self.terms[self.width] = self.row_scratch(kind)
        values, number = self.terms[self.width], self.scratch(kind, self.joined)
        self.into(kind)
        self.loop([f"store_{values}({values}, j0, {self.expression(step.source, step.constants, kind)})"])
        span = "span" if self.joined > 1 else length
        self.blocks.append(f"        {step.how}_rows({values}, {span}, rows, {number})\n")
        self.reduced[step.name] = number
        self.begin(origin, length)

    def draw(self, step: Draw) -> None:
        """Write random numbers into scratch, before the present pass over the row."""
        words = []
        for word in step.key:
            words.append(f"c{len(self.arguments)}")
            self.arguments.append(words[-1])
            self.program.constants.append(np.uint64(word))
        kind = np.dtype(np.float64)
        if step.each == "row":
            place, span = self.scratch(kind, self.joined), "1"
            self.reduced[step.name] = place
        else:
            place, span = self.row_scratch(kind), "span" if self.joined > 1 else self.length
            self.drawn[step.name] = place
        self.blocks.append(f"        draw_{step.how}({', '.join(words)}, first + i * rows, {span}, rows, {place})\n")

    def search(self, step: Search) -> None:
        """Write a search: as comparisons, which are vectorised, with few edges, else by halves."""
        edges = np.ascontiguousarray(step.edges, np.float64)
        self.into(np.dtype(np.float64))
        names = [f"c{len(self.arguments) + n}" for n in range(len(edges) if len(edges) <= FEW_EDGES else 1)]
        self.arguments += names
        if len(edges) <= FEW_EDGES:
            self.program.constants += list(edges)
            below = "<=" if step.side == "left" else "<"
            self.new(" + ".join(f"int64(not ({self.value} {below} {name}))" for name in names))
        else:
            self.program.constants.append(edges.reshape(1, -1))  # two dimensions: it is not one of columns
            self.new(f"{step.side}_place({names[0]}, {self.value})")
        self.dtype, self.changed = np.dtype(np.int64), True

    def number(self, step: RowNumber) -> None:
        """Write a number of the row that is made from others."""
        number = self.scratch(np.dtype(np.float64), self.joined)
        given = {name: f"load_{place}({place}, n)" for name, place in self.reduced.items()}
        expression = _renamed(step.source, given)
        self.blocks.append(f"        for n in range(rows):\n            store_{number}({number}, n, {expression})\n")
        self.reduced[step.name] = number

    def finish(self) -> Program:
        """Write the last pass and the rest around it."""
        program = self.program
        program.made_dtype, program.made_width = self.dtype, self.width
        place = "x" if program.in_place else "out"
        stored = f"to_half({self.value})" if self.dtype == np.float16 else self.value
        self.loop([f"store_{place}({place}, {place}_row + j{self.level}, {stored})"])
        scratch = [f"s{n}" for n in range(len(program.scratch))]
        flags = [f"bad{n}" for n in range(len(program.checks))]
        rows = "x.shape[1] // span" if self.joined > 1 else "1"
        program.text = (
            f"def fused({', '.join(['x', 'out', 'first', 'span', *scratch, *self.arguments])}):\n"
            f"    width, rows = x.shape[1], {rows}\n"
            "    for i in range(x.shape[0]):\n"
            "        x_row, out_row = i * width, i * out.shape[1]\n"
            + "".join(f"        {flag} = False\n" for flag in flags)
            + "".join(self.blocks)
            + "".join(f"        if {flag}:\n            return {n}\n" for n, flag in enumerate(flags))
            + "    return -1\n"
        )
        return program

"""What an expression is written as for the compiler: text made of our own words only, and numbers beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mlpipe.stages.expression import TRUTHS, Call, Column, Element, Node, Number, Operators

COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_FUNCTIONS = {"//": "floor_divide", "%": "remainder", "**": "power"}
_POWERS = {2.0: "square", 3.0: "cube"}


@dataclass(slots=True)
class Formulas:
    """Writes expressions that share their numbers and columns.

    In the text, ``v`` is the value, ``c0``, ``c1``… are columns, ``k0``, ``k1``… numbers that are handed over at run
    time; all of the type in which the expression is computed. Functions are those of `mlpipe.kernels.vocabulary`.
    What a truth value is depends on where it stands: a condition as it is, a number as 1 or 0.

    Parameters
    ----------
    numbers : list of float
        What ``k0``… stand for, so far.
    columns : list of int
        What ``c0``… stand for, so far; from the end if negative.

    Examples
    --------
    >>> from mlpipe.stages.expression import parse
    >>> formulas = Formulas()
    >>> formulas.number(parse("(x[3] - 0.5) ** 2").parts[0]), formulas.numbers, formulas.columns
    ('square((c0 - k0))', [0.5], [3])
    """

    numbers: list[float] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)

    def number(self, node: Node) -> str:
        """Text of a tree as a number."""
        match node:
            case Element():
                return "v"
            case Number(value):
                return self._constant(value)
            case Column(index):
                if index not in self.columns:
                    self.columns.append(index)
                return f"c{self.columns.index(index)}"
            case _ if _says_yes_or_no(node):
                return f"where({self.truth(node)}, {self._constant(1.0)}, {self._constant(0.0)})"
            case Operators(signs, operands):
                return self._arithmetic(signs, operands)
            case Call("negative", (argument,)):
                return f"(-{self.number(argument)})"
            case Call("where", (condition, yes, no)):
                return f"where({self.truth(condition)}, {self.number(yes)}, {self.number(no)})"
            case Call(function, arguments):
                return f"{function}({', '.join(map(self.number, arguments))})"

    def truth(self, node: Node) -> str:
        """Text of a tree as a condition; a number holds unless it is 0."""
        match node:
            case Operators(signs, operands) if signs[0] in COMPARISONS:
                return self._between(signs, [self.number(operand) for operand in operands])
            case Operators(("and" | "or" as sign, *_), operands):
                return f"({(' & ' if sign == 'and' else ' | ').join(map(self.truth, operands))})"
            case Call("not", (argument,)):
                return f"(not {self.truth(argument)})"
            case Call(function, (argument,)) if function in TRUTHS:
                return f"{function}({self.number(argument)})"
            case _:
                return f"({self.number(node)} != {self._constant(0.0)})"

    def _arithmetic(self, signs: tuple[str, ...], operands: tuple[Node, ...]) -> str:
        first = self.number(operands[0])
        if signs[0] not in _FUNCTIONS:
            return self._between(signs, [first, *map(self.number, operands[1:])])
        if signs[0] == "**" and isinstance(operands[1], Number) and operands[1].value in _POWERS:
            return f"{_POWERS[operands[1].value]}({first})"
        literal = isinstance(operands[1], Number) and math.isfinite(operands[1].value)
        function = "raised" if signs[0] == "**" and literal else _FUNCTIONS[signs[0]]
        return f"{function}({first}, {self.number(operands[1])})"

    def _between(self, signs: tuple[str, ...], operands: list[str]) -> str:
        rest = " ".join(f"{sign} {operand}" for sign, operand in zip(signs, operands[1:], strict=True))
        return f"({operands[0]} {rest})"

    def _constant(self, value: float) -> str:
        """Name of a number; numbers are told apart by their text, since NaN is unequal to itself and -0 equal to 0."""
        known = [repr(number) for number in self.numbers]
        if repr(value) not in known:
            self.numbers.append(value)
            known.append(repr(value))
        return f"k{known.index(repr(value))}"


def _says_yes_or_no(node: Node) -> bool:
    if isinstance(node, Operators):
        return node.signs[0] in (*COMPARISONS, "and", "or")
    return isinstance(node, Call) and node.function in (*TRUTHS, "not")

"""The grammar of expressions: what it takes, and that it takes nothing else."""

from __future__ import annotations

import math
import re
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.errors import UsageError
from mlpipe.kernels.vocabulary import WORDS
from mlpipe.stages.expression import (
    DEPTH,
    FUNCTIONS,
    LENGTH,
    Call,
    Column,
    Element,
    Expression,
    Number,
    Operators,
    is_elementwise,
    parse,
)
from mlpipe.stages.formula import Formulas


def refused(text: str) -> tuple[int, str]:
    """Column and reason of the error."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.isprintable()
    found = re.fullmatch(r"apply .*, column (\d+): (.+)", message)
    assert found, message
    return int(found[1]), found[2]


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("x", Element()),
        ("  ( x ) ", Element()),
        ("+x", Element()),
        ("x[3]", Column(3, 0)),
        ("x[-1]", Column(-1, 0)),
        (" x[ - 2 ]", Column(-2, 1)),
        ("1", Number(1.0)),
        (".5e-3", Number(0.0005)),
        ("0x10", Number(16.0)),
        ("1_000", Number(1000.0)),
        ("pi", Number(math.pi)),
        ("inf", Number(math.inf)),
        ("-1.5", Number(-1.5)),
        ("-x", Call("negative", (Element(),))),
        ("not x", Call("not", (Element(),))),
        ("x\n+\t1", Operators(("+",), (Element(), Number(1.0)))),
        ("1 - x + 2", Operators(("-", "+"), (Number(1.0), Element(), Number(2.0)))),
        ("x * 2 % 3", Operators(("%",), (Operators(("*",), (Element(), Number(2.0))), Number(3.0)))),
        ("0 < x <= 1", Operators(("<", "<="), (Number(0.0), Element(), Number(1.0)))),
        ("x and 1 and 2", Operators(("and", "and"), (Element(), Number(1.0), Number(2.0)))),
        ("1 if x else 2", Call("where", (Element(), Number(1.0), Number(2.0)))),
        ("clip(x, 0, 1)", Call("clip", (Element(), Number(0.0), Number(1.0)))),
        ("2 ** 3 ** x", Operators(("**",), (Number(2.0), Operators(("**",), (Number(3.0), Element()))))),
    ],
)
def test_taken(text: str, node: object) -> None:
    found = parse(text)
    assert found == Expression(text, (node,), several=False)
    assert is_elementwise(node) == any(letter == "x" for letter in re.sub(r"0x|x\[.*?\]", "", text))


@pytest.mark.parametrize("text", ["x[0], x[1]", "x,", "(x, 1)"])
def test_several(text: str) -> None:
    assert parse(text).several


def test_columns() -> None:
    assert [column.index for column in parse("x[1] + abs(x[-2]), x[1] if x[4] > 0 else x").columns()] == [1, -2, 4, 1]


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, "nothing to compute"),
        (" \n", 1, "nothing to compute"),
        ("()", 1, "nothing to compute"),
        ("x +", 3, "invalid syntax"),
        ("x = 1", 3, "invalid syntax"),
        ("(x", 1, "'(' was never closed"),
        ("y + 1", 1, "no name 'y'; known are x, pi, e, nan, inf, abs"),
        ("1 + squrt(x)", 5, "no function 'squrt'; did you mean sqrt?"),
        ("max(x, 1)", 1, "no function 'max'; it is maximum here"),
        ("x.__class__", 2, "nothing has attributes here"),
        ("1 + (x.real).imag", 12, "nothing has attributes here"),
        ("abs.__globals__", 4, "nothing has attributes here"),
        ("__import__('os')", 12, '"\'" is no part of an expression'),
        ("__import__(x)", 1, "no function '__import__'"),
        ("eval(x)", 1, "no function 'eval'"),
        ("open(0)", 1, "no function 'open'"),
        ("exp(x)(x)", 1, "only functions that have a name are called"),
        ("(abs)(x)(1)", 1, "only functions that have a name are called"),
        ("x(1)", 1, "no function 'x'"),
        ("pi(1)", 1, "no function 'pi'"),
        ("abs", 1, "abs is a function; write abs(x)"),
        ("abs()", 1, "abs takes 1 argument, without names"),
        ("clip(x, 1)", 1, "clip takes 3 arguments, without names"),
        ("abs(a=x)", 1, "abs takes 1 argument, without names"),
        ("abs(*x)", 5, "no starred arguments"),
        ("abs(**x)", 1, "abs takes 1 argument, without names"),
        ("*x,", 1, "invalid syntax"),
        ("lambda: x", 7, "':' is no part of an expression"),
        ("lambda x", 8, "invalid syntax"),
        ("[x for x in x]", 1, "no part of an expression"),
        ("(x for x in x)", 1, "no part of an expression"),
        ("{x}", 1, "'{' is no part of an expression"),
        ("[x]", 1, "no lists; columns are written x[3]"),
        ("(y := x)", 4, "':' is no part of an expression"),
        ("await x", 1, "no part of an expression"),
        ("(yield x)", 2, "no part of an expression"),
        ("(yield)", 2, "no part of an expression"),
        ("x is x", 1, "is, in and their like compare objects"),
        ("x not in x", 1, "is, in and their like compare objects"),
        ("x < 1 is x", 1, "is, in and their like compare objects"),
        ("x @ x", 3, "'@' is no part of an expression"),
        ("~x", 1, "'~' is no part of an expression"),
        ("x & 1", 3, "'&' is no part of an expression"),
        ("x << 1", 1, "operators on bits and matrices are not taken"),
        ("x[0] << 1 + x", 1, "operators on bits and matrices are not taken"),
        ("x[1.0]", 3, "a column is a whole number"),
        ("x[x]", 3, "a column is a whole number"),
        ("x[0, 1]", 3, "a column is a whole number"),
        ("x[--1]", 3, "a column is a whole number"),
        ("x[True]", 3, "a column is a whole number"),
        ("x[1 + 1]", 3, "a column is a whole number"),
        ("x[99999999999999999999]", 3, "no row has so many columns"),
        ("x[0][0]", 1, "only x has columns"),
        ("pi[0]", 1, "only x has columns"),
        ("(x, x), x", 1, "several expressions stand side by side"),
        ("True", 1, "True is no real number"),
        ("None", 1, "None is no real number"),
        ("...", 1, "Ellipsis is no real number"),
        ("1j", 1, "1j is no real number"),
        ("1e999", 1, "a number too large for float64"),
        ("x + " + "9" * 400, 5, "a number too large for float64"),
        ("x\0", 2, "'\\x00' is no part of an expression"),
        ("x # 1", 3, "'#' is no part of an expression"),
        ("x \\", 3, "'\\\\' is no part of an expression"),
        ("ｘ", 1, "'ｘ' is no part of an expression"),
        ("x + ℯ", 5, "'ℯ' is no part of an expression"),
        ("ｅval(x)", 1, "'ｅ' is no part of an expression"),
        ("x;x", 2, "';' is no part of an expression"),
        ("x‮", 2, "'\\u202e' is no part of an expression"),
        ("x + \ud800", 5, "'\\ud800' is no part of an expression"),
        ("1" * 5000, 4097, "5000 characters; at most 4096 are taken"),
    ],
)
def test_refused_at_its_column(text: str, column: int, reason: str) -> None:
    assert (refused(text)[0], refused(text)[1][: len(reason)]) == (column, reason)


DEEP = {
    "minus": "-" * (LENGTH - 1) + "x",
    "not": "not " * 1000 + "x",
    "parentheses": "(" * 2000 + "x" + ")" * 2000,
    "open parentheses": "(" * LENGTH,
    "brackets": "x[" * 2000,
    "lists": "[" * LENGTH,
    "powers": "x" + "**x" * 1300,
    "choices": "x if x else " * 300 + "x",
    "calls": "abs(" * 150 + "x" + ")" * 150,
    "calls without end": "abs(" * 1000,
    "attributes": "x" + ".a" * 2000,
    "subscripts": "x" + "[0]" * 1300,
    "remainders": "x" + "%x" * 2000,
    "called": "x" + "()" * 2000,
    "lambdas": "lambda" * 600,
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_nesting_is_refused(kind: str) -> None:
    refused(DEEP[kind])


def test_deep_nesting_is_refused_wherever_the_stack_stands() -> None:
    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        else:
            refused("-" * 900 + "x")

    deeper(sys.getrecursionlimit() - 200)


def test_what_is_nested_as_deep_as_can_be_is_written_and_compiled() -> None:
    for wrap in ("abs({})", "(1 if {} else x)", "(not {})", "(0 < {} < 1)", "({} + 1 > 0 and x)", "(x + {})"):
        text = "x"
        while True:
            try:
                parse(wrap.format(text))
            except UsageError:
                break
            text = wrap.format(text)
        compile(Formulas().number(parse(text).parts[0]), "", "eval")
        assert text.count("(") >= DEPTH // 3


@pytest.mark.parametrize("text", ["x" + "+x-1" * 1000, "x" + "*x" * 2000, "x" + "<x" * 2000, "x" + " and x" * 600])
def test_long_is_not_deep(text: str) -> None:
    compile(Formulas().number(parse(text).parts[0]), "", "eval")


def test_no_warning_of_the_parser_is_shown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse("1if x else 2")
        refused("0or x.y")


def test_functions_are_those_that_can_be_compiled() -> None:
    assert set(FUNCTIONS) <= set(WORDS)


WORDS_AND_OTHERS = (
    "x x[0] x[-1] 1 2.5 pi nan ( ) , + - * / // % ** < <= == != and or not if else abs( clip( where( eval( . "
    "__class__ lambda = : [ ] y ' \0 ｘ"
)
SAFE = re.compile(r"\b(v|c\d+|k\d+|not|" + "|".join(WORDS) + r")\b|[-+*/<>=!&|(), ]")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.sampled_from(WORDS_AND_OTHERS.split(" ")),
        max_size=12,
    )
    | st.text(max_size=20)
)
def test_any_text_is_read_or_refused(parts: list[str] | str) -> None:
    text = " ".join(parts) if isinstance(parts, list) else parts
    try:
        found = parse(text)
    except UsageError:
        refused(text)
        return
    formulas = Formulas()
    for part in found.parts:
        written = formulas.number(part)
        assert SAFE.sub("", written) == "", written
        compile(written, "", "eval")

"""Source text that takes a value from one dtype to another, for `mlpipe.kernels.fused`."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlpipe.kernels.steps import register

Lines = tuple[list[str], str, int, bool]


def convert(value: str, count: int, old: np.dtype[Any], new: np.dtype[Any], failed: str | None) -> Lines:
    """Lines that convert `value`, the name of the result, names used so far, whether it may fail.

    Integers that do not fit become the nearest that does, NaN becomes 0, floats round to infinity; where that happens,
    the flag called `failed` is raised, if there is one.
    """
    if old == new:
        return [], value, count, False
    result = f"v{count + 1}"
    expression, test = _to_float(value, result, old, new) if new.kind == "f" else _to_whole(value, old, new)
    lines = [f"{result} = {expression}"]
    if failed and test:
        lines.append(f"{failed} = {failed} | ({test})")
    return lines, result, count + 1, bool(failed and test)


def _to_float(value: str, result: str, old: np.dtype[Any], new: np.dtype[Any]) -> tuple[str, str]:
    """Expression, and test of what does not fit."""
    kind, before = register(new).name, register(old)
    if new.itemsize == 2:
        single = value if before.kind == "f" else f"float64({value})"
        expression = f"from_half(to_half({single}))"
    else:
        expression = f"{kind}({value})"
    if old.kind == "b" or (old.kind == "f" and new.itemsize >= old.itemsize):
        return expression, ""
    beyond = f"abs({result}) == {kind}(inf)"
    if old.kind == "f":
        return expression, f"({beyond}) & (abs({value}) != {before.name}(inf))"
    return expression, beyond if new.itemsize == 2 and old.itemsize > 1 else ""


def _to_whole(value: str, old: np.dtype[Any], new: np.dtype[Any]) -> tuple[str, str]:
    before = register(old)
    kind = before.name
    if new.kind == "b":
        return f"where({value} != {kind}(0), uint8(1), uint8(0))", ""
    limits = np.iinfo(new)
    least, most = int(limits.min), int(limits.max)
    if before.kind == "f":
        fits = f"(truncate({value}) >= {kind}({least}.0)) & (truncate({value}) < {kind}({most + 1}.0))"
        return f"saturate({value}, {new.name}(0))", f"not ({fits})"
    own = np.iinfo(before)
    least, most = max(least, int(own.min)), min(most, int(own.max))
    tests = [f"({value} > {kind}({most}))"] if own.max > most else []
    tests += [f"({value} < {kind}({least}))"] if own.min < least else []
    return f"{new.name}({_clipped(value, kind, least, most) if tests else value})", " | ".join(tests)


def _clipped(value: str, kind: str, least: int, most: int) -> str:
    return f"max({kind}({least}), min({kind}({most}), {value}))"

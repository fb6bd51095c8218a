"""Benchmarks as a document: the machine, the goals, why some are not met, the tables."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.harness import ROOT, THREADS, Part, Table
from mlpipe.kernels.simd import describe
from mlpipe.measure.host import host_facts

PACKAGES = ("mlpipe", "numpy", "numba", "llvmlite", "scipy", "scikit-learn", "faiss-cpu", "torch", "grain", "typer",
            "polars", "duckdb", "pandas", "pyarrow")  # fmt: skip
WHY = Path(__file__).with_name("why.md")
TITLES = {
    "kernels": "Kernels, in one process",
    "whole_process": "Whole process",
    "shuffling": "Shuffling",
    "chains": "Chains of transforms",
    "counting": "Counting",
    "statistics": "Statistics",
    "neighbors": "Nearest neighbours",
    "exactness": "Exactness",
    "metering": "Measuring",
    "startup": "Start",
}


def revision() -> str:
    """Commit measured, with a mark when files that count have changed since."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "mlpipe", "pyproject.toml")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (" and changes" if changed else "")


def _installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def _cells(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _grid(header: list[str], rows: list[list[str]]) -> list[str]:
    return [_cells(header), _cells(["---"] * len(header)), *(_cells(row) for row in rows)]


def _machine(quick: bool) -> list[str]:
    host, simd = host_facts(), describe()
    memory = host["memory"]
    gibibytes = f"{memory / 2**30:.0f} GiB" if isinstance(memory, int) else "unknown"
    rows = [
        ["processor", f"{host['cpu']}, {simd['processor']}, {simd['name']}, {host['usable_processors']} processors"],
        ["memory", gibibytes],
        ["system", f"{host['system']} {host['architecture']}"],
        ["versions", ", ".join([f"Python {platform.python_version()}", *map(_installed, PACKAGES)])],
        ["threads", f"{THREADS} for everyone; SciPy has none"],
        ["command", f"`{'BENCH=quick ' if quick else ''}make bench`"],
    ]
    return _grid(["", ""], rows)


def _table(table: Table) -> list[str]:
    return [f"### {table.title[0].upper()}{table.title[1:]}", "", table.note, "", *_grid(table.header, table.rows), ""]


def render(parts: list[Part], quick: bool) -> str:
    """The whole of RESULTS.md."""
    goals = [
        [goal.goal, goal.figure, "yes" if goal.met else "**no**", f"`make bench ARGS={part.name}`"]
        for part in parts
        for goal in part.goals
    ]
    about = (
        "Written by `make bench`; edit `why.md` and the code beside it, not this file. "
        "Ratios say how many times as fast mlpipe is, best run against best run."
    )
    lines = ["# Results", "", about, "", *_machine(quick), "", "## Goals", ""]
    lines += [*_grid(["goal", "figure", "met", "command"], goals), "", WHY.read_text().strip(), ""]
    for part in parts:
        lines += [f"## {TITLES[part.name]}", "", _circumstances(part), ""]
        for table in part.tables:
            lines += _table(table)
    return "\n".join(lines).rstrip() + "\n"


def _circumstances(part: Part) -> str:
    others = f"other processes used {part.others:.1%} of the processors meanwhile"
    return f"Measured {part.measured} at revision {part.revision}; {others}."

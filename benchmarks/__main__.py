"""python -m benchmarks [PART …]: measure, and write RESULTS.md; without parts, all of them.

Parts that are not named keep what was last measured of them. BENCH=quick, or --quick, tries everything out on
small sizes: nothing it measures means anything, and RESULTS.md is left alone.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from benchmarks.harness import Others, load, results_directory, save
from benchmarks.results import TITLES, render, revision


def main() -> None:
    """Measure what was asked for and render all that is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *TITLES], metavar="PART", help=", ".join(TITLES))
    parser.add_argument("--quick", action="store_true", default=os.environ.get("BENCH") == "quick")
    options = parser.parse_args()
    for name in options.parts or TITLES:
        print(f"measuring {name} …", flush=True)
        with Others() as others:
            part = importlib.import_module(f"benchmarks.{name}").run(options.quick)
        part.quick, part.others, part.revision = options.quick, others.share, revision()
        save(part)
        for goal in part.goals:
            print(f"  {'met    ' if goal.met else 'NOT MET'}  {goal.figure:>12}  {goal.goal}")
    known = [part for part in (load(name, options.quick) for name in TITLES) if part is not None]
    target = results_directory(True) / "RESULTS.md" if options.quick else Path(__file__).with_name("RESULTS.md")
    target.write_text(render(known, options.quick))
    print(f"wrote {target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target}")


if __name__ == "__main__":
    main()

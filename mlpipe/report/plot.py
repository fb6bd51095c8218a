"""Pictures, such as histograms of columns; the one file that imports matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlpipe.errors import UsageError
from mlpipe.opening import Opening
from mlpipe.report.stats import title
from mlpipe.statistics.histograms import MOST_PLOTTED, Histogram
from mlpipe.statistics.results import Statistics
from mlpipe.writers.atomic import AtomicFile

SUFFIXES = (".svg", ".png")

INCHES = (3.2, 2.4)
"""Of one histogram."""

COLOUR = "#4477aa"

_STYLE = {
    "svg.hashsalt": "mlpipe",  # else ids in the file are drawn at random
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # which comes with matplotlib
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": False,
}


class Drawing:
    """A picture on its way to a file.

    Parameters
    ----------
    path : Path
        Where it appears; the suffix says which kind.
    opening : Opening
        Whether it may replace what is there, and what it may not.

    Raises
    ------
    UsageError
        For another suffix, or without matplotlib.
    """

    def __init__(self, path: Path, opening: Opening) -> None:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"--plot {path}: give a name that ends in {' or '.join(SUFFIXES)}")
        opening.writes(path, "--plot")
        self._path, self._opening = path, opening
        _matplotlib()

    def check(self) -> None:
        """Raise OutputError for what can be known to fail."""
        self._file(None).check()

    def write(self, statistics: Statistics, name: str) -> None:
        """Draw the histograms of the first columns.

        Parameters
        ----------
        statistics : Statistics
            With histograms.
        name : str
            Of what was read.
        """
        self.put(picture(statistics, name, self._path.suffix))

    @property
    def suffix(self) -> str:
        """Which kind of picture it is."""
        return self._path.suffix

    def put(self, content: bytes) -> None:
        """Write the picture."""
        with self._file(len(content)) as file:
            file.pwrite(content, 0)

    def _file(self, size: int | None) -> AtomicFile:
        return AtomicFile(self._path, size=size, force=self._opening.force, inputs=self._opening.inputs)


def picture(statistics: Statistics, name: str, suffix: str) -> bytes:
    """Histograms as the contents of a ``.svg`` or ``.png`` file: the same bytes for the same statistics."""
    histograms: Sequence[Histogram] = statistics.histograms or ()
    across = max(1, math.ceil(math.sqrt(len(histograms))))
    down = max(1, -(-len(histograms) // across))

    def draw(figure: Any) -> None:
        axes = figure.subplots(down, across, squeeze=False).reshape(-1)
        for place, axis in enumerate(axes):
            if place < len(histograms):
                _draw(axis, histograms[place], f"column {statistics.names[place]}")
            else:
                axis.set_axis_off()
        figure.suptitle(f"{_safe(name)}: {title(statistics)}{_part(statistics)}", fontsize=9)

    return drawn((INCHES[0] * across, INCHES[1] * down + 0.3), suffix, draw)


def drawn(inches: tuple[float, float], suffix: str, draw: Callable[[Any], None]) -> bytes:
    """Contents of a ``.svg`` or ``.png`` file.

    Parameters
    ----------
    inches : tuple of float
        Width and height.
    suffix : str
        Which of the two.
    draw : callable
        Draws on a figure of matplotlib's.
    """
    matplotlib = _matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE}):
        figure = Figure(figsize=inches, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        content = io.BytesIO()
        # A date would make every picture another one.
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
        figure.savefig(content, format=suffix[1:], metadata=metadata, dpi=120)
    return content.getvalue()


def _draw(axis: Any, histogram: Histogram, heading: str) -> None:
    axis.set_title(heading, fontsize=8)
    if len(histogram.counts):
        axis.stairs(histogram.counts, histogram.edges, fill=True, color=COLOUR)
        axis.set_ylim(bottom=0)
    else:
        axis.text(0.5, 0.5, "no finite values", ha="center", va="center", transform=axis.transAxes)


def _part(statistics: Statistics) -> str:
    """What is said where there are more columns than are drawn."""
    more = len(statistics) > MOST_PLOTTED
    return f" (the first {MOST_PLOTTED} of {len(statistics)} columns)" if more else ""


def _safe(name: str) -> str:
    """A name without what matplotlib takes for a formula, or a font may not have."""
    return "".join(c if c.isprintable() else "?" for c in Path(name).name).replace("$", r"\$")


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UsageError("--plot needs matplotlib; run: pip install 'mlpipe[plot]'") from None
    return matplotlib

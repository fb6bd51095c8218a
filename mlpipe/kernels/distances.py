"""Blocks of the distance matrix: packing Y into panels, and strips × panels into an output tile."""

from __future__ import annotations

from mlpipe.kernels._jit import kernel
from mlpipe.kernels.streaming import copy_row, drain
from mlpipe.kernels.tile import finish_row, narrow_tile, partial_tile, tile

FEATURES = 1024
"""Features per partial sum: a panel of them (256 KiB) stays in the second-level cache."""

STAGE_ROWS = 16
"""Rows finished in scratch before they are copied out: the mirrored copy then writes whole cache lines, and both
copies can go past the caches. Storing strips straight to their place gains 1 % where the output is in the cache,
and loses 15 % (128 features) to 40 % (32) where it is not."""

SUM_ROWS = 64
SUM_COLUMNS = 512
"""Tile whose partial sums are kept in float64 when there are more than `FEATURES` features."""


@kernel
def pack(rows, first, panels):
    """Transpose rows of Y into panels: row r becomes ``panels[p, :, c]``, p·width + c = first + r.

    Parameters
    ----------
    rows : ndarray, shape (count, features)
        Prepared rows.
    first : int
        Position of the first of them in the panels.
    panels : ndarray, shape (panels, features, width)
        Filled in place. What no row fills must be finite or NaN, not uninitialised traps; it is never read out.
    """
    count, features = rows.shape
    width = panels.shape[2]
    # 16 rows × 64 features at a time: 4 KiB in, 4 KiB out, both sides whole cache lines.
    for j0 in range(0, count, 16):
        j1 = min(j0 + 16, count)
        for k0 in range(0, features, 64):
            k1 = min(k0 + 64, features)
            for j in range(j0, j1):
                p = (first + j) // width
                c = (first + j) % width
                for k in range(k0, k1):
                    panels[p, k, c] = rows[j, k]


@kernel
def _copy_out(scratch, count, j0, j1, out, row, column, mirror, mirror_row, mirror_column, stream):
    """Copy finished rows to their place, and transposed to the mirrored one when there is one."""
    for r in range(count):
        copy_row(scratch, r, j1 - j0, out, row + r, column + j0, stream)
    if mirror.shape[0] > 0:
        for j in range(j1 - j0):
            for r in range(count):
                mirror[mirror_row + j0 + j, mirror_column + r] = scratch[r, j]


@kernel
def distances(
    metric, x, x_rows, start, stop, panels, y_rows, first_panel, stop_panel, columns, weights, constants,
    shape, scratch, sums, out, row, column, mirror, mirror_row, mirror_column, stream,
):  # fmt: skip
    """Distances of rows start … stop of X to the panels first … stop.

    Parameters
    ----------
    metric : Metric
        Which kernel; a compile-time constant.
    x : ndarray, shape (rows, features)
        Prepared rows of X, float32 or float64.
    x_rows, y_rows : ndarray, 1-D
        One number per row of X and per column of the panels, for metrics that need one.
    panels : ndarray, shape (panels, features, width)
        Packed rows of Y.
    columns : int
        Rows of Y in the panels; the rest of the last panel is padding.
    weights : ndarray, shape (features,)
        Read by weighted metrics.
    constants : ndarray
        Parameters of the metric.
    shape : tuple of int
        Rows of one strip (`tile.strip_rows`), of one that meets single vectors (`tile.narrow_rows`), and the
        elements of a vector.
    scratch : ndarray, shape (STAGE_ROWS + step, width)
        Of the output's type.
    sums : ndarray, shape (metric.sums, SUM_ROWS + step, SUM_COLUMNS)
        float64; used when there are more than `FEATURES` features.
    out : ndarray, 2-D
        Row i, column j goes to ``out[row + i − start, column + j]``.
    mirror : ndarray, 2-D
        Row i, column j also goes to ``mirror[mirror_row + j, mirror_column + i − start]``; none when empty.
    stream : int
        Whether `out` is written past the caches.
    """
    width = panels.shape[2]
    features = x.shape[1]
    step, narrow_step, lanes = shape
    if features <= FEATURES:
        for p in range(first_panel, stop_panel):
            j0 = p * width
            j1 = min(j0 + width, columns)
            for i in range(start, stop, STAGE_ROWS):
                count = min(STAGE_ROWS, stop - i)
                vectors = (j1 - j0 + lanes - 1) // lanes
                if 2 * vectors * lanes > width:
                    for r in range(0, count, step):
                        tile(metric, x, i + r, stop - 1, panels, p, weights, x_rows, y_rows, constants, scratch, r)
                else:  # a few rows of Y: the vectors that hold them, one by one
                    for r in range(0, count, narrow_step):
                        for v in range(vectors):
                            narrow_tile(
                                metric, x, i + r, stop - 1, panels, p, v, weights, x_rows, y_rows, constants,
                                scratch, r,
                            )  # fmt: skip
                at = i - start
                _copy_out(scratch, count, j0, j1, out, row + at, column, mirror, mirror_row, mirror_column + at, stream)
        drain()
        return
    sum_panels = SUM_COLUMNS // width
    for i in range(start, stop, SUM_ROWS):
        count = min(SUM_ROWS, stop - i)
        for p0 in range(first_panel, stop_panel, sum_panels):
            p1 = min(p0 + sum_panels, stop_panel)
            sums[:] = 0.0
            for k in range(0, features, FEATURES):
                k1 = min(k + FEATURES, features)
                for p in range(p0, p1):
                    for r in range(0, count, step):
                        partial_tile(
                            metric, x, i + r, stop - 1, k, k1, panels, p, weights, constants, sums, r, (p - p0) * width
                        )
            for p in range(p0, p1):
                left = (p - p0) * width
                j0 = p * width
                j1 = min(j0 + width, columns)
                for r0 in range(0, count, STAGE_ROWS):
                    rows = min(STAGE_ROWS, count - r0)
                    for r in range(rows):
                        finish_row(metric, x_rows[i + r0 + r], y_rows, j0, constants, sums, r0 + r, left, scratch, r)
                    at = i - start + r0
                    _copy_out(
                        scratch, rows, j0, j1, out, row + at, column, mirror, mirror_row, mirror_column + at, stream
                    )
    drain()

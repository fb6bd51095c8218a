"""``project``: rows times a matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mlpipe.declare import option
from mlpipe.errors import InputError, UsageError
from mlpipe.keys import key
from mlpipe.link import Array, Blocks, Held, Room, Run, Source, Spec
from mlpipe.opening import Opening
from mlpipe.readers.npy import NpySource
from mlpipe.stages.mapped import Mapped, pieces
from mlpipe.stages.shapes import output_dtype


@dataclass(frozen=True)
class Project(Mapped):
    """Rows times a matrix: one that is given, or a random one.

    --matrix names a file of shape (features, components). --components makes a matrix of independent normal numbers of
    variance 1 / components (a Gaussian random projection, which keeps distances on average), the same for the same
    seed. Sums are float64, over the features in their order. The result is float32 if all inputs are float16 or
    float32, else float64.

    Example: mlpipe run read examples/data/digits.npy then project --components 8 --seed 1 then write projected.npy
    """

    kernel_bytes = 32 << 20

    matrix: str | None = option(None, help="A file with the matrix.", metavar="M.npy")
    components: int | None = option(None, help="Columns of a random matrix.", metavar="K")
    seed: int = option(0, help="Of the random matrix.", metavar="N")
    source: Source | None = field(default=None, compare=False, repr=False)
    values: Array | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if (self.matrix is None) == (self.components is None):
            raise UsageError("project: give either --matrix M.npy or --components K")
        if self.components is not None and self.components < 1:
            raise UsageError(f"project --components {self.components}: give 1 or more")

    @property
    def side_sources(self) -> Mapping[str, Source]:
        """The file of the matrix."""
        return {} if self.source is None else {"read matrix": self.source}

    def open(self, opening: Opening) -> Project:
        """Open the matrix, if one is given; only its header is read."""
        if self.matrix is None:
            return self
        source = opening.files.enter_context(NpySource(self.matrix))
        opening.inputs.append(source.fingerprint)
        if len(source.shape) != 2 or source.dtype.kind not in "biuf":
            raise InputError(
                f"{source.name} has shape {source.shape} and {source.dtype.name}; a projection has two dimensions of "
                "real numbers"
            )
        return replace(self, source=source)

    def plan(self, spec: Spec) -> Spec:
        """As many columns as the matrix has."""
        if spec.dtype.kind not in "biuf":
            raise InputError(f"project takes bool, integers and floats, not {spec.dtype.name}")
        dtypes = [spec.dtype]
        if self.source is not None:
            wanted = self.source.spec.rows
            if wanted != math.prod(spec.row_shape):
                raise InputError(
                    f"{self.source.name} has {wanted} rows, but {math.prod(spec.row_shape)} features come in"
                )
            dtypes.append(self.source.spec.dtype)
        return replace(spec, row_shape=(self._columns,), dtype=output_dtype(dtypes))

    @property
    def _columns(self) -> int:
        return int(self.components or 0) if self.source is None else self.source.spec.row_shape[0]

    def hold(self, spec: Spec, room: Room) -> Held:
        """The matrix, and buffers for the blocks it makes."""
        held = super().hold(spec, room)
        held.nbytes["matrix"] = 8 * math.prod(spec.row_shape) * self._columns
        return replace(held, layout=(held.layout, math.prod(spec.row_shape)))

    def apply(self, blocks: Blocks, held: Held, run: Run) -> Blocks:
        """Read or draw the matrix, then multiply block by block."""
        incoming, features = held.layout
        stage = replace(self, values=self._matrix(features, run))
        return super(Project, stage).apply(blocks, replace(held, layout=incoming), run)

    def _matrix(self, features: int, run: Run) -> Array:
        if self.source is not None:
            read = list(run.read(self.source, [(0, features)] if features else [], np.dtype(np.float64), "read matrix"))
            return read[0].data if read else np.empty((0, self._columns))
        from mlpipe.kernels.randoms import normal

        matrix = np.empty((features, self._columns))
        words = key(self.seed, 0, "project")

        def draw(rows: slice, _worker: int) -> None:
            normal(words, rows.start, matrix[rows])

        run.workers.run(draw, pieces(features, run.workers.threads))
        matrix /= math.sqrt(self._columns)
        return matrix

    def prepare(self, spec: Spec) -> None:
        """Compile."""
        from mlpipe.kernels import features as kernels

        made, sums = self.plan(spec), np.empty((kernels.ROWS, kernels.COLUMNS + kernels.FEATURES))
        rows = np.zeros((1, 1), np.float32 if spec.dtype == np.float16 else spec.dtype)
        kernels.project(rows, np.zeros((1, 1)), sums, np.zeros((1, 1), made.dtype))

    def fill(self, data: Array, out: Array, first: int, run: Run) -> None:
        """Multiply."""
        from mlpipe.kernels import features as kernels

        rows = np.ascontiguousarray(data).reshape(len(data), math.prod(data.shape[1:]))
        sums = np.empty((run.workers.threads, kernels.ROWS, kernels.COLUMNS + kernels.FEATURES))

        def multiply(part: slice, worker: int) -> None:
            some = rows[part].astype(np.float32) if rows.dtype == np.float16 else rows[part]
            kernels.project(some, self.values, sums[worker], out[part])

        run.workers.run(multiply, pieces(len(rows), run.workers.threads))

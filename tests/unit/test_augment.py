"""noise, dropout, scale-jitter and mixup: their distributions, and that only seed, epoch and position count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import mlpipe
from mlpipe.errors import InputError, UsageError
from mlpipe.kernels.features import mixing
from mlpipe.kernels.randoms import normal, uniform
from mlpipe.keys import key
from mlpipe.link import Array
from mlpipe.stages.dropout import Dropout
from mlpipe.stages.mixup import MixUp
from mlpipe.stages.noise import Noise
from mlpipe.stages.scale_jitter import ScaleJitter
from tests.passing import passed

RANDOM = np.random.default_rng(0)
VERBS = [Noise, Dropout, ScaleJitter, MixUp]


def augmented(verb: Any, rows: Array) -> Array:
    return passed(verb, rows)[0]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "u1", "?"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (701, 5), (300,), (70, 2, 3), (9, 0)], ids=str)
def test_blocks_and_threads_do_not_show(verb: Any, dtype: str, shape: tuple[int, ...]) -> None:
    rows, labels = RANDOM.integers(0, 100, shape).astype(dtype), np.arange(shape[0])
    first, beside = passed(verb(seed=4), rows, labels)
    assert (first.shape, first.dtype) == (shape, dtype if dtype[0] == "f" else "f8")
    np.testing.assert_array_equal(beside, labels)
    for how in ({"sizes": (1, 13, 400), "threads": 2}, {"sizes": (256,), "known": False}):
        again, beside = passed(verb(seed=4), rows, labels, **how)
        assert again.tobytes() == first.tobytes()
        np.testing.assert_array_equal(beside, labels)


@pytest.mark.parametrize("verb", VERBS)
def test_seed_and_epoch_count_each_on_its_own(verb: Any) -> None:
    rows = RANDOM.normal(size=(300, 4))
    made = [augmented(verb(seed=seed, epoch=epoch), rows) for seed, epoch in ((4, 0), (5, 0), (4, 1), (5, 1), (4, 0))]
    assert made[0].tobytes() == made[4].tobytes()
    assert len({one.tobytes() for one in made}) == 4


def test_noise_is_normal() -> None:
    drawn = augmented(Noise(2.0, seed=1), np.full((4000, 5), 10.0)) - 10
    assert stats.kstest(drawn.reshape(-1) / 2, "norm").pvalue > 0.001
    assert abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.08
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.08
    np.testing.assert_array_equal(augmented(Noise(0.0), np.eye(3)), np.eye(3))


def test_dropout_drops_and_scales() -> None:
    made = augmented(Dropout(0.2, seed=1), np.full((4000, 5), 4.0, np.float32))
    dropped = made == 0
    assert (made[~dropped] == 5).all()
    assert abs(dropped.mean() - 0.2) < 0.015
    np.testing.assert_array_equal(augmented(Dropout(0.0), np.eye(3)), np.eye(3))
    assert not np.isnan(augmented(Dropout(0.9, seed=1), np.full((50, 4), np.nan))).all()


def test_scale_jitter_is_one_number_a_row() -> None:
    made = augmented(ScaleJitter(0.1, seed=1), np.tile([1.0, 2.0, -4.0], (5000, 1)))
    np.testing.assert_array_equal(made[:, 1:], made[:, :1] * [2, -4])
    assert stats.kstest((made[:, 0] - 1) / 0.1, "norm").pvalue > 0.001


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 3.0, 200.0])
def test_weights_have_a_beta_distribution(alpha: float) -> None:
    weights = np.empty(20_000)
    mixing(key(3, 0, "mixup weights"), 0, alpha, weights)
    assert ((weights >= 0) & (weights <= 1)).all()
    at = np.linspace(0.001, 0.999, 999)  # of a small alpha, much lies within the last bit of 0 and 1
    shares = np.searchsorted(np.sort(weights), at) / len(weights)
    assert abs(shares - stats.beta(alpha, alpha).cdf(at)).max() < 1.95 / np.sqrt(len(weights))


def test_mixup_by_a_plain_loop() -> None:
    rows, labels = RANDOM.normal(size=(25, 3)), RANDOM.normal(size=(25, 2))
    made, beside = passed(MixUp(0.7, window=10, seed=2), rows, labels)
    index, _ = passed(MixUp(0.7, window=10, seed=2), np.arange(25.0)[:, None] == np.arange(25.0))
    for i in range(25):  # a row of the unit matrix tells the weights
        [partner] = [j for j in range(25) if j != i and index[i, j] != 0] or [i]
        assert partner // 10 == i // 10
        weight = index[i, i] if partner != i else 1.0
        np.testing.assert_allclose(made[i], weight * rows[i] + (1 - weight) * rows[partner], rtol=1e-14)
        np.testing.assert_allclose(beside[i], weight * labels[i] + (1 - weight) * labels[partner], rtol=1e-14)


def test_every_row_of_a_window_is_a_partner_once() -> None:
    index, _ = passed(MixUp(5.0, window=8, seed=2), np.eye(20))
    others = index - np.diag(np.diag(index))
    assert ((others > 0).sum(0) <= 1).all()
    assert (others > 0).sum() > 10


def test_whole_labels_stay_and_weigh_half_or_more() -> None:
    labels = RANDOM.integers(0, 10, 100)
    index, beside = passed(MixUp(1.0, window=50, seed=2), np.eye(100), labels)
    np.testing.assert_array_equal(beside, labels)
    assert (np.diag(index) >= 0.5).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(-1.0), "noise --sigma -1.0: give 0 or more"),
        (lambda: Noise(float("nan")), "noise --sigma nan"),
        (lambda: Dropout(1.0), "dropout --rate 1.0: give 0 or more, and less than 1"),
        (lambda: ScaleJitter(float("inf")), "scale-jitter --sigma inf"),
        (lambda: MixUp(0.0), "mixup --alpha 0.0: give a number above 0"),
        (lambda: MixUp(window=0), "mixup --window 0: give 1 or more"),
    ],
)
def test_bad_options(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("verb", VERBS)
def test_complex_rows_are_refused(verb: Any) -> None:
    with pytest.raises(InputError, match="complex128"):
        augmented(verb(), np.zeros((3, 2), "c16"))


@pytest.mark.parametrize("shape", [(700, 5), (900,), (300, 1), (40, 2, 3), (9, 3000), (50, 0), (0, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_the_numbers_are_those_of_the_row_and_the_column(shape: tuple[int, ...], dtype: str) -> None:
    rows = RANDOM.integers(0, 50, shape).astype(dtype)
    flat = rows.reshape(shape[0], int(np.prod(shape[1:]))).astype(np.float64)
    kind = dtype if dtype[0] == "f" else "f8"
    drawn, one = np.empty(flat.shape), np.empty((shape[0], 1))
    normal(key(3, 2, "noise"), 0, drawn)
    expected = (flat + drawn * 0.7).astype(kind).reshape(shape)
    np.testing.assert_array_equal(augmented(Noise(0.7, seed=3, epoch=2), rows), expected)
    uniform(key(3, 0, "dropout"), 0, drawn)
    expected = np.where(drawn < 0.3, 0, flat / 0.7).astype(kind).reshape(shape)
    np.testing.assert_array_equal(augmented(Dropout(0.3, seed=3), rows), expected)
    normal(key(3, 0, "scale-jitter"), 0, one)
    expected = (flat * (one * 0.2 + 1)).astype(kind).reshape(shape)
    np.testing.assert_array_equal(augmented(ScaleJitter(0.2, seed=3), rows), expected)


@pytest.mark.parametrize("shape", [(900, 6), (2000,), (7, 2, 900)], ids=str)
def test_they_are_part_of_one_pass(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "X.npy", RANDOM.normal(size=shape).astype("f4"))
    start = mlpipe.read(tmp_path / "X.npy").skip(2)
    fused = start.abs().noise(sigma=0.5).log1p().dropout(rate=0.1).scale_jitter().clip(0, 9).bucketize((0.1, 0.5))
    with fused.opened() as pipeline:
        from mlpipe.engine.budget import plan

        [stage] = plan(pipeline, 1 << 30, 2).pipeline.stages
        assert stage.name == "abs + noise + log1p + dropout + scale-jitter + clip + bucketize"
    apart = start
    for verb in fused.verbs[2:]:
        apart = mlpipe.Pipeline((*apart.verbs, verb)).batch(13)
    np.testing.assert_array_equal(np.concatenate(list(fused)), np.concatenate(list(apart)))


def test_noise_after_columns_were_chosen(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.zeros((40, 6)))
    chosen = np.concatenate(list(mlpipe.read(tmp_path / "X.npy").select("4,1").noise(seed=5)))
    np.testing.assert_array_equal(chosen, augmented(Noise(seed=5), np.zeros((40, 2))))

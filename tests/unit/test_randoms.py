from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mlpipe.kernels import randoms
from mlpipe.keys import key

MASK = 2**64 - 1
KEY = key(7, 0, "test")


def threefry(k: tuple[int, int], x: int, y: int) -> tuple[int, int]:
    """Threefry-2x64-20 as the paper has it, in Python's integers."""
    keys = (*k, 0x1BD11BDAA9FC1A22 ^ k[0] ^ k[1])
    x, y = (x + keys[0]) & MASK, (y + keys[1]) & MASK
    for turn, bits in zip(range(20), itertools.cycle((16, 42, 12, 31, 16, 32, 24, 21)), strict=False):
        x = (x + y) & MASK
        y = ((y << bits | y >> (64 - bits)) & MASK) ^ x
        if turn % 4 == 3:
            n = turn // 4 + 1
            x, y = (x + keys[n % 3]) & MASK, (y + keys[(n + 1) % 3] + n) & MASK
    return x, y


def words(k: np.ndarray, row: int, columns: int) -> list[int]:
    pairs = (threefry((int(k[0]), int(k[1])), row, j) for j in range((columns + 1) // 2))
    return [word for both in pairs for word in both][:columns]


@pytest.mark.parametrize(
    ("k", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0xC2B6E3A8C2C69865, 0x6F81ED42F350084D)),
        ((MASK, MASK), (MASK, MASK), (0xE02CB7C4D95D277A, 0xD06633D0893B8B68)),
        (
            (0xA4093822299F31D0, 0x082EFA98EC4E6C89),
            (0x243F6A8885A308D3, 0x13198A2E03707344),
            (0x263C7D30BB0F0AF1, 0x56BE8361D3311526),
        ),
    ],
)
def test_the_authors_known_answers(k: tuple[int, int], counter: tuple[int, int], expected: tuple[int, int]) -> None:
    assert threefry(k, *counter) == expected
    assert tuple(map(int, randoms.pair(*map(np.uint64, (*k, *counter))))) == expected


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (9, 1), (5, 2), (7, 5), (3, 0)])
@pytest.mark.parametrize("start", [0, 3, 2**40])
def test_words_uniforms_and_normals_are_the_oracle_s(shape: tuple[int, int], start: int) -> None:
    rows, columns = shape
    drawn, even, bell = np.empty(shape, np.uint64), np.empty(shape), np.empty(shape)
    randoms.words(KEY, start, drawn)
    randoms.uniform(KEY, start, even)
    randoms.normal(KEY, start, bell)
    expected = np.array([words(KEY, start + row, columns) for row in range(rows)], np.uint64).reshape(shape)
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(even, (expected >> np.uint64(11)) * 2.0**-53)
    for row, column in np.ndindex(shape):
        x, y = (int(word) >> 11 for word in words(KEY, start + row, 2 * (column // 2) + 2)[-2:])
        radius, angle = math.sqrt(-2 * math.log((x + 1) * 2.0**-53)), 2 * math.pi * y * 2.0**-53
        value = radius * (math.sin(angle) if column % 2 else math.cos(angle))
        assert bell[row, column] == pytest.approx(value, rel=1e-13, abs=1e-14)


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_any_part_can_be_drawn_by_itself(columns: int) -> None:
    for draw, dtype in ((randoms.words, "u8"), (randoms.uniform, "f8"), (randoms.normal, "f8")):
        whole, parts = np.empty((100, columns), dtype), np.empty((100, columns), dtype)
        draw(KEY, 50, whole)
        for start, stop in itertools.pairwise([0, 1, 8, 9, 63, 100]):
            draw(KEY, 50 + start, parts[start:stop])
        np.testing.assert_array_equal(parts, whole)


def test_normals_keep_their_bytes() -> None:
    # Worked out once: another machine, or another version of the compiler, must not change them.
    out = np.empty((2, 2))
    randoms.normal(key(42, 1, "test"), 10**12, out)
    assert [value.hex() for value in out.ravel().tolist()] == [
        "0x1.3f68c9dd72109p+0",
        "-0x1.cae3b311d1798p+0",
        "0x1.d9662fa144ecep+0",
        "0x1.ab7f72aac1f06p+0",
    ]


def test_logarithm_cosine_and_sine_are_right_to_rounding() -> None:
    values = np.concatenate([np.linspace(2.0**-53, 1, 5001), 1 - np.arange(1, 500) * 2.0**-53, 2.0 ** -np.arange(54.0)])
    logs = np.array([randoms._log(value) for value in values])
    np.testing.assert_allclose(logs, np.log(values), rtol=5e-16, atol=0)
    turns = np.concatenate([np.linspace(0, 1, 5001)[:-1], np.arange(8) / 8, [1 - 2.0**-53]])
    both = np.array([randoms._cos_sin(value) for value in turns])
    np.testing.assert_allclose(both[:, 0], np.cos(2 * np.pi * turns), atol=1e-15)
    np.testing.assert_allclose(both[:, 1], np.sin(2 * np.pi * turns), atol=1e-15)


def test_they_are_distributed_as_they_should_be() -> None:
    even, bell = np.empty((40_000, 3)), np.empty((40_000, 3))
    randoms.uniform(KEY, 0, even)
    randoms.normal(KEY, 0, bell)
    assert 0 <= even.min() < even.max() < 1
    assert stats.kstest(even.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(bell.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(bell.T) - np.eye(3)).max() < 0.03  # 6 standard errors
    assert abs(np.corrcoef(even[1:, 0], even[:-1, 0])[0, 1]) < 0.03


def test_keys_are_mixed() -> None:
    keys = [
        tuple(key(seed, epoch, stream).tolist()) for seed in range(-3, 20) for epoch in range(20) for stream in "ab"
    ]
    assert len(set(keys)) == len(keys)
    assert key(0, 0, "a", words=8).shape == (8,)
    assert key(2**100, -1, "a").tolist() != key(2**100 + 1, -1, "a").tolist()
    one, other = np.empty((10_000, 1)), np.empty((10_000, 1))
    randoms.uniform(key(42, 1, "a"), 0, one)
    randoms.uniform(key(43, 0, "a"), 0, other)
    assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.05

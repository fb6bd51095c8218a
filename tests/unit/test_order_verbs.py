"""head, skip, tail, sample, shuffle and repeat: the same rows as views and as stages, in blocks of any sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mlpipe.stages.shuffle
from mlpipe.errors import MemoryCeilingError, UsageError
from mlpipe.keys import key
from mlpipe.link import Room, Spec
from mlpipe.opening import Opening
from mlpipe.stages.external import ExternalShuffle
from mlpipe.stages.head import Head
from mlpipe.stages.permutation import Permutation
from mlpipe.stages.repeat import Repeat
from mlpipe.stages.sample import Sample
from mlpipe.stages.sampling import Sampling, count_ranks, fraction_ranks, rank_key, rank_rows
from mlpipe.stages.shuffle import BufferShuffle, Shuffle
from mlpipe.stages.skip import Skip
from mlpipe.stages.tail import Tail
from mlpipe.stages.views import RepeatedSource, ShuffledSource, SliceSource
from tests.order import LabelledArray, labelled, read_all, refused, source_of, streamed, viewed
from tests.unit.test_randoms import threefry

SIZES = [(1,), (5,), (3, 1, 8), (1000,)]
COUNTS = st.integers(0, 60)
CUTS = st.lists(st.integers(1, 20), min_size=1, max_size=4)
SPEC = Spec(None, (3,), np.dtype("i4"))


@settings(deadline=None, max_examples=100)
@given(COUNTS, st.integers(0, 80), CUTS, st.booleans())
def test_head_skip_and_tail_are_slices(count: int, rows: int, sizes: list[int], known: bool) -> None:
    every = list(range(count))
    for verb, expected in (
        (Head(rows), every[:rows]),
        (Skip(rows), every[rows:]),
        (Tail(rows), every[max(0, count - rows) :]),
    ):
        assert viewed(verb, count, sizes) == expected
        assert streamed(verb, count, sizes, known=known) == expected


@settings(deadline=None, max_examples=50)
@given(COUNTS, st.integers(0, 80), st.integers(-(2**63), 2**63), CUTS)
def test_samples_of_some_rows(count: int, rows: int, seed: int, sizes: list[int]) -> None:
    words = rank_key(seed)
    ranks = rank_rows(words, 0, count).tolist()
    expected = sorted(sorted(range(count), key=ranks.__getitem__)[:rows])
    verb = Sample(rows=rows, seed=seed)
    assert viewed(verb, count, sizes) == expected
    assert streamed(verb, count, sizes) == expected
    assert streamed(verb, count, sizes, known=False) == expected


@settings(deadline=None, max_examples=100)
@given(COUNTS, st.floats(0, 1), st.integers(0, 100), CUTS, st.booleans())
def test_samples_of_a_fraction(count: int, fraction: float, seed: int, sizes: list[int], known: bool) -> None:
    ranks = rank_rows(rank_key(seed), 0, count).tolist()
    expected = [row for row in range(count) if ranks[row] < fraction * 2**64]
    verb = Sample(fraction, seed=seed)
    assert viewed(verb, count, sizes) == expected
    assert streamed(verb, count, sizes, known=known) == expected


@pytest.mark.parametrize("total", [1, 255, 256, 257, 1000, 70_000])
@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_the_n_th_row_of_a_sample(total: int, part: float) -> None:
    words, wanted = rank_key(3), round(part * total)
    rows = np.flatnonzero(rank_rows(words, 0, total) <= np.sort(rank_rows(words, 0, total))[wanted - 1])
    sampling = Sampling(words, count_ranks(words, wanted, total), total)
    assert sampling.count == wanted
    if wanted:
        np.testing.assert_array_equal(sampling.rows_at(np.arange(wanted)), rows)
        some = np.random.default_rng(0).integers(0, wanted, 500)
        np.testing.assert_array_equal(sampling.rows_at(some), rows[some])


def test_ranks_are_uniform_and_no_two_are_equal() -> None:
    ranks = rank_rows(rank_key(1), 0, 200_000)
    assert len(np.unique(ranks)) == len(ranks)
    assert stats.kstest(ranks / 2.0**64, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(ranks[1:].astype(float), ranks[:-1].astype(float))[0, 1]) < 5 / math.sqrt(len(ranks))
    other = rank_rows(rank_key(2), 0, 200_000)
    assert abs(np.corrcoef(ranks.astype(float), other.astype(float))[0, 1]) < 5 / math.sqrt(len(ranks))
    assert [fraction_ranks(f) for f in (0.0, 0.5, 1.0)] == [0, 2**63, 2**64]


def test_all_samples_of_a_few_rows_are_equally_likely() -> None:
    seen = Counter(tuple(np.argsort(rank_rows(rank_key(seed), 0, 6))[:3].tolist()) for seed in range(20 * 120))
    assert len(seen) == 120
    assert stats.chisquare(list(seen.values())).pvalue > 1e-3


@pytest.mark.parametrize("count", [0, 1, 2, 7, 60])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_global_shuffle_is_its_permutation(count: int, sizes: Sequence[int]) -> None:
    expected = Permutation(count, 7, 2).rows_at(np.arange(count)).tolist()
    assert viewed(Shuffle(seed=7, epoch=2), count, sizes) == expected
    assert streamed(Shuffle(seed=7, epoch=2), count, sizes) == expected


def buffered(count: int, size: int, seed: int, epoch: int) -> list[int]:
    """A shuffle buffer, one row at a time."""
    k0, k1 = map(int, key(seed, epoch, "shuffle buffer"))
    coming, buffer, out = iter(range(count)), list[int](), list[int]()
    for row in coming:
        if len(buffer) < size:
            buffer.append(row)
            continue
        slot = threefry((k0, k1), len(out), 0)[0] * size >> 64
        out.append(buffer[slot])
        buffer[slot] = row
    for first in range(len(buffer)):
        slot = first + (threefry((k0, k1), len(out), 0)[0] * (len(buffer) - first) >> 64)
        buffer[first], buffer[slot] = buffer[slot], buffer[first]
        out.append(buffer[first])
    return out


@settings(deadline=None, max_examples=100)
@given(COUNTS, st.integers(1, 80), st.integers(-5, 5), CUTS, st.booleans())
def test_a_shuffle_buffer_draws_each_row_from_those_it_holds(
    count: int, size: int, seed: int, sizes: list[int], known: bool
) -> None:
    verb = Shuffle(seed=seed, epoch=1, buffer_size=size)
    assert verb.view(source_of(count)) is None
    found = streamed(verb, count, sizes, known=known)
    # Known to be fewer than the buffer holds or not, the order is the same.
    assert found == buffered(count, min(size, count) if count else size, seed, 1)


def test_what_is_shuffled_where(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(10)
    assert isinstance(Shuffle().view(source), ShuffledSource)
    monkeypatch.setattr(mlpipe.stages.shuffle, "available_bytes", lambda: 10 * 20 - 1)
    assert Shuffle().view(source) is None
    monkeypatch.setattr(mlpipe.stages.shuffle, "available_bytes", lambda: 10 * 20)
    assert Shuffle().view(source) is not None
    monkeypatch.setattr(mlpipe.stages.shuffle, "available_bytes", lambda: None)
    assert Shuffle().view(source) is not None
    assert Shuffle().view(RepeatedSource(source, None)) is None
    with ExitStack() as files:
        assert Shuffle(3, 4, temp_dir="t").open(Opening(files)) == ExternalShuffle(3, 4, "t")
        assert Shuffle(3, 4, buffer_size=9).open(Opening(files)) == BufferShuffle(9, 3, 4)
    assert (Shuffle().flow, Shuffle(buffer_size=3).flow) == ("fitting", "buffering")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 30), st.integers(0, 4), CUTS, st.booleans())
def test_repeats_are_the_rows_again(count: int, epochs: int, sizes: list[int], known: bool) -> None:
    assert viewed(Repeat(epochs), count, sizes) == list(range(count)) * epochs
    assert streamed(Repeat(epochs), count, sizes, known=known) == list(range(count)) * epochs


def test_repeated_forever() -> None:
    source = Repeat("forever").view(source_of(7))
    assert (source.spec.rows, source.spec.endless) == (None, True)
    _, labels = read_all(source, (5, 20), stop=100)
    assert labels is not None
    assert labels.tolist() == [row % 7 for row in range(100)]
    head = Head(10).view(Skip(4).view(source))
    assert (head.spec.rows, head.spec.endless) == (10, False)
    assert read_all(head)[1].tolist() == [row % 7 for row in range(4, 14)]
    assert streamed(Repeat("forever"), 7, (3,), stop=50)[:50] == [row % 7 for row in range(50)]
    assert Repeat("forever").view(source_of(0)).spec.rows == 0
    assert streamed(Repeat("forever"), 0, known=False) == []


def test_a_shuffle_before_a_repeat_shuffles_anew() -> None:
    orders = [Permutation(20, 7, epoch).rows_at(np.arange(20)).tolist() for epoch in range(8)]
    shuffled = Shuffle(seed=7).view(source_of(20))
    _, labels = read_all(Repeat(3).view(shuffled), (7, 50))
    assert labels.tolist() == [row for order in orders[:3] for row in order]
    later = Repeat(2).view(Shuffle(seed=7, epoch=5).view(source_of(20)))
    assert read_all(later)[1].tolist() == orders[5] + orders[6]
    # Through whatever stands between, and through repeats of repeats.
    head = Repeat(2).view(Head(4).view(Skip(1).view(Shuffle(seed=7).view(source_of(20)))))
    assert read_all(head)[1].tolist() == orders[0][1:5] + orders[1][1:5]
    twice = Repeat(2).view(Repeat(2).view(shuffled))
    assert read_all(twice)[1].tolist() == [row for order in orders[:4] for row in order]
    sampled = Sample(rows=5, seed=1)
    places = viewed(sampled, 20)
    some = Repeat(2).view(sampled.view(shuffled))
    assert read_all(some)[1].tolist() == [order[place] for order in orders[:2] for place in places]


def test_views_pass_on_what_belongs_to_the_source() -> None:
    source = source_of(5)
    views = [Head(3), Shuffle(), Sample(rows=2), Repeat(2)]
    view = source
    for verb in views:
        view = verb.view(view)
        assert (view.name, view.seekable, view.spec.labels) == ("X", True, source.spec.labels)
    view.check_unchanged()
    view.close()
    assert (source.checked, source.closed) == (1, 1)
    assert source.rows_read == 0, "nothing is read before it is asked for"


def test_rows_without_labels_and_of_no_columns() -> None:
    for rows in (np.arange(9.0), np.empty((9, 0)), np.zeros((9, 2, 2), "?")):
        source = LabelledArray(rows)
        for verb in (Head(4), Skip(4), Tail(4), Sample(rows=4), Shuffle(), Repeat(2)):
            data, labels = read_all(verb.view(source))
            assert (data.shape[1:], data.dtype, labels) == (rows.shape[1:], rows.dtype, None)


def test_what_is_held_is_planned() -> None:
    room = Room(1000, 1, block_rows=4)
    for verb, why in (
        (Tail(100), "tail --rows 100 holds them all"),
        (Sample(rows=100), "sample --rows 100 holds them all"),
        (BufferShuffle(100), "shuffle --buffer-size 100 holds so many rows"),
    ):
        with pytest.raises(MemoryCeilingError, match=why) as caught:
            verb.hold(SPEC, room)
        assert caught.value.needs >= 1200
    with pytest.raises(MemoryCeilingError, match="repeat holds all rows") as caught:
        Repeat(2).hold(Spec(100, (3,), np.dtype("i4")), room)
    assert caught.value.needs == 100 * 12 + 3 * 4 * 12
    assert BufferShuffle(1 << 31).hold(Spec(10, (3,), np.dtype("i4")), room).nbytes == {"buffer": 120}
    refused(lambda: streamed(Repeat(2), 100, known=False, nbytes=1000), MemoryCeilingError, "do not fit")


def test_endless_rows_are_refused_by_what_has_to_see_them_all() -> None:
    endless = RepeatedSource(source_of(3), None)
    for verb, message in (
        (Tail(3), "tail: these rows never stop coming"),
        (Sample(rows=3), "sample --rows 3: these rows never stop coming"),
        (Repeat(2), "repeat: these rows never stop coming"),
    ):
        refused(lambda verb=verb: verb.view(endless), UsageError, message)
        refused(lambda verb=verb: verb.plan(endless.spec), UsageError, message)
    assert Sample(0.5).view(endless) is None
    assert Sample(0.5).plan(endless.spec).endless


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Head(-1), "head --rows -1: give 0 or more"),
        (lambda: Skip(-2), "skip --rows -2: give 0 or more"),
        (lambda: Tail(-3), "tail --rows -3: give 0 or more"),
        (lambda: Sample(), "give --fraction F or --rows N, one of them"),
        (lambda: Sample(0.5, 3), "give --fraction F or --rows N, one of them"),
        (lambda: Sample(1.5), r"sample --fraction 1.5: give 0 to 1"),
        (lambda: Sample(math.nan), "sample --fraction nan: give 0 to 1"),
        (lambda: Sample(rows=-1), "sample --rows -1: give 0 or more"),
        (lambda: Shuffle(buffer_size=0), "shuffle --buffer-size 0: give 1 or more"),
        (lambda: Repeat(-1), "repeat --epochs -1: give 0 or more, or forever"),
    ],
)
def test_values_that_make_no_sense(make: object, message: str) -> None:
    refused(make, UsageError, message)


def test_slices_start_where_the_others_end() -> None:
    rows, labels = labelled(10)
    one = SliceSource(SliceSource(LabelledArray(rows, labels), 2, 9), 3, 6)
    assert read_all(one)[1].tolist() == [5, 6, 7]

"""Layouts fit the room they are chosen for, and are refused only when nothing fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpipe.errors import MemoryCeilingError
from mlpipe.link import Room
from mlpipe.stages.layout import GROUP, Layout, Sizes, choose_layout

FIXED = settings(derandomize=True, deadline=None, database=None, max_examples=200)

COUNTS = st.one_of(st.integers(0, 300), st.integers(0, 10**7))
FEATURES = st.one_of(st.integers(0, 40), st.integers(0, 10**6))


@st.composite
def matrices(draw: st.DrawFn) -> Sizes:
    """Sizes as the stage makes them."""
    compute, output = draw(st.sampled_from([(4, 4), (8, 8), (8, 4)]))
    same = draw(st.booleans())
    columns = draw(COUNTS)
    return Sizes(
        rows=columns if same else draw(COUNTS),
        columns=columns,
        features=draw(FEATURES),
        compute_bytes=compute,
        output_bytes=output,
        width=4 * draw(st.sampled_from([16, 32, 64])) // compute,
        scratch=draw(st.integers(0, 10**6)),
        extra=draw(st.integers(0, 10**7)),
        copies=draw(st.integers(0, 1)),
        same=same,
        condensed=same and draw(st.booleans()),
        costly=draw(st.booleans()),
    )


ROOMS = st.builds(
    Room,
    st.one_of(st.integers(0, 2**20), st.integers(0, 2**34)),
    threads=st.integers(1, 64),
    sequential=st.booleans(),
    stored=st.booleans(),
)


def nbytes(layout: Layout, sizes: Sizes, room: Room) -> int:
    return sum(layout.nbytes(sizes, room.threads).values())


def chosen(sizes: Sizes, room: Room) -> tuple[Layout, Room]:
    """A layout for the room, or for the room that the refusal asks for; and that room."""
    try:
        return choose_layout(sizes, room), room
    except MemoryCeilingError as error:
        enough = replace(room, nbytes=error.needs)
        return choose_layout(sizes, enough), enough


@FIXED
@given(matrices(), ROOMS)
def test_layout_fits_the_room_or_the_one_asked_for(sizes, room):
    layout, enough = chosen(sizes, room)
    assert nbytes(layout, sizes, enough) <= enough.nbytes
    assert enough.nbytes >= room.nbytes
    assert all(isinstance(value, int) and value >= 0 for value in layout.nbytes(sizes, room.threads).values())


@FIXED
@given(matrices(), ROOMS)
def test_layout_can_be_carried_out(sizes, room):
    layout, _ = chosen(sizes, room)
    every = max(1, sizes.columns)
    assert 1 <= layout.block_rows <= max(1, sizes.rows)
    assert 1 <= layout.y_rows <= every
    assert 1 <= layout.tile_columns <= every
    assert layout.tile_columns % GROUP == 0 or layout.tile_columns == every
    assert layout.y_rows % GROUP == 0 or layout.y_rows == every  # the columns of a tile begin there
    assert layout.chunk_rows(sizes) >= 1
    assert layout.tiles >= 3
    if room.sequential:
        assert layout.tile_columns == every
        assert not layout.mirror
    if layout.mirror:
        assert layout.upper
        assert sizes.same
        assert room.stored
    if layout.upper and not layout.mirror:
        assert sizes.same
        assert sizes.condensed or not room.stored


@FIXED
@given(matrices(), ROOMS)
def test_least_room_is_no_larger_than_necessary(sizes, room):
    """One row of X and one tile of the least width: no layout that keeps to the rules is smaller."""
    with pytest.raises(MemoryCeilingError) as caught:
        choose_layout(sizes, replace(room, nbytes=0))
    needs = caught.value.needs
    with pytest.raises(MemoryCeilingError):
        choose_layout(sizes, replace(room, nbytes=needs - 1))
    every = max(1, sizes.columns)
    narrow = min(GROUP, every)
    columns = every if room.sequential else narrow
    assert needs == nbytes(Layout(1, narrow, columns), sizes, room)


@FIXED
@given(matrices(), ROOMS)
def test_room_does_not_matter_to_what_is_asked_for(sizes, room):
    needs = set()
    for share in (0, 1, 2):
        try:
            choose_layout(sizes, replace(room, nbytes=room.nbytes * share // 2))
        except MemoryCeilingError as error:
            needs.add(error.needs)
    assert len(needs) <= 1


@FIXED
@given(matrices(), ROOMS)
def test_y_is_held_when_it_fits_beside_a_fair_block(sizes, room):
    layout, enough = chosen(sizes, room)
    held = Layout(min(64, max(1, sizes.rows)), max(1, sizes.columns), max(1, sizes.columns), tiles=8)
    if nbytes(held, sizes, enough) * 2 <= enough.nbytes:
        assert layout.y_rows >= sizes.columns


@FIXED
@given(matrices(), ROOMS)
def test_room_is_used_when_y_is_read_more_than_once(sizes, room):
    """Every block of X reads Y again: no more rows of X would have fitted."""
    layout, enough = chosen(sizes, room)
    if layout.y_rows < sizes.columns and layout.block_rows < sizes.rows and not layout.mirror:
        more = replace(layout, block_rows=min(sizes.rows, layout.block_rows + 16))
        assert nbytes(more, sizes, enough) > enough.nbytes


def test_whole_rows_are_collected_when_y_is_not_held():
    sizes = Sizes(rows=1000, columns=100_000, features=2000, compute_bytes=4, output_bytes=4, width=64)
    layout = choose_layout(sizes, Room(200 << 20, threads=2, sequential=True))
    assert layout.whole_rows
    assert layout.y_rows < 100_000 == layout.tile_columns


def test_costly_distances_of_x_to_itself_are_computed_once():
    sizes = Sizes(5000, 5000, 64, 8, 8, 32, same=True, costly=True)
    room = Room(1 << 30, threads=2)
    assert choose_layout(sizes, room).mirror
    assert not choose_layout(replace(sizes, costly=False), room).mirror
    assert not choose_layout(replace(sizes, same=False), room).mirror
    assert not choose_layout(sizes, replace(room, sequential=True)).mirror


def test_nothing_below_the_diagonal_is_computed_for_what_is_not_kept():
    sizes = Sizes(5000, 5000, 64, 4, 4, 64, same=True)
    assert choose_layout(sizes, Room(1 << 30, threads=2, stored=False)).upper
    assert choose_layout(replace(sizes, condensed=True), Room(1 << 30, threads=2)).upper
    assert not choose_layout(sizes, Room(1 << 30, threads=2)).upper


def test_bytes_by_hand():
    sizes = Sizes(1000, 1000, 9, compute_bytes=4, output_bytes=8, width=64, scratch=500, extra=7, copies=1)
    layout = Layout(block_rows=10, y_rows=100, tile_columns=128)
    assert layout.nbytes(sizes, threads=3) == {
        "X blocks": 3 * 10 * 40,
        "Y panels": 128 * 40,  # two panels of 64
        "Y blocks": 3 * 100 * 40,
        "tiles": 3 * (10 * 128 * 8 + 4096),
        "scratch": 3 * 500 + 7,
    }
    assert replace(layout, mirror=True).nbytes(sizes, 3)["tiles"] == 2 * layout.nbytes(sizes, 3)["tiles"]

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slide_files import GRID, MATRIX, TILE, assembled, tiles

from dicomzarr_watch.dicom.tiles import TileGrid, cut

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sizes, sizes)
def test_the_tiles_cover_the_matrix_and_no_row_or_column_is_all_padding(
    matrix: tuple[int, int], tile: tuple[int, int]
) -> None:
    grid = TileGrid(matrix, tile)
    for count, size, length in zip(grid.shape, tile, matrix, strict=True):
        assert (count - 1) * size < length <= count * size


@given(sizes, sizes, st.integers(-3, 45), st.integers(-3, 45))
def test_a_place_is_a_tile_exactly_where_one_starts(
    matrix: tuple[int, int], tile: tuple[int, int], row: int, column: int
) -> None:
    grid = TileGrid(matrix, tile)
    starts = [
        (down * tile[0] + 1, across * tile[1] + 1)
        for down in range(grid.shape[0])
        for across in range(grid.shape[1])
    ]
    expected = starts.index((row, column)) if (row, column) in starts else None
    assert grid.tile_at(row, column) == expected


@pytest.mark.parametrize("colours", [0, 3])
def test_a_picture_is_cut_into_the_tiles_that_it_was_made_of(colours: int) -> None:
    made = tiles(colours=colours)
    assert TileGrid(MATRIX, TILE).shape == GRID
    np.testing.assert_array_equal(cut(assembled(made), TILE), made, strict=True)

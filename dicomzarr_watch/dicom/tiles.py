"""A total pixel matrix cut into tiles, each of them a frame (PS3.3 C.8.12.14).

Tiles lie on a grid from the first pixel on, and are numbered row by row. The last ones of a row
or column reach beyond the matrix where it is no whole number of tiles: what they hold there is
padding, stored like all else. Frames that do not lie so are no tiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from dicomzarr_watch.dicom.frames import Samples
from dicomzarr_watch.dicom.pose import Pose


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Rows and columns, in pixels: of the matrix without its padding, and of one tile."""

    matrix: tuple[int, int]
    tile: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """How many tiles stand below and beside each other."""
        (rows, columns), (tile_rows, tile_columns) = self.matrix, self.tile
        return -(-rows // tile_rows), -(-columns // tile_columns)

    @property
    def tiles(self) -> int:
        return prod(self.shape)

    def tile_at(self, row: int, column: int) -> int | None:
        """Return the number of the tile whose first pixel this is, the matrix's own being (1, 1).

        None where no tile starts.
        """
        down, beside_row = divmod(row - 1, self.tile[0])
        across, beside_column = divmod(column - 1, self.tile[1])
        is_inside = 0 <= down < self.shape[0] and 0 <= across < self.shape[1]
        if beside_row or beside_column or not is_inside:
            return None
        return down * self.shape[1] + across


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where the frames of one file stand: the number of the tile and the pose of each.

    A pose is that of the whole matrix, in the slide's coordinates, and the same object for all
    frames that share it; its meaning tells the matrices of one file apart.
    """

    grid: TileGrid
    tiles: tuple[int, ...]
    poses: tuple[Pose, ...]


@dataclass(frozen=True, slots=True)
class NoTiling:
    """Frames that are no tiles; the reason, where the file says that they are."""

    reason: str = ""


def cut(picture: Samples, tile: tuple[int, int]) -> Samples:
    """Cut (y, x) or (y, x, samples) into its tiles, row by row; (tiles, y, x) or with samples."""
    height, width, *samples = picture.shape
    (rows, columns), down, across = tile, height // tile[0], width // tile[1]
    grid = picture.reshape(down, rows, across, columns, *samples).swapaxes(1, 2)
    found = np.empty(grid.shape, grid.dtype)
    for sample in np.ndindex(*samples):  # rows are copied quickly, pixels of three samples are not
        found[..., *sample] = grid[..., *sample]
    return found.reshape(down * across, rows, columns, *samples)

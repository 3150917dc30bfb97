"""Pathfinder: whether two dots are the ends of one dashed path, among other paths, read pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.datasets._bunch import checked_count, generator, result

FloatArray = npt.NDArray[np.float64]

# In pixels: length of a dash and of the gap behind it, half the width of a dash, radius of a dot, and how far
# paths stay away from one another and from the edge.
_DASH, _GAP, _HALF, _DOT, _APART, _EDGE = 2.6, 1.6, 0.45, 1.5, 3.0, 2.0
# How much farther apart the ends of two paths may be than those of one, in pixels.
_ALIKE = 1.0
# Standard deviation of the turn from dash to dash, in radians.
_TURN = 0.35
_ATTEMPTS = 2000


def make_pathfinder(
    n_samples: int = 100,
    *,
    size: int = 32,
    n_dashes: int | None = None,
    n_distractors: int | None = None,
    return_X_y: bool = False,
    random_state: Any = None,
) -> Any:
    """Make pictures of dashed paths, two of whose ends have a dot, as long series of pixels.

    Two long paths and some short ones wind over the picture without touching. In half of the pictures the
    two dots are the ends of one long path, in the others of both, one each. The number of dots, dashes and
    paths and, within a pixel, the distance of the dots are the same in both, so that only the course of
    the dashes tells them apart; Long Range Arena has such pictures of 32 x 32 and 128 x 128 pixels.

    Parameters
    ----------
    n_samples : int, default=100
        Number of pictures.
    size : int, default=32
        Width and height in pixels, at least 24.
    n_dashes : int, optional
        Dashes of the long paths; by default so many that they are a little longer than half the width.
    n_distractors : int, optional
        Short paths, of a third of these dashes; by default one for each 8 pixels of width.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    random_state : None, int, Generator or RandomState, default=None
        Seed.

    Returns
    -------
    Bunch
        ``data`` (n, 1, size * size) float32 in [0, 1], rows of the picture one after the other; ``target``
        (n,) int64, 1 where one path joins the dots; ``feature_names``; ``groups`` None; ``DESCR``.
    (data, target) : tuple if ``return_X_y``

    Raises
    ------
    ValueError
        For arguments out of their range, and where so many paths find no room.

    References
    ----------
    Linsley, Kim, Veerabadran, Windolf and Serre, arXiv 1805.08315, 2018; Tay et al., arXiv 2011.04006, 2021.
    """
    checked_count(n_samples, "n_samples")
    checked_count(size, "size", 24)
    dashes = (
        round(0.6 * size / (_DASH + _GAP)) if n_dashes is None else checked_count(n_dashes, "n_dashes", 2)
    )
    others = size // 8 if n_distractors is None else checked_count(n_distractors, "n_distractors", 0)
    rng = generator(random_state)
    target = (rng.random(n_samples) < 0.5).astype(np.int64)
    data = np.stack([_picture(rng, size, dashes, others, bool(label)) for label in target])
    return result(
        "pathfinder",
        data.reshape(n_samples, 1, size * size).astype(np.float32),
        target,
        return_X_y=return_X_y,
        feature_names=["brightness"],
    )


def _picture(rng: np.random.Generator, size: int, dashes: int, others: int, joined: bool) -> FloatArray:
    """One picture (size, size)."""
    lengths = [dashes, dashes] + [max(2, dashes // 3)] * others
    for _ in range(_ATTEMPTS):
        paths: list[FloatArray] = []
        alike: list[tuple[FloatArray, FloatArray]] = []
        taken = np.empty((0, 2))
        for length in lengths:
            path = _path(rng, size, length, taken)
            if path is None:
                break
            paths.append(path)
            taken = np.concatenate([taken, path.reshape(-1, 2)])
            if len(paths) == 2:
                alike = _pairs_alike(*paths)
                if not alike:
                    break
        if alike and len(paths) == len(lengths):
            dots = alike[rng.integers(len(alike))][0 if joined else 1]
            return _drawn(size, np.concatenate(paths), dots)
    raise ValueError(
        f"no room for {len(lengths)} paths of {lengths[0]} and {lengths[-1]} dashes was found in {size} x "
        f"{size} pixels; ask for fewer or shorter ones."
    )


def _pairs_alike(first: FloatArray, second: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Ends (2, 2) of one path, and ends of both that are as far apart: pictures without any are left out."""
    ends = [np.array([path[0, 0], path[-1, 1]]) for path in (first, second)]
    across = [np.array([one, other]) for one in ends[0] for other in ends[1]]

    def apart(pair: FloatArray) -> float:
        return float(np.linalg.norm(pair[0] - pair[1]))

    return [(own, pair) for own in ends for pair in across if abs(apart(own) - apart(pair)) < _ALIKE]


def _path(rng: np.random.Generator, size: int, length: int, taken: FloatArray) -> FloatArray | None:
    """Both ends of each dash of a path, (length, 2, 2), away from what is taken and from itself."""
    for _ in range(20):
        place, angle = rng.uniform(_EDGE, size - 1 - _EDGE, size=2), rng.uniform(0, 2 * np.pi)
        ends: list[FloatArray] = []
        for _ in range(length):
            way = np.array([np.cos(angle), np.sin(angle)])
            dash = np.stack([place, place + _DASH * way])
            inside = (dash >= _EDGE).all() and (dash <= size - 1 - _EDGE).all()
            earlier = np.concatenate([taken, *ends[:-1]]) if ends else taken
            middle = dash.mean(axis=0)
            points = np.concatenate([dash, middle[None]])
            near = np.linalg.norm(earlier[:, None] - points[None], axis=-1).min(initial=np.inf)
            if not inside or near < _APART:
                break
            ends.append(dash)
            place, angle = dash[1] + _GAP * way, angle + rng.normal(scale=_TURN)
        if len(ends) == length:
            return np.stack(ends)
    return None


def _drawn(size: int, dashes: FloatArray, dots: FloatArray) -> FloatArray:
    """A picture (size, size) in [0, 1] of dashes (k, 2, 2) and dots (2, 2), without sharp edges."""
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    start, way = dashes[:, 0], dashes[:, 1] - dashes[:, 0]
    along = np.clip(((grid - start) * way).sum(-1) / (way**2).sum(-1), 0.0, 1.0)
    distance = np.linalg.norm(grid - (start + along[..., None] * way), axis=-1).min(axis=1) - _HALF
    around = np.linalg.norm(grid - dots, axis=-1).min(axis=1) - _DOT
    return np.clip(0.5 - np.minimum(distance, around), 0.0, 1.0).reshape(size, size)

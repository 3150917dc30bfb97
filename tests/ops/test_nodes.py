"""Moves of the compiled scans against extended precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tsssm.ops.cpu import nodes
from tsssm.ops.cpu.blocks import CHUNK, GROUP
from tsssm.ops.cpu.coefficients import GBT, ZOH, Rule

WIDTH, MODES = 16, 8


# The part that is taken where there are nodes.
moves_of_group = nodes.chunk_moves._parts[nodes.Nodes]


def random_system(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(A, B) of a block as the passes hold them, (N, 4, W), and steps."""
    system = random.standard_normal((MODES, 4, WIDTH)).astype(np.float32)
    system[:, 0] = -np.abs(system[:, 0]) * 10.0 ** random.uniform(-4, 1, (MODES, WIDTH))
    system[:, 1] *= 10.0 ** random.uniform(-4, 1, (MODES, WIDTH))
    return system, (10.0 ** random.uniform(-3, -1, WIDTH)).astype(np.float32)


@pytest.mark.parametrize(
    ("longest", "reach"), [(1.0, 1.0), (50.0, 50.0), (50.0, 3.0), (1e4, 1e4), (1e4, math.inf)]
)
def test_a_move_from_the_table_is_the_exponential_minus_one(longest: float, reach: float) -> None:
    random = np.random.default_rng(0)
    system, steps = random_system(random)
    gaps = (longest * random.random(CHUNK) ** 2).astype(np.float32)
    gaps[:2] = 0.0, longest
    table = nodes.make_nodes(system, steps, reach)
    with_nodes = 0
    for group in range(MODES // GROUP):
        found = np.zeros(2 * WIDTH * GROUP * CHUNK, np.float32)
        moves_of_group(table, found, group, gaps, CHUNK, Rule(ZOH, 0.0), system, steps)
        with_nodes += table.count[group] > 0
        found = found.reshape(GROUP, CHUNK, 2, WIDTH).astype(np.float64)
        for i, mode in enumerate(system[group * GROUP : (group + 1) * GROUP].astype(np.float64)):
            # The steps are rounded to float32 before the exponential, here as there.
            step = (steps * gaps[:, None]).astype(np.float64)
            exact = np.expm1(step * (mode[0] + 1j * mode[1]))
            error = np.abs(found[i, :, 0] + 1j * found[i, :, 1] - exact)
            # An exponent is rounded itself, by its own size and no more than the exponential shrinks it.
            exponent = step * np.hypot(mode[0], mode[1])
            allowed = 6e-7 * np.minimum(np.abs(exact), 1) + 3e-7 * exponent * np.exp(step * mode[0])
            assert (error <= allowed).all(), (error / np.maximum(allowed, 1e-30)).max()
    assert with_nodes == (2 if reach < math.inf else 0)


def test_a_move_keeps_its_precision_however_short_the_gap() -> None:
    system, steps = random_system(np.random.default_rng(1))
    gaps = np.full(1, 1e-12, np.float32)
    for rule in (Rule(ZOH, 0.0), Rule(GBT, 0.5)):
        found = np.empty((MODES, 2, WIDTH), np.float32)
        for n in range(MODES):
            nodes.fill_moves(found.reshape(-1), 2 * n * WIDTH, gaps, rule, system, steps, n, 1)
        z = (steps * gaps).astype(np.float64) * (system[:, 0] + 1j * system[:, 1].astype(np.float64))
        np.testing.assert_allclose(found[:, 0] + 1j * found[:, 1].astype(np.float64), z, rtol=1e-6)

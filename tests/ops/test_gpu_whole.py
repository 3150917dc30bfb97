"""The Triton kernels of coupled systems, interpreted, against the reference in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dplr_systems
import pytest
import torch
import tridiagonal_systems
from interpreted import dplr_kernels, tridiagonal_kernels, whole, whole_on_kernels
from scans import convert
from systems import GAPS, assert_close, by_reference
from torch._subclasses.fake_tensor import FakeTensorMode

from tsssm.ops import dplr_scan, operands, tridiagonal_scan

pytestmark = pytest.mark.triton

ALPHAS = (0.3, 0.5, 0.75, 1.0)


def covering_set() -> Iterator[Any]:
    """Every rank, alpha and kind of gaps in turn, with sizes around those of tiles and kept states."""
    for i in range(6):
        sizes = {
            "batch": 1 + i % 2,
            "length": (5, 1, 4)[i % 3],
            "channels": (3, 1)[i // 2 % 2],
            "modes": (3, 4, 1)[i // 2],
            "rank": 1 + i % 2,
            "readouts": 1 + i // 2 % 2,
            "directions": 1 + i // 3 % 2,
            "gaps": GAPS[i % len(GAPS)],
        }
        name = "-".join(map(str, sizes.values()))
        sizes |= {"shared": i % 3 == 0, "feedthrough": i % 4 > 0, "state": i % 3 > 0, "seed": i}
        yield pytest.param(sizes, {"alpha": ALPHAS[i % 4], "reverse": i // 2 % 2 == 1}, id=name)


@pytest.mark.parametrize(("sizes", "options"), list(covering_set()))
def test_dplr_kernels_equal_reference(sizes: dict[str, Any], options: dict[str, Any]) -> None:
    """Outputs, states and gradients against the specification at the same rounded arguments."""
    p = dplr_systems.random_arguments(**sizes, dtype=torch.float32)
    with whole_on_kernels():
        found = dplr_systems.results(p, **options)
    with by_reference():
        expected = dplr_systems.results(convert(p, torch.float64), **options)
    assert_close(found, expected, torch.float32)


@pytest.mark.parametrize("case", range(5))
def test_tridiagonal_kernels_equal_reference(case: int) -> None:
    sizes = {
        "kind": tridiagonal_systems.KINDS[case % 3],
        "batch": 1 + case % 2,
        "length": (3, 1, 4)[case // 2],
        "channels": (3, 1)[case // 3],
        "modes": (5, 4, 1)[(case + case // 3) % 3],
        "readouts": 1 + case // 2 % 2,
        "directions": 1 + case // 3,
        "gaps": ("regular", "distinct", "padded", "gap of zero", "constant", "tiny")[case],
        "shared": case % 2 == 0,
        "state": case % 4 < 3,
    }
    p = tridiagonal_systems.arguments(**sizes, seed=case, dtype=torch.float32)
    options = {"alpha": ALPHAS[case % 4], "reverse": case // 2 == 1}
    with whole_on_kernels(samples=2, tile=4):
        found = tridiagonal_systems.results(p, **options)
    with by_reference():
        expected = tridiagonal_systems.results(convert(p, torch.float64), **options)
    assert_close(found, expected, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("longest", [1.0, 30.0])
@pytest.mark.parametrize("kind", tridiagonal_systems.KINDS)
def test_pivots_of_64_states(kind: str, longest: float) -> None:
    """As good as the specification in float32, whose solver pivots, also where s A is far above one."""
    p = tridiagonal_systems.arguments(kind=kind, modes=64, channels=1, batch=1, length=8, gaps="distinct")
    p = convert(p | {"step": longest * p["step"]}, torch.float32)
    with torch.no_grad():
        with whole_on_kernels(tile=64):
            y, x = tridiagonal_scan(**p)
        with by_reference():
            expected_y, expected_x = tridiagonal_scan(**convert(p, torch.float64))
            single_y, single_x = tridiagonal_scan(**p)
    for found, single, expected in ((y, single_y, expected_y), (x, single_x, expected_x)):
        scale = expected.abs().max()
        allowed = 4 * (single - expected).abs().max() / scale + 1e-6
        assert (found - expected).abs().max() / scale <= allowed


@pytest.mark.parametrize("scan", [dplr_scan, tridiagonal_scan])
def test_half_precision_is_that_of_the_input_and_the_output_alone(scan: Any) -> None:
    systems = dplr_systems.random_arguments if scan is dplr_scan else tridiagonal_systems.arguments
    p = systems(length=1, batch=1, channels=1, gaps="distinct", dtype=torch.float32)
    with whole_on_kernels(), torch.no_grad():
        for dtype in (torch.float16, torch.bfloat16):
            u = p["u"].to(dtype)
            y, x = scan(**p | {"u": u})
            exact, _ = scan(**p | {"u": u.float()})
            assert y.dtype == dtype and x.real.dtype == torch.float32 and torch.equal(y, exact.to(dtype))


def test_an_empty_batch() -> None:
    p = dplr_systems.random_arguments(batch=2, dtype=torch.float32)
    t = tridiagonal_systems.arguments(batch=2, dtype=torch.float32)
    with whole_on_kernels():
        for results, given in ((dplr_systems.results, p), (tridiagonal_systems.results, t)):
            none = results(given | {"u": given["u"][:0], "x0": given["x0"][:0]})
            assert none["y"].shape[0] == 0 and not none["gradient of B"].any()


def test_tiles_fill_a_warp() -> None:
    assert whole.tile(64) == {"MODES": 64, "LANES": 1, "num_warps": 1, "SAMPLES": whole.SAMPLES}
    assert whole.tile(5)["MODES"] * whole.tile(5)["LANES"] == whole.tile(128)["MODES"] // 2 == 64
    assert whole.programs(3, 5, 4) == (4,)


def test_cuda_tensors_go_to_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operands, "_HAS_TRITON", True)
    with FakeTensorMode():
        u = torch.empty(2, 20, 3, device="cuda")
        assert operands.backend("dplr", u.device) is dplr_kernels
        assert operands.backend("tridiagonal", u.device) is tridiagonal_kernels

    def asks(u: torch.Tensor, gaps: torch.Tensor | None, on_gpu: bool) -> bool:
        raise InterruptedError(on_gpu)

    monkeypatch.setattr(operands, "runs_compiled", asks)
    for sizes, goes in (((2, 64, 8), True), ((3, 4, 1), False), ((1, 65, 1), False), ((1, 4, 9), False)):
        given = dict(zip(("rank", "modes", "readouts"), sizes, strict=True))
        with pytest.raises(InterruptedError, match=str(goes)):
            dplr_scan(**dplr_systems.random_arguments(length=1, **given))

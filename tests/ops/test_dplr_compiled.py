"""The diagonal plus low-rank scan: compiled kernels against the reference, and as an operator of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from dplr_systems import random_arguments, results
from scans import BOTH_DTYPES, convert
from systems import GAPS, assert_close, by_reference, make_gaps, weighted_sum
from torch import Tensor

from tsssm.hippo import nplr
from tsssm.ops import dplr_scan
from tsssm.ops.autograd import dplr as compiled
from tsssm.ops.cpu import dplr as cpu
from tsssm.ops.cpu import layout


def covering_set() -> Iterator[Any]:
    """Every rank and alpha with every kind of gaps; the sizes and the rest take turns.

    Lengths stand around the chunk of 32 samples, channels around the registers of 8 (float64) and 16.
    """
    for i, (rank, alpha, gaps) in enumerate(product((1, 2, 3), (0.0, 0.3, 0.5, 1.0), GAPS)):
        sizes = {
            "length": (1, 31, 32, 33, 65)[i % 5],
            "channels": (1, 3, 16, 17)[(i + i // 5) % 4],
            "modes": 3 + i % 2,
            "readouts": 1 + i // 2 % 2,
            "directions": 1 + i // 4 % 2,
            "rank": rank,
        }
        kinds = {"shared": i % 3 == 0, "feedthrough": i // 3 % 2 == 0, "state": i % 5 < 3, "gaps": gaps}
        name = "-".join([f"alpha={alpha}", gaps, *(f"{key[0]}{size}" for key, size in sizes.items())])
        yield pytest.param(sizes | kinds | {"seed": i}, {"alpha": alpha, "reverse": i // 2 % 2 == 1}, id=name)


@BOTH_DTYPES
@pytest.mark.parametrize(("sizes", "options"), list(covering_set()))
def test_compiled_equals_reference(
    sizes: dict[str, Any], options: dict[str, Any], dtype: torch.dtype
) -> None:
    p = random_arguments(**sizes, dtype=dtype)
    found = results(p, **options)
    # In either precision the truth is the specification in float64, at the same rounded arguments.
    with by_reference():
        expected = results(convert(p, torch.float64), **options)
    assert_close(found, expected, dtype)


@pytest.mark.parametrize("gaps", ["regular", "distinct"])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_float32_of_a_stiff_system(measure: str, gaps: str) -> None:
    """HiPPO of 64 states and long steps: what couples the modes is far larger than what remains of it."""
    form, channels, length = nplr(measure, 64), 2, 100
    random = torch.Generator().manual_seed(3)
    dt = make_gaps(gaps, 1, length, random)
    p: dict[str, Any] = {
        "u": torch.randn(1, length, channels, generator=random, dtype=torch.float64),
        "Lambda": torch.as_tensor(form.Lambda)[None],
        "P": torch.as_tensor(form.P)[:, None],
        "Q": torch.as_tensor(form.P)[:, None],
        "B": torch.as_tensor(form.B)[None],
        "C": torch.randn(1, channels, 64, generator=random, dtype=torch.complex128),
        "step": torch.tensor([0.01, 0.1], dtype=torch.float64),
        "dt": dt,
        "x0": None,
    }
    p = convert(p, torch.float32)
    y, x = dplr_scan(**p)
    with by_reference():
        expected_y, expected_x = dplr_scan(**convert(p, torch.float64))
        single_y, single_x = dplr_scan(**p)
    for found, single, expected in ((y, single_y, expected_y), (x, single_x, expected_x)):
        scale = expected.abs().max()
        allowed = 4 * (single - expected).abs().max() / scale + 1e-5
        assert (found - expected).abs().max() / scale <= allowed


# ------------------------------------------------------------------------------------ ways to run and to call


@pytest.mark.parametrize("channels", [3, 20], ids=["cut by series", "cut by blocks"])
@pytest.mark.parametrize("gaps", ["regular", "distinct"])
def test_threads_change_nothing(threads: Callable[[int], None], channels: int, gaps: str) -> None:
    p = random_arguments(batch=5, length=35, channels=channels, rank=2, readouts=2, directions=2, gaps=gaps)
    threads(1)
    alone = results(p)
    for count in (2, 3, 8):
        threads(count)
        cut = layout.ranges(p["u"], 10**9)
        assert len(cut.blocks) * len(cut.series) > 1
        together = results(p)
        assert torch.equal(together["y"], alone["y"])
        assert torch.equal(together["state"], alone["state"])
        assert_close(together, alone, torch.float64)  # gradients are summed in another order


def test_memory_layout_does_not_matter() -> None:
    p = random_arguments(length=34, channels=17, rank=2, readouts=2, directions=2, gaps="few")

    def turned(t: Tensor) -> Tensor:
        return t.transpose(0, -1).contiguous().transpose(0, -1)

    leaves = {name: t.clone().requires_grad_(name != "dt") for name, t in p.items()}
    odd = {name: turned(t.conj().resolve_conj().conj()) for name, t in leaves.items() if t.is_complex()}
    odd["x0"] = leaves["x0"].conj().resolve_conj().conj()
    odd |= {name: turned(leaves[name]) for name in ("u", "dt", "D")}
    odd["step"] = torch.stack([leaves["step"]] * 2, dim=1)[:, 0]
    assert odd["x0"].is_conj() and not odd["u"].is_contiguous()
    y, x = dplr_scan(**odd)
    names = [name for name in p if name != "dt"]
    gradients = torch.autograd.grad(weighted_sum(y, x), [leaves[name] for name in names])
    found = {f"gradient of {name}": g for name, g in zip(names, gradients, strict=True)}
    assert_close({"y": y.detach(), "state": x.detach()} | found, results(p), torch.float64)


def test_gradient_of_one_operand_alone() -> None:
    p = random_arguments(length=34, rank=2, readouts=2, directions=2, gaps="few")
    together = results(p)
    for name in p.keys() - {"dt"}:
        alone = results(p, only=name)
        assert_close(alone, {key: together[key] for key in alone}, torch.float64)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(context: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    p = random_arguments(length=70, gaps="distinct")
    expected, _ = dplr_scan(**p)
    p["P"].requires_grad_()
    kept: list[int] = []
    run = cpu.dplr_scan

    def watched(*args: Any) -> tuple[Tensor, ...]:
        out = run(*args)
        kept.append(sum(t.numel() for t in out[2:]))
        return out

    monkeypatch.setattr(cpu, "dplr_scan", watched)
    with context():
        y, x = dplr_scan(**p)
    assert torch.equal(y, expected)
    assert not y.requires_grad and not x.requires_grad
    assert kept == [0], "nothing is kept for a gradient that cannot be asked for"


def test_second_derivative_is_refused() -> None:
    p = random_arguments()
    u = p["u"].requires_grad_()
    y, _ = dplr_scan(**p)
    (first,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        first.square().sum().backward()


def test_a_batch_of_none_is_none() -> None:
    p = random_arguments(gaps="few")
    found = results(p | {name: p[name][:0] for name in ("u", "dt", "x0")})
    assert found["y"].shape == (0, 1, 9, 3) and found["state"].shape == (0, 3, 3)
    assert not found["gradient of Lambda"].any()


# ------------------------------------------------------------------------------------ as an operator of torch


def operator_arguments(gaps: str, alpha: float, save: bool) -> list[Any]:
    p = random_arguments(length=34, rank=2, directions=2, gaps=gaps)
    dt = None if p["dt"] is None else torch.stack([p["dt"], p["dt"]])
    operands = [p[name].requires_grad_(save) for name in ("u", "Lambda", "P", "Q", "B", "C", "D")]
    return [*operands, dt, p["x0"], alpha, False, save]


CASES = pytest.mark.parametrize(("gaps", "alpha"), [("regular", 0.5), ("regular", 0.3), ("few", 0.5)])


@CASES
def test_operator_is_well_formed(gaps: str, alpha: float) -> None:
    for save in (True, False):
        torch.library.opcheck(compiled.dplr_scan, operator_arguments(gaps, alpha, save))


@CASES
def test_adjoint_is_well_formed(gaps: str, alpha: float) -> None:
    args = [t.detach() if isinstance(t, Tensor) else t for t in operator_arguments(gaps, alpha, True)]
    y, x, *kept = compiled.dplr_scan(*args)
    *operands, _, alpha, reverse, _ = args
    upstream = [torch.ones_like(y), torch.ones_like(x), *kept]
    torch.library.opcheck(compiled._dplr_scan_adjoint, [*upstream, *operands, alpha, reverse])


@pytest.mark.parametrize("gaps", ["regular", "padded"])
def test_compile(gaps: str) -> None:
    p = random_arguments(length=34, rank=2, readouts=2, directions=2, gaps=gaps, shared=True)
    run = torch.compile(dplr_scan, fullgraph=True, backend="aot_eager")
    leaves = {name: None if t is None else t.clone().requires_grad_(name != "dt") for name, t in p.items()}
    y, x = run(**leaves)
    names = [name for name, t in leaves.items() if t is not None and t.requires_grad]
    gradients = torch.autograd.grad(weighted_sum(y, x), [leaves[name] for name in names])
    expected = results(p)
    assert torch.equal(y.detach(), expected["y"])
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(gradient, expected[f"gradient of {name}"], rtol=1e-12, atol=1e-12)

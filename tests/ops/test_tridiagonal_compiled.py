"""The tridiagonal scan: the compiled kernels against the reference, and as an operator of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from scans import BOTH_DTYPES, Operands, convert
from systems import GAPS, assert_close, by_reference, weighted_sum
from torch import Tensor
from tridiagonal_systems import ALPHAS, KINDS, arguments, results

from tsssm.ops import tridiagonal_scan
from tsssm.ops.autograd import tridiagonal as compiled
from tsssm.ops.cpu import layout
from tsssm.ops.cpu import tridiagonal as cpu
from tsssm.ops.cpu.gaps import distinct_gaps
from tsssm.ops.cpu.tridiagonal import scan


def covering_set() -> Iterator[Any]:
    """Every alpha with every kind of gaps, on each kind of system; the sizes and the rest take turns.

    Lengths stand around the chunk of 32 samples, channels around the registers of 8 (float64) and 16.
    """
    cases = [(kind, alpha, gaps) for kind in KINDS for alpha in ALPHAS for gaps in GAPS]
    for i, (kind, alpha, gaps) in enumerate(cases, start=1):
        sizes = {
            "batch": (1, 2, 3)[i % 3],
            "length": (1, 31, 32, 33, 65)[(i + i // 7) % 5],
            "channels": (1, 3, 16, 17)[(i + i // 4) % 4],
            "modes": (1, 2, 5)[(i // 2) % 3],
            "readouts": 1 + i % 2,
            "directions": 1 + i // 2 % 2,
            "shared": i // 3 % 2 == 1,
            "feedthrough": i // 4 % 2 == 0,
            "state": i // 5 % 2 == 0,
        }
        if kind == "legt" and sizes["modes"] == 5:
            sizes["modes"] = 6  # of odd order the matrix has a pivot of zero
        options = {"alpha": alpha, "reverse": i // 3 % 2 == 0}
        name = "-".join([kind, gaps, *map(str, options.values()), *map(str, sizes.values())])
        yield pytest.param(sizes | {"kind": kind, "gaps": gaps, "seed": i}, options, id=name)


@BOTH_DTYPES
@pytest.mark.parametrize(("sizes", "options"), list(covering_set()))
def test_compiled_equals_reference(sizes: Operands, options: Operands, dtype: torch.dtype) -> None:
    given = arguments(**sizes, dtype=dtype)
    found = results(given, **options)
    # In either precision the truth is the specification in float64, at the same rounded arguments.
    with by_reference():
        expected = results(convert(given, torch.float64), **options)
    assert_close(found, expected, dtype)


@BOTH_DTYPES
@pytest.mark.parametrize("gaps", ["regular", "distinct"])
@pytest.mark.parametrize("kind", ["legs", "legt"])
def test_of_the_size_that_layers_have(kind: str, gaps: str, dtype: torch.dtype) -> None:
    """64 modes and steps up to 0.1, where (I - s A / 2) has entries far from one."""
    given = arguments(kind=kind, modes=64, channels=2, length=70, readouts=1, gaps=gaps, dtype=dtype)
    found = results(given)
    with by_reference():
        expected = results(convert(given, torch.float64))
    assert_close(found, expected, dtype)


@BOTH_DTYPES
@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_long_gaps(kind: str, alpha: float, dtype: torch.dtype) -> None:
    """Steps of thousands of time constants among others: they are where x_k is a small difference."""
    given = arguments(kind=kind, length=40, modes=6, readouts=1, gaps="distinct", dtype=dtype)
    # So few that what alpha < 1/2 multiplies the state by does not add up.
    given["dt"][:, 7::16] *= 1e4
    found = results(given, alpha=alpha)
    with by_reference():
        expected = results(convert(given, torch.float64), alpha=alpha)
    assert_close(found, expected, dtype)


# ------------------------------------------------------------------------------------ ways to run and to call


def test_shared_factors_equal_factors_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(batch=3, length=40, channels=9, gaps="few", directions=2)
    dt = given["dt"][None]
    assert distinct_gaps(given["u"], dt, 5, scan._MAX_SHARED_FACTORS)[0].size == 3
    shared = results(given)
    monkeypatch.setattr(scan, "_MAX_SHARED_FACTORS", 0)
    assert distinct_gaps(given["u"], dt, 5, 0)[0].size == 0
    assert_close(results(given), shared, torch.float64)


@pytest.mark.parametrize("channels", [3, 20], ids=["cut by series", "cut by blocks"])
@pytest.mark.parametrize("gaps", ["regular", "few", "distinct"])
def test_threads_change_nothing(threads: Callable[[int], None], channels: int, gaps: str) -> None:
    given = arguments(batch=5, length=35, channels=channels, gaps=gaps, directions=2)
    threads(1)
    alone = results(given)
    for count in (2, 3, 8):
        threads(count)
        cut = layout.ranges(given["u"], 10**9)
        assert len(cut.blocks) * len(cut.series) > 1
        together = results(given)
        assert torch.equal(together["y"], alone["y"])
        assert torch.equal(together["state"], alone["state"])
        assert_close(together, alone, torch.float64)  # gradients are summed in another order


@pytest.mark.parametrize("gaps", ["regular", "distinct"])
def test_a_series_does_not_depend_on_its_partner(gaps: str) -> None:
    """Two series are computed side by side; what is wrong with one stays there."""
    given = arguments(batch=3, length=34, gaps=gaps, directions=2)
    expected, state = tridiagonal_scan(**given)
    given["u"][1] = float("nan")
    y, x = tridiagonal_scan(**given)
    assert y[1].isnan().any()
    for sound in (0, 2):
        assert torch.equal(y[sound], expected[sound]) and torch.equal(x[sound], state[sound])


def test_memory_layout_does_not_matter() -> None:
    given = arguments(batch=3, length=34, channels=17, gaps="few", directions=2)
    expected, state = tridiagonal_scan(**given)
    odd = {name: t.transpose(0, -1).contiguous().transpose(0, -1) for name, t in given.items()}
    odd["u"] = torch.complex(odd["u"], -odd["u"]).conj().imag
    assert odd["u"].is_neg() and not odd["C"].is_contiguous()
    y, x = tridiagonal_scan(**odd)
    assert torch.equal(y, expected) and torch.equal(x, state)


def test_gradient_of_one_operand_alone() -> None:
    given = arguments(length=34, gaps="few", directions=2, shared=True)
    together = results(given)
    for name in given:
        if name != "dt":
            alone = results(given, only=name)
            assert_close(alone, {key: together[key] for key in alone}, torch.float64)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(context: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(length=70)
    expected, _ = tridiagonal_scan(**given)
    given["T"].requires_grad_()
    kept: list[int] = []
    run = cpu.tridiagonal_scan

    def watched(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        out = run(*args)
        kept.append(out[2].numel())
        return out

    monkeypatch.setattr(cpu, "tridiagonal_scan", watched)
    with context():
        y, x = tridiagonal_scan(**given)
    assert torch.equal(y, expected)
    assert not y.requires_grad and not x.requires_grad
    assert kept == [0], "no states are kept for a gradient that cannot be asked for"


def test_second_derivative_is_refused() -> None:
    given = arguments()
    u = given["u"].requires_grad_()
    y, _ = tridiagonal_scan(**given)
    (first,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        first.square().sum().backward()


def test_a_batch_of_none_is_none() -> None:
    given = arguments()
    y, x = tridiagonal_scan(**given | {"u": given["u"][:0], "x0": None})
    assert y.shape == (0, 2, 9, 3) and x.shape == (0, 3, 5)


# ------------------------------------------------------------------------ what PyTorch expects of an operator


def operator_arguments(directions: int, save: bool) -> list[Any]:
    """Those of one direction on a regular grid from a state, or of two from rest; u is strided."""
    p = arguments(kind="random", length=34, gaps="few", directions=directions)
    u = p["u"].transpose(0, 1).contiguous().transpose(0, 1)
    V = p["scale"] * p["T"]
    leaves = [t.requires_grad_(save) for t in (u, p["T"], V, p["B"], p["C"])]
    dt = None if directions == 1 else torch.stack([p["dt"], p["dt"]])
    return [*leaves, dt, p["x0"] if directions == 1 else None, 0.3, False, save]


@pytest.mark.parametrize("directions", [1, 2])
def test_operator_is_well_formed(directions: int) -> None:
    for save in (True, False):
        torch.library.opcheck(compiled.tridiagonal_scan, operator_arguments(directions, save))


@pytest.mark.parametrize("directions", [1, 2])
def test_adjoint_is_well_formed(directions: int) -> None:
    args = [t.detach() if isinstance(t, Tensor) else t for t in operator_arguments(directions, True)]
    y, x, saved = compiled.tridiagonal_scan(*args)
    *operands, _, alpha, reverse, _ = args
    torch.library.opcheck(
        compiled._tridiagonal_scan_adjoint,
        [torch.ones_like(y), torch.ones_like(x), saved, *operands, alpha, reverse],
    )


@pytest.mark.parametrize("gaps", ["regular", "padded"])
def test_compile(gaps: str) -> None:
    given = arguments(length=34, gaps=gaps, directions=2, shared=True)

    def run(operands: Operands) -> tuple[Tensor, Tensor]:
        return tridiagonal_scan(**operands)

    leaves = {name: t.clone().requires_grad_() for name, t in given.items() if t is not None and name != "dt"}
    y, x = torch.compile(run, fullgraph=True, backend="aot_eager")(given | leaves)
    gradients = torch.autograd.grad(weighted_sum(y, x), list(leaves.values()))
    expected = results(given)
    assert torch.equal(y.detach(), expected["y"])
    for name, gradient in zip(leaves, gradients, strict=True):
        torch.testing.assert_close(gradient, expected[f"gradient of {name}"], rtol=1e-12, atol=1e-12)

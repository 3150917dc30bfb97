"""The diagonal plus low-rank scan: against the dense system it stands for, and compiled against reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete
from systems import GAPS, assert_close, by_reference, make_gaps, weighted_sum
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.discretize import discretize_dense
from tsssm.hippo import nplr, transition
from tsssm.ops import dplr_scan
from tsssm.ops.autograd import dplr as compiled
from tsssm.ops.cpu import dplr as cpu
from tsssm.ops.cpu import layout

N, H, M = 6, 3, 2
BACKENDS = pytest.mark.parametrize("backend", [nullcontext, by_reference], ids=["compiled", "reference"])
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
STEPS = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)


def arguments(measure: str, shared: bool = True, gaps: str = "regular", length: int = 9) -> dict[str, Any]:
    """A HiPPO system in its normal plus low-rank form, one for all channels or one copy each."""
    random = torch.Generator().manual_seed(1)
    form = nplr(measure, N)
    copies = 1 if shared else H

    def real(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    V = torch.as_tensor(form.V)
    return {
        "u": real(2, length, H),
        "Lambda": torch.as_tensor(form.Lambda).repeat(copies, 1),
        "P": torch.as_tensor(form.P)[:, None].repeat(1, copies, 1),
        "Q": torch.as_tensor(form.P)[:, None].repeat(1, copies, 1),
        "B": torch.as_tensor(form.B).repeat(copies, 1),
        "C": real(M, H, N).to(V.dtype) @ V,
        "step": STEPS,
        "dt": make_gaps(gaps, 2, length, random),
        "x0": real(2, H, N).to(V.dtype) @ V.conj(),
    }


def dense_loop(measure: str, p: dict[str, Any], alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The same in HiPPO's own coordinates, where A is dense."""
    A, B = (torch.as_tensor(value) for value in transition(measure, N))
    V = torch.as_tensor(nplr(measure, N).V)
    x = (p["x0"] @ V.T).real
    C = (p["C"] @ V.conj().T).real
    ys = []
    for k in range(p["u"].shape[1]):
        s = p["step"].expand(2, H) if p["dt"] is None else p["dt"][:, k, None] * p["step"]
        A_bar, B_bar, _ = discretize_dense(A, B, s, alpha)
        x = torch.einsum("bhij,bhj->bhi", A_bar, x) + B_bar * p["u"][:, k, :, None]
        ys.append(torch.einsum("mhn,bhn->bmh", C, x))
    return torch.stack(ys, dim=2).numpy(), x.numpy()


# ------------------------------------------------------------------------------ the system that it stands for


@BACKENDS
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "a system a channel"])
@pytest.mark.parametrize("measure", ["legs", "legt"])
def test_equals_the_dense_system(
    measure: str, shared: bool, gaps: str, alpha: float, backend: Callable[[], Any]
) -> None:
    p = arguments(measure, shared, gaps)
    with backend():
        y, x = dplr_scan(**p, alpha=alpha)
    expected_y, expected_x = dense_loop(measure, p, alpha)
    real_x = x @ torch.as_tensor(nplr(measure, N).V).T
    for found, expected in ((y, expected_y), (real_x.real, expected_x)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert real_x.imag.abs().max() <= 1e-10 * real_x.real.abs().max()


@BACKENDS
def test_impulse_response_is_that_of_scipy(backend: Callable[[], Any]) -> None:
    p = arguments("legs", length=20) | {"x0": None, "u": torch.zeros(1, 20, H, dtype=torch.float64)}
    p["u"][:, 0] = 1
    with backend():
        y, _ = dplr_scan(**p, alpha=0.5)
    A, B = transition("legs", N)
    C = (p["C"] @ torch.as_tensor(nplr("legs", N).V).conj().T).real.numpy()
    for h in range(H):
        for m in range(M):
            system = (A, B[:, None], C[m, h][None], np.zeros((1, 1)))
            A_bar, B_bar, *_ = cont2discrete(system, STEPS[h].item(), "bilinear")
            expected = [C[m, h] @ np.linalg.matrix_power(A_bar, i) @ B_bar[:, 0] for i in range(20)]
            np.testing.assert_allclose(y[0, m, :, h], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@BACKENDS
def test_padding_leaves_the_state_alone(backend: Callable[[], Any]) -> None:
    p = arguments("legt", gaps="distinct")
    dt = p["dt"].clone()
    dt[:, 6:] = 0
    with backend():
        _, padded = dplr_scan(**p | {"dt": dt})
        _, cut = dplr_scan(**p | {"dt": dt[:, :6], "u": p["u"][:, :6]})
    torch.testing.assert_close(padded, cut, rtol=1e-13, atol=1e-13)


def test_gradient_of_the_gaps() -> None:
    p = arguments("legt", gaps="distinct", length=2)
    names = ("u", "Lambda", "P", "Q", "B", "C", "step", "dt", "x0")

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        return dplr_scan(*values, alpha=0.3)

    assert gradcheck(run, [p[name].requires_grad_() for name in names], atol=1e-6, rtol=1e-5)


# --------------------------------------------------------------------- the compiled kernels and the reference


def random_arguments(
    *,
    batch: int = 2,
    length: int = 9,
    channels: int = 3,
    modes: int = 3,
    rank: int = 1,
    readouts: int = 1,
    directions: int = 1,
    gaps: str = "regular",
    shared: bool = False,
    feedthrough: bool = True,
    state: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Any]:
    """A system about normal plus low rank, with eigenvalues and timescales as the layers have them."""
    random = torch.Generator().manual_seed(seed)

    def real(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.complex(real(*shape), real(*shape))

    copies = 1 if shared else channels
    frequency = np.pi * torch.arange(modes) * (1 + 0.1 * real(copies, modes))
    P = normal(rank, copies, modes)
    p = {
        "u": real(batch, length, channels),
        "Lambda": torch.complex(-torch.exp(0.5 * real(copies, modes)), frequency),
        "P": P,
        "Q": 2 * P + 0.1 * normal(rank, copies, modes),
        "B": normal(copies, modes),
        "C": normal(directions, readouts, channels, modes),
        # Small enough that no explicit step (alpha = 0) of the largest gap makes the system unstable.
        "step": 10 ** (-2.5 + torch.rand(channels, generator=random, dtype=torch.float64)),
        "dt": make_gaps(gaps, batch, length, random),
        "x0": normal(batch, channels, modes) if state else None,
        "D": real(readouts, channels) if feedthrough else None,
    }
    return to(p, dtype)


def to(p: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """A copy of another precision."""
    return {
        name: None if t is None else t.to(dtype.to_complex() if t.is_complex() else dtype)
        for name, t in p.items()
    }


def results(p: dict[str, Any], *, wanted: tuple[str, ...] = (), **options: Any) -> dict[str, Tensor]:
    """Outputs, final state and the gradients of a weighted sum of them, of all operands unless named."""
    p = {name: None if t is None else t.detach().clone() for name, t in p.items()}
    names = wanted or tuple(name for name, t in p.items() if t is not None and name != "dt")
    leaves = [p[name].requires_grad_() for name in names]
    y, x = dplr_scan(**p, **options)
    gradients = torch.autograd.grad(weighted_sum(y, x), leaves, allow_unused=True, materialize_grads=True)
    found = {f"gradient of {name}": g for name, g in zip(names, gradients, strict=True)}
    return {"y": y.detach(), "state": x.detach()} | found


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
        expected = results(to(p, torch.float64), **options)
    assert_close(found, expected, dtype)


@pytest.mark.parametrize("alpha", [0.3, 0.5])
@pytest.mark.parametrize("gaps", ["regular", "distinct", "padded"])
@pytest.mark.parametrize("rank", [1, 2])
def test_gradcheck(rank: int, gaps: str, alpha: float) -> None:
    p = random_arguments(
        batch=1, length=4, channels=2, modes=2, rank=rank, directions=rank, gaps=gaps, shared=rank == 2
    )
    dt = p.pop("dt")
    names = list(p)

    def run(*operands: Tensor) -> tuple[Tensor, ...]:
        return dplr_scan(**dict(zip(names, operands, strict=True)), dt=dt, alpha=alpha)

    assert gradcheck(run, [t.requires_grad_() for t in p.values()], atol=1e-6, rtol=1e-5)


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
    p = to(p, torch.float32)
    y, x = dplr_scan(**p)
    with by_reference():
        expected_y, expected_x = dplr_scan(**to(p, torch.float64))
        single_y, single_x = dplr_scan(**p)
    for found, single, expected in ((y, single_y, expected_y), (x, single_x, expected_x)):
        scale = expected.abs().max()
        allowed = 4 * (single - expected).abs().max() / scale + 1e-5
        assert (found - expected).abs().max() / scale <= allowed


# ------------------------------------------------------------------------------------ ways to run and to call


@pytest.mark.parametrize("channels", [3, 20], ids=["cut by series", "cut by blocks"])
@pytest.mark.parametrize("gaps", ["regular", "distinct"])
def test_threads_change_nothing(channels: int, gaps: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    p = random_arguments(batch=5, length=35, channels=channels, rank=2, readouts=2, directions=2, gaps=gaps)
    try:
        torch.set_num_threads(1)
        alone = results(p)
        for count in (2, 3, 8):
            torch.set_num_threads(count)
            cut = layout.ranges(p["u"], 10**9)
            assert len(cut.blocks) * len(cut.series) > 1
            together = results(p)
            assert torch.equal(together["y"], alone["y"])
            assert torch.equal(together["state"], alone["state"])
            assert_close(together, alone, torch.float64)  # gradients are summed in another order
    finally:
        torch.set_num_threads(before)


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
        alone = results(p, wanted=(name,))
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


# ------------------------------------------------------------------------------------------------------ edges


def test_half_precision_input_is_computed_at_the_precision_of_the_system() -> None:
    p = {
        name: value.to(torch.complex64 if value.is_complex() else torch.float32)
        for name, value in arguments("legs", gaps="few").items()
    }
    half = p["u"].to(torch.bfloat16)
    y, x = dplr_scan(**p | {"u": half})
    expected, _ = dplr_scan(**p | {"u": half.float()})
    assert y.dtype == torch.bfloat16 and x.dtype == torch.complex64
    assert torch.equal(y, expected.to(torch.bfloat16))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("u", lambda t: t[0]),
        ("Lambda", lambda t: t.real),
        ("Lambda", lambda t: t.repeat(2, 1)),
        ("P", lambda t: t[0]),
        ("B", lambda t: t[:, :2]),
        ("B", lambda t: t.to(torch.complex64)),
        ("C", lambda t: t[:, :2]),
        ("step", lambda t: t.float()),
        ("dt", lambda t: t[:, 1:]),
        ("x0", lambda t: t[:1]),
    ],
)
def test_wrong_argument_is_named(name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    p = arguments("legs", gaps="few")
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        dplr_scan(**p | {name: spoil(p[name])})


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        dplr_scan(**arguments("legs"), alpha=alpha)

"""The tridiagonal scan: the reference against dense systems, the compiled kernels against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import cont2discrete
from systems import GAPS, assert_close, by_reference, make_gaps, weighted_sum
from torch import Tensor
from torch.autograd import gradcheck

from tsssm.discretize import discretize_dense
from tsssm.ops import tridiagonal_scan
from tsssm.ops.autograd import tridiagonal as compiled
from tsssm.ops.cpu import layout
from tsssm.ops.cpu import tridiagonal as cpu
from tsssm.ops.cpu.tridiagonal import scan

ALPHAS = (0.0, 0.3, 0.5, 1.0)
KINDS = ("legs", "legt", "random")
BACKENDS = pytest.mark.parametrize("backend", [by_reference, nullcontext], ids=["reference", "compiled"])
BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])

Arguments = dict[str, Any]


def system(kind: str, modes: int, copies: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """T (3, copies, N), shift and scale (copies, N) in float64.

    For legs and legt diag(scale) (diag(shift) + T^{-1}) is the HiPPO matrix up to a diagonal similarity; a
    random T is diagonally dominant, with all three diagonals and a sign such that the system decays.
    """
    n = torch.arange(modes, dtype=torch.float64)
    scale, shift = 2 * n + 1, torch.zeros_like(n)
    T = torch.zeros(3, modes, dtype=torch.float64)
    if kind == "legs":
        T[0, 1:], T[1], shift = 1, -1, n / (2 * n + 1)
    elif kind == "legt":
        # Inverse of -M with M_nk = 1 for n >= k, else (-1)^(n - k).
        M = torch.where(n[:, None] >= n, 1.0, (-1.0) ** (n[:, None] - n))
        inverse = -torch.linalg.inv(M)
        T[1] = inverse.diagonal()
        T[0, 1:], T[2, :-1] = inverse.diagonal(-1), inverse.diagonal(1)
        assert (torch.triu(inverse, 2) == 0).all() and (torch.tril(inverse, -2) == 0).all()
    else:
        T = torch.rand(3, copies, modes, generator=random, dtype=torch.float64) - 0.5
        T[1] = T[1] - 2
        shift = 0.1 * torch.randn(copies, modes, generator=random, dtype=torch.float64)
        scale = 0.5 + torch.rand(copies, modes, generator=random, dtype=torch.float64)
        return T, shift, scale
    return T[:, None].repeat(1, copies, 1), shift.repeat(copies, 1), scale.repeat(copies, 1)


def arguments(
    *,
    kind: str = "legs",
    batch: int = 2,
    length: int = 9,
    channels: int = 3,
    modes: int = 5,
    readouts: int = 2,
    directions: int = 1,
    shared: bool = False,
    feedthrough: bool = True,
    state: bool = True,
    gaps: str = "regular",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Arguments:
    """Arguments of `tridiagonal_scan`, drawn in float64 and rounded to ``dtype``."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    copies = 1 if shared else channels
    T, shift, scale = system(kind, modes, copies, random)
    given = {
        "u": normal(batch, length, channels),
        "T": T,
        "shift": shift,
        "scale": scale,
        "B": normal(copies, modes),
        "C": normal(directions, readouts, channels, modes),
        "step": 0.01 + 0.1 * torch.rand(channels, generator=random, dtype=torch.float64),
        "dt": make_gaps(gaps, batch, length, random),
        "x0": normal(batch, channels, modes) if state else None,
        "D": normal(readouts, channels) if feedthrough else None,
    }
    return convert(given, dtype)


def convert(given: Arguments, dtype: torch.dtype) -> Arguments:
    """A copy of another precision."""
    return {name: None if t is None else t.detach().to(dtype, copy=True) for name, t in given.items()}


def results(given: Arguments, *, only: str | None = None, **options: Any) -> dict[str, Tensor]:
    """Outputs, final state and the gradients of a weighted sum of them, of ``only`` one operand or of all."""
    wanted = {
        name: t.detach().clone().requires_grad_()
        for name, t in given.items()
        if t is not None and name != "dt" and only in (None, name)
    }
    y, x = tridiagonal_scan(**given | wanted, **options)
    gradients = torch.autograd.grad(
        weighted_sum(y, x), list(wanted.values()), allow_unused=True, materialize_grads=True
    )
    found = {f"gradient of {name}": g for name, g in zip(wanted, gradients, strict=True)}
    return {"y": y.detach(), "state": x.detach()} | found


# ------------------------------------------------------------------ the dense system that all this stands for


def dense(given: Arguments) -> Tensor:
    """A = diag(scale) (diag(shift) + T^{-1}), dense, of each channel."""
    below, main, above = given["T"][0, :, 1:], given["T"][1], given["T"][2, :, :-1]
    T = torch.diag_embed(below, -1) + torch.diag_embed(main) + torch.diag_embed(above, 1)
    A = given["scale"][..., None] * (torch.diag_embed(given["shift"]) + torch.linalg.inv(T))
    return A.expand(given["u"].shape[2], -1, -1)


def dense_loop(given: Arguments, alpha: float) -> tuple[Tensor, Tensor]:
    """One direction by a loop with dense matrices."""
    u, dt, x = given["u"], given["dt"], given["x0"]
    A, ys = dense(given), []
    for k in range(u.shape[1]):
        s = (given["step"] if dt is None else dt[:, k, None] * given["step"]).expand(u.shape[0], -1)
        A_bar, B_bar, _ = discretize_dense(A, given["B"], s, alpha)
        x = torch.einsum("bhij,bhj->bhi", A_bar, x) + B_bar * u[:, k, :, None]
        ys.append(torch.einsum("mhn,bhn->bmh", given["C"][0], x))
    return torch.stack(ys, dim=2) + given["D"][:, None] * u[:, None], x


@BACKENDS
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gaps", ["regular", "distinct", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_dense_system(kind: str, gaps: str, alpha: float, backend: Callable[[], Any]) -> None:
    given = arguments(kind=kind, gaps=gaps, shared=kind == "legs")
    with backend():
        found = tridiagonal_scan(**given, alpha=alpha)
    for value, expected in zip(found, dense_loop(given, alpha), strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-10 * expected.abs().max().item())


@BACKENDS
@pytest.mark.parametrize("kind", KINDS)
def test_impulse_response_is_that_of_scipy(kind: str, backend: Callable[[], Any]) -> None:
    given = arguments(kind=kind, length=20, feedthrough=False, state=False, batch=1)
    given["u"] = torch.zeros_like(given["u"])
    given["u"][:, 0] = 1
    with backend():
        y, _ = tridiagonal_scan(**given)
    A, B, C = dense(given).numpy(), given["B"].numpy(), given["C"][0].numpy()
    for h in range(A.shape[0]):
        for m in range(C.shape[0]):
            parts = (A[h], B[h][:, None], C[m, h][None], np.zeros((1, 1)))
            A_bar, B_bar, *_ = cont2discrete(parts, given["step"][h].item(), "bilinear")
            expected = [C[m, h] @ np.linalg.matrix_power(A_bar, i) @ B_bar[:, 0] for i in range(20)]
            np.testing.assert_allclose(y[0, m, :, h], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@BACKENDS
def test_both_directions_are_one_and_the_other(backend: Callable[[], Any]) -> None:
    given = arguments(directions=2, gaps="distinct")
    with backend():
        y, x = tridiagonal_scan(**given)
        one, state = tridiagonal_scan(**given | {"C": given["C"][0]})
        other, _ = tridiagonal_scan(**given | {"C": given["C"][1], "x0": None, "D": None}, reverse=True)
    torch.testing.assert_close(y, one + other, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, state)


@BACKENDS
@pytest.mark.parametrize("kind", KINDS)
def test_padding_leaves_the_state_alone(kind: str, backend: Callable[[], Any]) -> None:
    given = arguments(kind=kind, gaps="distinct", modes=6)
    dt = given["dt"].clone()
    dt[:, 6:] = 0
    with backend():
        _, padded = tridiagonal_scan(**given | {"dt": dt})
        _, cut = tridiagonal_scan(**given | {"dt": dt[:, :6], "u": given["u"][:, :6]})
    assert torch.equal(padded, cut)


@BOTH_DTYPES
def test_padding_needs_no_regular_matrix(dtype: torch.dtype) -> None:
    """T need not have an inverse for the state to stay as it is, nor does it reach any gradient."""
    given = arguments(kind="random", length=4, state=True, dtype=dtype)
    given["T"][:] = 0
    given["dt"] = torch.zeros(2, 4, dtype=dtype)
    found = results(given)
    assert torch.equal(found["state"], given["x0"])
    assert all(value.isfinite().all() for value in found.values())
    assert not found["gradient of T"].any() and not found["gradient of B"].any()


# --------------------------------------------------------------------- the compiled kernels and the reference


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
def test_compiled_equals_reference(sizes: Arguments, options: Arguments, dtype: torch.dtype) -> None:
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


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("gaps", ["regular", "few", "distinct", "padded"])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradcheck(alpha: float, gaps: str, reverse: bool) -> None:
    given = arguments(
        kind="random", batch=1, length=4, channels=2, modes=3, gaps=gaps, directions=1 + reverse, seed=1
    )
    names = [name for name in given if name != "dt"]

    def run(*operands: Tensor) -> tuple[Tensor, ...]:
        return tridiagonal_scan(
            **given | dict(zip(names, operands, strict=True)), alpha=alpha, reverse=reverse
        )

    assert gradcheck(run, [given[name].requires_grad_() for name in names], atol=1e-6, rtol=1e-5)


def test_gradient_of_the_gaps() -> None:
    given = arguments(kind="random", length=5, gaps="distinct")

    def run(dt: Tensor) -> Tensor:
        return tridiagonal_scan(**given | {"dt": dt}, reverse=True)[0]

    assert gradcheck(run, [given["dt"].requires_grad_()], atol=1e-6, rtol=1e-5)


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


@BOTH_DTYPES
@pytest.mark.parametrize("gap", [1e4, 1e8, 1e15])
def test_huge_gap_is_finite_and_forgets(gap: float, dtype: torch.dtype) -> None:
    """Backward Euler goes to the equilibrium -A^{-1} B u of the sample after such a gap."""
    given = arguments(kind="legs", length=40, gaps="few", readouts=1, feedthrough=False, dtype=dtype)
    given["dt"][:, 20] = gap
    found = results(given, alpha=1.0)
    assert all(value.isfinite().all() for value in found.values())
    exact = convert(given, torch.float64)
    rest = -torch.linalg.solve(dense(exact), exact["B"])
    expected = torch.einsum("hn,hn,bh->bh", exact["C"][0, 0], rest, exact["u"][:, 20])
    # The slowest time constant is 1, the shortest step a hundredth of the gap.
    tolerance = max(1e-5, 200 / gap) * expected.abs().max().item()
    torch.testing.assert_close(found["y"][:, 0, 20].double(), expected, rtol=0, atol=tolerance)
    before = {name: t[:, :20] for name, t in given.items() if name in ("u", "dt")}
    ordinary = results(given | before, alpha=1.0)["gradient of u"].abs().max()
    assert found["gradient of u"].abs().max() <= 100 * ordinary


# ------------------------------------------------------------------------------------ ways to run and to call


def test_shared_factors_equal_factors_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(batch=3, length=40, channels=9, gaps="few", directions=2)
    dt = given["dt"][None]
    assert scan._gaps(given["u"], dt, 5)[0].size == 3
    shared = results(given)
    monkeypatch.setattr(scan, "_MAX_SHARED_FACTORS", 0)
    assert scan._gaps(given["u"], dt, 5)[0].size == 0
    assert_close(results(given), shared, torch.float64)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, restored afterwards, and lets small calls use them."""
    monkeypatch.setattr(layout, "_MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


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


@BACKENDS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_at_the_precision_of_the_system(
    dtype: torch.dtype, backend: Callable[[], Any]
) -> None:
    given = arguments(gaps="few", dtype=torch.float32)
    half = given["u"].to(dtype).requires_grad_()
    with backend():
        y, x = tridiagonal_scan(**given | {"u": half})
        expected, _ = tridiagonal_scan(**given | {"u": half.detach().float()})
    assert y.dtype == dtype and x.dtype == torch.float32
    assert torch.equal(y, expected.to(dtype))
    y.sum().backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all() and half.grad.any()


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

    def run(operands: Arguments) -> tuple[Tensor, Tensor]:
        return tridiagonal_scan(**operands)

    leaves = {name: t.clone().requires_grad_() for name, t in given.items() if t is not None and name != "dt"}
    y, x = torch.compile(run, fullgraph=True, backend="aot_eager")(given | leaves)
    gradients = torch.autograd.grad(weighted_sum(y, x), list(leaves.values()))
    expected = results(given)
    assert torch.equal(y.detach(), expected["y"])
    for name, gradient in zip(leaves, gradients, strict=True):
        torch.testing.assert_close(gradient, expected[f"gradient of {name}"], rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------------ edges


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("u", lambda t: t[0]),
        ("u", lambda t: t[:, :0]),
        ("u", lambda t: t.long()),
        ("T", lambda t: t[:2]),
        ("T", lambda t: t[:, :, :0]),
        ("T", lambda t: t[:, :2]),
        ("T", lambda t: t.half()),
        ("T", lambda t: t + 0j),
        ("shift", lambda t: t[:, :2]),
        ("shift", lambda t: t[:1]),
        ("scale", lambda t: t.float()),
        ("B", lambda t: t[:, :2]),
        ("B", lambda t: t.float()),
        ("C", lambda t: t[0, 0]),
        ("C", lambda t: t.repeat(3, 1, 1, 1)),
        ("C", lambda t: t[..., :2]),
        ("step", lambda t: t.float()),
        ("step", lambda t: t[:, None]),
        ("dt", lambda t: t[:, 1:]),
        ("x0", lambda t: t[:1]),
        ("x0", lambda t: t.float()),
        ("D", lambda t: t[0]),
        ("D", lambda t: t.float()),
    ],
)
def test_wrong_argument_is_named(name: str, spoil: Callable[[Tensor], Tensor]) -> None:
    given = arguments(gaps="few")
    with pytest.raises(ValueError, match=rf"^{name} must be .*; got "):
        tridiagonal_scan(**given | {name: spoil(given[name])})


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        tridiagonal_scan(**arguments(), alpha=alpha)

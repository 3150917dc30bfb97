"""What each backbone runs on a CPU, on CUDA with Triton and without: the table of the guide, cell by cell."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tsssm.backbone import BACKBONES
from tsssm.layers import SSMLayer, lssl, s4, s4d
from tsssm.ops import convolution, operands, reference
from tsssm.ops.chunked import linear

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "gpu.rst"
GRIDS = ("regular", "irregular")
CELLS = pytest.mark.parametrize(
    ("backbone", "grid"),
    [pytest.param(name, grid, id=f"{name}-{grid}") for name in BACKBONES for grid in GRIDS],
)
# Relative to the largest entry.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}


def layer_of(backbone: str, d_model: int = 2, both: bool = True) -> SSMLayer:
    torch.manual_seed(0)
    choice = BACKBONES[backbone]
    return choice.layer(d_model, 4, bidirectional=both, method=choice.methods[0], **choice.options)


def results(layer: SSMLayer, grid: str, length: int, dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients over a series with padding, as in training."""
    random = torch.Generator().manual_seed(0)
    layer = layer.to(dtype)
    u = torch.randn(1, length, layer.d_model, generator=random, dtype=torch.float64).to(dtype)
    dt = 0.2 + torch.rand(1, length, generator=random, dtype=torch.float64).to(dtype)
    dt[:, length - 1 :] = 0
    y, _ = layer(u.requires_grad_(), None if grid == "regular" else dt, need_state=False)
    weights = torch.linspace(-1, 2, y.numel(), dtype=dtype).view_as(y)
    wanted = [u, *layer.parameters()]
    gradients = torch.autograd.grad((weights * y).sum(), wanted, allow_unused=True, materialize_grads=True)
    return [y.detach(), *gradients]


@contextmanager
def asking(answer: Callable[[bool], bool]) -> Iterator[set[str]]:
    """Which operations ask for a compiled backend, and what they are told, given whether the GPU has one."""
    asked = set()

    def runs_compiled(u: Tensor, dt: Tensor | None = None, on_gpu: bool = False) -> bool:
        asked.add(sys._getframe(1).f_code.co_name)
        return answer(on_gpu)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operands, "runs_compiled", runs_compiled)
        yield asked


@contextmanager
def as_on_cuda(triton: bool) -> Iterator[set[str]]:
    """Let a layer go the ways it goes on CUDA; with ``triton``, kernels are interpreted."""
    with pytest.MonkeyPatch.context() as patch, asking(lambda on_gpu: triton and on_gpu) as asked:
        for module in (lssl, s4, s4d):
            patch.setattr(module, "prefers_convolution", lambda *_: True)
        patch.setattr(s4, "runs_compiled", lambda *_: False)
        patch.setattr(reference, "causal_conv", convolution._by_transforms)
        yield asked


@contextmanager
def by_specification() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, asking(lambda _: False):
        patch.setattr(operands, "plain", lambda: reference)
        yield


def check(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    for value, other in zip(found, expected, strict=True):
        scale = max(1e-6, float(other.abs().max()))
        assert float((value - other).abs().max()) / scale < TOLERANCE[dtype]


def said(backbone: str, grid: str, path: str) -> set[str]:
    """The operations that the guide names in a cell."""
    rows = table()
    return set(re.findall(r"\w+", rows[backbone, grid][("CPU", "Triton", "PyTorch").index(path)]))


def table() -> dict[tuple[str, str], list[str]]:
    """Cells of the guide's table by backbone and grid."""
    text = GUIDE.read_text(encoding="utf-8")
    rows = re.findall(
        r"^   \* - (\S+)\n     - (\S+)\n     - (.+)\n     - (.+)\n     - (.+)\n", text, re.MULTILINE
    )
    return {(name.strip("`"), grid): cells for name, grid, *cells in rows if grid in GRIDS}


@CELLS
def test_cpu(backbone: str, grid: str) -> None:
    """Compiled kernels against the specification."""
    with asking(lambda _: True) as asked:
        found = results(layer_of(backbone), grid, 9, torch.float64)
    with by_specification():
        expected = results(layer_of(backbone), grid, 9, torch.float64)
    check(found, expected, torch.float64)
    assert asked == said(backbone, grid, "CPU")


@CELLS
def test_plain(backbone: str, grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's operations over chunks, several of them, against the specification."""
    monkeypatch.setattr(linear, "_ENTRIES", 1)
    with as_on_cuda(False) as asked:
        found = results(layer_of(backbone), grid, 70, torch.float64)
    with by_specification():
        expected = results(layer_of(backbone), grid, 70, torch.float64)
    check(found, expected, torch.float64)
    assert asked == said(backbone, grid, "PyTorch")


@pytest.mark.parametrize(
    ("backbone", "grid"),
    [
        # The kernels of Liquid-S4, and the convolution, have interpreted and other tests that are not slow.
        pytest.param(name, grid, id=f"{name}-{grid}", marks=[pytest.mark.slow] * name.startswith("liquid"))
        for name in BACKBONES
        for grid in GRIDS
    ],
)
def test_triton(backbone: str, grid: str) -> None:
    """Kernels by Triton's interpreter, from the first sample to the last, against the specification."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        pytest.skip("the kernels run on the device here: tests/test_gpu.py")
    from interpreted import on_kernels, whole_on_kernels

    with as_on_cuda(True) as asked, on_kernels(), whole_on_kernels():
        found = results(layer_of(backbone, 1, both=False), grid, 3, torch.float32)
    with by_specification():
        expected = results(layer_of(backbone, 1, both=False).double(), grid, 3, torch.float64)
    check(found, [t.float() for t in expected], torch.float32)
    assert asked == said(backbone, grid, "Triton")


class Launches(TorchDispatchMode):
    """Counts operations that write memory, each of which is a launch on a device; views are none."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        self.count += alias is None or alias.is_write
        return func(*args, **kwargs or {})


@CELLS
def test_no_cell_is_a_loop_over_samples(backbone: str, grid: str) -> None:
    """128 more samples in each of two directions, of which each would take several launches."""
    counts = []
    for length in (128, 256):
        layer = layer_of(backbone)
        u, dt = torch.randn(1, length, 2), None if grid == "regular" else torch.rand(1, length) + 0.1
        with torch.no_grad(), Launches() as on_cpu:
            layer(u, dt, need_state=False)
        with torch.no_grad(), as_on_cuda(False), Launches() as on_cuda:
            layer(u, dt, need_state=False)
        counts.append((on_cpu.count, on_cuda.count))
    (cpu, cuda), (longer_cpu, longer_cuda) = counts
    assert longer_cpu - cpu < 50 and longer_cuda - cuda < 128


def test_the_guide_has_every_cell_and_names_its_tests() -> None:
    assert table().keys() == {(name, grid) for name in BACKBONES for grid in GRIDS}
    text = GUIDE.read_text(encoding="utf-8")
    for test in (test_cpu, test_triton, test_plain):
        assert f"``{test.__name__}``" in text

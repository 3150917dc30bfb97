"""The kernels on disk are those of the present sources."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tsssm.ops.cpu import caching
from tsssm.ops.cpu.convolution import convolve
from tsssm.ops.cpu.diagonal import backward, forward
from tsssm.ops.cpu.dplr import passes as dplr
from tsssm.ops.cpu.liquid import backward as liquid_backward
from tsssm.ops.cpu.liquid import forward as liquid_forward
from tsssm.ops.cpu.tridiagonal import passes as tridiagonal

KERNELS = {
    "diagonal": (forward.forward_pass, backward.backward_pass),
    "convolution": (convolve.convolve, convolve.convolve_adjoint),
    "dplr": (dplr.forward_pass, dplr.backward_pass),
    "liquid": (liquid_forward.forward_pass, liquid_backward.backward_pass),
    "tridiagonal": (tridiagonal.forward_pass, tridiagonal.backward_pass),
}


@pytest.mark.parametrize("kernel", [kernel for pair in KERNELS.values() for kernel in pair])
def test_the_cache_is_tied_to_every_source(kernel) -> None:
    stamp = kernel._cache._cache_file._source_stamp
    own = Path(kernel.py_func.__code__.co_filename)
    assert stamp == caching.sources_stamp(own.parent)
    assert {own.name, "blocks.py", "rows.py", "simd.py"} <= {name for name, _, _ in stamp}


def test_a_kernel_of_other_sources_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba import config, njit

    shared, own = tmp_path / "cpu", tmp_path / "cpu" / "operation"
    own.mkdir(parents=True)
    for path in Path(caching.__file__).parent.glob("*.py"):
        shutil.copy(path, shared)
    (own / "kernels.py").write_text("")
    monkeypatch.setattr(caching, "_SHARED", shared)
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))

    def kernel(x):
        return x + 1

    def hits_and_misses() -> tuple[int, int]:
        compiled = njit(cache=True)(kernel)
        caching.stamp(own, compiled)
        assert compiled(1) == 2
        return sum(compiled.stats.cache_hits.values()), sum(compiled.stats.cache_misses.values())

    assert hits_and_misses() == (0, 1)
    assert hits_and_misses() == (1, 0)
    for changed in (shared / "rows.py", own / "kernels.py"):
        with changed.open("a") as file:
            file.write("# changed\n")
        assert hits_and_misses() == (0, 1)
        assert hits_and_misses() == (1, 0)

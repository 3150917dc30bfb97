"""The Triton kernels compile for real devices, which the interpreter does not tell; none is needed for it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Not imported here: that has to be left to the tests with the interpreter.
pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton"),
]

# In a process of its own, where no test before it has set Triton to interpret.
PROGRAM = """
import json
import sys
from importlib import import_module
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tsssm.ops.gpu.chunks import adjoint_chunks, join_chunks
from tsssm.ops.gpu.lanes import VARYING

operation, capability, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
forward, backward = (import_module(f"tsssm.ops.gpu.{operation}.{part}") for part in ("forward", "backward"))
options = {
    "REVERSE": True, "UNEVEN": True, "FEEDTHROUGH": True, "ADD": True, "SAVE": True, "FINAL": True,
    "STARTED": True, "INITIAL": True, "ADJOINT": True, "OUTPUTS": True, "REMEMBERED": True, "READOUTS": 1,
    "LIQUID": False, "SLOTS": 1, "MODES": 4, "BLOCKS": 2, "LANES": 64, "SAMPLES": 4, "GROUP": 2,
} | options
without = {"OUTPUTS": False, "STARTED": False, "SAVE": False}
kernels = [(forward.scan_chunks, {}), (forward.scan_chunks, without)]
kernels += [(kernel, {}) for kernel in (join_chunks, adjoint_chunks, backward.gradients)]
if "PAST" in options:
    kernels.append((import_module("tsssm.ops.gpu.liquid.past").add_past, {}))
for kernel, other in kernels:
    constants = {name: value for name, value in (options | other).items() if name in kernel.arg_names}
    kinds = {name: "*fp32" if name.endswith("_ptr") else "i32" for name in kernel.arg_names}
    if "origin_ptr" in kinds:
        kinds["origin_ptr"] = "*i32"
    signature = kinds | dict.fromkeys(constants, "constexpr")
    if "alpha" in signature:
        signature["alpha"] = "fp32"
    # Pointers and sizes as most calls have them, which is when loads might be made wider.
    known = {"alpha", *constants, *VARYING}
    aligned = [i for i, name in enumerate(kernel.arg_names) if name not in known]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 2})
    print(kernel.__name__, compiled.metadata.shared)
"""


def diagonal(capability: int, rule: int, *, slow: bool = True, **options: int) -> Any:
    """A case of the diagonal scan; rules are those of `tsssm.ops.gpu.rules`."""
    marks = pytest.mark.slow if slow else ()
    return pytest.param("diagonal", capability, {"RULE": rule} | options, marks=marks)


def liquid(capability: int, kernel: int, order: int, *, slow: bool = True, **options: int) -> Any:
    """A case of the scan of Liquid-S4, by zero-order hold if not told otherwise; kernels as in `forms`."""
    slots = order if kernel == 0 else 1
    sizes = {"KERNEL": kernel, "ORDER": order, "SLOTS": slots, "RULE": 1, "MODES": 2}
    past = {"PAST": order - slots} if order > slots else {}
    return pytest.param("liquid", capability, sizes | past | options, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(
    ("operation", "capability", "options"),
    [
        diagonal(90, 1, REGULAR=False, slow=False),
        diagonal(80, 0, LIQUID=True, REGULAR=True),
        diagonal(100, 1, LIQUID=True, REGULAR=False, READOUTS=2),
        diagonal(75, 2, REGULAR=False),
        liquid(90, 1, 2, REGULAR=True, GROUP=1),
        liquid(80, 0, 2, REGULAR=False),
        liquid(80, 0, 3, RULE=0, REGULAR=True),
        liquid(100, 1, 4, REGULAR=False),
        liquid(75, 2, 2, REGULAR=False, READOUTS=2),
    ],
)
def test_kernels_compile(
    operation: str,
    capability: int,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Without shared memory, which shows that the modes of a lane stay in the registers of one thread."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, operation, str(capability), json.dumps(options)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    expected = 6 if "PAST" in options else 5
    assert len(lines) == expected and all(line.endswith(" 0") for line in lines), run.stdout


POOLED = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tsssm.ops.gpu.features.pooling import pool_series

capability, diagonal, modes, readouts, warps, ones = map(int, sys.argv[1:])
constants = {
    "DIAGONAL": bool(diagonal), "SHARES": True, "COMPETITION": True, "COMPETITORS": 8,
    "MODES": modes, "READOUTS": readouts, "SAMPLES": 16,
}
if ones:  # what a launch makes a constant
    constants |= dict.fromkeys(("total", "groups", "used", "held_used", "modes"), 1)
kinds = {name: "*fp32" if name.endswith("_ptr") else "i32" for name in pool_series.arg_names}
kinds |= dict.fromkeys(("index_ptr", "channel_ptr", "held_channel_ptr"), "*i32") | {"offsets_ptr": "*i64"}
signature = kinds | dict.fromkeys(constants, "constexpr")
aligned = [i for i, name in enumerate(pool_series.arg_names) if name.endswith("_ptr")]
attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
source = ASTSource(pool_series, signature=signature, constexprs=constants, attrs=attributes)
options = {"num_warps": warps, "num_stages": 1}
compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
code = compiled.asm["ptx"]
print(compiled.metadata.shared, "atom." in code or "red.global" in code)
"""


@pytest.mark.parametrize(
    ("options", "capability"),
    [
        ("1 8 32 1 0", 90),
        pytest.param("0 16 32 1 0", 100, marks=pytest.mark.slow),
        pytest.param("1 8 16 1 1", 80, marks=pytest.mark.slow),
        pytest.param("0 64 16 4 0", 75, marks=pytest.mark.slow),
        pytest.param("1 64 32 8 0", 75, marks=pytest.mark.slow),
    ],
)
def test_the_pooled_kernel_compiles(
    options: str, capability: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the shared memory that every device gives a program, and without an addition of unknown order."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-c", POOLED, str(capability), *options.split()], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    shared, atomic = run.stdout.split()
    assert int(shared) <= 48 * 1024 and atomic == "False"


WHOLE = """
import json
import sys
from importlib import import_module
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

operation, capability, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
forward, backward = (import_module(f"tsssm.ops.gpu.{operation}.{part}") for part in ("forward", "backward"))
options = {
    "RANK": 1, "READOUTS": 1, "REGULAR": False, "REVERSE": True, "STARTED": True, "FEEDTHROUGH": True,
    "ADD": True, "SAVE": True, "FINAL": True, "ENDED": True, "INITIAL": True,
    "MODES": 32, "LANES": 2, "SAMPLES": 1,
} | options
for kernel in (forward.scan_series, backward.gradients):
    constants = {name: value for name, value in options.items() if name in kernel.arg_names}
    kinds = {name: "*fp32" if name.endswith("_ptr") else "i32" for name in kernel.arg_names}
    kinds["u_ptr"] = options.get("input", "*fp32")
    signature = kinds | {"alpha": "fp32"} | dict.fromkeys(constants, "constexpr")
    known = {"alpha", "batch", "length", *constants}
    aligned = [i for i, name in enumerate(kernel.arg_names) if name not in known]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 1})
    code = compiled.asm["ptx"]
    print(kernel.__name__, compiled.metadata.shared, "atom." in code or "red.global" in code)
"""


def whole(operation: str, capability: int, *, slow: bool = True, **options: Any) -> Any:
    """A case of a scan whose programs run a channel from end to end."""
    return pytest.param(operation, capability, options, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(
    ("operation", "capability", "options"),
    [
        whole("dplr", 90, slow=False),
        whole("dplr", 80, SAMPLES=4, RANK=2, READOUTS=2, MODES=64, LANES=1, REGULAR=True),
        whole("dplr", 100, SAMPLES=4, MODES=4, LANES=16, input="*bf16"),
        whole("tridiagonal", 90),
        whole("tridiagonal", 80, SAMPLES=4, READOUTS=2, MODES=128, LANES=1, REGULAR=True),
        whole("tridiagonal", 100, SAMPLES=4, MODES=4, LANES=16, input="*fp16"),
    ],
)
def test_the_kernels_of_coupled_systems_compile(
    operation: str,
    capability: int,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Without shared memory: sums, scans and neighbours pass through the registers of a warp."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-c", WHOLE, operation, str(capability), json.dumps(options)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["scan_series 0 False", "gradients 0 False"]

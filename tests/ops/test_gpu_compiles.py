"""The Triton kernels compile for real devices, which the interpreter does not tell; none is needed for it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# Not imported here: that has to be left to the tests with the interpreter.
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")

# In a process of its own, where no test before it has set Triton to interpret.
PROGRAM = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tsssm.ops.gpu.diagonal.adjoint import adjoint_chunks
from tsssm.ops.gpu.diagonal.backward import gradients
from tsssm.ops.gpu.diagonal.forward import join_chunks, scan_chunks

capability, rule, liquid, regular, readouts = map(int, sys.argv[1:])
options = {
    "RULE": rule, "LIQUID": bool(liquid), "REGULAR": bool(regular), "READOUTS": readouts,
    "REVERSE": True, "UNEVEN": True, "FEEDTHROUGH": True, "ADD": True, "SAVE": True, "FINAL": True,
    "STARTED": True, "INITIAL": True, "ADJOINT": True, "OUTPUTS": True,
    "MODES": 4, "BLOCKS": 2, "LANES": 64, "SAMPLES": 4, "GROUP": 2,
}
kernels = [(scan_chunks, {}), (scan_chunks, {"OUTPUTS": False, "STARTED": False, "SAVE": False})]
for kernel, other in [*kernels, (join_chunks, {}), (adjoint_chunks, {}), (gradients, {})]:
    constants = {name: value for name, value in (options | other).items() if name in kernel.arg_names}
    kinds = {name: "*fp32" if name.endswith("_ptr") else "i32" for name in kernel.arg_names}
    signature = kinds | dict.fromkeys(constants, "constexpr")
    if "alpha" in signature:
        signature["alpha"] = "fp32"
    # Pointers and sizes as most calls have them, which is when loads might be made wider.
    aligned = [i for i, name in enumerate(kernel.arg_names) if name != "alpha" and name not in constants]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 2})
    print(kernel.__name__, compiled.metadata.shared)
"""


@pytest.mark.parametrize(
    ("options", "capability"),
    [
        ("1 0 0 1", 90),
        pytest.param("0 1 1 1", 80, marks=pytest.mark.slow),
        pytest.param("1 1 0 2", 90, marks=pytest.mark.slow),
        pytest.param("2 0 0 1", 75, marks=pytest.mark.slow),
    ],
)
def test_kernels_compile(
    options: str, capability: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without shared memory, which shows that the modes of a lane stay in the registers of one thread."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(capability), *options.split()], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 5 and all(line.endswith(" 0") for line in lines), run.stdout

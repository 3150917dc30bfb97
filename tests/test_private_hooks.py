"""What is used of other packages beyond their documentation: a failure here names the hook that changed."""

from __future__ import annotations

import logging
import platform
import re
import signal
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from teams import DEADLOCK

import tsssm
from tsssm.ops.cpu import compiling, threads
from tsssm.ops.cpu.buffers import arrays
from tsssm.ops.cpu.memory import piece, wipe, zeros
from tsssm.training._signals import nothing


def test_numba_asks_the_cache_of_a_kernel_before_it_compiles_and_tells_it_afterwards() -> None:
    calls: list[str] = []
    result: list[Any] = []

    class Cache:
        def load_overload(self, signature: Any, context: Any) -> Any:
            calls.append("load")
            return None

        def save_overload(self, signature: Any, compiled: Any) -> None:
            calls.append("save")
            result.append(compiled)

    def add(x):
        return x + 1

    kernel = compiling.kernel(add)
    kernel._cache = Cache()
    assert kernel(1) == 2 and kernel(2) == 3
    assert calls == ["load", "save"], "Dispatcher._cache"
    copied = compiling.CompileResult._rebuild(kernel.targetctx, *compiling.pickle.loads(dumped(result[0])))
    assert copied.signature == result[0].signature, "CompileResult._reduce and _rebuild"


def dumped(result: Any) -> bytes:
    return compiling.dumps(result._reduce())


def test_numba_compiles_no_branch_that_asks_for_what_is_none() -> None:
    def length(x, y):
        given = y is not None
        if given:
            return x.size + y.size
        return x.size

    kernel = compiling.kernel(length)
    kernel._cache = compiling.CPUDispatcher(length)._cache  # keeps nothing
    assert kernel(np.zeros(3), None) == 3, "dead_branch_prune"
    assert kernel(np.zeros(3), np.zeros(2)) == 5


def test_numba_compiles_a_part_once_for_all_numbers_that_callers_write_out() -> None:
    @compiling.routine
    def scaled(x, factor):
        return x * factor

    def total(x):
        return scaled(x, 2) + scaled(x, 3)

    kernel = compiling.kernel(total)
    kernel._cache = compiling.CPUDispatcher(total)._cache
    assert kernel(2) == 10
    assert len(scaled.overloads) == 1, "Dispatcher.get_call_template"


def test_numba_makes_no_machine_code_of_a_part() -> None:
    @compiling.routine
    def doubled(x):
        return 2 * x

    def total(x):
        return doubled(x) + 1

    kernel = compiling.kernel(total)
    kernel._cache = compiling.CPUDispatcher(total)._cache
    assert kernel(2.0) == 5.0
    (part,), (whole,) = doubled.overloads.values(), kernel.overloads.values()
    found = [code.library.get_pointer_to_function(code.fndesc.llvm_func_name) for code in (part, whole)]
    assert not found[0] and found[1], "JITCodeLibrary.finalize, get_pointer_to_function"
    assert compiling.CPUDispatcher(total, targetoptions={"nopython": True})(2.0) == 5.0, "a hook that stayed"


def test_numba_enters_a_kernel_without_asking_for_types() -> None:
    def total(x, factor):
        return x.sum() * factor

    kernel = compiling.kernel(total)
    kernel._cache = compiling.CPUDispatcher(total)._cache
    for key, dtype in (("single", np.float32), ("double", np.float64)) * 2:
        assert kernel.by(key)(np.ones(3, dtype), 2.0) == 6, "typeof_pyval, overloads, entry_point"
    assert kernel.by("single") is not kernel.by("double")
    with pytest.raises(TypeError, match="unbox"):
        kernel.by("single")(np.ones(3), 2.0)


def test_numba_makes_an_array_of_an_address() -> None:
    def last(place, like):
        return arrays(place, like)[1, 2]

    kernel = compiling.kernel(last)
    kernel._cache = compiling.CPUDispatcher(last)._cache
    numbers = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    assert kernel((numbers.ctypes.data, (2, 3)), np.empty(0, np.float32)) == 5, "populate_array"


def test_numba_makes_and_cuts_arrays_that_are_counted() -> None:
    @compiling.maker
    def second(shape, like):
        whole = zeros((2, shape[0], shape[1]), like)
        wipe(whole)
        return piece(whole, whole.size // 2, shape)

    def last(like):
        rows = second((3, 4), like)
        rows[2, 3] = 7
        return rows

    kernel = compiling.kernel(last)
    kernel._cache = compiling.CPUDispatcher(last)._cache
    rows: Any = kernel(np.empty(0))
    assert rows.shape == (3, 4) and rows[2, 3] == rows.sum() == 7, "meminfo_alloc_aligned, meminfo_data"
    assert rows.base.refcount == 1, "NRTContext.incref"


def test_numba_links_what_parts_call_into_a_kernel_and_other_callers() -> None:
    @compiling.routine
    def inner(x):
        return x + 1

    @compiling.routine
    def outer(x):
        return 2 * inner(x)

    def total(x):
        return outer(x) + 1

    kernel = compiling.kernel(total)
    kernel._cache = compiling.CPUDispatcher(total)._cache
    assert kernel(2) == 7, "CodeLibrary._linking_libraries"
    assert compiling.CPUDispatcher(total)(2) == 7, "CodeLibrary._get_module_for_linking"
    codegen = compiling.cpu_target.target_context.codegen()
    assert codegen._library_class is compiling.JITCodeLibrary, "a hook that stayed"


class One(NamedTuple):
    x: Any


class Other(NamedTuple):
    x: Any
    y: Any


def test_numba_tells_named_tuples_apart() -> None:
    @compiling.Choice
    def size(given: Any) -> int:
        return 0

    @size.of(One)
    @compiling.inline
    def _(given):
        return given.x.size

    @size.of(object)
    @compiling.inline
    def _(given):
        return given.x.size * given.y

    def both(one, other, none):
        size(none)
        return size(one) + size(other)

    kernel = compiling.kernel(both)
    kernel._cache = compiling.CPUDispatcher(both)._cache
    assert kernel(One(np.zeros(3)), Other(np.zeros(2), 5), None) == 13, "NamedTuple.instance_class"


def test_numba_leaves_reference_counts_out_of_a_routine() -> None:
    from numba import TypingError

    def fresh(x):
        return np.zeros(x)

    with pytest.raises(TypingError, match="Only accept returning of array passed into the function"):
        compiling.routine(fresh)(3)  # the option _nrt


@pytest.mark.skipif(platform.system() != "Linux", reason="PyTorch brings another OpenMP elsewhere")
def test_pytorch_is_linked_with_the_openmp_that_opens_a_parallel_region() -> None:
    assert threads._parallel_region() is not None, "GOMP_parallel in libtorch_cpu.so"
    barrier = threading.Barrier(2, timeout=DEADLOCK)
    threads.run([barrier.wait, barrier.wait], 2)


def test_lightning_logs_by_the_names_that_are_silenced(capfd: pytest.CaptureFixture[str]) -> None:
    import lightning.pytorch as pl

    from tsssm.training._quiet import quiet

    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    assert all(logger.handlers or logger.level for logger in loggers), "the loggers of Lightning"
    with quiet(verbose=0):
        pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert capfd.readouterr() == ("", ""), "a line of Lightning by another way"


def test_lightning_handles_signals_by_the_name_that_is_replaced() -> None:
    import lightning.pytorch as pl
    from lightning.pytorch.demos.boring_classes import BoringModel

    from tsssm.training._quiet import leave_signals_alone, quiet

    with quiet(verbose=0):
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(accelerator="cpu", fast_dev_run=True, **options)
        leave_signals_alone(trainer)
        handlers = trainer._signal_connector.register_signal_handlers
        assert handlers is nothing, "Trainer._signal_connector, _accelerator_connector.cluster_environment"
        before, during = signal.getsignal(signal.SIGTERM), list[Any]()
        model = BoringModel()
        model.on_train_start = lambda: during.append(signal.getsignal(signal.SIGTERM))
        trainer.fit(model)
    assert during == [before], "register_signal_handlers"


@pytest.mark.parametrize(
    ("hooks", "home"),
    [
        (r"numba\.(core|np|cpython)\b", "ops/cpu/compiling.py"),
        (r"GOMP_|libtorch_cpu", "ops/cpu/threads.py"),
        (r"trainer\._|lightning\.fabric\"", "training/_quiet.py"),
    ],
)
def test_the_hooks_of_a_package_stand_in_one_file(hooks: str, home: str) -> None:
    package = Path(tsssm.__file__).parent
    found = {path for path in package.rglob("*.py") if re.search(hooks, path.read_text(encoding="utf-8"))}
    assert found == {package / home}

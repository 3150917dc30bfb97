"""Compiled kernels are kept wherever a folder can be written, and are those of the present sources."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pooch
import pytest

import tsssm
from tsssm.ops.cpu import caching

KERNEL = "from tsssm.ops.cpu.compiling import kernel\n\n@kernel\ndef add(x):\n    return x + 1\n"


class Machine:
    """A package of one kernel, a home and a folder for temporary files; any of them can be blocked."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.package, self.home, self.temporary = (root / name for name in ("package", "home", "temporary"))
        self.own = self.package / "operation"
        self.own.mkdir(parents=True)
        (self.package / "shared.py").write_text("")
        (self.own / "kernels.py").write_text(KERNEL)
        for variable in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setattr(caching, "_SHARED", self.package)
        monkeypatch.setattr(tempfile, "tempdir", str(self.temporary))

    def block(self, folder: Path) -> None:
        """A file where a folder should be: permissions do not bind root."""
        folder.parent.mkdir(exist_ok=True, parents=True)
        folder.write_text("")

    def compiles(self) -> bool:
        """Whether a process of its own would have to compile the kernel; it is kept afterwards."""
        caching.sources_stamp.cache_clear()
        spec = importlib.util.spec_from_file_location("kernels", self.own / "kernels.py")
        assert spec is not None and spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.add(1) == 2
        hits, misses = (sum(counts.values()) for counts in module.add.stats[1:])
        assert hits + misses == 1
        return misses == 1

    def kept(self) -> list[Path]:
        root = self.package.parent
        return [path for path in root.rglob("kernels.add-*") if path.is_file()]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    caching.sources_stamp.cache_clear()
    caching._say_that_nothing_is_kept.cache_clear()
    return Machine(tmp_path, monkeypatch)


def test_a_kernel_of_other_sources_is_compiled_anew(machine: Machine) -> None:
    assert machine.compiles() and not machine.compiles()
    for changed in (machine.package / "shared.py", machine.own / "kernels.py"):
        with changed.open("a") as file:
            file.write("# changed\n")
        assert machine.compiles() and not machine.compiles()
    assert len(machine.kept()) == 1
    os.utime(changed, (0, 0))  # a copy of the same sources
    assert not machine.compiles()


@pytest.mark.parametrize("blocked", [0, 1, 2])
def test_the_first_folder_that_can_be_written_keeps_a_kernel(machine: Machine, blocked: int) -> None:
    for folder in [machine.package / "__pycache__", machine.home][:blocked]:
        machine.block(folder)
    assert machine.compiles() and not machine.compiles()
    (kept,) = machine.kept()
    assert machine.home.exists() == (blocked > 0) and machine.temporary.exists() == (blocked > 1)
    assert kept.is_relative_to([machine.package, machine.home, machine.temporary][blocked])
    if blocked == 2:
        assert (machine.temporary / f"tsssm-{os.getuid()}").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("home", ["~/.cache/tsssm", None])
def test_a_user_without_a_home(machine: Machine, monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    def user_cache(project: str) -> str:
        if home is None:
            raise RuntimeError("could not determine the home directory")
        return home

    monkeypatch.setattr(pooch, "os_cache", user_cache)
    machine.block(machine.package / "__pycache__")
    assert machine.compiles() and not machine.compiles()
    assert machine.kept()[0].is_relative_to(machine.temporary)


def test_a_folder_can_be_named(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    assert machine.compiles() and not machine.compiles()
    assert machine.kept()[0].is_relative_to(tmp_path / "named")


def test_a_package_that_cannot_be_written_is_read(machine: Machine) -> None:
    assert machine.compiles()
    for path in machine.kept():
        before = path.read_bytes()
        path.write_bytes(before[:-1])
    (machine.package / "__pycache__" / f"{path.name}.{os.getpid()}").mkdir()  # so that it cannot be renewed
    assert machine.compiles() and not machine.compiles()
    path.write_bytes(before)
    shutil.rmtree(machine.home)
    assert not machine.compiles()


@pytest.mark.parametrize("folder", ["owned by another", "open to all", "a link"])
def test_a_temporary_folder_that_others_may_write_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    machine.block(machine.package / "__pycache__")
    machine.block(machine.home)
    shared = machine.temporary / f"tsssm-{os.getuid()}"
    assert machine.compiles() and not machine.compiles()
    if folder == "owned by another":
        monkeypatch.setattr(os, "getuid", lambda: int(shared.name.split("-")[1]) + 1)
        shared.rename(machine.temporary / f"tsssm-{os.getuid()}")
    elif folder == "open to all":
        shared.chmod(0o777)
    else:
        shared.symlink_to(shared.rename(tmp_path / "elsewhere"))
    assert machine.compiles() and machine.compiles()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:100], lambda data: b"", lambda data: b"\0" * len(data)]
)
def test_a_broken_entry_is_replaced(machine: Machine, damage: Any) -> None:
    assert machine.compiles()
    (kept,) = machine.kept()
    kept.write_bytes(damage(kept.read_bytes()))
    assert machine.compiles() and not machine.compiles()


def test_a_sound_entry_that_holds_something_else_is_replaced(machine: Machine) -> None:
    assert machine.compiles()
    (kept,) = machine.kept()
    caching.save(*kept.name.split("-"), b"not a pickle")
    assert machine.compiles() and not machine.compiles()


def test_on_a_full_disk_one_line_says_that_nothing_is_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = Path.write_bytes

    def write_a_part(path: Path, data: bytes) -> int:
        write(path, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_a_part)
    assert machine.compiles() and machine.compiles()
    assert machine.kept() == []
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith("Compiled kernels cannot be kept")


SCRIPT = """
import sys, tempfile, torch
tempfile.tempdir = "/dev/null"
import tsssm
from tsssm.ops import batch_norm
assert tsssm.__file__.startswith(sys.argv[1])
h = torch.randn(2, 3, 16)
for _ in range(2):
    one, zero, keep = torch.ones(16), torch.zeros(16), torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(
        batch_norm(h, zero.clone(), one.clone(), one, zero, keep),
        (h - h.mean((0, 1))) / (h.var((0, 1), correction=0) + 1e-5).sqrt(),
    )
"""


def test_a_package_in_a_container_without_a_folder_to_write(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    copy = shutil.copytree(Path(tsssm.__file__).parent, tmp_path / "tsssm", ignore=ignored)
    (copy / "ops" / "cpu" / "__pycache__").write_text("")
    environment = {"PATH": os.environ["PATH"], "HOME": "/dev/null", "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)],
        env=environment | {"NUMBA_DISABLE_JIT": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("\n") == 1 and run.stderr.startswith("Compiled kernels cannot be kept")

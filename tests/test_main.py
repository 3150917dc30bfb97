"""``python -m tsssm`` tells what a report of a fault needs, and warms the folder of kernels."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import pytest
import torch

import tsssm
from tsssm import __main__ as program
from tsssm.ops import operands
from tsssm.ops.cpu import caching


def test_the_report_names_versions_devices_threads_and_folders(capsys):
    program.main([])
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["tsssm"] == tsssm.__version__ and lines["numba"] == numba.__version__
    assert lines["torch"] == torch.__version__ and lines["devices"].startswith("cpu")
    if not torch.cuda.is_available():
        assert lines["accelerator='auto'"] == "cpu" and "scans on cuda" not in lines
    assert lines["scans on cpu"] == "compiled by Numba"
    assert lines["threads"].startswith(f"{torch.get_num_threads()} of torch")
    assert f"kernels in {next(caching.folders())}" in lines


@pytest.mark.parametrize(("triton", "path"), [(True, "Triton kernels"), (False, "PyTorch over chunks")])
def test_the_report_says_what_runs_on_a_gpu(triton, path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a device")
    monkeypatch.setattr(operands, "_HAS_TRITON", triton)
    lines = dict(line.split(": ", 1) for line in program.report().splitlines())
    assert lines["devices"] == "cpu, a device" and lines["accelerator='auto'"] == "cuda"
    assert lines["scans on cuda"].startswith(path)


@pytest.mark.slow
def test_an_image_is_warmed_and_nothing_is_compiled_after_it(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tsssm", "--compile", "s4d"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert kept
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

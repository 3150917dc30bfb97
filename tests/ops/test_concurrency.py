"""The kernels under Python threads, after a fork, and in the workers of joblib."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import joblib
import pytest
import torch
from systems import assert_close, make_problem, results
from teams import DEADLOCK
from torch import Tensor

from tsssm.ops import causal_conv
from tsssm.ops.cpu import layout, threads


def answers(seed: int) -> dict[str, Tensor]:
    """Both operations, forward and gradient, on a problem that is cut into two tasks.

    It is so small that PyTorch itself does not use its threads, which do not survive a fork (OpenMP).
    """
    problem = make_problem(batch=2, length=40, channels=9, readouts=2, gaps="few", seed=seed)
    found = results(problem, liquid=seed % 2 == 1)
    u = problem.u.clone().requires_grad_()
    y = causal_conv(u, problem.u[0, None])
    (gradient,) = torch.autograd.grad(y.square().sum(), u)
    return found | {"y of causal_conv": y.detach(), "gradient of causal_conv": gradient}


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads a call, for calls however small."""
    monkeypatch.setattr(layout, "_MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_eight_threads_at_once(two_threads: None) -> None:
    expected = [answers(seed) for seed in range(8)]
    start = threading.Barrier(8, timeout=DEADLOCK)

    def work(seed: int) -> list[dict[str, Tensor]]:
        start.wait()
        return [answers(seed) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        for seed, repeated in enumerate(pool.map(work, range(8), timeout=DEADLOCK)):
            for found in repeated:
                assert_close(found, expected[seed], torch.float64)


@pytest.fixture(params=["PyTorch's threads", "a pool"])
def team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of threads that tasks can run on."""
    if request.param == "a pool":
        monkeypatch.setattr(threads, "_parallel_region", lambda: None)
    elif threads._parallel_region() is None:
        pytest.skip("PyTorch is not linked with an OpenMP library that has GNU's entry points")


def test_linux_has_threads_of_openmp() -> None:
    if not sys.platform.startswith("linux") or "OpenMP" not in torch.__config__.parallel_info():
        pytest.skip("another platform")
    assert threads._parallel_region() is not None


def test_error_in_a_task_reaches_the_caller(team: None) -> None:
    """Of another thread's tasks as of the caller's own; and the threads go on working."""
    done: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    for tasks in ([fail, lambda: done.append(1)], [lambda: done.append(2), fail]):
        with pytest.raises(ZeroDivisionError):
            threads.run(tasks, 2)
    threads.run([lambda: done.append(3), lambda: done.append(4)], 2)
    assert sorted(done) == [1, 2, 3, 4]


def test_tasks_run_at_the_same_time(team: None) -> None:
    meeting = threading.Barrier(3, timeout=DEADLOCK)
    threads.run([meeting.wait] * 3, 3)


def test_more_tasks_than_threads(team: None) -> None:
    done: list[int] = []
    threads.run([lambda i=i: done.append(i) for i in range(100)], 3)
    assert sorted(done) == list(range(100))


def test_tasks_of_tasks(team: None) -> None:
    """As where a caller's thread is itself one of a team."""
    done: list[int] = []
    inner = [lambda i=i: done.append(i) for i in range(4)]
    threads.run([lambda: threads.run(inner, 2), lambda: None], 2)
    assert sorted(done) == [0, 1, 2, 3]


def _send_answers(connection: Connection) -> None:
    found = answers(3)
    connection.send({name: value.numpy() for name, value in found.items()})


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="there is no fork on this platform")
def test_fork(two_threads: None, team: None) -> None:
    """Call, fork, call in the child and in the parent; the child inherits a team without threads."""
    expected = answers(3)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_answers, args=(sender,), daemon=True)
    with warnings.catch_warnings():
        # From Python 3.12 on a fork beside threads warns: it is what is tested here.
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        child.start()
    sender.close()
    try:
        assert receiver.poll(DEADLOCK), "the child does not answer: deadlock"
        found = {name: torch.as_tensor(value) for name, value in receiver.recv().items()}
        child.join(DEADLOCK)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
    assert_close(found, expected, torch.float64)
    assert_close(answers(3), expected, torch.float64)


def test_fork_while_the_pool_is_made(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child of a fork at the moment another thread holds the pool's lock gets a lock of its own."""
    with threads._lock:
        before = threads._lock
        pools = dict(threads._pools)
        monkeypatch.setattr(threads, "_forked", False)  # and back again afterwards
        try:
            threads._forget()
            assert threads._lock is not before and not threads._lock.locked()
            answers(0)
        finally:
            threads._lock = before
            threads._pools.clear()
            threads._pools.update(pools)


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], dict[str, Tensor]]:
    """`answers` such that a worker process finds this module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return getattr(sys.modules[__name__], "answers")  # noqa: B009


@pytest.mark.slow
def test_loky(importable: Callable[[int], dict[str, Tensor]]) -> None:
    expected = [answers(seed) for seed in range(3)]
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel(timeout=DEADLOCK)(joblib.delayed(importable)(seed) for seed in range(3))
    for got, value in zip(found, expected, strict=True):
        assert_close(got, value, torch.float64)

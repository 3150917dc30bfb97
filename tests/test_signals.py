"""SIGTERM and Ctrl-C while a fit runs: what ends, what is kept, and what is never returned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import lightning.pytorch as pl
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sktime.classification.model_evaluation import evaluate

from tsssm import SSMClassifier
from tsssm.training import _checkpoints


class InEpoch(pl.Callback):
    """Does something at the start of an epoch, also as a copy of itself, and counts the epochs."""

    def __init__(self, epoch, act) -> None:
        self.epoch, self.act, self.epochs = epoch, act, []

    def __deepcopy__(self, memo):
        return self

    def on_train_epoch_start(self, trainer, module):
        self.epochs.append(trainer.current_epoch)
        if trainer.current_epoch == self.epoch:
            self.act()


def interrupt():
    raise KeyboardInterrupt


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def term_handler():
    """Whatever a test sets for SIGTERM is undone."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


# SIGTERM

TERMINATED = """
import os, signal, sys
import numpy as np
import lightning.pytorch as pl
from tsssm import SSMClassifier

class Terminate(pl.Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.current_epoch == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGTERM)

X, y = np.load("X.npy"), np.load("y.npy")
try:
    SSMClassifier(
        backbone="s4d", n_layers=1, d_model=8, d_state=4, max_epochs=12, random_state=0,
        checkpoint_dir="state", callbacks=[Terminate()],
    ).fit(X, y).save("model.safetensors")
finally:
    print("cleaned up")
"""


def test_a_terminated_fit_ends_with_143_and_leaves_a_checkpoint(labelled, tmp_path):
    X, y = labelled
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    command = [sys.executable, "-c", TERMINATED, "9"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (143, "cleaned up\n"), done.stderr
    assert not (tmp_path / "model.safetensors").exists()
    (path,) = (tmp_path / "state").glob("*.ckpt")
    assert _checkpoints.read_checkpoint(path)["epoch"] < 9


def test_sigterm_writes_and_the_resumed_fit_is_the_whole_one(
    labelled, tiny, tmp_path, term_handler, monkeypatch
):
    """Within one process: what is in memory is written although writing was not due."""
    monkeypatch.setattr(_checkpoints, "_PAUSE", 10**9)
    monkeypatch.setattr(_checkpoints, "_PAUSE_OF_COPIES", 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    X, y = labelled
    parameters = {**tiny, "max_epochs": 8}
    whole = SSMClassifier(**parameters, callbacks=[InEpoch(99, None)]).fit(X, y)
    clf = SSMClassifier(**parameters, checkpoint_dir=tmp_path, callbacks=[InEpoch(6, terminate)])
    with pytest.raises(SystemExit) as ended:
        clf.fit(X, y)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [path.suffix for path in tmp_path.iterdir()] == [".ckpt"]
    again = InEpoch(99, None)
    resumed = clf.set_params(callbacks=[again]).fit(X, y)
    assert again.epochs == [6, 7]
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert list(tmp_path.iterdir()) == []


def test_a_handler_of_the_user_rules(labelled, tiny, tmp_path, term_handler):
    X, y = labelled
    seen = []

    def handler(number, frame):
        seen.append((number, [path.suffix for path in tmp_path.iterdir() if path.suffix == ".ckpt"]))

    signal.signal(signal.SIGTERM, handler)
    callback = InEpoch(2, terminate)
    SSMClassifier(**tiny, checkpoint_dir=tmp_path, callbacks=[callback]).fit(X, y)
    assert seen == [(signal.SIGTERM, [".ckpt"])], "called once, after the state was written"
    assert callback.epochs == [0, 1, 2] and signal.getsignal(signal.SIGTERM) is handler


def test_an_ignored_sigterm_stays_ignored(labelled, tiny, term_handler):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    callback = InEpoch(1, terminate)
    SSMClassifier(**tiny, callbacks=[callback]).fit(*labelled)
    assert callback.epochs == [0, 1, 2] and signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_a_fit_in_a_thread_leaves_signals_alone(labelled, tiny, term_handler):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    found = []
    callback = InEpoch(1, lambda: found.append(signal.getsignal(signal.SIGTERM)))
    clf = SSMClassifier(**tiny, callbacks=[callback])
    thread = threading.Thread(target=clf.fit, args=labelled)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL] and clf._is_fitted


# Ctrl-C


def test_ctrl_c_in_a_fit_alone_keeps_its_best_weights_and_says_so(labelled, tiny):
    X, y = labelled
    for fit in (
        lambda clf: clf.fit(X, y),
        lambda clf: make_pipeline(FunctionTransformer(), clf).fit(X, y)[-1],
    ):
        clf = SSMClassifier(**tiny, callbacks=[InEpoch(1, interrupt)])
        with pytest.warns(UserWarning, match="interrupted in epoch 2; the estimator keeps the weights"):
            fitted = fit(clf)
        assert fitted.predict(X).shape == (24,)


@pytest.mark.parametrize("tool", ["cross_val_score", "search", "calibration", "sktime"])
def test_ctrl_c_inside_a_tool_gets_through_at_once(tool, labelled, tiny):
    X, y = labelled
    callback = InEpoch(1, interrupt)
    clf = SSMClassifier(**tiny, callbacks=[callback])
    run = {
        "cross_val_score": lambda: cross_val_score(make_pipeline(FunctionTransformer(), clf), X, y, cv=3),
        "search": lambda: GridSearchCV(clf, {"dropout": [0.0, 0.1]}, cv=3).fit(X, y),
        "calibration": lambda: CalibratedClassifierCV(clf, cv=3).fit(X, y),
        "sktime": lambda: evaluate(clf, KFold(3), X, y),
    }[tool]
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert callback.epochs == [0, 1], "the first fit alone, up to the interrupt"
    assert signal.getsignal(signal.SIGINT) is before

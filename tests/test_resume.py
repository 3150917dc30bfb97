"""A fit that was killed goes on where it was, and ends where it would have ended."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from tsssm import Panel, SSMClassifier, SSMRegressor, load
from tsssm.estimators._classes import NetworkClasses

EPOCHS = 12


class Counter(pl.Callback):
    """Counts epochs, also those of copies of itself; may end the program as a power cut would."""

    def __init__(self, stop_at: int | None = None, stop=None) -> None:
        self.epochs: list[int] = []
        self.stop_at, self.stop = stop_at, stop

    def __deepcopy__(self, memo):
        return self

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.stop_at:
            self.stop()
        self.epochs.append(trainer.current_epoch)


class PowerCut(Exception):
    pass


def power_cut():
    raise PowerCut


@pytest.fixture(autouse=True)
def every_epoch_is_written(monkeypatch):
    monkeypatch.setattr("tsssm.training._checkpoints._PAUSE", 0)


@pytest.fixture
def ragged(labelled):
    """Irregular series of unequal lengths, two with missing values; labels and numbers for them."""
    X, y = labelled
    rng = np.random.default_rng(2)
    lengths = rng.integers(6, 13, size=24)
    series = [x[:, :length].copy() for x, length in zip(X, lengths, strict=True)]
    series[3][0, 2] = series[7][1, 1] = np.nan
    times = [np.cumsum(rng.uniform(0.5, 2.0, size=length)) for length in lengths]
    return Panel.from_arrays(series, times), y, np.array([np.nanmean(x) for x in series])


def fit_with_power_cut(model, data, directory, epoch=7):
    """Fit, be cut off in ``epoch``, fit again; the model, and the epochs that were run after the cut."""
    cut = type(model)(**{**model.get_params(), "checkpoint_dir": directory})
    cut.callbacks = [Counter(epoch, power_cut)]
    with pytest.raises(PowerCut):
        cut.fit(*data)
    assert len(list(directory.iterdir())) == 1
    counter = Counter()
    resumed = type(model)(**{**cut.get_params(), "callbacks": [counter]})
    return resumed.fit(*data), counter.epochs


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early_stopping": True, "n_iter_no_change": 6, "max_epochs": 60, "learning_rate": 0.05},
        {"max_epochs": None, "max_steps": 27, "backbone": "s5", "norm": "layer", "pooling": "max"},
        {"precision": "bf16-mixed"},
        {"n_members": 2, "n_features": 384},
    ],
    ids=["plain", "early stopping", "steps", "bf16", "members"],
)
def test_a_resumed_fit_is_the_uninterrupted_one(options, ragged, tiny, tmp_path):
    panel, y, _ = ragged
    parameters = {**tiny, "max_epochs": EPOCHS, "dropout": 0.3, "batch_size": 8, **options}
    # As the callbacks of the fit belong to what a checkpoint is of, this one has as many.
    whole = SSMClassifier(**parameters, callbacks=[Counter()]).fit(panel, y)
    assert whole.n_iter_ > 8
    resumed, epochs = fit_with_power_cut(SSMClassifier(**parameters), (panel, y), tmp_path)
    assert epochs == list(range(7, whole.n_iter_))
    np.testing.assert_array_equal(resumed.predict_proba(panel), whole.predict_proba(panel))
    for name, tensor in whole.net_.state_dict().items():
        assert torch.equal(resumed.net_.state_dict()[name], tensor), name
    assert resumed.loss_curve_ == whole.loss_curve_
    assert resumed.validation_scores_ == whole.validation_scores_
    assert resumed.best_validation_score_ == whole.best_validation_score_
    assert resumed.n_iter_ == whole.n_iter_
    assert list(tmp_path.iterdir()) == []


def test_a_regressor_resumes_with_weights_of_its_series(ragged, tiny, tmp_path):
    panel, _, y = ragged
    weight = np.linspace(0.5, 2.0, 24)
    reg = SSMRegressor(**{**tiny, "max_epochs": EPOCHS})
    whole = SSMRegressor(**reg.get_params()).set_params(callbacks=[Counter()]).fit(panel, y, weight)
    resumed, epochs = fit_with_power_cut(reg, (panel, y, weight), tmp_path)
    assert epochs[0] == 7
    np.testing.assert_array_equal(resumed.predict(panel), whole.predict(panel))


def test_the_state_after_a_divergence_is_resumed(ragged, tiny, tmp_path, monkeypatch):
    """A recovery halves the learning rates; the halves must be what a resumed fit goes on with."""
    panel, y, _ = ragged
    original = NetworkClasses.loss_of
    calls = {"seen": 0}

    def sometimes_nan(self, *operands):
        calls["seen"] += 1
        losses = original(self, *operands)
        return losses * math.nan if calls["seen"] == 10 else losses  # epoch 3

    monkeypatch.setattr(NetworkClasses, "loss_of", sometimes_nan)
    parameters = {**tiny, "max_epochs": EPOCHS, "batch_size": 8}
    whole = SSMClassifier(**parameters, callbacks=[Counter()]).fit(panel, y)
    calls["seen"] = 0
    resumed, epochs = fit_with_power_cut(SSMClassifier(**parameters), (panel, y), tmp_path)
    assert epochs[0] == 7 and calls["seen"] == 3 * EPOCHS
    np.testing.assert_array_equal(resumed.predict_proba(panel), whole.predict_proba(panel))


KILLED = """
import os, signal, sys
import lightning.pytorch as pl
import numpy as np
from tsssm import SSMClassifier

class Kill(pl.Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.current_epoch == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        print("epoch", trainer.current_epoch, flush=True)

X, y = np.load("X.npy"), np.load("y.npy")
clf = SSMClassifier(
    backbone="s4d", n_layers=1, d_model=8, d_state=4, dropout=0.2, max_epochs=40, early_stopping=True,
    n_iter_no_change=40, random_state=3, checkpoint_dir="state", callbacks=[Kill()],
).fit(X, y)
clf.save("model.safetensors")
"""


@pytest.mark.slow
def test_a_killed_fit_resumes_to_the_same_bits(labelled, tmp_path):
    X, y = labelled
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)

    def run(kill_at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(kill_at)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    first = run(30)
    assert first.returncode == -signal.SIGKILL and not (tmp_path / "model.safetensors").exists()
    assert any((tmp_path / "state").iterdir())
    second = run(-1)
    assert second.returncode == 0, second.stderr
    assert 0 < int(second.stdout.split()[1]) <= 30  # not every epoch is written
    assert list((tmp_path / "state").iterdir()) == []
    resumed = load(tmp_path / "model.safetensors")
    whole = clone(resumed).set_params(checkpoint_dir=None).fit(X, y)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert resumed.loss_curve_ == whole.loss_curve_
    assert resumed.validation_scores_ == whole.validation_scores_


KILLER = """
import os, signal, time
import lightning.pytorch as pl
import numpy as np
import torch
from tsssm import SSMClassifier

torch.set_num_threads(1)
X, y = np.load("X.npy"), np.load("y.npy")

class Tell(pl.Callback):
    def on_train_batch_start(self, trainer, *args):
        os.write(pipe[1], b".")

def child():
    process = os.fork()
    if process == 0:
        SSMClassifier(
            backbone="s4d", n_layers=1, d_model=8, d_state=4, dropout=0.2, max_epochs=100, random_state=3,
            early_stopping=True, n_iter_no_change=100, checkpoint_dir="state", callbacks=[Tell()],
        ).fit(X, y).save("model.safetensors")
        os._exit(0)
    return process

rng = np.random.default_rng(0)
for kill in range(30):
    pipe = os.pipe()
    process = child()
    for _ in range(int(rng.integers(2, 9))):  # so many batches, and then anywhere after one
        os.read(pipe[0], 1)
    time.sleep(rng.uniform(0, 0.02))
    os.kill(process, signal.SIGKILL)
    assert os.waitpid(process, 0)[1] == signal.SIGKILL, "it came to its end before"
pipe = os.pipe()
print("last", os.waitpid(child(), 0)[1])
"""


@pytest.mark.slow
def test_thirty_kills_at_random_moments_change_no_bit(labelled, tmp_path):
    X, y = labelled
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    done = subprocess.run([sys.executable, "-c", KILLER], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "last 0\n"), done.stderr
    resumed = load(tmp_path / "model.safetensors")
    whole = clone(resumed).set_params(checkpoint_dir=None).fit(X, y)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert resumed.loss_curve_ == whole.loss_curve_
    assert list((tmp_path / "state").iterdir()) == []


def test_ctrl_c_keeps_the_checkpoint(ragged, tiny, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    panel, y, _ = ragged
    parameters = {**tiny, "max_epochs": EPOCHS}
    whole = SSMClassifier(**parameters, callbacks=[Counter()]).fit(panel, y)
    clf = SSMClassifier(**parameters, checkpoint_dir=tmp_path, callbacks=[Counter(5, interrupt)])
    with pytest.warns(UserWarning, match="interrupted in epoch 6"):
        clf.fit(panel, y)
    clf.callbacks = [counter := Counter()]
    np.testing.assert_array_equal(clf.fit(panel, y).predict_proba(panel), whole.predict_proba(panel))
    assert counter.epochs[0] == 5


def left_behind(data, tiny, directory: Path, **options) -> Path:
    """The checkpoint of a fit that was cut off."""
    clf = SSMClassifier(**{**tiny, "max_epochs": 6, **options}, checkpoint_dir=directory)
    clf.callbacks = [Counter(3, power_cut)]
    with pytest.raises(PowerCut):
        clf.fit(*data)
    (path,) = directory.iterdir()
    return path


def test_other_fits_are_refused_by_what_differs(ragged, tiny, tmp_path):
    panel, y, _ = ragged
    path = left_behind((panel, y), tiny, tmp_path)
    same = {**tiny, "max_epochs": 6, "resume_from": path, "callbacks": [Counter()]}
    cases = [
        ({"learning_rate": 0.01}, (panel, y), "learning_rate (0.004 then, 0.01 now)"),
        ({"pooling": "max"}, (panel, y), "pooling ('auto' then, 'max' now)"),
        ({"random_state": 1}, (panel, y), "seed ("),
        ({"callbacks": None}, (panel, y), 'callbacks (["Counter"] then, [] now)'),
        ({"trainer_kwargs": {"detect_anomaly": True}}, (panel, y), "trainer_kwargs ({} then, {"),
        ({}, (panel, y[::-1]), "training data ("),
        ({}, (panel[1:], y[1:]), "training data ("),
        ({}, (panel, y, np.linspace(1, 2, 24)), "training data ("),
    ]
    for change, data, difference in cases:
        clf = SSMClassifier(**{**same, **change})
        with pytest.raises(ValueError, match="is of another fit, which differs in") as caught:
            clf.fit(*data)
        assert difference in str(caught.value) and str(path) in str(caught.value)
        assert not hasattr(clf, "net_")
    resumed = SSMClassifier(**same).fit(panel, y)
    whole = SSMClassifier(**{**same, "resume_from": None}).fit(panel, y)
    np.testing.assert_array_equal(resumed.predict_proba(panel), whole.predict_proba(panel))
    assert path.exists()  # is the user's


def test_other_fits_keep_files_of_their_own(ragged, tiny, tmp_path):
    panel, y, _ = ragged
    path = left_behind((panel, y), tiny, tmp_path)
    counter = Counter()
    other = SSMClassifier(**{**tiny, "dropout": 0.2}, checkpoint_dir=tmp_path, callbacks=[counter])
    other.fit(panel, y)
    assert counter.epochs == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_a_cross_validation_goes_on_inside_its_fold(ragged, tiny, tmp_path):
    panel, y, _ = ragged
    clf = SSMClassifier(**{**tiny, "max_epochs": 6}, checkpoint_dir=tmp_path)
    expected = cross_val_score(clf, panel, y, cv=3)
    with pytest.raises(PowerCut):
        left = Counter(3, lambda: None if len(left.epochs) < 8 else power_cut())  # in the second fold
        cross_val_score(clf.set_params(callbacks=[left]), panel, y, cv=3, error_score="raise")
    again = Counter()
    scores = cross_val_score(clf.set_params(callbacks=[again]), panel, y, cv=3)
    np.testing.assert_array_equal(scores, expected)
    assert again.epochs == [*range(6), *range(3, 6), *range(6)]


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_damaged_and_foreign_checkpoints_are_refused(ragged, tiny, tmp_path):
    panel, y, _ = ragged
    (tmp_path / "state").mkdir()
    path = left_behind((panel, y), tiny, tmp_path / "state")
    content = path.read_bytes()
    clf = SSMClassifier(**{**tiny, "max_epochs": 6}, checkpoint_dir=path.parent, callbacks=[Counter()])
    sprung = tmp_path / "sprung"
    torch.save({"tsssm_run": Trap(sprung)}, trap := tmp_path / "trap.ckpt")
    torch.save({"state_dict": {}}, foreign := tmp_path / "foreign.ckpt")
    for bad in (b"", b"hello", content[: len(content) // 2], trap.read_bytes(), foreign.read_bytes()):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=rf"{path.name} is not a checkpoint of tsssm, or is damaged"):
            clf.fit(panel, y)
    assert not sprung.exists()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*nothing\.ckpt to resume from"):
        SSMClassifier(**tiny, resume_from=tmp_path / "nothing.ckpt").fit(panel, y)


def test_a_changed_bit_is_noticed_anywhere(ragged, tiny, tmp_path):
    from tsssm.training._checkpoint_files import read_checkpoint

    panel, y, _ = ragged
    path = left_behind((panel, y), tiny, tmp_path)
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(content), size=150):
        bit = 1 << int(place % 8)
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        with pytest.raises(ValueError, match=rf"{path.name} is not a checkpoint of tsssm, or is damaged"):
            read_checkpoint(path)


def test_forged_checkpoints_are_refused(ragged, tiny, tmp_path):
    """With a digest that is right: what does not fit is our error before it is trained on, and is not run."""
    from tsssm.training._checkpoint_files import read_checkpoint, write_checkpoint

    panel, y, _ = ragged
    path = left_behind((panel, y), tiny, tmp_path)
    clf = SSMClassifier(**{**tiny, "max_epochs": 6}, checkpoint_dir=path.parent, callbacks=[Counter()])

    def moments(content):
        content["optimizer_states"][0]["state"][0]["exp_avg"] = torch.zeros(1)

    def weights(content):
        name = next(iter(content["state_dict"]))
        content["state_dict"][name] = torch.zeros(5000, 3)

    changes = {
        "weights": weights,
        "moments": moments,
        "no weights": lambda content: content.pop("state_dict"),
        "no progress": lambda content: content.pop("tsssm_progress"),
        "last good": lambda content: content["tsssm_progress"]["last_good"].pop(),
        "generators": lambda content: content["tsssm_progress"].update(generators=[[torch.zeros(3)] * 2]),
        "loops": lambda content: content.update(loops={"fit_loop": 3}),
        "no identity": lambda content: content.pop("tsssm_run"),
        "identity": lambda content: content.update(tsssm_run=[1]),
    }
    for change in changes.values():
        content = read_checkpoint(path)
        whole = path.read_bytes()
        change(content)
        write_checkpoint(path, content)
        with pytest.raises(ValueError, match=rf"{path.name} is not a checkpoint of tsssm, or is damaged"):
            clf.fit(panel, y)
        path.write_bytes(whole)
    sprung = tmp_path / "sprung"
    write_checkpoint(path, {"tsssm_run": Trap(sprung)})
    with pytest.raises(ValueError, match="is damaged"):
        clf.fit(panel, y)
    assert not sprung.exists()


def test_a_full_disk_is_said_and_training_goes_on(ragged, tiny, tmp_path, monkeypatch):
    panel, y, _ = ragged
    whole = SSMClassifier(**tiny).fit(panel, y)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="could not be written to .*No space left.*training goes on") as told:
        clf = SSMClassifier(**tiny, checkpoint_dir=tmp_path).fit(panel, y)
    assert len(told) == 1
    np.testing.assert_array_equal(clf.predict_proba(panel), whole.predict_proba(panel))
    assert list(tmp_path.iterdir()) == []


def test_nothing_goes_through_the_folder_for_temporary_files(ragged, tiny, tmp_path, monkeypatch):
    panel, y, _ = ragged

    def none(*args, **kwargs):
        raise AssertionError("a temporary file")

    monkeypatch.setattr("tempfile.mkstemp", none)
    monkeypatch.setattr("tempfile._mkstemp_inner", none)
    SSMClassifier(**tiny, checkpoint_dir=tmp_path).fit(panel, y)


def test_the_same_fit_twice_at_once(ragged, tiny, tmp_path):
    """The one that comes second starts afresh and touches no file of the first, which goes on."""
    panel, y, _ = ragged
    parameters = {**tiny, "max_epochs": 6, "checkpoint_dir": tmp_path}
    whole = SSMClassifier(**{**parameters, "checkpoint_dir": None}, callbacks=[Counter()]).fit(panel, y)
    found = {}

    def another():
        part = next(tmp_path.glob("fit-*.ckpt"))
        part = tmp_path / f".{part.name}.123-abc.part"
        part.write_bytes(b"half")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        second = SSMClassifier(**parameters, callbacks=[counter := Counter()])
        with pytest.warns(UserWarning, match="same fit is running in another process.* this fit starts from"):
            found["second"] = second.fit(panel, y)
        found["epochs"] = counter.epochs
        found["untouched"] = before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    first = SSMClassifier(**parameters, callbacks=[Counter(3, another)]).fit(panel, y)
    assert found["epochs"] == list(range(6)) and found["untouched"]
    for clf in (first, found["second"]):
        np.testing.assert_array_equal(clf.predict_proba(panel), whole.predict_proba(panel))
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    SSMClassifier(**parameters, callbacks=[Counter()]).fit(panel, y)
    assert list(tmp_path.iterdir()) == [], "what a killed fit left is gone with the next one"


def test_checkpoints_need_a_seed(ragged, tiny, tmp_path):
    panel, y, _ = ragged
    with pytest.raises(ValueError, match="need a random_state.* got random_state=None"):
        SSMClassifier(**{**tiny, "random_state": None}, checkpoint_dir=tmp_path).fit(panel, y)
    with pytest.raises(TypeError, match="checkpoint_dir must be None or a path; got 3"):
        SSMClassifier(**tiny, checkpoint_dir=3).fit(panel, y)
    state = SSMClassifier(**{**tiny, "random_state": np.random.RandomState(4)}, checkpoint_dir=tmp_path)
    assert state.fit(panel, y).n_iter_ == 3


def test_writing_takes_little_of_the_time(ragged, tiny, tmp_path, monkeypatch):
    """With a clock on which an epoch takes one second and writing takes two."""
    from tsssm.training import _checkpoints

    panel, y, _ = ragged
    clock = {"now": 0.0}
    written = []

    class Tick(pl.Callback):
        def __deepcopy__(self, memo):
            return self

        def on_train_epoch_start(self, trainer, module):
            clock["now"] += 1.0

        def on_save_checkpoint(self, trainer, module, checkpoint):
            clock["now"] += 2.0
            written.append(trainer.current_epoch)

    monkeypatch.setattr(_checkpoints, "_PAUSE", 10)
    monkeypatch.setattr(_checkpoints.time, "monotonic", lambda: clock["now"])
    clf = SSMClassifier(**{**tiny, "max_epochs": 50}, checkpoint_dir=tmp_path, callbacks=[Tick()])
    clf.fit(panel, y)
    assert written == [0, 20, 40]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("resumable", [False, True])
def test_checkpoints_of_the_user_are_written_beside(resumable, ragged, tiny, tmp_path):
    from lightning.pytorch.callbacks import ModelCheckpoint

    panel, y, _ = ragged
    own, state = tmp_path / "own", tmp_path / "state"
    callbacks = [ModelCheckpoint(own, filename="{epoch}", save_top_k=-1)]
    SSMClassifier(**tiny, callbacks=callbacks, checkpoint_dir=state if resumable else None).fit(panel, y)
    assert {path.name for path in own.iterdir()} == {f"epoch={epoch}.ckpt" for epoch in range(3)}
    assert not state.exists() or list(state.iterdir()) == []

"""What the estimators with answers along time share: their labels, crops of recordings, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded, EncodedOnDemand, PanelEncoder
from tsssm.estimators import _trained
from tsssm.estimators._alignment import aligned
from tsssm.estimators._along_clock import Clock
from tsssm.estimators._along_labels import AlongTime, read_along, read_times
from tsssm.estimators._along_numbers import NumbersAlongTime
from tsssm.estimators._base import PanelEstimator
from tsssm.estimators._callbacks import CallbackSupportMixin, with_callbacks
from tsssm.estimators._checks import FloatArray, IntArray, check_there, checked_groups, is_table
from tsssm.estimators._classes import NetworkClasses
from tsssm.estimators._parameters import RULES, Rule, along_rules
from tsssm.estimators._recipes import STEP_SAMPLES, auto_batch_size
from tsssm.estimators._splits import Labelled, split
from tsssm.estimators._trained import FASTEST_EVER, SLOWEST, Fit, Shape
from tsssm.panel import Panel
from tsssm.persistence import Fields
from tsssm.training import Crops, predict_along, prediction_device

Estimator = TypeVar("Estimator", bound="SequenceEstimator")

# Samples of a crop, and the part of it in which states settle.
_CROP, _WARM_UP = 2048, 0.25
# The network answers at a sample what one that pools would answer if the series ended there.
_POOLING = "last"


@dataclass(frozen=True)
class Recordings:
    """Series with labels along time.

    Attributes
    ----------
    panel : Panel
    at : AlongTime
        The labels as they were given.
    known : array (m,)
        Numbers of those of its values that are labels.
    y : array (m, ...)
        These labels, checked.
    weight : array (m,)
    groups : array (n,) or None
    """

    panel: Panel
    at: AlongTime
    known: IntArray
    y: npt.NDArray[Any]
    weight: FloatArray
    groups: npt.NDArray[Any] | None

    def __getitem__(self, rows: IntArray) -> Recordings:
        at = self.at
        pieces = [np.arange(at.offsets[i], at.offsets[i + 1]) for i in rows]
        taken = np.concatenate(pieces)
        offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
        place = np.full(len(at.values), -1)
        place[self.known] = np.arange(len(self.known))
        among = place[taken]
        chosen = among[among >= 0]
        times = None if at.times is None else at.times[taken]
        return Recordings(
            self.panel[rows],
            replace(at, values=at.values[taken], offsets=offsets, times=times),
            np.flatnonzero(among >= 0),
            self.y[chosen],
            self.weight[chosen],
            None if self.groups is None else self.groups[rows],
        )


class SequenceEstimator(PanelEstimator, CallbackSupportMixin):
    """Base of the estimators with answers along time, by one network."""

    rare_classes: float = 0.0

    encoder_: PanelEncoder
    time_scale_: float
    net_: Backbone | None
    _targets: NetworkClasses | NumbersAlongTime

    rules: dict[str, Rule] = {**RULES, **along_rules()}
    _holds = _trained.HOLDS

    def _looks_ahead(self) -> bool:
        return self.lookahead is None

    def _delay(self) -> float:
        """How long after a time its answer is given, in units of the time scale."""
        if self.lookahead is None:
            return 0.0
        scale = 1 / self.time_scale_ if self._has_times else self.encoder_.step
        return float(self.lookahead) * scale

    @with_callbacks
    def fit(
        self: Estimator,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        groups: npt.ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Estimator:
        """Fit the network to series with labels along time.

        Parameters
        ----------
        X : Panel, array (n, length) or (n, channels, length), list of arrays or frames, or DataFrame
            n series, in any container that `tsssm.panel.as_panel` takes. NaN is missing.
        y : array, list, Panel, Series or DataFrame
            What is to be learned along time, one of

            - one value per sample: an array (n, length), or (n, n_targets, length) for several targets; a
              list or object array of n arrays (length_i,) or (n_targets, length_i);
            - values at times of their own: a list of n pairs (times, values); a list of n pandas Series or
              frames; one of them with an index (series, time); a `Panel` with times.

            Times are those of X: numbers in its unit, or dates where X has dates, or time differences from
            the first sample where its unit is known; numbers of samples where X has no times. They do not
            decrease, and lie between the first and the last sample of their series. A label between two
            samples belongs to what is known after the first of them.

            Missing labels are NaN, None and ``ignore_label``. A series may have no label.
        sample_weight : array (n,), or in the form of y, optional
            Weight of each series, or of each label, in the training loss and, if held out, in the validation
            loss; not negative.
        groups : array (n,), optional
            Which series belong together, such as those of one patient; ``early_stopping`` holds out whole
            groups.
        X_val, y_val : as X and y, optional
            Validation set of ``early_stopping``, in place of a part of X.
        sample_weight_val : as sample_weight, optional

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters, X, y, weights or groups that are not as documented.
        FloatingPointError
            If training diverges in spite of a smaller and smaller learning rate.
        """
        _trained.fit_network(self, X, y, sample_weight, groups, (X_val, y_val, sample_weight_val))
        return self

    def _split(self, data: Recordings, seed: int) -> tuple[Recordings, Recordings]:
        """Return what to train on, and what to validate with."""
        n = len(data.panel)
        every = Labelled(data.panel, np.arange(n), np.ones(n), data.groups)
        training, held_out = split(every, np.zeros(n), self.validation_fraction, seed, classes=False)
        return data[training.y], data[held_out.y]

    def _labelled(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        groups: npt.ArrayLike | None = None,
        *,
        reset: bool,
        classes: Any = None,
    ) -> Recordings:
        check_there(y, type(self).__name__)
        panel, at, known, labels, weight = self._read(X, y, sample_weight, reset=reset)
        if at.columns is not None:
            labels = pd.DataFrame(labels, columns=at.columns).infer_objects()
        checked = self._check_targets(labels, classes, reset=reset)
        groups = checked_groups(aligned(groups, panel, X, "groups"), panel)
        return Recordings(panel, at, known, checked, weight, groups)

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool = False
    ) -> tuple[Panel, AlongTime, IntArray, npt.NDArray[Any], FloatArray]:
        """Series, what is along time, which numbers (k,) of it are labels, these, and their weights."""
        panel = self._panel(X, reset=reset)
        at = read_along(y, X, panel, "y")
        weight = self._weights(sample_weight, at, X, panel)
        # Weights are not negative; a label of weight 0 is none.
        known = np.flatnonzero(self._are_labels(at.values) & (weight > 0))
        if len(known) == 0:
            raise ValueError(f"y has no label: all {len(at.values)} values are missing or of weight 0.")
        labels = at.values[known]
        if labels.dtype == object and labels.ndim == 1:
            labels = np.array(labels.tolist())
        return panel, at, known, labels, weight[known]

    def _are_labels(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which values (m,) or (m, k) are labels, (m,)."""
        raise NotImplementedError

    def _weights(self, sample_weight: Any, at: AlongTime, X: Any, panel: Panel) -> FloatArray:
        """Weights (m,) of values along time, from those of series or of values."""
        if sample_weight is None:
            return np.ones(len(at.values))
        given = aligned(sample_weight, panel, X, "sample_weight")
        numbers = isinstance(given, (list, tuple)) and all(np.ndim(one) == 0 for one in given)
        alone = numbers
        if isinstance(given, (np.ndarray, pd.Series)):
            nested = given.dtype == object and np.ndim(given[0] if len(given) else 0) > 0
            alone = given.ndim == 1 and not nested
            alone = alone and not (isinstance(given, pd.Series) and given.index.nlevels > 1)
        if alone:
            weight = np.asarray(given)
            if len(weight) != len(panel):
                raise ValueError(
                    f"sample_weight must have one entry per series, {len(panel)}, or one per label, in the "
                    f"form of y; got shape {weight.shape}."
                )
            weight = weight[at.series]
        else:
            own = read_along(given, X, panel, "sample_weight")
            if not np.array_equal(own.offsets, at.offsets) or own.values.ndim > 1:
                raise ValueError("sample_weight along time must have one entry for each entry of y.")
            weight = own.values
        try:
            weight = weight.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"sample_weight must hold real numbers; got dtype {weight.dtype}.") from error
        if not (np.isfinite(weight) & (weight >= 0)).all():
            raise ValueError("sample_weight must be finite and not negative.")
        return weight

    def _train(self, fit: Fit) -> None:
        """Train the network, a new one unless it goes on with one, and set the fitted attributes."""
        targets, data, held_out = self._targets, fit.data, fit.held_out
        if targets.single:
            return _trained.fit_single_class(self, fit, "sample")
        if not fit.continued:
            targets.fit(data.y, data.weight * targets.weights(data.y, data.y))
            self.encoder_ = PanelEncoder(self.time_scale, self.scale, self.categorical or ()).fit(data.panel)
            self.time_scale_ = self.encoder_.time_scale_
        crops = self._crops(data, data.y, torch.Generator().manual_seed(fit.run_seed))
        options = _trained.options_of(self, fit, 1, len_of_batch(crops, self.batch_size))
        batches = crops.with_batches(options.batch_size)
        validation = None
        if held_out is not None:
            judged = self._crops(held_out, data.y)
            validation = judged.with_batches(len_of_batch(judged, self.batch_size))
        shape = Shape(self._looks_ahead(), _POOLING, self._initial_steps(crops.data))
        _trained.run(self, fit, shape, batches, validation, options)[1].ends()

    def _crop_sizes(self) -> tuple[int, int]:
        """Samples of a crop and of its warm-up."""
        length, warm_up = self.crop_length, self.warm_up
        if isinstance(length, str):
            length = _CROP
        if isinstance(warm_up, str):
            warm_up = int(_WARM_UP * length)
        if warm_up * (2 if self._looks_ahead() else 1) >= length:
            raise ValueError(
                f"warm_up={warm_up}, {'at both ends ' if self._looks_ahead() else ''}of a crop of {length} "
                "samples, leaves no label to learn from; pass a larger crop_length or a smaller warm_up."
            )
        return length, warm_up

    def _crops(
        self, data: Recordings, y_train: npt.NDArray[Any], generator: torch.Generator | None = None
    ) -> Crops:
        """The labels that can be learned from, as crops."""
        clock = Clock(data.panel, self.encoder_)
        rows, late = clock.rows(data.at, self._delay(), "y")
        weight = data.weight * self._targets.weights(data.y, y_train)
        usable = (rows[data.known] >= 0) & ~late[data.known] & (weight > 0)
        if not usable.any():
            raise ValueError(
                "No label of y can be learned from: they lie before the first value of their series, or less "
                f"than lookahead={self.lookahead} before its end, or have the weight 0."
            )
        weight = weight[usable]
        uniform = bool((weight == weight[0]).all())
        y = data.y[usable]
        rare = float(self.rare_classes) if generator is not None else 0.0
        length, warm_up = self._crop_sizes()
        return Crops(
            clock.data,
            torch.as_tensor(rows[data.known[usable]]),
            self._targets.encoded(y),
            None if uniform else torch.as_tensor(weight / weight.mean()).float(),
            length=length,
            warm_up=warm_up,
            both=self._looks_ahead(),
            generator=generator,
            classes=torch.as_tensor(self._targets.strata(y)) if rare else None,
            rare=rare,
        )

    def _initial_steps(self, data: Encoded | EncodedOnDemand) -> tuple[Any, Any]:
        if self.timescales != "auto":
            return _trained.named_steps(self)
        durations = data.durations()
        crop = durations / data.lengths * self._crop_sizes()[0]
        return SLOWEST / max(1.0, float(torch.minimum(durations, crop).median())), FASTEST_EVER

    def _outputs_at(self, panel: Panel, at: AlongTime, name: str) -> FloatArray:
        """Outputs (m, n_outputs) of the fitted network at times."""
        net = self.net_
        assert net is not None  # a single class is not asked
        clock = Clock(panel, self.encoder_)
        rows, _ = clock.rows(at, self._delay(), name)
        known = rows >= 0
        outputs = np.empty((len(rows), self._targets.n_outputs))
        device = prediction_device(self.accelerator)
        outputs[known] = predict_along(net, clock.data, torch.as_tensor(rows[known]), device).numpy()
        if not known.all():  # as of a series without values
            with torch.inference_mode():
                outputs[~known] = net(torch.zeros(1, 1, self.encoder_.n_inputs)).numpy()
        if not np.isfinite(outputs).all():
            first = int(at.series[np.flatnonzero(~np.isfinite(outputs).all(axis=1))[0]])
            raise FloatingPointError(
                f"Outputs of the network are NaN or infinite, first in series {first}. Check it, and "
                "training series, for extreme values."
            )
        return outputs

    def _question(self, X: Any, times: Any) -> tuple[Panel, AlongTime, bool]:
        """The panel, the times to answer at, and whether the answers make one array."""
        panel = self._panel(X, reset=False)
        array = is_table(X) or (getattr(X, "ndim", 0) == 3)
        if times is None:
            return panel, AlongTime(np.empty(len(panel.values)), panel.offsets, None), array
        numbers, offsets, alike = read_times(times, X, panel)
        return panel, AlongTime(np.empty(len(numbers)), offsets, numbers), array and alike

    @classmethod
    def _parameters_of_a_model(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return _trained.parameters_of_a_model(parameters)

    def _restore(self, fields: Fields) -> None:
        _trained.restore_network(self, fields)
        net: Any = self.net_
        if net is not None:
            shape = type(net) is Backbone and (net.config["pooling"], net.config["bidirectional"])
            if shape != (_POOLING, self._looks_ahead()):
                raise fields.refuse("net_", f"one network for lookahead={self.lookahead}", net)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for quick test instances."""
        tiny = {"n_layers": 1, "d_model": 4, "d_state": 4, "batch_size": 8, "random_state": 0}
        return [{**tiny, "max_steps": 10}, {**tiny, "lookahead": 0, "norm": "layer", "max_epochs": 2}]


def len_of_batch(crops: Crops, batch_size: int | str) -> int:
    """Crops in a step of training."""
    if not isinstance(batch_size, str):
        return batch_size
    return min(auto_batch_size(crops.n_crops), max(1, STEP_SAMPLES // crops.longest))

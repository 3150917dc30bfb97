"""The members of an estimator and the closed form beside them: how many, and how they are weighted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tsssm.backbone import Backbone
from tsssm.encoding import Encoded, EncodedOnDemand
from tsssm.estimators._checks import FloatArray, IntArray
from tsssm.estimators._closed_form import DENSE_MEMBERS, DenseOptions, fit_closed_form, pull_of
from tsssm.estimators._saved_network import SavedNetwork
from tsssm.estimators._splits import Labelled, folds
from tsssm.panel import Panel
from tsssm.training import Committee, members_of, predict_left_out, prediction_device, resolve_device

# With more series than this, a network learns from them what the closed form and several members give.
_FEW = 2000
_MEMBERS, _MEMBERS_OF_CHARTS, _FEATURES = 4, 6, 12288


class Blending(SavedNetwork):
    """Base of an estimator that blends the predictions of some networks and of a closed form."""

    n_members: int | str
    n_features: int | str
    categorical: Sequence[str | int] | None
    bidirectional: bool
    accelerator: str
    max_steps: int | None
    scale: str

    _left_out: FloatArray

    def _sizes(
        self, data: Encoded | EncodedOnDemand, *, continued: bool, incremental: bool, charts: bool = False
    ) -> tuple[int, int]:
        """Members, and features of the closed form, for some series."""
        # What is encoded on demand may not fit into the memory.
        few = isinstance(data, Encoded) and len(data) <= _FEW and bool(self.bidirectional)
        # Members and closed form of charts cost little, and tell much of each other's errors.
        few = (few or charts) and not incremental
        members, features = self.n_members, self.n_features
        if isinstance(members, str):
            members = (_MEMBERS_OF_CHARTS if charts else _MEMBERS) if few else 1
            if continued and self.net_ is not None:
                members = len(members_of(self.net_))
        if isinstance(features, str):
            features = _FEATURES if few and not self.categorical else 0
        if features and self.categorical:
            raise ValueError(f"n_features must be 'auto' or 0 with categorical channels; got {features}.")
        return members, 0 if incremental else features

    def _folds(self, data: Labelled, n_members: int, seed: int) -> IntArray | None:
        """Return which member leaves each series out; None if all see all of them."""
        if n_members == 1:
            return None
        return folds(data, self._strata(data.y), n_members, seed, classes=self._targets_are_classes)

    def _fit_closed_form(self, data: Labelled, n_features: int, fold: IntArray | None, seed: int) -> None:
        """Fit a closed form to the series, if there is to be one."""
        self.closed_form_ = self.blend_ = None
        if n_features == 0:
            return
        self.closed_form_, self._left_out = fit_closed_form(
            data.panel,
            self._ridge_targets(data.y),
            data.weight,
            # One of a group says much of the others.
            None if data.groups is None else fold,
            n_features=n_features,
            normalize="auto" if self.bidirectional else "global",
            seed=seed,
            device=resolve_device(self.accelerator),
            classes=self._targets_are_classes,
            scale=self.scale,
            # What streams is answered sample by sample, which many networks would take too long for.
            dense=DenseOptions(self._folds(data, DENSE_MEMBERS, seed), self.max_steps)
            if self.bidirectional
            else None,
        )
        self.blend_ = self._weights_of(self._left_out, None, data.y, data.weight)

    def _weigh(
        self,
        data: Labelled,
        encoded: Encoded | EncodedOnDemand,
        net: Backbone | Committee,
        fold: IntArray | None,
    ) -> None:
        """Weigh closed form and network by what both say of series that they have not seen; judge both."""
        left_out = self.__dict__.pop("_left_out", None)
        self._forget_scores()
        if fold is None or not isinstance(net, Committee):
            return
        device = prediction_device(self.accelerator)
        outputs = predict_left_out(net, encoded, torch.as_tensor(fold), device).numpy().astype(np.float64)
        known = np.isfinite(outputs).all(axis=1)
        if left_out is not None:
            known &= np.isfinite(left_out).all(axis=1)
        if not known.any():
            return
        y, outputs = data.y[known], outputs[known]
        if left_out is not None and self.closed_form_ is not None:
            told = left_out[known], outputs, y, data.weight[known]
            self.blend_ = self._weights_of(*told, *pull_of(self.closed_form_))
            outputs = self._blended(left_out[known], outputs)
        self._judge_outputs(outputs, y, None if data.groups is None else data.groups[known])

    def _with_closed_form(self, panel: Panel, outputs: FloatArray) -> FloatArray:
        """Outputs (n, n_outputs) of the network for a panel, blended with the closed form if there is one."""
        if self.closed_form_ is None:
            return outputs
        return self._blended(self.closed_form_.predict(panel, prediction_device(self.accelerator)), outputs)

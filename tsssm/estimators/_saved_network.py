"""What a model file says of an estimator around a trained network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tsssm.backbone import Backbone
from tsssm.encoding import ChartEncoder, PanelEncoder
from tsssm.estimators._base import PanelEstimator
from tsssm.estimators._checks import FloatArray
from tsssm.estimators._closed_form import ClosedForm
from tsssm.estimators._targets import Targets
from tsssm.persistence import Fields
from tsssm.training import Committee, check_moments, members_of

# Parameters, and arguments of a Trainer besides those that are names or paths, that say where a fit writes.
_WHERE = ("checkpoint_dir", "resume_from")
_WRITING = ("default_root_dir", "enable_checkpointing", "logger")


class SavedNetwork(Targets, PanelEstimator):
    """Base of `SSMEstimator`: what its ``fit`` sets, and how that is read back."""

    n_iter_: int
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    time_scale_: float
    net_: Backbone | Committee | None
    closed_form_: ClosedForm | None
    blend_: FloatArray | None
    encoder_: PanelEncoder
    _optimizer_state: dict[int, Any] | None

    @classmethod
    def _parameters_of_a_model(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Without what says where a fit writes: a file that came from elsewhere must not."""
        kept = {name: value for name, value in parameters.items() if name not in _WHERE}
        options = kept.get("trainer_kwargs")
        if isinstance(options, Mapping):
            kept["trainer_kwargs"] = {
                name: value
                for name, value in options.items()
                if name not in _WRITING and not isinstance(value, (str, os.PathLike))
            }
        return kept

    def _restore(self, fields: Fields) -> None:
        encoder = self.encoder_ = fields.instance("encoder_", PanelEncoder, ChartEncoder)
        self.time_scale_ = fields.exactly("time_scale_", encoder.time_scale_)
        self._restore_panel(fields, encoder)
        self.net_ = None
        outputs, moments = self._n_outputs(), None
        if outputs > 1 or not self._targets_are_classes:
            net: Any = fields.instance("net_", Backbone, Committee)
            self.net_ = net
            for member in members_of(net):
                sizes = member.config["d_in"], member.config["n_outputs"]
                if sizes != (encoder.n_inputs, outputs):
                    raise fields.refuse("net_", f"for {encoder.n_inputs} inputs and {outputs} outputs", sizes)
            moments = fields.take("_optimizer_state", "None or that of AdamW")
            if moments is not None:
                groups = net.parameter_groups(0.0, 0.0, 0.0)
                check_moments(moments, [one for group in groups for one in group["params"]])
        else:
            fields.exactly("net_", None)
            fields.ignore("_optimizer_state")
        self._optimizer_state = moments
        self._restore_blend(fields, encoder)
        self.n_iter_ = fields.count("n_iter_")
        self.loss_curve_ = fields.numbers("loss_curve_")
        self.validation_scores_ = self.best_validation_score_ = None
        if fields.is_none("validation_scores_"):
            fields.exactly("best_validation_score_", None)
        else:
            self.validation_scores_ = fields.numbers("validation_scores_")
            if not fields.is_none("best_validation_score_"):
                self.best_validation_score_ = fields.number("best_validation_score_")

    def _restore_blend(self, fields: Fields, encoder: PanelEncoder) -> None:
        # The first model files say nothing of a closed form.
        self.closed_form_ = self.blend_ = None
        if self.net_ is None or fields.is_none("closed_form_") or not fields.has("closed_form_"):
            fields.ignore("closed_form_", "blend_", "_slopes")
            return
        closed_form = self.closed_form_ = fields.instance("closed_form_", ClosedForm)
        known, outputs = closed_form.features.encoder, closed_form.coef.shape[1]
        asked = encoder.n_channels, encoder.has_times, encoder.time_unit, self._n_ridge_outputs()
        if (known.n_channels, known.has_times, known.time_unit, outputs) != asked:
            raise fields.refuse("closed_form_", "for the panels and targets of the network", closed_form)
        self.blend_ = fields.array("blend_", (self._n_columns(), 2), np.float64, 0.0)
        self._restore_slopes(fields)

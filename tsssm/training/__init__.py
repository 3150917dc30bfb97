"""Training a network on encoded series, and running it.

``_batches``, ``_crops`` and ``_windows`` say what a step learns from, ``_run`` trains and predicts by way of
``_lightning``, ``_checkpoints`` keeps a run, ``_committee`` and ``_dense`` train several networks as one,
``_along`` and ``_both_ways`` run long series piece by piece.
Lightning, which takes seconds to import, is loaded by the first call of :func:`train` and by nothing else.
"""

from tsssm.training._along import predict_along
from tsssm.training._augment import Augmentation
from tsssm.training._batches import Batches, LabelledBatch
from tsssm.training._both_ways import BothWays
from tsssm.training._committee import Committee, members_of
from tsssm.training._crops import Crops
from tsssm.training._dense import DenseCommittee, fit_dense
from tsssm.training._devices import prediction_device, resolve_device
from tsssm.training._dropped import VariableDropout
from tsssm.training._moments import check_moments
from tsssm.training._options import RESERVED_TRAINER_KWARGS, EpochObserver, TrainingOptions, TrainingResult
from tsssm.training._run import (
    isolated_rng,
    predict,
    predict_left_out,
    train,
)
from tsssm.training._windows import Windows

__all__ = [
    "RESERVED_TRAINER_KWARGS",
    "Augmentation",
    "Batches",
    "BothWays",
    "Committee",
    "Crops",
    "DenseCommittee",
    "EpochObserver",
    "LabelledBatch",
    "TrainingOptions",
    "TrainingResult",
    "VariableDropout",
    "Windows",
    "check_moments",
    "fit_dense",
    "isolated_rng",
    "members_of",
    "predict",
    "predict_along",
    "predict_left_out",
    "prediction_device",
    "resolve_device",
    "train",
]

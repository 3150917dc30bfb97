"""Training a network on encoded series, and running it.

Lightning, which takes seconds to import, is loaded by the first call of :func:`train` and by nothing else.
"""

from tsssm.training._along import predict_along
from tsssm.training._batches import Batches
from tsssm.training._committee import Committee, members_of
from tsssm.training._crops import Crops
from tsssm.training._moments import check_moments
from tsssm.training._options import RESERVED_TRAINER_KWARGS, EpochObserver, TrainingOptions, TrainingResult
from tsssm.training._run import (
    isolated_rng,
    predict,
    predict_left_out,
    prediction_device,
    resolve_device,
    train,
)

__all__ = [
    "RESERVED_TRAINER_KWARGS",
    "Batches",
    "Committee",
    "Crops",
    "EpochObserver",
    "TrainingOptions",
    "TrainingResult",
    "check_moments",
    "isolated_rng",
    "members_of",
    "predict",
    "predict_along",
    "predict_left_out",
    "prediction_device",
    "resolve_device",
    "train",
]

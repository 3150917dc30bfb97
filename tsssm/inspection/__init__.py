"""What a fitted estimator relies on, and what led to its prediction for one series.

``_importance`` has permutation importance; ``_attribute`` the contribution of each measurement of a series to
the prediction, by ``_gradients`` or ``_spans``; ``_linear`` the terms of the closed-form models.
"""

from tsssm.inspection._attribute import attribute
from tsssm.inspection._attribution import Attribution
from tsssm.inspection._importance import channel_importance, span_importance
from tsssm.inspection._linear import FeatureContributions, feature_contributions

__all__ = [
    "Attribution",
    "FeatureContributions",
    "attribute",
    "channel_importance",
    "feature_contributions",
    "span_importance",
]

"""What a fitted estimator relies on, and what made its answer for one series.

``_importance`` asks what the score loses by exchanges between series; ``_attribute`` what each measurement of
a series did to its answer, by ``_gradients`` or ``_spans``; ``_linear`` opens the closed-form models.
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

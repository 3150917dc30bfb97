"""What a network sees of a panel: standardised values, what is missing, and elapsed time.

``_encoder`` fits and encodes series, ``_encoded`` holds what comes of them, ``_limits`` and ``_errors`` say
what is too large. Charts have an encoder of their own: ``_charts``, ``_measurements``, ``_scores`` and
``_static``.
"""

from tsssm.encoding._categories import Categories
from tsssm.encoding._channels import is_chart
from tsssm.encoding._charts import ChartEncoder, ChartLine
from tsssm.encoding._encoded import Batch, Encoded, EncodedOnDemand, moved
from tsssm.encoding._encoder import PanelEncoder, with_mask
from tsssm.encoding._errors import SCALES, beyond, unlimited
from tsssm.encoding._limits import GAP_ROUNDING, GAP_TOLERANCE, LARGEST_VALUE, LONGEST_GAP, limited, unit_gaps
from tsssm.encoding._measurements import Measurements
from tsssm.encoding._scores import LARGEST_SCORE, NormalScores, scores_of
from tsssm.encoding._static import StaticScores

__all__ = [
    "GAP_ROUNDING",
    "GAP_TOLERANCE",
    "LARGEST_SCORE",
    "LARGEST_VALUE",
    "LONGEST_GAP",
    "SCALES",
    "Batch",
    "Categories",
    "ChartEncoder",
    "ChartLine",
    "Encoded",
    "EncodedOnDemand",
    "Measurements",
    "NormalScores",
    "PanelEncoder",
    "StaticScores",
    "beyond",
    "is_chart",
    "limited",
    "moved",
    "scores_of",
    "unit_gaps",
    "unlimited",
    "with_mask",
]

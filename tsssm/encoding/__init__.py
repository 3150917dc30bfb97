"""What a network sees of a panel: standardised values, what is missing, and elapsed time."""

from tsssm.encoding._encoded import Batch, Encoded, EncodedOnDemand
from tsssm.encoding._encoder import PanelEncoder
from tsssm.encoding._limits import LARGEST_VALUE, LONGEST_GAP, limited, unit_gaps

__all__ = [
    "LARGEST_VALUE",
    "LONGEST_GAP",
    "Batch",
    "Encoded",
    "EncodedOnDemand",
    "PanelEncoder",
    "limited",
    "unit_gaps",
]

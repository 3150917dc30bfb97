"""State-space layers; every one keeps the contract of `SSMLayer`.

``base`` is the contract and what all share, ``modal`` the parameters of complex modes, ``_shared`` one state
for all channels, ``_dense`` and ``_dissipative`` the matrices of LSSL; the others are a layer each.
"""

from tsssm.layers.base import SSMLayer
from tsssm.layers.dss import DSS
from tsssm.layers.linoss import LinOSS
from tsssm.layers.liquid_s4 import LiquidS4
from tsssm.layers.lssl import LSSL
from tsssm.layers.s4 import S4
from tsssm.layers.s4d import S4D
from tsssm.layers.s5 import S5

__all__ = ["DSS", "LSSL", "LinOSS", "LiquidS4", "S4", "S4D", "S5", "SSMLayer"]

"""
What was measured, and when
===========================

A clinical chart has variables that are measured at times of their own. `PanelDisplay` draws the values of one
patient as lines with their samples, and of several patients what was measured when.
"""

from tsssm.datasets import make_icu
from tsssm.plotting import PanelDisplay

stays = make_icu(30, random_state=0)
patient = stays.data[3].select(["HR", "Temp", "Lactate"])
PanelDisplay.from_panel(patient)

# %%
# The raster has a row for each variable and a mark where there is a value.
PanelDisplay(stays.data[3]).plot(kind="raster")

# %%
# The numbers behind both: how much there is of each channel.
print(stays.data.describe().round(2).to_string())

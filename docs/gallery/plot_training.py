"""
How a network learned, and what it remembers
============================================

`TrainingDisplay` has the loss of each epoch, `TimescaleDisplay` the timescales of the systems of each
layer, before training and after it, in the unit of the times.
"""

from tsssm import SSMClassifier
from tsssm.datasets import make_irregular
from tsssm.plotting import ImpulseResponseDisplay, PoleDisplay, TimescaleDisplay, TrainingDisplay

data = make_irregular(120, random_state=0)
clf = SSMClassifier(n_members=1, n_features=0, early_stopping=True, max_epochs=15, n_layers=2, random_state=0)
clf.fit(data.data, data.target)
TrainingDisplay.from_estimator(clf)

# %%
# Each dot is a system of a channel of a layer.
TimescaleDisplay.from_estimator(clf)

# %%
# The responses of some of them to a single pulse.
ImpulseResponseDisplay.from_estimator(clf)

# %%
# Their poles: the frequency and the decay time of each.
PoleDisplay.from_estimator(clf)

"""
A prediction after every sample
===============================

`PredictionDisplay` feeds a recording to a stream and draws its predictions below the signals.
"""

import numpy as np

from tsssm import Panel, SSMClassifier
from tsssm.plotting import PredictionDisplay

rng = np.random.default_rng(0)
t = np.arange(120)
fast = rng.random(60) < 0.5
X = np.stack([np.sin(t * np.where(f, 0.5, 0.25) + rng.uniform(0, 6)) for f in fast])[:, None]
X += 0.3 * rng.normal(size=X.shape)
y = np.where(fast, "fast", "slow")

clf = SSMClassifier(bidirectional=False, n_layers=2, max_steps=150, random_state=0).fit(X, y)

# %%
# A recording that is slow at first, and fast after 120 samples.
change = np.concatenate([np.sin(0.25 * np.arange(120)), np.sin(0.5 * np.arange(120))])
recording = Panel.from_numpy(change[None, None] + 0.3 * rng.normal(size=(1, 1, 240)))
PredictionDisplay.from_estimator(clf, recording)

"""
Which variables change the risk, and when
=========================================

`AttributionDisplay` draws the variables of a stay that changed the log-odds of a class most, and above each
of them its contribution in every six hours; red raises the risk, blue lowers it.
"""

import numpy as np

from tsssm import SSMFeaturesClassifier
from tsssm.datasets import make_icu
from tsssm.inspection import feature_contributions
from tsssm.plotting import AttributionDisplay

stays = make_icu(150, random_state=0)
clf = SSMFeaturesClassifier(random_state=0).fit(stays.data[:100], stays.target[:100])
others = stays.data[100:]
patient = others[clf.predict_proba(others)[:, 1].argmax()]
AttributionDisplay.from_estimator(clf, patient, spans=np.arange(0.0, 49.0, 6.0))

# %%
# The closed form also gives the exact total contribution of each variable.
print(feature_contributions(clf, patient).by("channel").round(2).to_string(index=False))

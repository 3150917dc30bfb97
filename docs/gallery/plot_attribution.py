"""
Which variables, and when, made the risk
========================================

`AttributionDisplay` draws the variables of a stay that did most to the log-odds of a class, and above each of
them what it added in every six hours; red raises the risk, blue lowers it.
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
# The closed form also tells, exactly, what each variable added as a whole.
print(feature_contributions(clf, patient).by("channel").round(2).to_string(index=False))

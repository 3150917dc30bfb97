"""Code of somebody who uses the package and checks types: `make package` runs mypy and Python on it.

It lies in ``tests`` and is no test: it is run from an empty folder, with the built package installed.
"""

from __future__ import annotations

import numpy as np
from typing_extensions import assert_type

import tsssm
from tsssm import Panel, SSMFeaturesClassifier, Stream


def main() -> None:
    X = np.random.default_rng(0).normal(size=(12, 2, 30))
    panel = Panel.from_numpy(X)
    assert_type(panel, Panel)
    assert_type(panel.n_channels, int)
    model = SSMFeaturesClassifier(n_features=384, normalize="global", random_state=0)
    assert_type(model.fit(panel, np.arange(12) % 2), SSMFeaturesClassifier)
    stream = Stream(model)
    print(tsssm.__file__, stream.push(X[0, :, 0]).shape)


if __name__ == "__main__":
    main()

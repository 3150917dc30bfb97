"""The closed-form models opened: what each feature adds to the answer, to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tsssm.estimators._features import features_of
from tsssm.features import ChartFeatures
from tsssm.features._charts import CONSTANTS
from tsssm.inspection._answers import LINEAR, answer_of, check_estimator
from tsssm.panel import Panel

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FeatureContributions:
    """What each feature of a linear model added to its answers for some series.

    Attributes
    ----------
    contributions : array (n, n_features)
        Coefficient times feature, less that of the baseline.
    features : DataFrame
        What each feature is: its "name", the number of its "system", its "timescale" in the unit of the
        training series' times (samples without), its "pooling" and its "channel"; of charts the channel, the
        statistic as "pooling", and the time constant. NaN, or None, where a feature has no such property.
    shares : array (n_features, n_channels)
        How a feature is shared out among channels: of charts 1 for its own; of systems that mix several by
        the squares of their weights in the mixture. Rows sum to 1, for the duration of a chart to 0.
    baseline, output, delta : array (n,)
        ``output - baseline`` is the sum of the contributions but for ``delta``, which is rounding.
    quantity : str
        What the answer is.
    ids : Index
    channels : list
        Names of the channels, or their numbers.
    """

    contributions: FloatArray
    features: pd.DataFrame
    shares: FloatArray
    baseline: FloatArray
    output: FloatArray
    delta: FloatArray
    quantity: str
    ids: pd.Index
    channels: list[Any]

    def by(self, what: str | Sequence[str]) -> pd.DataFrame:
        """Return contributions (n, groups) summed over groups of features.

        Parameters
        ----------
        what : {"channel", "system", "timescale", "pooling"}, or several but for "channel"
            What to group by. Sums go over all features; those without such a property are under NaN.

        Raises
        ------
        ValueError
            For another name.
        """
        if what == "channel":
            table = pd.DataFrame(self.contributions @ self.shares, index=self.ids, columns=self.channels)
            rest = self.contributions @ (1.0 - self.shares.sum(axis=1))
            return table if np.allclose(self.shares.sum(axis=1), 1.0) else table.assign(duration=rest)
        names = [what] if isinstance(what, str) else list(what)
        known = ("system", "timescale", "pooling")
        for name in names:
            if name not in known:
                raise ValueError(
                    f"what must be 'channel', or of {', '.join(map(repr, known))}; got {name!r}."
                )
        columns = pd.DataFrame(self.contributions.T, columns=self.ids)
        keys = [self.features[name].reset_index(drop=True) for name in names]
        return columns.groupby(keys if len(keys) > 1 else keys[0], dropna=False).sum().T


def feature_contributions(
    estimator: Any, X: Any, *, target: Any = None, background: Any = None
) -> FeatureContributions:
    """Split the predictions of a closed-form model into the contributions of its features.

    Parameters
    ----------
    estimator : SSMFeaturesClassifier or SSMFeaturesRegressor
        Fitted.
    X : Panel, or whatever the estimator takes as X
        n series.
    target : label, number or pair, optional
        As of `attribute`. With three or more classes, the answer is the decision value of the class on the
        scale of its logit, since log-odds against several others are not a sum over features.
    background : as X, optional
        Series whose mean features are the baseline, such as the training series; by default all features are
        0, which for charts is the mean of the training series.

    Returns
    -------
    FeatureContributions

    Raises
    ------
    NotFittedError, TypeError, ValueError
        Before ``fit``, and for arguments that are not as documented.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMFeaturesClassifier
    >>> from tsssm.inspection import feature_contributions
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(40, 2, 30)), np.repeat([0, 1], 20)
    >>> X[y == 1, 1] += 1.0  # the second channel tells the classes apart
    >>> clf = SSMFeaturesClassifier(n_features=3072, random_state=0).fit(X, y)
    >>> opened = feature_contributions(clf, X, background=X)
    >>> int(opened.by("channel").abs().mean().idxmax())
    1
    """
    check_estimator(estimator, LINEAR)
    answer = answer_of(estimator, target, None)
    panel = estimator._panel(X, reset=False)
    of, quantity = answer.of, answer.quantity
    if answer.linear is not None:
        of, quantity = answer.linear, f"decision value{quantity.removeprefix('log-odds')}"

    def linear(z: FloatArray) -> FloatArray:
        return of(torch.from_numpy(z)).numpy()

    # The answer is affine in the outputs, and these in the features: its slope is told by unit outputs.
    m = estimator.coef_.shape[1]
    constant = linear(np.zeros((1, m)))
    slope = linear(np.eye(m)) - constant
    coef = estimator.coef_ @ slope
    values = features_of(estimator, panel).astype(np.float64)
    start = np.zeros(values.shape[1])
    if background is not None:
        others = features_of(estimator, estimator._panel(background, reset=False))
        start = others.mean(axis=0, dtype=np.float64)
    contributions = (values - start) * coef
    at_start = float(start @ coef + estimator.intercept_ @ slope + constant[0])
    baseline, output = np.full(len(panel), at_start), linear(estimator._outputs(panel))
    table, shares = _described(estimator.features_, panel)
    return FeatureContributions(
        contributions=contributions,
        features=table,
        shares=shares,
        baseline=baseline,
        output=output,
        delta=output - baseline - contributions.sum(axis=1),
        quantity=quantity,
        ids=pd.RangeIndex(len(panel)) if panel.ids is None else panel.ids,
        channels=list(panel.channel_names or range(panel.n_channels)),
    )


def _described(features: Any, panel: Panel) -> tuple[pd.DataFrame, FloatArray]:
    """What the features are, and their shares (n_features, d) of the channels."""
    names = features.names()
    if isinstance(features, ChartFeatures):
        origins = features.origins()
        shares = np.zeros((len(names), panel.n_channels))
        for number, (channel, _) in enumerate(origins):
            if channel is not None:
                shares[number, channel] = 1.0
        labels = list(panel.channel_names or range(panel.n_channels))
        return (
            pd.DataFrame(
                {
                    "name": names,
                    "system": None,
                    "timescale": [_constant(what) * features.duration for _, what in origins],
                    "pooling": [what for _, what in origins],
                    "channel": [None if j is None else labels[j] for j, _ in origins],
                }
            ),
            shares,
        )
    kinds, readouts = features.kinds_kept(), features.n_readouts
    each = len(kinds) * readouts
    table = pd.DataFrame(
        {
            "name": names,
            "system": np.repeat(np.arange(features.n_groups), each),
            "timescale": np.repeat(features.timescales(), each),
            "pooling": np.tile(np.repeat(kinds, readouts), features.n_groups),
            "channel": None,
        }
    )
    return table, np.repeat(features.shares(), each, axis=0)


def _constant(what: str) -> float:
    """Time constant, in typical durations, that a statistic of a chart is of, NaN for one of no constant."""
    if what[-1:].isdigit() and not what.startswith("is_"):
        return float(CONSTANTS[int(what[-1])])
    return float("nan")

"""What the score of a fitted estimator loses when series exchange a channel, or a span of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from tsssm.estimators._alignment import aligned
from tsssm.inspection._answers import check_count
from tsssm.inspection._clock import span_numbers
from tsssm.panel import Panel, as_panel, panel_like


def channel_importance(
    estimator: Any,
    X: Any,
    y: Any,
    scoring: str | Callable[..., float] | None = None,
    n_repeats: int = 5,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Importance of each channel: how much worse the score gets when the series exchange that channel.

    What `sklearn.inspection.permutation_importance` is for the columns of a table (Breiman, *Random Forests*,
    Machine Learning 45 (2001), section 10), this is for the channels of series: channel c of each series is
    replaced by channel c of another one, its times and its other channels stay. A channel that carries the
    same information as another one has little importance, since the other is still there.

    Parameters
    ----------
    estimator : fitted estimator
        Of this package, or a pipeline that ends in one.
    X : Panel, array (n, channels, length), list of arrays or frames, or DataFrame
        n series, preferably held out from ``fit``. An array of three dimensions is handed on as an array,
        everything else as a `Panel`.
    y : array of shape (n,) or (n, n_outputs)
        Targets of the series.
    scoring : str or callable, optional
        A scorer as in `sklearn.model_selection.cross_val_score`; by default ``estimator.score``.
    n_repeats : int, default=5
        Number of exchanges of each channel.
    random_state : int or RandomState, optional
        Seed of the exchanges, which are the same for all channels. None draws fresh ones.

    Returns
    -------
    Bunch
        With ``importances`` (channels, n_repeats), the score of X less that after each exchange;
        ``importances_mean`` and ``importances_std`` (channels,); and ``channel_names``, a list of the names
        of the channels, or of their numbers where X has no names.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError, ValueError
        For X, y or parameters that are not as documented.

    Notes
    -----
    Where the other series is longer, its first samples are taken; where it is shorter, it starts again. The
    values of irregular series thus come to other times, in the order that they had.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMClassifier
    >>> from tsssm.inspection import channel_importance
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(40, 2, 20)), np.repeat([0, 1], 20)
    >>> X[y == 1, 1] += 2.0  # the second channel tells the classes apart
    >>> clf = SSMClassifier(n_layers=1, d_model=8, max_epochs=20, random_state=0).fit(X[::2], y[::2])
    >>> channel_importance(clf, X[1::2], y[1::2], random_state=0).importances_mean.argmax()
    np.int64(1)
    """
    panel, score = _scored(estimator, X, y, scoring, n_repeats)
    is_array = isinstance(X, np.ndarray) and X.ndim == 3
    exchanged: Callable[..., Any] = _exchanged_array if is_array else _exchanged_panel
    source = X if is_array else panel
    exchanges = [partial(exchanged, source, channel) for channel in range(panel.n_channels)]
    found = _losses(score, source, exchanges, n_repeats, random_state)
    found.channel_names = list(
        range(panel.n_channels) if panel.channel_names is None else panel.channel_names
    )
    return found


def _exchanged_array(X: npt.NDArray[Any], channel: int, donors: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return a copy of X (n, channels, length) whose series i has the channel of series donors[i]."""
    X = X.copy()
    X[:, channel] = X[donors, channel]
    return X


def _exchanged_panel(panel: Panel, channel: int, donors: npt.NDArray[np.int64]) -> Panel:
    """Return a panel whose series i has the channel of series donors[i], cut or repeated to its length."""
    lengths, starts = panel.lengths, panel.offsets[:-1]
    position = np.arange(len(panel.values)) - np.repeat(starts, lengths)
    samples = np.repeat(starts[donors], lengths) + position % np.repeat(lengths[donors], lengths)
    values = panel.values.copy()
    values[:, channel] = panel.values[samples, channel]
    return panel_like(panel, values)


def span_importance(
    estimator: Any,
    X: Any,
    y: Any,
    spans: int | npt.ArrayLike = 10,
    scoring: str | Callable[..., float] | None = None,
    n_repeats: int = 5,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Importance of each span of time: how much worse the score gets when the series exchange that span.

    As `channel_importance`, for all channels of the samples that lie in a span. Samples keep their times:
    the samples of a span are replaced by those of another series in the same span, in their order, from the
    first on again where there are fewer. Where the other series has none there, the values are missing.

    Parameters
    ----------
    estimator : fitted estimator
        Of this package, or a pipeline that ends in one.
    X : Panel, or whatever `channel_importance` takes
        n series, preferably held out from ``fit``. It is handed on as a `Panel`.
    y : array of shape (n,) or (n, n_outputs)
        Targets of the series.
    spans : int or array (k + 1,), default=10
        The number of spans of equal time in each series; or the edges of spans in the unit of the times of X
        (numbers of samples without times), what is outside counted to the first or the last.
    scoring, n_repeats, random_state
        As of `channel_importance`.

    Returns
    -------
    Bunch
        With ``importances`` (spans, n_repeats), ``importances_mean`` and ``importances_std`` (spans,), and
        ``edges`` (spans + 1,): those given, or shares of the time of a series from 0 to 1.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError, ValueError
        For X, y or parameters that are not as documented.
    """
    panel, score = _scored(estimator, X, y, scoring, n_repeats)
    numbers, edges = span_numbers(panel, spans)
    if edges is None:
        edges = np.linspace(0.0, 1.0, int(spans) + 1)  # type: ignore[arg-type]
    exchanges = [partial(_exchanged_span, panel, numbers == k) for k in range(len(edges) - 1)]
    found = _losses(score, panel, exchanges, n_repeats, random_state)
    found.edges = edges
    return found


def _exchanged_span(panel: Panel, inside: npt.NDArray[np.bool_], donors: npt.NDArray[np.int64]) -> Panel:
    """Return a panel whose samples ``inside`` a span are, in series i, those of series donors[i]."""
    series = np.repeat(np.arange(len(panel)), panel.lengths)[inside]
    rows = np.flatnonzero(inside)
    count = np.bincount(series, minlength=len(panel))
    starts = np.cumsum(count) - count
    position, given = np.arange(len(rows)) - starts[series], donors[series]
    there = count[given] > 0
    taken = rows[starts[given[there]] + position[there] % count[given[there]]]
    values = panel.values.copy()
    values[rows[there]] = panel.values[taken]
    values[rows[~there]] = np.nan
    return panel_like(panel, values)


def _scored(
    estimator: Any, X: Any, y: Any, scoring: Any, n_repeats: int
) -> tuple[Panel, Callable[[Any], float]]:
    """Check what is asked; return the series, and the score of series in their place."""
    check_count("n_repeats", n_repeats)
    check_is_fitted(estimator)
    # As the estimator itself reads an index that counts.
    panel = as_panel(X, counting_is_time=getattr(estimator, "_has_times", False))
    y = aligned(y, panel, X, "y")
    check_consistent_length(panel, y)
    scorer = check_scoring(estimator, scoring=scoring)
    return panel, lambda series: scorer(estimator, series, y)


def _losses(
    score: Callable[[Any], float],
    source: Any,
    exchanges: Sequence[Callable[[npt.NDArray[np.int64]], Any]],
    n_repeats: int,
    random_state: int | np.random.RandomState | None,
) -> Bunch:
    """What the score of series loses by each exchange, in the same orders (n_repeats) of donors."""
    rng = check_random_state(random_state)
    donors = [rng.permutation(len(source)) for _ in range(n_repeats)]
    whole = score(source)
    importances = np.array([[whole - score(exchange(order)) for order in donors] for exchange in exchanges])
    return Bunch(
        importances=importances,
        importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1),
    )

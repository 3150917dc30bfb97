"""The contribution of each measurement of a series to the prediction of an estimator."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from tsssm.estimators._along_clock import Clock
from tsssm.estimators._along_labels import AlongTime, read_times
from tsssm.estimators._checks import seed_of
from tsssm.inspection._answers import ALONG, LINEAR, NETWORKS, answer_of, check_count, check_estimator
from tsssm.inspection._attribution import Attribution
from tsssm.inspection._gradients import integrated_gradients
from tsssm.inspection._spans import occlusion, shapley
from tsssm.panel import Panel, panel_like

FloatArray = npt.NDArray[np.float64]

_METHODS = ("auto", "integrated_gradients", "occlusion", "shapley")


def attribute(
    estimator: Any,
    X: Any,
    *,
    target: Any = None,
    quantile: float | None = None,
    time: Any = None,
    method: str = "auto",
    spans: int | npt.ArrayLike = 12,
    background: Any = None,
    n_steps: int | str = "auto",
    n_permutations: int = 20,
    random_state: int | np.random.RandomState | None = 0,
) -> Attribution:
    """Attribute the predictions of a fitted estimator to measured and to missing values.

    Needs the package Captum (``pip install 'tsssm[explain]'``).

    Parameters
    ----------
    estimator : fitted estimator
        `SSMClassifier`, `SSMRegressor`, `SSMSequenceClassifier`, `SSMSequenceRegressor`,
        `SSMFeaturesClassifier` or `SSMFeaturesRegressor`.
    X : Panel, or whatever the estimator takes as X
        The n series to explain.
    target : label, number or pair, optional
        Of a classifier the class whose log-odds against the others are explained, by default the second of
        two; of a regressor the column of y, by name or number. For a y with several columns of classes a pair
        (column, class).
    quantile : float, optional
        Of a regressor with ``loss="quantile"`` the level, by default the median.
    time : number, date, or n of them, optional
        Time to explain, for estimators that predict along time: as ``times`` of their ``predict``, one for
        all series or one for each; by default at the last sample.
    method : {"auto", "integrated_gradients", "occlusion", "shapley"}, default="auto"
        See the notes. "auto" is "integrated_gradients" for networks alone, else "shapley".
    spans : int or array, default=12
        Of "occlusion" and "shapley": the number of spans of equal time in each series, or the edges of spans
        in the unit of its times (numbers of samples without times).
    background : as X, optional
        Of "integrated_gradients": series whose mean inputs are the baseline, such as the training series.
    n_steps : int or "auto", default="auto"
        Of "integrated_gradients": points of the integral; "auto" doubles them, from 32 to at most 512, until
        ``delta`` is below a thousandth of the answer's change and of its unit (1 for log-odds, a standard
        deviation of the target for numbers).
    n_permutations : int, default=20
        Of "shapley": random orders; more make the values less noisy, never less complete.
    random_state : int or RandomState, default=0
        Seed of the orders.

    Returns
    -------
    Attribution

    Raises
    ------
    ImportError
        If Captum is not installed.
    NotFittedError, TypeError, ValueError
        Before ``fit``, and for arguments that are not as documented. "integrated_gradients" is an error for a
        closed form, alone or beside networks: it has no gradients.

    Notes
    -----
    *Integrated gradients* (arXiv 1703.01365) go from a baseline, in which every standardised value is 0 (the
    training mean, of charts the median) and no channel was measured, or the mean of ``background``, to the
    inputs that the network reads, at the times as they are. What the value of a measurement added is in
    ``values``, also where the network has it carried on; what it added that a channel was measured or not,
    and how long it had not been, is in ``missing``. With the default baseline missing values have no
    attribution; with a ``background`` they have one, where other series have values. Where values were
    missing in training, pass one: a series without measurements is unlike any training series, and the
    prediction for it may be far off.

    *Occlusion* takes out the measurements of one channel in one span, and predicts again; the difference is
    spread evenly over these measurements. Where values were missing in training, what is taken out is not
    measured, else it is the training mean. Of a channel that was not measured in a series at all, the
    difference to a typical value measured in the middle of it (the training mean, of charts the median) is in
    ``missing``, spread over all samples. The baseline is a series of which nothing was measured. Joint
    effects of several spans are in ``delta``, which leaves ``missing`` out.

    *Shapley* values average what a span of a channel adds over random orders in which the spans are added,
    and divide joint effects among them; they sum to the prediction minus the baseline, to rounding. Every
    second order is the reverse of the one before it, so that joint effects of two spans are divided equally.
    An order takes a prediction for each span of each channel.

    All three describe the model, not the patients: a channel that carries the same information as another one
    may have no attribution.

    Examples
    --------
    >>> import numpy as np
    >>> from tsssm import SSMClassifier
    >>> from tsssm.inspection import attribute
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(40, 2, 20)), np.repeat([0, 1], 20)
    >>> X[y == 1, 1, 5:10] += 2.0  # the second channel tells the classes apart
    >>> clf = SSMClassifier(n_layers=1, d_model=8, n_features=0, max_epochs=20, random_state=0).fit(X, y)
    >>> int(attribute(clf, X[::8]).summary().index[0])
    1
    """
    check_estimator(estimator, (*NETWORKS, *ALONG, *LINEAR))
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, _METHODS))}; got {method!r}.")
    check_count("n_permutations", n_permutations)
    if n_steps != "auto":
        check_count("n_steps", n_steps)
    along = isinstance(estimator, ALONG)
    if time is not None and not along:
        raise ValueError(f"time must be None, except for SSMSequence*; got a {type(estimator).__name__}.")
    answer = answer_of(estimator, target, quantile)
    closed = isinstance(estimator, LINEAR) or getattr(estimator, "closed_form_", None) is not None
    codes = not isinstance(estimator, LINEAR) and estimator.encoder_.categories.size > 0
    if method == "auto":
        method = "shapley" if closed or codes else "integrated_gradients"
    if method == "integrated_gradients" and closed:
        raise ValueError(
            "A closed form has no gradients: use method='shapley' or 'occlusion', or fit a network with "
            "n_features=0."
        )
    if method == "integrated_gradients" and codes:
        raise ValueError("Categories have no gradients: use method='shapley' or 'occlusion'.")
    if background is not None and method != "integrated_gradients":
        raise ValueError(f"background needs method='integrated_gradients'; got method={method!r}.")
    panel = estimator._panel(X, reset=False)
    at = _asked_times(estimator, X, panel, time) if along else None
    if method == "integrated_gradients":
        rows = None
        if at is not None:
            rows, _ = Clock(panel, estimator.encoder_).rows(at, estimator._delay(), "time")
        other = None if background is None else estimator._panel(background, reset=False)
        found = integrated_gradients(estimator, panel, answer, other, rows, n_steps)
    else:
        # What is taken out leaves gaps as training had none: no reason to warn of the data of the user.
        asked_about = copy.copy(estimator)
        asked_about._familiar = None

        def ask(variants: Panel, i: int) -> FloatArray:
            if at is None:
                return asked_about._outputs(variants)
            own = np.repeat(np.asarray(at.times)[i], len(variants))
            asked = AlongTime(np.empty(len(own)), np.arange(len(own) + 1), own)
            return asked_about._outputs_at(variants, asked, "time")

        if method == "occlusion":
            found = occlusion(estimator, panel, answer, ask, spans)
        else:
            found = shapley(estimator, panel, answer, ask, spans, int(n_permutations), seed_of(random_state))
    # Occlusion compares what is missing with what was never there: no part of the way from the baseline.
    parts = found.values if method == "occlusion" else found.values + found.missing
    total = np.add.reduceat(parts.sum(axis=1), panel.offsets[:-1])
    return Attribution(
        panel=panel,
        values=panel_like(panel, found.values),
        missing=panel_like(panel, found.missing),
        baseline=found.baseline,
        output=found.output,
        delta=found.output - found.baseline - total,
        quantity=answer.quantity,
        method=method,
    )


def _asked_times(estimator: Any, X: Any, panel: Panel, time: Any) -> AlongTime:
    """One time for each series: that given, or that of its last sample."""
    n = len(panel)
    if time is None:
        last = panel.lengths - 1.0 if panel.times is None else panel.times[panel.offsets[1:] - 1]
        return AlongTime(np.empty(n), np.arange(n + 1), np.asarray(last, dtype=np.float64))
    several = hasattr(time, "__len__") and not isinstance(time, str)
    each = list(time) if several else [time] * n
    if len(each) != n:
        raise ValueError(f"time must be one for all series, or one for each of the {n}; got {len(each)}.")
    numbers, offsets, _ = read_times([[one] for one in each], X, panel)
    return AlongTime(np.empty(n), offsets, numbers)

"""``partial_fit``: training that continues, a part of the series at a time."""

from __future__ import annotations

from typing import Any, TypeVar

from tsssm.estimators._trained import TrainedNetwork

Classifier = TypeVar("Classifier", bound="IncrementalClasses")
Regressor = TypeVar("Regressor", bound="IncrementalNumbers")


class IncrementalClasses(TrainedNetwork):
    """Mixin in front of the mixins of a trained classifier."""

    class_weight: Any

    def partial_fit(
        self: Classifier, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Classifier:
        """Train for one epoch of these series, continuing from what was learned before.

        The learning rate is constant, ``learning_rate`` and ``ssm_learning_rate``; ``max_epochs``,
        ``max_steps`` and ``warm_start`` are ignored. The first call learns the scales of values and time
        from its series, so give it a representative part of the data.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``
            Some of the series.
        classes : array (n_classes,), or a list of one for each column of y
            All classes that may occur; needed in the first call and the same, if given, in later ones.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For arguments that are not as documented, labels that are not among the classes, and with
            ``early_stopping`` or ``class_weight="balanced"``, which need all series at once.
        """
        if isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' needs the labels of all series at once; for partial_fit give the "
                "weights as a dict."
            )
        if classes is None and not self._is_fitted:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        self._partial_fit(X, y, sample_weight, classes)
        return self


class IncrementalNumbers(TrainedNetwork):
    """Mixin in front of the mixins of a trained regressor."""

    def partial_fit(self: Regressor, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train for one epoch of these series, continuing from what was learned before.

        The learning rate is constant, ``learning_rate`` and ``ssm_learning_rate``; ``max_epochs``,
        ``max_steps`` and ``warm_start`` are ignored. The first call learns the scales of values, time and
        targets from its series, so give it a representative part of the data.

        Parameters
        ----------
        X, y, sample_weight : as in ``fit``
            Some of the series.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For arguments that are not as documented, and with ``early_stopping``.
        """
        self._partial_fit(X, y, sample_weight)
        return self

"""Pictures of panels and of fitted models, each also as numbers; drawn by matplotlib (extra ``plot``).

They follow scikit-learn's displays: ``Display.from_estimator(...)`` computes and draws, ``plot(ax=...)``
draws again, and ``figure_`` and ``ax_`` (or ``axes_``) hold what was drawn. Colours are those of the current
style of matplotlib, so that dark styles work.
"""

from tsssm.plotting._attribution import AttributionDisplay
from tsssm.plotting._forecast import ForecastDisplay
from tsssm.plotting._panel import PanelDisplay
from tsssm.plotting._poles import PoleDisplay
from tsssm.plotting._prediction import PredictionDisplay
from tsssm.plotting._systems import ImpulseResponseDisplay, TimescaleDisplay
from tsssm.plotting._training import TrainingDisplay

__all__ = [
    "AttributionDisplay",
    "ForecastDisplay",
    "ImpulseResponseDisplay",
    "PanelDisplay",
    "PoleDisplay",
    "PredictionDisplay",
    "TimescaleDisplay",
    "TrainingDisplay",
]

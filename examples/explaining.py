"""Why is this patient at risk? Which variables, and when, made the answer of a model of intensive-care stays.

Fits classifiers to generated stays (`tsssm.datasets.make_icu`), takes the stay of the test part with the
highest risk, and says what each variable added to its log-odds of death in each span of time: Shapley values
of the default model, networks and closed form together, and the closed form alone, exactly. The generator
knows what is true: the risk hangs on age and on the severity at the end. Prints tables and draws the stay.
Run as

    python examples/explaining.py --figure explaining.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from tsssm import SSMClassifier, SSMFeaturesClassifier
from tsssm.datasets import make_icu
from tsssm.inspection import attribute, channel_importance, feature_contributions, span_importance

HOURS = np.arange(0.0, 49.0, 6.0)  # edges of the spans that are asked about


def explain(n: int, max_steps: int | None) -> dict[str, Any]:
    """Fit to n stays, and explain the riskiest of half as many others."""
    stays = make_icu(n + n // 2, random_state=0)
    X, y = stays.data[:n], stays.target[:n]
    others, died = stays.data[n:], stays.target[n:]
    clf = SSMClassifier(n_members=2, max_steps=max_steps, random_state=0).fit(X, y)
    risk = clf.predict_proba(others)[:, 1]
    worst = int(risk.argmax())
    found = attribute(clf, others[worst], spans=HOURS)
    many = attribute(clf, others[: n // 10], spans=HOURS, n_permutations=2)
    closed = SSMFeaturesClassifier(random_state=0).fit(X, y)
    return {
        "AUROC": roc_auc_score(died, risk),
        "risk": float(risk[worst]),
        "true risk": float(stays.probability[n + worst]),
        "attribution": found,
        "closed form": feature_contributions(closed, others[worst]).by("channel"),
        "late share": _late_share(many.by_span(HOURS).to_numpy()),
        "stays": len(many.panel),
        "channels": channel_importance(closed, others, died, "roc_auc", random_state=0),
        "spans": span_importance(closed, others, died, HOURS, "roc_auc", random_state=0),
    }


def _late_share(table: np.ndarray) -> float:
    """Share of the size of all attributions that lies in the last quarter of the time."""
    size = np.abs(table)
    return float(size[:, -(table.shape[1] // 4) :].sum() / size.sum())


def main(arguments: Sequence[str] | None = None) -> None:
    """Explain, print and draw."""
    parser = argparse.ArgumentParser(description="Why is this patient at risk?")
    parser.add_argument("--figure", type=Path, default=Path("explaining.png"))
    parser.add_argument("--stays", type=int, default=200)
    parser.add_argument("--max-steps", type=int)
    options = parser.parse_args(arguments)
    found = explain(options.stays, options.max_steps)
    attribution = found["attribution"]
    print(f"AUROC of other stays: {found['AUROC']:.3f}")
    print(f"riskiest stay: {found['risk']:.2f}, by the generator {found['true risk']:.2f}")
    print(
        f"its {attribution.quantity}: {attribution.baseline[0]:.2f} of a stay without measurements, "
        f"{attribution.output[0]:.2f} with all of them; added in hours from"
    )
    table = attribution.by_span(HOURS).droplevel("id")
    table["all"] = table.sum(axis=1)
    print(table.loc[table["all"].abs().sort_values(ascending=False).index].round(2).to_string())
    late, stays = 100 * found["late share"], found["stays"]
    print(f"of {stays} stays, {late:.0f} % of the size lies in the last quarter of the time")
    print("the closed form alone, exactly:")
    print(found["closed form"].round(2).to_string(index=False))
    importance = found["channels"]
    order = np.argsort(-importance.importances_mean)
    loss = ", ".join(f"{importance.channel_names[j]} {importance.importances_mean[j]:.3f}" for j in order[:4])
    print(f"AUROC lost by exchanges between stays: {loss}; of spans from")
    spans = zip(HOURS, found["spans"].importances_mean, strict=False)
    print(", ".join(f"{hour:g} h {lost:.3f}" for hour, lost in spans))
    draw(attribution, options.figure)
    print(f"figure: {options.figure}")


def draw(attribution: Any, path: Path) -> None:
    """The stay, and above each variable what it added."""
    import matplotlib

    matplotlib.use("Agg")
    from tsssm.plotting import AttributionDisplay

    path.parent.mkdir(parents=True, exist_ok=True)
    figure = AttributionDisplay(attribution, HOURS).plot().figure_
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()

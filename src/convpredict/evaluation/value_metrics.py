"""Metrics of predicted amounts against what came: pure functions on arrays.

``actual`` is the revenue of each row (0 where nothing was bought; refunds may make it negative), ``predicted`` the
mean that was predicted, ``weight`` counts a row several times (whole numbers) or in part. All raise
``ValueError`` for no rows and for numbers that are not finite.

Judge means by what the mean is good at: the total ratio, the deciles, the normalised Gini coefficient. The mean
absolute error is least for the *median*: where most rows bring nothing, predicting zero for everybody comes
out on top of every useful model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .inputs import Floats, check_scores, check_weights


def total_ratio(actual: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Predicted total over actual total; 1 is right. NaN where the actual total is not positive.

    >>> total_ratio([0, 10, 30], [10, 10, 30])
    1.25
    """
    y, p, w = _checked(actual, predicted, weight)
    total = float(w @ y)
    return float(w @ p) / total if total > 0 else float("nan")


def normalised_gini(actual: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    r"""How well the order of the predictions gathers the revenue at the top: 1 as the revenue itself, 0 as chance.

    The Gini coefficient of the revenue in the order of ``predicted``, divided by that in its own order. Rows with
    equal predictions share their place: an order nobody gave is not rewarded. NaN where all revenue is equal or
    its total is not positive.

    Notes
    -----
    With s the share of the rows and L(s) the share of the revenue of the lowest-ranked s of them,

    .. math:: G = 1 - 2 \int_0^1 L(s) ds, \qquad \frac{G(\text{predicted})}{G(\text{actual})}.

    Source: Frees, Meyers & Cummings (2011), Summarizing insurance scores using a Gini index, JASA 106.

    Examples
    --------
    >>> round(normalised_gini([0, 0, 10, 30], [1, 1, 5, 3]), 12)  # the two largest are swapped
    0.6
    """
    y, p, w = _checked(actual, predicted, weight)
    own = _gini(y, y, w)
    return _gini(y, p, w) / own if own > 0 else float("nan")


def spearman(actual: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Spearman's rank correlation: from -1 to 1; equal values share their mean rank. NaN where all are equal.

    >>> round(spearman([1, 2, 3, 4], [1, 3, 2, 4]), 12)
    0.8
    """
    y, p, w = _checked(actual, predicted, weight)
    a, b = _midranks(y, w), _midranks(p, w)
    a, b = a - np.average(a, weights=w), b - np.average(b, weights=w)
    spread = float(w @ a**2) * float(w @ b**2)
    return float(w @ (a * b) / np.sqrt(spread)) if spread > 0 else float("nan")


def decile_table(
    actual: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None, bins: int = 10
) -> dict[str, Floats]:
    """Rows in ``bins`` parts of equal weight by prediction, the highest first: what was predicted and what came.

    Returns ``rows`` (weight), ``predicted`` and ``actual`` (totals), each of shape (bins,). Rows with equal
    predictions are spread over the parts that they fill, revenue and all, so that the order of the file does
    not matter. With fewer rows than parts, a part holds a share of a row.

    >>> table = decile_table([0, 1, 2, 3], [0, 1, 2, 3], bins=2)
    >>> table["predicted"].tolist(), table["actual"].tolist()
    ([5.0, 1.0], [5.0, 1.0])
    """
    y, p, w = _checked(actual, predicted, weight)
    values, code = np.unique(-p, return_inverse=True)
    mass = np.bincount(code, w, minlength=len(values))
    ends = np.concatenate([[0.0], np.cumsum(mass)])
    edges = np.linspace(0.0, ends[-1], bins + 1)

    def total(amount: Floats) -> Floats:
        cumulated = np.concatenate([[0.0], np.cumsum(np.bincount(code, w * amount, minlength=len(values)))])
        return np.diff(np.interp(edges, ends, cumulated))

    return {"rows": np.diff(edges), "predicted": total(p), "actual": total(y)}


def decile_mape(
    actual: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None, bins: int = 10
) -> float:
    """Mean over deciles of the prediction of ``|predicted total - actual total| / actual total``. Smaller is better.

    Deciles as in :func:`decile_table`. NaN where a decile brought nothing (or less): the percentage is not defined
    there, and leaving the decile out would reward whoever predicts much for nothing.

    >>> decile_mape([1, 1, 4, 4], [1, 1, 5, 5], bins=2)
    0.125
    """
    table = decile_table(actual, predicted, weight=weight, bins=bins)
    if (table["actual"] <= 0).any():
        return float("nan")
    return float(np.mean(np.abs(table["predicted"] - table["actual"]) / table["actual"]))


def rmse(actual: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Root of the mean squared error, in the currency; smaller is better, least for the true mean.

    >>> rmse([0, 0], [5, 5])
    5.0
    """
    y, p, w = _checked(actual, predicted, weight)
    return float(np.sqrt(np.average((y - p) ** 2, weights=w)))


def mae(actual: ArrayLike, predicted: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Mean absolute error, in the currency. Misleading for means: it is least for the median (see the module).

    >>> mae([0, 0, 0, 100], [0, 0, 0, 0]), mae([0, 0, 0, 100], [25, 25, 25, 25])
    (25.0, 37.5)
    """
    y, p, w = _checked(actual, predicted, weight)
    return float(np.average(np.abs(y - p), weights=w))


def coverage(actual: ArrayLike, low: ArrayLike, high: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Share of the rows with ``low <= actual <= high``.

    >>> coverage([0, 5, 20], [0, 1, 2], [1, 9, 10])
    0.6666666666666666
    """
    y, lower, w = _checked(actual, low, weight, name="low")
    upper = check_scores(high, len(y), name="high")
    return float(np.average((lower <= y) & (y <= upper), weights=w))


def _checked(
    actual: ArrayLike, predicted: ArrayLike, weight: ArrayLike | None, *, name: str = "predicted"
) -> tuple[Floats, Floats, Floats]:
    y = np.asarray(actual, np.float64)
    if y.ndim != 1 or len(y) == 0:
        raise ValueError(f"'actual' must be of shape (rows,) with at least one row; got shape {y.shape}")
    return (
        check_scores(y, len(y), name="actual"),
        check_scores(predicted, len(y), name=name),
        check_weights(weight, len(y)),
    )


def _gini(y: Floats, order_by: Floats, w: Floats) -> float:
    values, code = np.unique(order_by, return_inverse=True)
    mass = np.bincount(code, w, minlength=len(values))
    revenue = np.bincount(code, w * y, minlength=len(values))
    total = float(revenue.sum())
    if total <= 0:
        return float("nan")
    curve = np.concatenate([[0.0], np.cumsum(revenue)]) / total
    return 1.0 - float(np.sum(mass * (curve[1:] + curve[:-1]))) / float(mass.sum())


def _midranks(values: Floats, w: Floats) -> Floats:
    unique, code = np.unique(values, return_inverse=True)
    mass = np.bincount(code, w, minlength=len(unique))
    return np.asarray((np.cumsum(mass) - 0.5 * mass)[code], np.float64)

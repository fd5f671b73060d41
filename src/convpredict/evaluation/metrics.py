"""Metrics of a score or a probability against outcomes: pure functions on arrays.

``label`` is 1 where the lead converted within the horizon, 0 where it did not; one row is one observation
(lead and cutoff). ``weight`` counts a row several times (whole numbers) or in part. All raise ``ValueError``
for no rows, for labels other than 0 and 1, for scores that are not finite and for probabilities outside [0,
1]; what a metric is when only one class is present stands in its docstring.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from .calibration import Calibration
from .inputs import check_weights
from .ranking import Ranking


def auc(label: ArrayLike, score: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    r"""Area under the ROC curve: the chance that a converter scores above a non-converter. Larger is better.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    score : array of shape (rows,), any finite numbers; only their order counts
    weight : array of shape (rows,), not negative

    Returns
    -------
    float in [0, 1]; .5 is chance. NaN when only one class has weight.

    Notes
    -----
    .. math:: \frac{\sum_{i: y_i=1} \sum_{j: y_j=0} w_i w_j ([s_i > s_j] + [s_i = s_j] / 2)}
                   {\sum_{i: y_i=1} w_i \sum_{j: y_j=0} w_j}

    Source: Hanley & McNeil (1982), The meaning and use of the area under a ROC curve, Radiology 143.

    Examples
    --------
    >>> auc([0, 0, 1, 1], [.1, .4, .4, .8])
    0.875
    """
    ranking = Ranking(label, score)
    return ranking.auc(check_weights(weight, len(ranking)))


def average_precision(label: ArrayLike, score: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    r"""Average precision: precision at each converter's place in the list, averaged. Larger is better.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    score : array of shape (rows,), any finite numbers; only their order counts
    weight : array of shape (rows,), not negative

    Returns
    -------
    float in [0, 1]; the base rate is chance. NaN when no row converted.

    Notes
    -----
    .. math:: \sum_g (R_g - R_{g-1}) P_g

    over the distinct scores g from the highest down, with recall R and precision P of all rows down to g: no
    interpolation, as in ``sklearn.metrics.average_precision_score``.

    Examples
    --------
    >>> round(average_precision([0, 0, 1, 1], [.1, .4, .35, .8]), 4)
    0.8333
    """
    ranking = Ranking(label, score)
    return ranking.average_precision(check_weights(weight, len(ranking)))


def captured_in_top(
    label: ArrayLike, score: ArrayLike, share: float, *, weight: ArrayLike | None = None
) -> float:
    r"""Share of the converters found in the best-scored ``share`` of rows (gain). Larger is better.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    score : array of shape (rows,), any finite numbers; only their order counts
    share : share of the rows (of their weight) that are looked at, in (0, 1]
    weight : array of shape (rows,), not negative

    Returns
    -------
    float in [0, 1]; ``share`` is chance. NaN when no row converted.

    Notes
    -----
    When the limit falls among equal scores, the expectation over all their orders is taken: with k of the
    group's m rows inside, k / m of its converters. A limit that is no whole number of rows takes part of the
    next row.

    Examples
    --------
    Four rows share the second-best score and the limit takes two of them, so half of their one converter:

    >>> captured_in_top([1, 1, 0, 0, 0, 0], [9, 5, 5, 5, 5, 1], share=.5)
    0.75
    """
    if not 0 < share <= 1:
        raise ValueError(f"'share' must lie in (0, 1], .05 for the top 5 %; got {share}")
    ranking = Ranking(label, score)
    return float(ranking.captured([share], check_weights(weight, len(ranking)))[0])


def log_loss(label: ArrayLike, p: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    r"""Mean negative log-likelihood of the outcomes. Smaller is better.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1], clipped to [2.2e-16, 1 - 2.2e-16]
    weight : array of shape (rows,), not negative

    Returns
    -------
    float, at least 0, in nats; defined for one class as well.

    Notes
    -----
    .. math:: -\sum_i w_i (y_i \ln p_i + (1 - y_i) \ln (1 - p_i)) / \sum_i w_i

    Source: Good (1952), Rational decisions, JRSS B 14.

    Examples
    --------
    >>> round(log_loss([0, 1], [.5, .5]), 4)
    0.6931
    """
    calibration = Calibration(label, p)
    return calibration.log_loss(check_weights(weight, len(calibration.label)))


def brier(label: ArrayLike, p: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    r"""Mean squared error of the probabilities. Smaller is better.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1]
    weight : array of shape (rows,), not negative

    Returns
    -------
    float in [0, 1]; defined for one class as well.

    Notes
    -----
    .. math:: \sum_i w_i (p_i - y_i)^2 / \sum_i w_i

    Source: Brier (1950), Verification of forecasts expressed in terms of probability, Monthly Weather Review
    78.

    Examples
    --------
    >>> brier([0, 1], [.5, .5])
    0.25
    """
    calibration = Calibration(label, p)
    return calibration.brier(check_weights(weight, len(calibration.label)))


def binned_calibration_error(
    label: ArrayLike, p: ArrayLike, *, bins: int = 15, weight: ArrayLike | None = None
) -> float:
    r"""Mean absolute gap between predicted and observed rate over bins of equal mass. Smaller is better.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1]
    bins : number of bins, at least 1; equal probabilities always share a bin, so some may stay empty
    weight : array of shape (rows,), not negative; the bins are those of the unweighted rows

    Returns
    -------
    float in [0, 1]. A perfectly calibrated model does not reach 0 on a sample: chance alone gives about
    sqrt(bins * rate / rows).

    Notes
    -----
    .. math:: \sum_b \left| \sum_{i \in b} w_i (y_i - p_i) \right| / \sum_i w_i

    Source: Naeini, Cooper & Hauskrecht (2015), Obtaining well calibrated probabilities using Bayesian
    binning, AAAI.

    Examples
    --------
    Two bins: predicted .2 and .8 against observed 0 and 1, a gap of .2 each:

    >>> round(binned_calibration_error([0, 0, 1, 1], [.2, .2, .8, .8], bins=2), 12)
    0.2
    """
    if bins < 1:
        raise ValueError(f"'bins' must be at least 1; got {bins}")
    calibration = Calibration(label, p, bins=bins)
    return calibration.binned_error(check_weights(weight, len(calibration.label)))


def smooth_calibration_error(label: ArrayLike, p: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    r"""Calibration error by a kernel whose bandwidth the data choose, not by bins. Smaller is better.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1]
    weight : array of shape (rows,), not negative

    Returns
    -------
    float in [0, 1], to a relative 1e-3 and never below about 2e-6. Chance alone keeps it above 0.

    Notes
    -----
    With the Gaussian kernel K of bandwidth sigma, reflected at 0 and 1,

    .. math:: \text{smECE}_\sigma
        = \int_0^1 \left| \sum_i w_i K_\sigma(t, p_i) (y_i - p_i) \right| dt / \sum_i w_i

    and the result is the one value with smECE_sigma = sigma. Computed on an even grid of cells at most an
    eighth of the bandwidth. Source: Błasiok & Nakkiran (2024), Smooth ECE: principled reliability diagrams
    via kernel smoothing, ICLR, definitions 1 and 2.

    Examples
    --------
    Half of the rows convert and all are given .3, a gap of .2 everywhere:

    >>> round(smooth_calibration_error([0, 1] * 50, [.3] * 100), 3)
    0.2
    """
    calibration = Calibration(label, p)
    return calibration.smooth_error(check_weights(weight, len(calibration.label)))


def calibration_line(
    label: ArrayLike, p: ArrayLike, *, weight: ArrayLike | None = None
) -> tuple[float, float]:
    r"""Intercept and slope of the logistic regression of the outcome on logit(p): ideally 0 and 1.

    A slope below 1 says that the probabilities are too extreme (overfitting), above 1 too timid.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1], clipped to [1e-9, 1 - 1e-9]
    weight : array of shape (rows,), not negative

    Returns
    -------
    (intercept, slope). NaN for both when they have no finite estimate: one class only, one distinct
    probability, or a threshold that separates the classes.

    Notes
    -----
    .. math:: \operatorname{logit} P(y = 1) = a + b \operatorname{logit}(p)

    by maximum likelihood. Source: Cox (1958), Two further applications of a model for binary regression,
    Biometrika 45. More than 2,048 distinct probabilities are first pooled into that many even cells of the
    logit, each at its mean, which moves the result by less than 1e-3.

    Examples
    --------
    Probabilities .2 and .8 where half and all but one in ten convert:

    >>> label = [0] * 5 + [1] * 5 + [0] + [1] * 9
    >>> intercept, slope = calibration_line(label, [.2] * 10 + [.8] * 10)
    >>> round(intercept, 3), round(slope, 3)
    (1.099, 0.792)
    """
    calibration = Calibration(label, p)
    return calibration.line(check_weights(weight, len(calibration.label)))


def calibration_ratio(label: ArrayLike, p: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    r"""Predicted over observed: the sum of the probabilities divided by the number of conversions. Best is 1.

    1.2 says that the model promises a fifth more conversions than came.

    Parameters
    ----------
    label : array of shape (rows,), values 0 and 1
    p : array of shape (rows,), probabilities in [0, 1]
    weight : array of shape (rows,), not negative

    Returns
    -------
    float, at least 0. Infinity when nothing converted although something was predicted, NaN when neither.

    Notes
    -----
    .. math:: \sum_i w_i p_i / \sum_i w_i y_i

    Examples
    --------
    >>> calibration_ratio([0, 0, 0, 1], [.3, .3, .3, .3])
    1.2
    """
    calibration = Calibration(label, p)
    return calibration.ratio(check_weights(weight, len(calibration.label)))

"""Boosted trees: several seeds of LightGBM, kept as text, averaged on the logit.

The file that imports LightGBM.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convpredict.errors import BundleError, ConfigError

from .calibration import Floats
from .encoding import Matrix
from .tree_scoring import CompiledTrees, compile_trees

SMALL_DATA: Mapping[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 7,
    "max_bin": 31,
    "min_data_in_bin": 1,
    "feature_fraction": 0.2,
    "extra_trees": True,
    "lambda_l2": 5.0,
    "min_data_in_leaf": 1,
    "min_sum_hessian_in_leaf": 3.0,
    "max_cat_to_onehot": 100_000,
    "boost_from_average": True,
}
"""Settings that validation forward in time chose on an export with some hundred conversions.

Leaves are limited by the sum of their Hessian (expected positives and negatives), not by their rows: so a row
of weight 2 counts as two rows. Categories split one against the rest; no class is weighted, as that would
spoil probabilities. Narrow tables differ: see :func:`default_parameters`.
"""

_COLUMNS_PER_TREE = 12
_LARGEST_FRACTION = 0.67

_FIXED: Mapping[str, Any] = {
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "feature_pre_filter": False,
}
_RESERVED = frozenset(
    {
        "app",
        "application",
        "bagging_seed",
        "boost",
        "boosting",
        "boosting_type",
        "data",
        "data_random_seed",
        "deterministic",
        "extra_seed",
        "feature_fraction_seed",
        "force_col_wise",
        "force_row_wise",
        "input_model",
        "is_unbalance",
        "linear_tree",
        "linear_trees",
        "loss",
        "max_cat_to_onehot",
        "n_jobs",
        "nthread",
        "nthreads",
        "num_thread",
        "num_threads",
        "objective",
        "output_model",
        "random_seed",
        "random_state",
        "scale_pos_weight",
        "seed",
        "unbalance",
        "unbalanced_sets",
        "valid",
        "verbosity",
    }
)
_CHUNK_ROWS = 65_536


def default_parameters(n_columns: int) -> dict[str, Any]:
    """:data:`SMALL_DATA`, fitted to the number of columns.

    A tree sees a fifth of the columns, but twelve at least and two thirds of them at most. Where that is more than
    a fifth (fewer than 60 columns), thresholds are the best, not random: randomness is there to make the trees of
    many, similar columns differ; with few columns, it only hides the one category out of fifty that matters.

    >>> [default_parameters(n)["feature_fraction"] for n in (5, 24, 130)]
    [0.67, 0.5, 0.2]
    >>> [default_parameters(n)["extra_trees"] for n in (5, 24, 130)]
    [False, False, True]
    """
    wide = float(SMALL_DATA["feature_fraction"])
    fraction = min(max(wide, _COLUMNS_PER_TREE / max(n_columns, 1)), _LARGEST_FRACTION)
    return {**SMALL_DATA, "feature_fraction": fraction, "extra_trees": fraction == wide}


def tree_parameters(
    overrides: Mapping[str, Any], monotone: Sequence[int], *, seed: int, n_threads: int
) -> dict[str, Any]:
    """LightGBM's parameters: the defaults above, then ``overrides``, then what determinism fixes.

    ``monotone`` has a direction (0: none) for each column; empty where the number of columns does not matter.
    An alias counts as the parameter it stands for: ``reg_lambda`` replaces the default of ``lambda_l2``. Raises
    ConfigError for an override that would break a promise (probabilities, reproducibility or reasons) and for a
    parameter that LightGBM does not know, which it would drop without a word.
    """
    overrides = _canonical(overrides)
    refused = sorted(set(overrides) & _RESERVED)
    if refused:
        raise ConfigError(
            f"model.lightgbm sets {', '.join(refused)}, which convpredict keeps in its own hands: class "
            "weighting spoils probabilities, seeds and threads are set by model.seed and n_jobs; remove the "
            "key"
        )
    defaults = default_parameters(len(monotone)) if monotone else SMALL_DATA
    parameters = {**defaults, **overrides, **_FIXED, "seed": seed, "num_threads": n_threads}
    if any(monotone):
        parameters["monotone_constraints"] = list(monotone)
        parameters["monotone_constraints_method"] = "intermediate"
    return parameters


def _canonical(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides under LightGBM's own names. Raises ConfigError for one it does not know or that is given twice."""
    import lightgbm

    known = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    names = {alias: name for name, aliases in known.items() for alias in (name, *aliases)}
    canonical: dict[str, Any] = {}
    for key, value in overrides.items():
        if key in _RESERVED:
            canonical[key] = value
            continue
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ConfigError(
                f"model.lightgbm sets {key}, which is no parameter of LightGBM, so it would change nothing."
                f"{hint} Correct or remove the key"
            )
        if names[key] in canonical:
            raise ConfigError(
                f"model.lightgbm sets {names[key]} as {key}, but it is set already; keep one of them"
            )
        canonical[names[key]] = value
    return canonical


class TreeEnsemble:
    """LightGBM models in their text form, one a seed; ``raw_logit`` is the mean over them.

    The boosters are always read back from their text, so that a model in memory and one loaded from a bundle
    are the same object byte for byte. The mean is taken on the logit: contributions of features then add up.
    Scoring is compiled (see :mod:`.tree_scoring`), which gives LightGBM's own numbers to the bit.
    """

    def __init__(self, texts: Sequence[str], n_features: int) -> None:
        self.texts = tuple(texts)
        self.n_features = n_features
        self._boosters: list[Any] = []
        self._compiled: list[CompiledTrees | None] = []

    def __repr__(self) -> str:
        return f"TreeEnsemble({len(self.texts)} seeds, {self.n_features} features)"

    def __getstate__(self) -> dict[str, Any]:
        return {"texts": self.texts, "n_features": self.n_features, "_boosters": [], "_compiled": []}

    @property
    def boosters(self) -> list[Any]:
        """The models as LightGBM boosters.

        Raises BundleError where a text is not a model of ``n_features``.
        """
        if not self._boosters:
            self._boosters = [_read_booster(text, self.n_features) for text in self.texts]
        return self._boosters

    @property
    def compiled(self) -> CompiledTrees | None:
        """The models compiled for scoring; None for one that cannot be, which LightGBM then scores."""
        if not self._compiled:
            try:
                self._compiled = [compile_trees(self.texts, self.n_features)]
            except BundleError:
                self._compiled = [None]
        return self._compiled[0]

    def raw_logit(self, matrix: Matrix, *, n_threads: int = 0) -> Floats:
        """Mean logit over the seeds, a row of ``matrix`` at a time (in chunks)."""
        if self.compiled is not None:
            return self.compiled.mean_logit(matrix, n_threads=n_threads)
        total = np.zeros(len(matrix))
        for start in range(0, len(matrix), _CHUNK_ROWS):
            part = np.ascontiguousarray(matrix[start : start + _CHUNK_ROWS])
            for booster in self.boosters:
                total[start : start + len(part)] += booster.predict(
                    part, raw_score=True, num_threads=n_threads
                )
        return total / len(self.texts)


def make_dataset(
    matrix: Matrix,
    y: npt.ArrayLike,
    weight: Floats | None,
    categorical: Sequence[int],
    parameters: Mapping[str, Any],
) -> Any:
    """A LightGBM dataset, binned once and used for every seed."""
    import lightgbm

    keys = (
        "max_bin",
        "min_data_in_bin",
        "max_bin_by_feature",
        "bin_construct_sample_cnt",
        "feature_pre_filter",
    )
    binning = {key: parameters[key] for key in keys if key in parameters}
    shared = {key: parameters[key] for key in ("verbosity", "num_threads", *_FIXED)}
    dataset = lightgbm.Dataset(
        matrix,
        np.asarray(y, dtype=np.float32),
        weight=weight,
        categorical_feature=list(categorical),
        params={**shared, **binning, "max_cat_to_onehot": parameters["max_cat_to_onehot"]},
        free_raw_data=True,
    )
    return dataset.construct()


def fit_booster(dataset: Any, parameters: Mapping[str, Any], n_trees: int) -> Any:
    """Train ``n_trees`` trees. Raises ConfigError where LightGBM refuses the parameters."""
    import lightgbm

    try:
        return lightgbm.train(dict(parameters), dataset, num_boost_round=n_trees)
    except lightgbm.basic.LightGBMError as error:
        raise ConfigError(f"LightGBM refused its parameters ({error}); correct model.lightgbm") from None


def booster_text(booster: Any) -> str:
    """The model as text, without the number of threads, which differs from machine to machine."""
    text: str = booster.model_to_string()
    return re.sub(r"^\[num_threads: \d+\]$", "[num_threads: 0]", text, flags=re.MULTILINE)


def staged_logits(
    booster: Any, matrix: Matrix, checkpoints: Sequence[int], *, n_threads: int
) -> Iterator[Floats]:
    """Raw logits after each of the ascending numbers of trees in ``checkpoints``."""
    rows = np.ascontiguousarray(matrix)
    total = np.zeros(len(rows))
    done = 0
    for checkpoint in checkpoints:
        total = total + booster.predict(
            rows,
            raw_score=True,
            start_iteration=done,
            num_iteration=checkpoint - done,
            num_threads=n_threads,
        )
        done = checkpoint
        yield total


def _read_booster(text: str, n_features: int) -> Any:
    import lightgbm

    if not text.startswith("tree\n") or "\nend of trees\n" not in text:
        raise BundleError(
            "a tree file is not a LightGBM text model: it was altered or cut off; copy or export the bundle "
            "anew"
        )
    try:
        booster = lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise BundleError(
            f"a tree file cannot be read by LightGBM ({error}); copy or export the bundle anew"
        ) from None
    if booster.num_feature() != n_features:
        raise BundleError(
            f"a tree file reads {booster.num_feature()} columns, the bundle's schema lists {n_features}: the "
            "files belong to different models; export the bundle anew"
        )
    return booster

# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From lead histories to a calibrated model
#
# Ten minutes: read a history from CSV files, look at what was wrong with it, build a point-in-time training set, train,
# and compare with the points that marketing uses today. The data is simulated here, so that the true probabilities are
# known; to use your own, change the file names and columns in the second cell.

# %%
import tempfile
from pathlib import Path

import pyarrow.csv as csv
import pyarrow.parquet as pq

import convpredict as cp
from convpredict.config.history import SimulatorConfig

folder = Path(tempfile.mkdtemp())
truth = cp.simulate(SimulatorConfig(leads=6000, seed=3), folder)
for table in ("leads", "interactions", "conversions"):
    csv.write_csv(pq.read_table(folder / f"{table}.parquet"), folder / f"{table}.csv")

# %% [markdown]
# ## Say what the columns mean
#
# The same as a YAML file, as a mapping. Columns that already have convpredict's names (`lead_id`, `created_at`,
# `occurred_at`, `kind`, `converted_at`) need no mapping; attributes are named with their type.

# %%
project = cp.parse_project(
    {
        "name": "first_model",
        "data": str(folder),
        "sources": {name: {"file": f"{name}.csv"} for name in ("leads", "interactions", "conversions")},
        "history": {
            "leads": {
                "source": "leads",
                "attributes": {"channel": "category", "job_role": "category", "industry": "category"},
            },
            "interactions": {
                "source": "interactions",
                "attributes": {"topic": "category", "duration_seconds": "number"},
            },
            "conversions": {"source": "conversions"},
            "known_until": "2025-12-31",
        },
        "observations": {"cutoffs": {"every": "14d"}, "max_age": "180d"},
        "labels": {"horizons": ["30d"]},
        "scorecard": {
            "name": "points set by feeling",
            "rules": [
                {"kind": "email_click", "points": 5},
                {"kind": "download", "points": 10},
                {"kind": "demo_request", "points": 30},
            ],
        },
    }
)
history = cp.load_history(project.config, project.data_dir)
history.report.to_dict()["tables"]["interactions"]

# %% [markdown]
# ## A training set that knows no future
#
# Every row is one lead at one cutoff. Features see only what was known before the cutoff, the label says whether the
# lead converted within 30 days after it, and the parts follow each other in time with a gap of one horizon.

# %%
card = cp.Scorecard(project.config.scorecard)
training_set = cp.build_training_set(history, project, extra_features=card.declarations())
training_set

# %%
training_set.frame.iloc[:3, :8]

# %% [markdown]
# The frame is an ordinary pandas frame: use it with any library. Here is ours.

# %% [markdown]
# ## Train, calibrate, judge
#
# Fitting chooses the size of the model forward in time, the calibrator on the later `calibrate` part, and judges on
# `test`, which neither has seen.

# %%
from convpredict.evaluation.judgement import judge_test_part
from convpredict.evaluation.sentences import state_comparison
from convpredict.models.fitting import fit_conversion_model, fit_scorecard, make_bundle

model = fit_conversion_model(training_set, project.config.model)
judgement = judge_test_part(training_set, model, fit_scorecard(training_set, card), project.config.evaluation)
print("\n".join(state_comparison(judgement.metrics)))

# %%
judgement.figures()["gain"]

# %% [markdown]
# Because this history is simulated, the true probabilities are known. A perfect model would reach the log loss of the
# truth itself.

# %%
from convpredict.evaluation.metrics import log_loss

test = training_set.part("test")
p_true = truth.true_probability(
    test["lead_id"].to_numpy(), test["cutoff"].to_numpy(), training_set.horizons[0]
)
label = training_set.y("test").to_numpy()
{
    "log loss of the truth": round(log_loss(label, p_true), 4),
    "log loss of the model": round(log_loss(label, judgement.predictions["p"]), 4),
}

# %% [markdown]
# ## Keep it
#
# A bundle is a folder of text files with everything that scoring needs. `convpredict score --bundle` reads it, and so
# does `load_bundle`.

# %%
cp.write_bundle(folder / "bundle", make_bundle(training_set, model))
scores = cp.score_open_leads(history, cp.load_bundle(folder / "bundle"))
scores.table.slice(0, 5).to_pandas()

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
# # Training and reading a model
#
# Train on a training set, see whether its probabilities mean what they say, compare it with the points that marketing
# uses today, ask why a lead has its score, and write the report. The data is simulated here, so that the true
# probabilities are known; with your own, `cp.load_project("my.yaml")` takes the place of the first cell.

# %%
import tempfile
from pathlib import Path

import convpredict as cp
from convpredict.config.history import SimulatorConfig
from convpredict.history.simulator.run import simulation_config_tables

folder = Path(tempfile.mkdtemp())
simulated = SimulatorConfig(leads=3000, seed=3, interactions_per_lead=10)
truth = cp.simulate(simulated, folder)

project = cp.parse_project(
    {
        "name": "my_funnel",
        "data": str(folder),
        **simulation_config_tables(simulated),
        "observations": {"cutoffs": {"every": "14d"}, "max_age": "120d"},
        "labels": {"horizons": ["30d", "7d"]},
        # size and seeds are chosen for the data if they are left out; they are fixed to be quick here
        "model": {"n_estimators": 150, "num_leaves": 7, "logistic_weight": 0.5, "seeds": 1},
        "evaluation": {"resamples": 200, "calls_per_week": 20},
        "scorecard": {
            "name": "points set by feeling",
            "rules": [
                {"kind": "email_click", "points": 5},
                {"kind": "download", "points": 10},
                {"kind": "demo_request", "points": 30},
                {"attribute": "job_role", "values": ["executive"], "points": 10},
            ],
        },
    }
)
history = cp.load_history(project.config, project.data_dir)
card = cp.Scorecard(project.config.scorecard)
training_set = cp.build_training_set(history, project, extra_features=card.declarations())
training_set

# %% [markdown]
# ## Train
#
# The model is trees blended with a logistic regression. The calibrator is chosen on the later `calibrate` part
# (`none` is a candidate); then everything is learnt again from all rows before the test part. Further horizons get a
# model each, and never a lower probability than a shorter one.

# %%
from convpredict.models.fitting import fit_scorecard, make_bundle
from convpredict.models.horizons import fit_further_horizons

model = cp.fit_conversion_model(training_set, project.config.model)
further = fit_further_horizons(training_set, project.config.model, model)
points = fit_scorecard(training_set, card)
bundle = make_bundle(training_set, model, points, further)
model

# %%
bundle

# %% [markdown]
# ## Judge
#
# On the test part, which nothing has seen. Intervals come from resampling leads, not rows: a lead's rows resemble
# each other. A sentence says so where its interval includes no difference.

# %%
from convpredict.evaluation.judgement import judge_test_part

judgement = judge_test_part(training_set, model, points, project.config.evaluation, further=further)
judgement

# %% [markdown]
# ## Do the probabilities mean what they say?
#
# Of the leads that get 3 %, do 3 % convert?

# %%
figures = judgement.figures()
figures["calibration"]

# %% [markdown]
# The table above has three numbers for it: predicted over observed conversions (1 is right), and slope and intercept
# of the observed on the predicted logit (1 and 0). Here, and only here, the truth is known too: how far is the model
# from it?

# %%
from convpredict.evaluation.metrics import log_loss

test = training_set.part("test")
p_true = truth.true_probability(test["lead_id"], test["cutoff"], "30d")
p_model = judgement.predictions["p"]
label = training_set.y("test")
{
    "log loss of the truth itself": round(log_loss(label, p_true), 4),
    "log loss of the model": round(log_loss(label, p_model), 4),
    "predicted conversions": round(float(p_model.sum()), 1),
    "true expectation": round(float(p_true.sum()), 1),
    "conversions that came": int(label.sum()),
}

# %% [markdown]
# ## What would it change for sales?

# %%
figures["gain"]

# %% [markdown]
# With 20 calls a week, who would have been called, and who of them converted?

# %%
from convpredict.evaluation.calls import state_calls

seen = judgement.predictions
calls = cp.replay_calls(
    seen["label"], seen["p"], seen["scorecard_points"], seen["lead_id"], seen["cutoff"], calls_per_week=20
)
print(state_calls(calls))

# %% [markdown]
# ## What matters
#
# Contributions add up to the logit of the exported probability, exactly. All columns about one thing are one concept.

# %%
cp.concept_importance(bundle, test)[["concept", "share", "label", "direction"]].head(8).round(3)

# %% [markdown]
# ## Score the open leads, with reasons
#
# The three strongest reasons for and against, each with the fact behind it. `reasons.locale` speaks English, German,
# Dutch and Swedish. `score` is the percentile of the probability among the leads that the model was profiled on.
# Leads older than any that the model learnt from are left out and counted.

# %%
from convpredict.config.reasons import ReasonsConfig

scores = cp.score_open_leads(history, bundle, reasons=ReasonsConfig(leads=0.05))
scores

# %%
hottest = scores.table.slice(0, 3).to_pandas()
hottest[
    [
        "rank",
        "lead_id",
        "score",
        "p_convert_7d",
        "p_convert_30d",
        "median_days_to_conversion",
        "scorecard_points",
    ]
]

# %%
for lead in hottest.itertuples():
    reasons = [f"  + {reason}" for reason in lead.reasons_for]
    reasons += [f"  - {reason}" for reason in lead.reasons_against]
    print(f"{lead.lead_id}: {lead.p_convert_30d:.1%}", *reasons, sep="\n")

# %% [markdown]
# ## Write the report, keep the model
#
# The report is one HTML file that opens without network: the answer in one sentence first, a slider over the number
# of calls, calibration, stability, limits. `convpredict train` writes it too. A bundle is a folder of text files with
# all that scoring needs.

# %%
inputs = cp.report_from_run(
    "my first run",
    training_set,
    judgement,
    config=project.config.evaluation,
    model=model,
    validation=history.report.to_dict(),
    importance=cp.concept_importance(bundle, test),
)
report = cp.write_report(folder / "report.html", inputs)
cp.write_bundle(folder / "bundle", bundle)
f"{report.name}: {report.stat().st_size:,} bytes; bundle: {', '.join(sorted(bundle.files))}"

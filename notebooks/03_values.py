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
# # What a lead is worth
#
# A probability says how likely a lead buys; a budget needs money. Here: the revenue that follows a conversion, the
# expected value of every open lead with an interval, how far to trust it, and the same for customers, so that
# acquisition and retention can be compared. The data is simulated, so that the true values are known.

# %%
import tempfile
from pathlib import Path

import pandas as pd

import convpredict as cp
from convpredict.config.history import SimulatorConfig
from convpredict.history.simulator.run import simulation_config_tables

folder = Path(tempfile.mkdtemp())
simulated = SimulatorConfig(leads=4000, seed=3, interactions_per_lead=6)
truth = cp.simulate(simulated, folder)
# size and seeds are chosen for the data if they are left out; they are fixed to be quick here
quick = {"n_estimators": 100, "num_leaves": 7, "logistic_weight": 0.5, "seeds": 1}

# %% [markdown]
# ## Two more lines
#
# A table `revenue` (lead, time, amount) and `labels.value_horizon`: how long after the conversion its revenue counts.

# %%
project = cp.parse_project(
    {
        "name": "values",
        "data": str(folder),
        **simulation_config_tables(simulated),
        "observations": {"cutoffs": {"every": "14d"}, "max_age": "120d"},
        "labels": {"horizons": ["30d"], "value_horizon": "90d"},
        "model": quick,
    }
)
history = cp.load_history(project.config, project.data_dir)
training_set = cp.build_training_set(history, project)
model = cp.fit_conversion_model(training_set, project.config.model)
value = cp.fit_value_model(training_set, project.config.value, project.config.labels, history=history)
value

# %% [markdown]
# ## What it learnt
#
# Revenue after a conversion is heavy-tailed and customers are few. Below 200 customers the model is segment means,
# shrunken towards the overall mean by how much a segment can be believed; above, validation forward in time chooses
# among gamma, Tweedie, lognormal and a lognormal with zeros.

# %%
{
    "customers learnt from": round(value.n_leads_),
    "family": value.candidate_.family,
    "segments": [training_set.feature_set.model_names[i] for i in value.candidate_.segments],
}

# %% [markdown]
# The newest customers have not been followed for 90 days yet. What is missing is completed by the development of
# earlier ones: the share of the 90 days' revenue that has come after a part of the window.

# %%
development = pd.Series(value.development_.shares, index=[90 * age for age in value.development_.ages])
axes = development.plot(
    xlabel="days after the conversion",
    ylabel="share of the revenue so far",
    ylim=(0, 1.02),
    figsize=(6, 3),
    grid=True,
)

# %% [markdown]
# ## How good is it?
#
# `expected_value` judges P times value on all test observations, `value` the revenue of those that converted. Beside
# the model stands `same_value`: every lead gets the mean value. With few customers the ranking comes from the
# probability, and the intervals say how little can be told: the total ratio is predicted over actual revenue.

# %%
from convpredict.evaluation.tables import value_cells
from convpredict.evaluation.value_judgement import judge_value

p = model.predict_proba(training_set.X("test"))[:, 1]
judged = judge_value(training_set, value, p, project.config.labels, project.config.evaluation)
heads, rows = value_cells(judged)
pd.DataFrame(rows, columns=heads).set_index("")

# %% [markdown]
# MAE alone is misleading: predicting nothing for everybody wins it. The interval of one customer's revenue is meant
# to hold 80 % of the customers (`value.coverage`). Of those whose 90 days were over (`complete_share` of them) it
# held:

# %%
{name: round(judged["value"][name], 2) for name in ("coverage", "mean_width", "complete_share")}

# %% [markdown]
# ## Expected values of the open leads
#
# `expected_value` is P times value; its ends say: *if* the lead converts, its revenue lies in [value_low, value_high]
# in 80 % of cases, times P.

# %%
from convpredict.models.fitting import make_bundle

scores = cp.score_open_leads(history, make_bundle(training_set, model, value=value))
leads = scores.table.to_pandas()
shown = ["lead_id", "p_convert_30d", "value", "value_low", "value_high", "expected_value"]
leads.nlargest(5, "expected_value")[shown].round(2)

# %% [markdown]
# The sum over a list is the revenue to expect from it. In a simulation it can be set against the truth (look again at
# the interval of the total above: so few customers cannot promise more):

# %%
true_value = truth.true_value(leads["lead_id"], leads["cutoff"], "30d", "90d")
{
    "expected": round(float(leads["expected_value"].sum())),
    "true expectation": round(float(true_value.sum())),
}

# %% [markdown]
# ## Customers
#
# A customer is a lead that stays open. Its purchases are interactions *and* revenue, and `outcome: purchase` asks
# whether it buys within the horizon after the cutoff, and for how much within the value horizon. The family `repeat`
# looks at rhythm and silence.

# %%
retention = cp.parse_project(
    {
        "name": "customers",
        "data": str(folder),
        "sources": {name: {"file": f"{name}.parquet"} for name in ("leads", "conversions", "revenue")},
        "history": {
            "known_until": "2025-12-31",
            "leads": {
                "sql": "SELECT lead_id, converted_at AS created_at, company_size "
                "FROM conversions JOIN leads USING (lead_id)",
                "attributes": {"company_size": "category"},
            },
            "interactions": {
                "sql": "SELECT lead_id, occurred_at, 'purchase' AS kind, amount FROM revenue",
                "attributes": {"amount": "number"},
            },
            "revenue": {"source": "revenue"},
        },
        "observations": {"cutoffs": {"every": "28d"}},
        "labels": {"outcome": "purchase", "horizons": ["30d"], "value_horizon": "90d"},
        "features": {"declare": [{"family": "repeat"}]},
        "model": quick,
        "value": {"family": "gamma"},
    }
)
buyers = cp.load_history(retention.config, retention.data_dir)
customer_set = cp.build_training_set(buyers, retention)
customer_bundle = make_bundle(
    customer_set,
    cp.fit_conversion_model(customer_set, retention.config.model),
    value=cp.fit_value_model(customer_set, retention.config.value, retention.config.labels, history=buyers),
)
customer_bundle

# %%
customers = cp.score_open_leads(buyers, customer_bundle).table.to_pandas()
shown = ["lead_id", "p_convert_30d", "expected_value", "expected_value_low", "expected_value_high"]
customers[shown].head(3).round(2)

# %% [markdown]
# How good that is on the test part, `value` being the expected value itself here:

# %%
p = customer_bundle.predict(customer_set.part("test"))
judged = judge_value(
    customer_set, customer_bundle.value, p, retention.config.labels, retention.config.evaluation
)
heads, rows = value_cells(judged)
pd.DataFrame(rows, columns=heads).set_index("")

# %% [markdown]
# ## Acquisition beside retention
#
# Both in the same money, within the same time, at the same instant:

# %%
both = pd.concat([leads.assign(list="lead"), customers.assign(list="customer")])
both.groupby("list")["expected_value"].agg(["size", "mean", "sum"]).round(0)

# %% [markdown]
# A careful word: this is what is to be *expected* from each list, whoever is called. It is not what a call *adds*: a
# loyal customer may buy without one. That is answered by a split test, in which one half is not called.

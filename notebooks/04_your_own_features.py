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
# # Writing your own features
#
# A feature is declared, not programmed: a few words of YAML, from which names, labels, units and the point-in-time
# rule follow. What the families cannot say about your tables, SQL can: it turns any dated fact into an interaction.
# This notebook does both, checks a number by hand, and asks whether the new features help.

# %%
import tempfile
from pathlib import Path

import pandas as pd

import convpredict as cp
from convpredict.config.history import SimulatorConfig

folder = Path(tempfile.mkdtemp())
cp.simulate(SimulatorConfig(leads=2500, seed=5, interactions_per_lead=10), folder)

# %% [markdown]
# ## The declaration
#
# Sixteen families (`docs/reference/features.md` defines each): counts, sums and means, recency, decay, distinct
# values, rhythm, trends, shares of the day, conversion rates of groups, and so on. Most can be split by the values of
# a column (`by`), or by some of them (`values`). With `default: true` your features join the default set; here only
# yours are built, to keep the table small.

# %%
settings = """
name: my_features
data: .
sources:
  leads: {file: leads.parquet}
  interactions: {file: interactions.parquet}
  conversions: {file: conversions.parquet}
observations:
  cutoffs: {every: 14d}
  max_age: 120d
labels:
  horizons: [30d]
"""
tables = """
history:
  known_until: "2025-12-31"
  leads: {source: leads, attributes: {channel: category, landing_page: category, owner: category}}
  conversions: {source: conversions}
  interactions: {source: interactions, attributes: {topic: category, duration_seconds: number}}
"""
features = """
features:
  default: false
  declare:
    - {family: count, by: topic, values: [pricing, case_study], windows: [7d, 30d]}
    - {family: recency, by: kind, values: [demo_request, call]}
    - {family: aggregate, attribute: duration_seconds, functions: [max], windows: [30d]}
    - {family: trend, short: 7d, long: 28d}
    - {family: rate, keys: [channel, landing_page], within: 30d, functions: [rate]}
    - {family: load, key: owner, windows: [7d]}
"""
config = folder / "funnel.yaml"
config.write_text(settings + tables + features)
project = cp.load_project(config)
history = cp.load_history(project.config, project.data_dir)
training_set = cp.build_training_set(history, project)
training_set.feature_set

# %% [markdown]
# A slip is told with what to write instead:

# %%
try:
    cp.load_project(config, overrides=["features.declare=[{family: count, windows: [7]}]"])
except cp.ConfigError as error:
    print(error)

# %% [markdown]
# ## What the families cannot say: SQL
#
# Three patterns cover nearly everything.
#
# 1. **A kind of your own.** `CASE` decides what an interaction is called: a long call is something else than a short
#    one.
# 2. **Another table.** Anything with a lead and a date becomes interactions by `UNION ALL`: support tickets, or a
#    score that a web tool sends each Monday (its number is an attribute, which `aggregate` reads with `last`).
# 3. **A property that changes** goes into `attribute_changes` (lead, attribute, value, valid_from); features see it
#    as it was.
#
# What is known later than it happened has a `recorded_at`, and no feature sees it before. Never join *today's* state
# onto a lead.

# %%
tables = """
history:
  known_until: "2025-12-31"
  leads: {source: leads, attributes: {channel: category, landing_page: category, owner: category}}
  conversions: {source: conversions}
  interactions:
    attributes: {topic: category, duration_seconds: number, score: number}
    sql: |
      SELECT lead_id, occurred_at, recorded_at, topic, duration_seconds, NULL AS score,
             CASE WHEN kind = 'call' AND duration_seconds >= 600 THEN 'long call'
                  WHEN topic IN ('pricing', 'case_study') THEN 'buying page'
                  ELSE kind END AS kind
      FROM interactions
      UNION ALL
      SELECT lead_id, date_trunc('week', occurred_at) + INTERVAL 7 DAY AS monday, NULL, NULL, NULL,
             count(DISTINCT topic), 'weekly score'    -- stands in for what the tool sends
      FROM interactions
      GROUP BY lead_id, monday
      HAVING monday < '2025-12-31'
      ORDER BY lead_id, occurred_at
"""
features = """
features:
  default: false
  declare:
    - {family: count, by: kind, values: [long call, buying page], windows: [7d, 30d]}
    - {family: recency, by: kind, values: [buying page, demo_request]}
    - {family: aggregate, attribute: score, functions: [last, mean], windows: [28d]}
    - {family: decayed, half_lives: [7d]}
    - {family: trend, short: 7d, long: 28d}
    - {family: rate, keys: [channel, landing_page], within: 30d, functions: [rate]}
"""
own_config = folder / "own.yaml"
own_config.write_text(settings + tables + features)
own_project = cp.load_project(own_config)
own_history = cp.load_history(own_project.config, own_project.data_dir)
own = cp.build_training_set(own_history, own_project)
own.feature_set

# %% [markdown]
# ## Check a number by hand
#
# `History.query` is DuckDB over the interactions (`lead_row` counts the leads, times are microseconds). Pick an
# observation, count with your own words, and compare:

# %%
busiest = own.frame.nlargest(1, "count_30d__kind_buying_page").iloc[0]
lead_row = own_history.leads["lead_id"].to_pylist().index(busiest["lead_id"])
by_hand = own_history.query(f"""
    SELECT count(*) AS buying_pages FROM interactions
    WHERE lead_row = {lead_row} AND kind = 'buying page'
      AND make_timestamp(visible_at) < TIMESTAMP '{busiest["cutoff"]:%Y-%m-%d}'
      AND make_timestamp(occurred_at) >= TIMESTAMP '{busiest["cutoff"]:%Y-%m-%d}' - INTERVAL 30 DAY
""")
print("by hand:", by_hand["buying_pages"][0], "  feature:", busiest["count_30d__kind_buying_page"])

# %% [markdown]
# ## Do they help?
#
# Ask forward in time inside the training part, never the test part: that one is asked once, at the end. Smaller log
# loss is better; where the blocks do not agree which is better, there is nothing to believe.

# %%
from sklearn.model_selection import cross_val_score

model = cp.ConversionModel(n_estimators=60, num_leaves=7, logistic_weight=0.5, seeds=1)
pd.DataFrame(
    {
        name: -cross_val_score(
            model, tried.X("train"), tried.y("train"), cv=tried.time_split(4), scoring="neg_log_loss"
        )
        for name, tried in {"families only": training_set, "with own kinds": own}.items()
    },
    index=[f"block {number}" for number in range(1, 5)],
).round(4)

# %% [markdown]
# ## Do they know too much?
#
# A feature of your own is where hindsight creeps in: a score that is computed again later, a join with today's state.

# %%
cp.audit_training_set(own_history, own_project, own)

# %% [markdown]
# From here on everything is as in the notebook on training; reasons speak of your kinds by their names
# (`reasons.names` gives them other words, in four languages).

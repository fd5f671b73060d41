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
# # From raw CSV files to a training set
#
# You have exports of a CRM: contacts, activities, deals. Ten minutes later you have a table with one row per lead and
# point in time, features that know no future, and labels. Nothing is trained here; that is the next notebook.
#
# ## Three exports, as they come
#
# The cell below makes small files in place of yours: semicolons, German dates, amounts typed by hand, and some broken
# rows.

# %%
import tempfile
from pathlib import Path

import pandas as pd

import convpredict as cp
from convpredict.config.history import SimulatorConfig

folder = Path(tempfile.mkdtemp())
cp.simulate(SimulatorConfig(leads=2000, seed=3, interactions_per_lead=10), folder)
leads, activities, won, revenue = (
    pd.read_parquet(folder / f"{name}.parquet")
    for name in ("leads", "interactions", "conversions", "revenue")
)
day = "%d.%m.%Y %H:%M"
contacts = pd.DataFrame(
    {
        "Contact": "C-" + leads["lead_id"].astype(str),
        "Created": leads["created_at"].dt.strftime(day),
        "Source": leads["channel"],
        "Size": leads["company_size"],
        "Status": leads["lead_id"].isin(won["lead_id"]).map({True: "customer", False: "lead"}),
    }
)
activities = pd.DataFrame(
    {
        "Id": range(len(activities)),
        "Contact": "C-" + activities["lead_id"].astype(str),
        "When": activities["occurred_at"].dt.strftime(day),
        "What": activities["kind"].str.replace("_", " "),
        "Page": activities["topic"],
        "Seconds": activities["duration_seconds"],
    }
)
deals = pd.DataFrame(
    {
        "Contact": "C-" + won["lead_id"].astype(str),
        "Stage": "won",
        "Closed": won["converted_at"].dt.strftime(day),
        "Amount": revenue.groupby("lead_id")["amount"]
        .first()
        .reindex(won["lead_id"])
        .map("{:,.0f} €".format)
        .array,
    }
)
contacts.loc[[5, 9], "Created"] = ["soon", None]
activities.loc[[3, 40], "Contact"] = "C-unknown"
activities.loc[70, "When"] = "31.02.2024 10:00"
deals.loc[::25, "Closed"] = None
activities = pd.concat([activities, activities.iloc[[500, 501]]])
for name, table in {"contacts": contacts, "activities": activities, "deals": deals}.items():
    table.to_csv(folder / f"{name}.csv", sep=";", index=False)
deals.head(3)

# %% [markdown]
# ## Say what the columns mean
#
# One YAML file. A table is a file whose columns are renamed, or one `SELECT` over the files (DuckDB's SQL). Anything
# that had a date becomes an interaction with a `kind`; what a deal brought becomes revenue. Times without an offset
# need a time zone.

# %%
config = folder / "funnel.yaml"
config.write_text("""
name: my_funnel
data: .
sources:
  contacts: {file: contacts.csv}
  activities: {file: activities.csv}
  deals: {file: deals.csv}
history:
  timezone: Europe/Berlin
  known_until: "2025-12-31"          # up to here the exports are complete
  leads:
    source: contacts
    columns: {lead_id: Contact, created_at: Created}
    time_format: "%d.%m.%Y %H:%M"
    attributes:
      source: {type: category, column: Source}
      size: {type: category, column: Size}
      status: {type: category, column: Status}
  interactions:
    sql: |
      SELECT Contact AS lead_id, Id AS event_id, "When" AS occurred_at, Page AS page, Seconds AS seconds,
             CASE WHEN What = 'call' AND TRY_CAST(Seconds AS DOUBLE) = 0 THEN 'call without answer'
                  ELSE What END AS kind
      FROM activities
    time_format: "%d.%m.%Y %H:%M"
    attributes: {page: category, seconds: number}
  conversions:
    sql: SELECT Contact AS lead_id, Closed AS converted_at FROM deals WHERE Stage = 'won'
    time_format: "%d.%m.%Y %H:%M"
  revenue:
    sql: |
      SELECT Contact AS lead_id, Closed AS occurred_at, replace(replace(Amount, ',', ''), ' €', '') AS amount
      FROM deals WHERE Closed <> ''
    time_format: "%d.%m.%Y %H:%M"
observations:
  cutoffs: {every: 14d}              # look at every open lead each fortnight
  max_age: 180d
labels:
  horizons: [30d]                    # does it convert within 30 days?
""")
project = cp.load_project(config)

# %% [markdown]
# ## Read, and look at what was wrong
#
# Rows that break the contract are set apart with the reason; rows read are always accepted, removed as exact copies,
# or set apart. A deal that was won at an unknown date makes its lead unusable; it does not become a lead that never
# bought.

# %%
history = cp.load_history(project.config, project.data_dir, quarantine_dir=folder / "quarantine")
history

# %%
pd.read_parquet(folder / "quarantine" / "interactions.parquet").drop_duplicates("reason")

# %% [markdown]
# More than 5 % broken rows in a table stop the run (`history.validation.max_bad_share`). A slip in the file is an
# error that names what it knows:

# %%
try:
    cp.load_project(config, overrides=["labels.horizon=[30d]"])
except cp.ConfigError as error:
    print(error)

# %% [markdown]
# ## Build the training set
#
# A row is one lead at one cutoff. Its features see only what had happened *and* been recorded before the cutoff, its
# label says whether the lead converted in the 30 days after. The parts follow each other in time, a horizon apart:
# `train` for fitting, `calibrate` for calibration, `test` for judging. Of the `recent` rows the outcome was not yet
# known when the test part began; models learn from them too, with what was known by then.

# %%
training_set = cp.build_training_set(history, project)
training_set

# %% [markdown]
# ## Does a column know the outcome?
#
# Ask before you train. In this export `Status` is what the contact is *today*:

# %%
cp.audit_training_set(history, project, training_set)

# %% [markdown]
# `convpredict train` would stop here. The remedy is to leave the column out (or to map its dated changes as
# `attribute_changes`):

# %%
kept = "{source: {type: category, column: Source}, size: {type: category, column: Size}}"
project = cp.load_project(config, overrides=[f"history.leads.attributes={kept}"])
history = cp.load_history(project.config, project.data_dir)
training_set = cp.build_training_set(history, project)
cp.audit_training_set(history, project, training_set)

# %% [markdown]
# ## It is an ordinary table
#
# Numbers are float32, categories are pandas categories, missing is missing. Every column has a name that follows from
# its declaration, and a label for people.

# %%
shown = ["lead_id", "cutoff", "split", "label_30d", "recency", "count_30d", "last_kind_1", "attribute_source"]
training_set.frame[shown].iloc[1000:1005]

# %%
training_set.feature_set.label("recency__kind_email_click")

# %% [markdown]
# Any library can use it. `time_split` validates forward in time, with a gap of one horizon, as scikit-learn expects
# it:

# %%
from lightgbm import LGBMClassifier
from sklearn.model_selection import cross_val_score

plain = LGBMClassifier(n_estimators=40, num_leaves=7, n_jobs=1, verbose=-1)
cross_val_score(
    plain,
    training_set.X("train"),
    training_set.y("train"),
    cv=training_set.time_split(3),
    scoring="roc_auc",
)

# %% [markdown]
# ## Keep it
#
# A Parquet file, the feature set and a manifest that says which rows were left out and why, with digests of data and
# configuration. `cp.TrainingSet.load` reads it back.

# %%
training_set.save(folder / "training_set")
training_set.manifest["observations"]

"""Hindsight in real exports: found where the data's README says it is, and not where it is not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from convpredict.config.load import load_project, parse_project
from convpredict.evaluation.leakage.audit import audit_table, audit_training_set
from convpredict.history.load import load_history
from convpredict.training.training_set import build_training_set

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
LATE = {
    *("stage", "quality", "lost_reason", "product", "education_type", "payment_type"),
    *("months_of_study", "initial_amount_paid", "offer_total_amount"),
}
EARLY = {"source", "campaign", "page", "content", "term"}
ONE_DEAL = """
SELECT c."Id" AS lead_id, c."Created Time" AS created_at, {columns}
FROM contacts c LEFT JOIN (
  SELECT * FROM deals QUALIFY row_number() OVER (
    PARTITION BY "Contact Name" ORDER BY try_strptime("Created Time", '%d.%m.%Y %H:%M') DESC NULLS LAST, "Id" DESC) = 1
) d ON d."Contact Name" = c."Id"
"""


def folder(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"the data set {name} is not beside the project")
    return DATA / name


def audited(project):
    history = load_history(project.config, project.data_dir, require=("conversions",))
    return audit_training_set(history, project, build_training_set(history, project))


@pytest.mark.parametrize("name", ["school_crm", "olist_funnel", "bpic2012"])
def test_the_configurations_as_they_are_have_no_severe_finding(name: str) -> None:
    report = audited(load_project(ROOT / f"configs/{name}.yaml", data=folder(name)))
    assert report.severe == ()


def test_deal_columns_that_are_filled_late_are_found_when_they_are_mapped_in() -> None:
    path = folder("school_crm")
    content = yaml.safe_load((ROOT / "configs/school_crm.yaml").read_text())
    columns = {name: name.replace("_", " ").title() for name in LATE | EARLY}
    columns["months_of_study"] = "Months of study"
    text = ", ".join(f'd."{source}" AS {name}' for name, source in sorted(columns.items()))
    content["history"]["leads"] = {
        "sql": ONE_DEAL.format(columns=text),
        "time_format": "%d.%m.%Y %H:%M",
        "attributes": dict.fromkeys(sorted(columns), "category"),
    }
    report = audited(parse_project(content, data=path))
    assert report.flagged >= LATE
    assert not EARLY & report.flagged
    assert {"stage", "payment_type", "months_of_study"} <= {
        name for finding in report.severe for name in finding.columns
    }


def test_columns_that_sales_wrote_are_flagged_in_a_table_without_dates() -> None:
    table = pd.read_csv(folder("xeducation") / "Leads.csv.gz", dtype=str, keep_default_na=False)
    outcome = table.pop("Converted").astype(int)
    flagged = audit_table(table, outcome).flagged
    written = {"Tags", "Lead Quality", "Lead Profile", "Last Activity", "Last Notable Activity"}
    written |= {name for name in table if name.startswith("Asymmetrique")}
    assert len(written) == 9
    assert written <= flagged
    assert flagged - written <= {
        "What is your current occupation",
        "What matters most to you in choosing a course",
    }

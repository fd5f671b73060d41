"""Run in the fresh environment, from a folder of its own: MLflow's Python interface and Spark, on files beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd


def load() -> None:
    """``mlflow.pyfunc.load_model``: scores of both inputs, and where the code came from."""
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model("model")
    raw = pd.DataFrame(json.loads(Path("raw.json").read_text())["dataframe_records"])
    params = {"reasons": True, "locale": "de", "top": 2}
    answer = {
        "raw": model.predict(raw, params=params).to_dict("records"),
        "features": model.predict(pd.read_csv("features.csv")).to_dict("records"),
        "package": sys.modules["convpredict"].__file__,
    }
    Path("loaded.json").write_text(json.dumps(answer))


def refusals() -> None:
    """What loading each altered copy says."""
    import mlflow.pyfunc

    said = {}
    for folder in sorted(Path("altered").iterdir()):
        try:
            mlflow.pyfunc.load_model(str(folder))
            said[folder.name] = "loaded"
        except Exception as error:
            said[folder.name] = f"{type(error).__name__}: {error}"
        assert "convpredict.models.bundle" not in sys.modules, folder
    Path("refusals.json").write_text(json.dumps(said))


def spark() -> None:
    """``mlflow.pyfunc.spark_udf``: raw leads with lists as JSON text and as arrays of structs, and features."""
    import mlflow.pyfunc
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import struct

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.memory", "1g")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    udf = mlflow.pyfunc.spark_udf(session, "model", env_manager="local")
    frames = {
        "text": session.read.option("header", True).option("escape", '"').csv("raw.csv"),
        "arrays": session.read.json("raw.jsonl"),
        "features": session.read.parquet("features.parquet"),
    }
    answer = {}
    for name, frame in frames.items():
        columns = [column for column in frame.columns if column != "number"]
        scored = frame.repartition(2).select("number", udf(struct(*columns)).alias("scores"))
        rows = sorted(scored.collect(), key=lambda row: int(row["number"]))
        answer[name] = [row["scores"].asDict() for row in rows]
    Path("spark.json").write_text(json.dumps(answer))
    session.stop()


if __name__ == "__main__":
    {"load": load, "refusals": refusals, "spark": spark}[sys.argv[1]]()

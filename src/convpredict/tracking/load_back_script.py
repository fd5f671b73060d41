"""A process of its own that loads a registered version as anybody would, and scores with it.

Run as a file, not as a module of this package: what it scores with is the code in the model directory. Arguments: the
model's URI, a folder with ``rows.parquet``, an empty folder for the copy. It writes ``scores.parquet`` and, for the
model's own input example, ``example.parquet`` into the first folder.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import mlflow  # noqa: E402
import pandas as pd  # noqa: E402

if __name__ == "__main__":
    uri, folder, copy = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    directory = mlflow.artifacts.download_artifacts(uri, dst_path=copy)
    for file in Path(directory).rglob("*.py"):
        os.utime(
            file, (0, 0)
        )  # what is compiled is found again by path and time; the path stands for the content
    model = mlflow.pyfunc.load_model(directory)
    model.predict(pd.read_parquet(folder / "rows.parquet")).to_parquet(folder / "scores.parquet")
    if model.input_example is None:
        raise SystemExit("the model directory has no input example")
    model.predict(model.input_example).to_parquet(folder / "example.parquet")

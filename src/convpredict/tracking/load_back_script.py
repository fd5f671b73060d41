"""A process of its own that loads a registered version as anybody would, and scores with it.

Run as a file, not as a module of this package: what it scores with is the code in the model directory. Arguments: the
model's URI, and a folder with ``rows.parquet``. It writes ``scores.parquet`` and, for the model's own input example,
``example.parquet`` into that folder.
"""

import sys
import tempfile
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import mlflow  # noqa: E402
import pandas as pd  # noqa: E402

if __name__ == "__main__":
    uri, folder = sys.argv[1], Path(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="convpredict-") as copy:
        model = mlflow.pyfunc.load_model(uri, dst_path=copy)
        model.predict(pd.read_parquet(folder / "rows.parquet")).to_parquet(folder / "scores.parquet")
        if model.input_example is None:
            raise SystemExit("the model directory has no input example")
        example = model.predict(model.input_example, params={"allow_later_rates": True})
        example.to_parquet(folder / "example.parquet")

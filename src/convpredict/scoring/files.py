"""Files that appear whole or not at all: written beside their place, synced, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table to a Parquet file; a reader sees the old file or the new one, never a part."""
    _replace(path, lambda file: pq.write_table(table, file, compression="zstd"))


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a mapping as indented JSON, in the order of its keys; instants in ISO 8601."""
    write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text."""
    _replace(path, lambda file: file.write(text.encode("utf-8")))


def _replace(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise

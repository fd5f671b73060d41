"""Score tables as Parquet files, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..files import write_file


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table to a Parquet file; a reader sees the old file or the new one, never a part."""
    write_file(path, lambda file: pq.write_table(table, file, compression="zstd", write_page_checksum=True))

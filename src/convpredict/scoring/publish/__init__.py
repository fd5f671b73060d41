"""Where scores are published: Parquet files, a DuckDB file, a PostgreSQL table."""

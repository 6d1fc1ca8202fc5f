"""Readers and profiles of data files: CSV, Parquet and JSON Lines."""

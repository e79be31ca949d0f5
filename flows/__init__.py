"""Thin tasks over catalog and tar_engine; orchestration only."""

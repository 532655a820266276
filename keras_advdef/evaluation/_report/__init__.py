"""Writes and reads the report."""

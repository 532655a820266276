"""Texts that may only change on purpose."""

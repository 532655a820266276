"""Texts that may change only on purpose."""

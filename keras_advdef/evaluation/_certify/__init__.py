"""Analyses networks for the certificates."""

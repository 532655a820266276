"""Decides whether the numbers can be believed, and what may be claimed."""

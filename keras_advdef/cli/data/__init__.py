"""Loads the data sets that the commands work on."""

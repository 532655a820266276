"""Checks the arguments of an evaluation: the model, the images and the settings."""

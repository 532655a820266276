"""Loads the images and labels that the commands use."""

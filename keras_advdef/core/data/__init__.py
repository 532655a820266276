"""Reads images and labels from files and folders."""

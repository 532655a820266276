"""Runs the attacks and keeps what they found."""

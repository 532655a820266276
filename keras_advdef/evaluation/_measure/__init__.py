"""Measures curves, smallest perturbations and costs, beside the attacks."""

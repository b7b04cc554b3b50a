"""Benchmarks: where their questions come from, what a model is shown, and what counts as right."""

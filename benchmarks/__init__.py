"""Measurements: run from the top of the repository, for instance `python -m benchmarks.triplets`."""

"""Benchmarks: run them from the root of the repository, for instance `python -m benchmarks.triplets`."""

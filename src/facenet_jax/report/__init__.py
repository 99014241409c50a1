"""One page of everything that was measured: read from the files that runs and evaluations leave."""

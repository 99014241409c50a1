"""Makes one page of all results from the files of runs and evaluations, and serves pages on this machine."""

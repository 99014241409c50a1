"""Predicts what a run takes on machines that are not at hand, from the compiled step."""

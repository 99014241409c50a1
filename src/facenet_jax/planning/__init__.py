"""Predicts from the compiled step the time and memory of a run on other machines."""

"""Puts collections of photographs in order: finds wrong labels, sorts by person, compares datasets."""

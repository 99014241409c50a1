"""Putting collections of photographs in order: finding wrong labels, sorting by person, comparing datasets."""

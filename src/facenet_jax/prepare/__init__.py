"""Photographs -> a dataset on disk."""

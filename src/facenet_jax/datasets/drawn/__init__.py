"""Drawn faces: people who do not exist, for tests, demonstrations and measurements."""

from facenet_jax.datasets.drawn.faces import DrawnFaces
from facenet_jax.datasets.drawn.people import render, render_batch

__all__ = ["DrawnFaces", "render", "render_batch"]

"""Helpers for tests of commands and evaluations: refused commands, synthetic pictures and points."""

import io

import numpy as np
from PIL import Image

from facenet_jax.cli import main


def refused(capsys, *arguments):
    """The sentence with which a command is refused."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    sentence = error.strip().splitlines()[-1]
    assert sentence.startswith("facenet-jax: ")
    return sentence


def picture(seed, size=(8, 6)):
    """PNG bytes of an image of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def album(people, faces):
    """Unit vectors float32 [people * faces, 16] that are nearer within a person, and the person of each."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(people), faces)
    points = rng.normal(size=(people, 16))[labels] + 0.7 * rng.normal(size=(len(labels), 16))
    return unit(points), labels


def unit(points):
    """Each row scaled to length one, in float32."""
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def distance(a, b):
    """The squared distance of two points, in float64."""
    return float(np.sum((a.astype(np.float64) - b) ** 2))


def expanded(counts):
    """All numbers of DistanceCounts, ascending."""
    return np.repeat(counts.values, counts.counts)

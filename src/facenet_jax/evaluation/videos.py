"""YouTube Faces (section 5.7): two videos are as far apart as the pairs of their frames are in the mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def video_means(points: NDArray[np.float32], video: NDArray[np.int64], videos: int) -> NDArray[np.float64]:
    """The mean vector of each video's frames, not brought back to the sphere.

    Args:
      points: float32 [frames, d], unit vectors.
      video: int64 [frames], which video each is of.
      videos: how many there are.

    Returns:
      float64 [videos, d]; zeros where a video has no frame.
    """
    sums = np.zeros((videos, points.shape[1]))
    np.add.at(sums, video, points.astype(np.float64))
    return sums / np.maximum(np.bincount(video, minlength=videos), 1)[:, None]


def mean_distances(means: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """The mean squared distance over all pairs of frames of two videos.

    For unit vectors it is 2 - 2 x.y for each pair of frames, whose mean is 2 - 2 m1.m2: the cost grows with the frames,
    not with their pairs.

    Args:
      means: float64 [videos, d], as `video_means`.
      pairs: int64 [n, 2].

    Returns:
      float32 [n].
    """
    products = np.einsum("nd,nd->n", means[pairs[:, 0]], means[pairs[:, 1]])
    return (2 - 2 * products).astype(np.float32)

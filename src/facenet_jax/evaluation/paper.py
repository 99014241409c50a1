"""The figures that the paper reports. VAL and accuracy in [0, 1], at FAR 1e-3."""

from __future__ import annotations

# Table 3: VAL on the hold-out and its standard error, and the multiply-adds of Figure 4.
TABLE_3: dict[str, tuple[float, float]] = {
    "nn1": (0.879, 0.019),
    "nn2": (0.894, 0.016),
    "nn3": (0.883, 0.017),
    "nn4": (0.820, 0.023),
    "nns1": (0.824, 0.024),
    "nns2": (0.519, 0.029),
}
MULTIPLY_ADDS: dict[str, float] = {
    "nn1": 1.6e9,
    "nn2": 1.6e9,
    "nn3": 816e6,
    "nn4": 285e6,
    "nns1": 220e6,
    "nns2": 20e6,
}
# Table 4: VAL of NN1 in percent, by JPEG quality and by pixels of the image.
JPEG_QUALITIES = {10: 67.3, 20: 81.4, 30: 83.9, 50: 85.5, 70: 86.1, 90: 86.5}
IMAGE_SIZES = {1_600: 37.8, 6_400: 79.5, 14_400: 84.5, 25_600: 85.7, 65_536: 86.4}
# Table 5: NN1 with embeddings of other sizes.
TABLE_5: dict[int, tuple[float, float]] = {
    64: (0.868, 0.017),
    128: (0.879, 0.019),
    256: (0.877, 0.019),
    512: (0.856, 0.020),
}
# Table 6: training images, and VAL on personal photographs.
TABLE_6: dict[int, float] = {2_600_000: 0.763, 26_000_000: 0.851, 52_000_000: 0.851, 260_000_000: 0.862}
# Section 5.6, accuracy and its standard error by the way of cutting; section 5.7 by frames.
LFW: dict[str, tuple[float, float]] = {"centre": (0.9887, 0.0015), "tight": (0.9963, 0.0009)}
YOUTUBE_FACES: dict[int, tuple[float, float | None]] = {100: (0.9512, 0.0039), 1000: (0.9518, None)}

"""Finding faces: YuNet through OpenCV."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.errors import InputError, how_to_install
from facenet_jax.images.weights import YUNET, read_weights

# Larger pictures are shrunk to this longer side, in which faces of ten pixels and more are found.
_LONGER_SIDE = 640
# OpenCV's own example asks for 0.9, which misses faces turned aside; overlapping boxes are one face.
_MIN_SCORE = 0.6
_MAX_OVERLAP = 0.3
_MOST_BOXES = 5000
_TRIED_SIDE = 64
# The level of OpenCV's log is one for all threads.
_opening = threading.Lock()


@dataclass(frozen=True, eq=False)
class Detection:
    """A face found in an image, in its pixels: x to the right, y downwards.

    Attributes:
      box: (x, y, width, height), x and y of the upper left corner; it may reach out of the image.
      landmarks: float64 [5, 2], (x, y) of the eye on the image's left, the other eye, the tip of the nose, the corner
        of the mouth on the left, the other corner; whole numbers are pixel centres.
      score: how sure the detector is, in (0, 1].
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]
    score: float


class FaceDetector:
    """Finds faces. Any number of threads may use it, each with a network of its own, and it can be pickled.

    Attributes:
      digest: SHA-256 of its weights, in hexadecimal.

    Args:
      path: a YuNet model to use instead of the published one.

    Raises:
      InputError: OpenCV or the weights are not installed, or the path holds no YuNet model that OpenCV reads.
    """

    def __init__(self, path: Path | None = None) -> None:
        try:
            import cv2  # noqa: F401
        except ImportError as error:
            raise InputError(f"Finding faces needs OpenCV: {how_to_install('align')}.") from error
        self._path = path
        self._weights = read_weights(YUNET, path)
        self.digest = hashlib.sha256(self._weights).hexdigest()
        self._own = threading.local()  # OpenCV's network takes one image at a time
        self._try()

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Finds the faces of an image.

        Args:
          image: uint8 [rows, columns, 3], red first.

        Returns:
          The faces, the surest first.
        """
        import cv2

        rows, columns = image.shape[:2]
        shrink = min(1.0, _LONGER_SIDE / max(rows, columns))
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if shrink < 1:
            size = (max(1, round(columns * shrink)), max(1, round(rows * shrink)))
            bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
        net = self._open()
        net.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, found = net.detect(bgr)
        if found is None:
            return []
        scale = np.array([columns / bgr.shape[1], rows / bgr.shape[0]])
        detections = []
        for row in np.asarray(found, np.float64):
            x, y, width, height = (row[:4].reshape(2, 2) * scale).ravel().tolist()
            landmarks = (row[4:14].reshape(5, 2) + 0.5) * scale - 0.5
            if width > 0 and height > 0 and np.isfinite(row).all():
                detections.append(Detection((x, y, width, height), landmarks, float(row[14])))
        return sorted(detections, key=lambda detection: -detection.score)

    def _open(self) -> Any:
        if not hasattr(self._own, "net"):
            import cv2

            with _opening:
                cv2.setNumThreads(1)  # the caller has a process a core
                logging = cv2.utils.logging
                level = logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # it warns of a default that nobody chose
                nothing = np.zeros(0, np.uint8)
                model = np.frombuffer(self._weights, np.uint8)
                try:
                    self._own.net = cv2.FaceDetectorYN.create(
                        "onnx", model, nothing, (320, 320), _MIN_SCORE, _MAX_OVERLAP, _MOST_BOXES
                    )
                except cv2.error as error:
                    raise self._no_model() from error
                finally:
                    logging.setLogLevel(level)
        return self._own.net

    def _try(self) -> None:
        # OpenCV opens any model in ONNX, and says only of an image whether it can make faces of what comes out.
        import cv2

        net = self._open()
        net.setInputSize((_TRIED_SIDE, _TRIED_SIDE))
        try:
            net.detect(np.zeros((_TRIED_SIDE, _TRIED_SIDE, 3), np.uint8))
        except cv2.error as error:
            raise self._no_model() from error

    def _no_model(self) -> InputError:
        return InputError(f"{self._path or YUNET.name} is not an ONNX model of YuNet that OpenCV reads.")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_own"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=threading.local())

"""FaceNet (Schroff, Kalenichenko, Philbin 2015) in JAX.

For a training loop of your own: `triplet_loss`, `select_triplets`, `networks.build`. For photographs: `FaceEmbedder`.
For a run from Python: `load_config`, `train`.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facenet_jax.config import load_config
    from facenet_jax.embedders.face_embedder import FaceEmbedder
    from facenet_jax.models import networks
    from facenet_jax.training.loop import train
    from facenet_jax.triplets import Selection, select_triplets, triplet_loss

__version__ = "0.1.0"
__all__ = [
    "FaceEmbedder",
    "Selection",
    "__version__",
    "load_config",
    "networks",
    "select_triplets",
    "train",
    "triplet_loss",
]

# ONNX Runtime, once it is imported, keeps a device number in the home folder and looks for a server to report to. Faces
# are biometric data: nothing here reports anything, unless somebody sets this to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# JAX is loaded with the first use: the command's --help and worker processes go without.
_PUBLIC = {
    "FaceEmbedder": "facenet_jax.embedders.face_embedder",
    "Selection": "facenet_jax.triplets",
    "load_config": "facenet_jax.config",
    "networks": "facenet_jax.models",
    "select_triplets": "facenet_jax.triplets",
    "train": "facenet_jax.training.loop",
    "triplet_loss": "facenet_jax.triplets",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""FaceNet (Schroff, Kalenichenko, Philbin 2015) in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facenet_jax.embedders.face_embedder import FaceEmbedder

__version__ = "0.1.0"
__all__ = ["FaceEmbedder", "__version__"]


def __getattr__(name: str) -> Any:
    # JAX is loaded with the first use: the command's --help and worker processes go without.
    if name == "FaceEmbedder":
        from facenet_jax.embedders.face_embedder import FaceEmbedder

        return FaceEmbedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

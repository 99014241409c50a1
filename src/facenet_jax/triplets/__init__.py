"""Points on the unit sphere -> the triplet loss."""

from facenet_jax.triplets.curriculum import Stage, margin_at, staged_loss_and_gradient
from facenet_jax.triplets.distances import squared_distances
from facenet_jax.triplets.listed import listed_loss_and_gradient
from facenet_jax.triplets.loss import TripletStats, triplet_loss, triplet_loss_and_gradient
from facenet_jax.triplets.offline import HardFaces, hardest_faces
from facenet_jax.triplets.selection import Selection, Triplets, select

__all__ = [
    "HardFaces",
    "Selection",
    "Stage",
    "TripletStats",
    "Triplets",
    "hardest_faces",
    "listed_loss_and_gradient",
    "margin_at",
    "select",
    "squared_distances",
    "staged_loss_and_gradient",
    "triplet_loss",
    "triplet_loss_and_gradient",
]

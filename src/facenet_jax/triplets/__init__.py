"""The triplet loss on points of the unit sphere."""

from facenet_jax.triplets.curriculum import Stage, margin_at, staged_loss_and_gradient
from facenet_jax.triplets.distances import squared_distances
from facenet_jax.triplets.hard_faces import HardFaces, hardest_faces
from facenet_jax.triplets.harmonic import harmonic_loss_and_gradient
from facenet_jax.triplets.loss import (
    TripletStats,
    listed_loss_and_gradient,
    plain_triplet_loss,
    triplet_loss,
    triplet_loss_and_gradient,
)
from facenet_jax.triplets.members import of_each_member
from facenet_jax.triplets.selection import Selection, Triplets, select_triplets

__all__ = [
    "HardFaces",
    "Selection",
    "Stage",
    "TripletStats",
    "Triplets",
    "hardest_faces",
    "harmonic_loss_and_gradient",
    "listed_loss_and_gradient",
    "margin_at",
    "of_each_member",
    "plain_triplet_loss",
    "select_triplets",
    "squared_distances",
    "staged_loss_and_gradient",
    "triplet_loss",
    "triplet_loss_and_gradient",
]

"""Points on the unit sphere -> the triplet loss."""

from facenet_jax.triplets.curriculum import Stage, staged_loss_and_gradient
from facenet_jax.triplets.distances import squared_distances
from facenet_jax.triplets.loss import TripletStats, triplet_loss, triplet_loss_and_gradient
from facenet_jax.triplets.selection import Selection, Triplets, select

__all__ = [
    "Selection",
    "Stage",
    "TripletStats",
    "Triplets",
    "select",
    "squared_distances",
    "staged_loss_and_gradient",
    "triplet_loss",
    "triplet_loss_and_gradient",
]

"""Points on the unit sphere -> the triplet loss."""

from facenet_jax.triplets.distances import squared_distances
from facenet_jax.triplets.loss import TripletStats, triplet_loss, triplet_loss_and_gradient

__all__ = ["TripletStats", "squared_distances", "triplet_loss", "triplet_loss_and_gradient"]

"""The triplet loss in float64, written as loops from section 3 of the paper."""

from typing import NamedTuple

import numpy as np


class Reference(NamedTuple):
    triplets: list  # (a, p, n) for every anchor-positive pair that has a semi-hard negative
    loss: float
    gradient: np.ndarray
    pairs: int
    active: int
    mean_ap: float
    mean_an: float
    spread: float


def squared_distance(x, y):
    return float(np.sum((x - y) ** 2))


def triplet_loss(embeddings, labels, valid, margin=0.2, divide_by="pairs"):
    e = np.asarray(embeddings, np.float64)
    rows = [i for i in range(len(e)) if valid[i]]
    pairs, triplets, ap, an = 0, [], [], []
    for a in rows:
        an += [squared_distance(e[a], e[n]) for n in rows if labels[n] != labels[a]]
        for p in rows:
            if p == a or labels[p] != labels[a]:
                continue
            pairs += 1
            d_ap = squared_distance(e[a], e[p])
            ap.append(d_ap)
            nearest = None
            for n in rows:
                d_an = squared_distance(e[a], e[n])
                farther = labels[n] != labels[a] and d_an > d_ap
                if farther and (nearest is None or d_an < nearest[0]):
                    nearest = (d_an, n)
            if nearest is not None:
                triplets.append((a, p, nearest[1]))
    loss, active, gradient = 0.0, 0, np.zeros_like(e)
    for a, p, n in triplets:
        hinge = squared_distance(e[a], e[p]) - squared_distance(e[a], e[n]) + margin
        if hinge > 0:
            active += 1
            loss += hinge
            gradient[a] += 2 * (e[n] - e[p])
            gradient[p] += 2 * (e[p] - e[a])
            gradient[n] += 2 * (e[a] - e[n])
    count = max({"pairs": pairs, "active": active, "one": 1}[divide_by], 1)
    mean = e[rows].mean(axis=0) if rows else np.zeros(e.shape[1])
    return Reference(
        triplets,
        loss / count,
        gradient / count,
        pairs,
        active,
        float(np.mean(ap)) if ap else 0.0,
        float(np.mean(an)) if an else 0.0,
        float(1 - np.sum(mean**2)),
    )

"""A reference of the triplet loss in float64, written as loops from section 3 of the paper."""

from typing import NamedTuple

import numpy as np


class Reference(NamedTuple):
    triplets: list  # (a, p, n) for every anchor-positive pair that has a negative
    gaps: list  # for each pair (a, p, gap): the least change of a distance that could change the choice
    loss: float
    gradient: np.ndarray
    pairs: int
    active: int
    mean_ap: float
    mean_an: float
    spread: float


def squared_distance(x, y):
    return float(np.sum((x - y) ** 2))


def hash32(*words):
    state = 0
    for word in words:
        state = ((state ^ (word % 2**32)) + 0x9E3779B9) % 2**32
        state = (state ^ (state >> 16)) * 0x7FEB352D % 2**32
        state = (state ^ (state >> 15)) * 0x846CA68B % 2**32
        state ^= state >> 16
    return state


def nearest(candidates):
    """The least of (distance, index), or None; and the distance to the runner-up."""
    ordered = sorted(candidates)
    gap = ordered[1][0] - ordered[0][0] if len(ordered) > 1 else np.inf
    return (ordered[0][1] if ordered else None), gap


def farthest(candidates):
    return nearest([(-d, i) for d, i in candidates])


def positives_of(a, to_positives, positives):
    """The positives to pair an anchor with, and the gap of that decision."""
    if positives == "all":
        return [p for _, p in to_positives], np.inf
    chosen, gap = farthest(to_positives)
    return [] if chosen is None else [chosen], gap


def negative_of(a, p, d_ap, to_negatives, negatives, no_semi_hard, margin, seed, step):
    """The negative of a pair or None, and the gap of that decision."""
    if negatives == "hardest":
        return nearest(to_negatives)
    gap = min([abs(d - d_ap) for d, _ in to_negatives], default=np.inf)
    if negatives == "semi_hard":
        chosen, gap_of_choice = nearest([(d, n) for d, n in to_negatives if d > d_ap])
        gap = min(gap, gap_of_choice)
    else:
        gap = min([gap] + [abs(d - d_ap - margin) for d, _ in to_negatives])
        band = [n for d, n in to_negatives if d_ap < d < d_ap + margin]
        chosen = band[hash32(seed, step, a, p) % len(band)] if band else None
    if chosen is None and no_semi_hard == "farthest":
        chosen, gap_of_choice = farthest([(d, n) for d, n in to_negatives if d <= d_ap])
        gap = min(gap, gap_of_choice)
    return chosen, gap


def triplet_loss(
    embeddings,
    labels,
    valid,
    margin=0.2,
    divide_by="pairs",
    positives="all",
    negatives="semi_hard",
    no_semi_hard="skip",
    seed=0,
    step=0,
):
    e = np.asarray(embeddings, np.float64)
    rows = [i for i in range(len(e)) if valid[i]]
    pairs, triplets, gaps, ap, an = 0, [], [], [], []
    for a in rows:
        distance = {x: squared_distance(e[a], e[x]) for x in rows}
        to_positives = [(distance[p], p) for p in rows if labels[p] == labels[a] and p != a]
        to_negatives = [(distance[n], n) for n in rows if labels[n] != labels[a]]
        an += [d for d, _ in to_negatives]
        chosen_positives, gap_of_positive = positives_of(a, to_positives, positives)
        for p in chosen_positives:
            pairs += 1
            ap.append(distance[p])
            n, gap = negative_of(a, p, distance[p], to_negatives, negatives, no_semi_hard, margin, seed, step)
            gaps.append((a, p, min(gap, gap_of_positive)))
            if n is not None:
                triplets.append((a, p, n))
    loss, active, gradient = loss_of(e, triplets, margin)
    count = max({"pairs": pairs, "active": active, "one": 1}[divide_by], 1)
    mean = e[rows].mean(axis=0) if rows else np.zeros(e.shape[1])
    return Reference(
        triplets,
        gaps,
        loss / count,
        gradient / count,
        pairs,
        active,
        float(np.mean(ap)) if ap else 0.0,
        float(np.mean(an)) if an else 0.0,
        float(1 - np.sum(mean**2)),
    )


def loss_of(e, triplets, margin):
    """The sum of equation (2) over given triplets, how many are active, and the gradient."""
    loss, active, gradient = 0.0, 0, np.zeros_like(e)
    for a, p, n in triplets:
        hinge = squared_distance(e[a], e[p]) - squared_distance(e[a], e[n]) + margin
        if hinge > 0:
            active += 1
            loss += hinge
            gradient[a] += 2 * (e[n] - e[p])
            gradient[p] += 2 * (e[p] - e[a])
            gradient[n] += 2 * (e[a] - e[n])
    return loss, active, gradient

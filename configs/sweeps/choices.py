"""What is each of the paper's choices worth?

One at a time: the triplets of section 3.2, its random negatives and faces of an identity, the margin of equation (1),
the embedding's size of Table 5, augmentation, the rate's fall and the average of parameters, each against the config as
it is. docs/experiments/choices.md has the results.

facenet-jax sweep choices --config=recipe_cpu --config.data.path=faces
"""

AXIS = "what differs"


def points(base):
    yield "as-it-is", {}
    for faces in (1, 5, 10):
        yield from other(base, "data.min_faces", faces, f"identities-of-{faces}-faces")
    yield from other(base, "loss.positives", "hardest", "hardest-positives")
    yield from other(base, "loss.negatives", "hardest", "hardest-negatives")
    yield from other(base, "loss.negatives", "random_semi_hard", "random-semi-hard")
    now = (base.loss.positives, base.loss.negatives, base.loss.margin)
    then = {"loss.negatives": "random_semi_hard", "loss.stages": ((max(base.steps // 3, 1), *now),)}
    yield "random-semi-hard-for-a-third", then
    for faces in (5, 10, 20, 40):
        yield from other(base, "batch.faces_per_identity", faces, f"{faces}-faces-an-identity")
    for percent in (0, 10, 30):
        negatives = round(percent / 100 * base.batch.size)
        yield from other(base, "batch.random_negatives", negatives, f"{percent}-percent-random-negatives")
    for margin in (0.1, 0.4):
        yield from other(base, "loss.margin", margin, f"margin-{margin}")
    if any(base.data.augment.values()):
        yield "no-changes", dict.fromkeys([f"data.augment.{key}" for key in base.data.augment], 0.0)
    yield from other(base, "optimizer.finalise_steps", 0, "constant-rate")
    yield from other(base, "optimizer.weight_average", 0.0, "no-average")
    yield "offline", {"offline.every": max(base.steps // 6, 1)}
    for size in (64, 128, 256):
        yield from other(base, "model.embedding_size", size, f"{size}-dimensions")


def other(base, key, value, name):
    """Yields the point, unless the config already has this value."""
    group, _, last = key.partition(".")
    if base[group][last] != value:
        yield name, {key: value}

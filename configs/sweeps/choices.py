"""What is each of the paper's choices worth?

One at a time: the triplets of section 3.2, its random negatives, its faces of an identity, the margin of equation (1)
and the embedding's size of Table 5, each against the config as it is. docs/results.md has what came out.

facenet-jax sweep choices --config=recipe_cpu --config.data.path=photos
"""

AXIS = "what differs"


def points(base):
    yield "as-it-is", {}
    for size in (64, 256):
        yield f"{size}-dimensions", {"model.embedding_size": size}
    for faces in (5, 10, 40):
        yield f"{faces}-faces-an-identity", {"batch.faces_per_identity": faces}
    for share in (0, 1 / 3):
        negatives = round(share * base.batch.size)
        yield f"{negatives}-random-negatives", {"batch.random_negatives": negatives}
    for margin in (0.1, 0.4):
        yield f"margin-{margin}", {"loss.margin": margin}
    yield "hardest-positives", {"loss.positives": "hardest"}
    yield "hardest-negatives", {"loss.negatives": "hardest"}
    yield "random-semi-hard", {"loss.negatives": "random_semi_hard"}
    yield "or-farthest", {"loss.no_semi_hard": "farthest"}
    yield "offline", {"offline.every": max(base.steps // 6, 1)}
    for faces in (1, 3, 5, 10):
        yield f"identities-of-{faces}-faces", {"data.min_faces": faces}

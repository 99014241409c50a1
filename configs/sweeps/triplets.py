"""Which triplets should a batch give?

Section 3.2 of the paper takes all anchor-positive pairs with semi-hard negatives, and says of hardest positives that
they are a little less stable at the beginning, of hardest negatives that they can collapse the embedding.

facenet-jax sweep triplets --config=nn4 --config.data.path=faces
"""

AXIS = "positives, negatives"


def points(base):
    yield "all-semi_hard", {"loss.positives": "all", "loss.negatives": "semi_hard"}
    yield (
        "all-semi_hard-or-farthest",
        {
            "loss.positives": "all",
            "loss.negatives": "semi_hard",
            "loss.no_semi_hard": "farthest",
        },
    )
    yield "all-random", {"loss.positives": "all", "loss.negatives": "random_semi_hard"}
    yield "all-hardest", {"loss.positives": "all", "loss.negatives": "hardest"}
    yield "hardest-semi_hard", {"loss.positives": "hardest", "loss.negatives": "semi_hard"}
    yield "hardest-hardest", {"loss.positives": "hardest", "loss.negatives": "hardest"}

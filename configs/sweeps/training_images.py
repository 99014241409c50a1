"""How much do more training faces help?

Table 6 of the paper trains on 2.6M, 26M, 52M and 260M images: a large step from the first to the second, a small one
after that. Here the same shares, 1, 10, 20 and 100 %, of 10,000 drawn people. The paper's numbers were measured on
personal photos, by a network at 96x96 like NN2 without 5x5 convolutions: --config=nn4 --config.model.five_by_five=none.

facenet-jax sweep training_images
"""

from facenet_jax.errors import InputError

AXIS = "people to train on"
# VAL at FAR 0.001, without a standard error in the paper.
PAPER = {"100": (0.763, None), "1000": (0.851, None), "2000": (0.851, None), "10000": (0.862, None)}


def points(base):
    if base.data.path != "drawn":
        raise InputError(
            f"the sweep training_images draws its faces, and config.data.path is {base.data.path}; leave it out, or "
            "write a sweep whose points are folders of different sizes: `yield name, {'data.path': folder}`."
        )
    for identities in (100, 1_000, 2_000, 10_000):
        yield str(identities), {"data.drawn.identities": identities}

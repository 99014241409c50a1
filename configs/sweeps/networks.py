"""What does a network's arithmetic buy?

Table 3 of the paper compares the networks, each at its own input size: from NNS2, 20M multiply-adds and 51.9 % VAL, to
NN2, 1.6B and 89.4 %.

facenet-jax sweep networks --config=nn2 --config.data.path=faces
"""

from facenet_jax.models import NETWORKS

AXIS = "network"
# VAL at FAR 0.001 and its standard error, on the paper's own hold-out.
PAPER = {
    "nn1": (0.879, 0.019),
    "nn2": (0.894, 0.016),
    "nn3": (0.883, 0.017),
    "nn4": (0.820, 0.023),
    "nns1": (0.824, 0.024),
    "nns2": (0.519, 0.029),
}


def points(base):
    # The cheapest first, so that there is something to look at soon.
    for name in ("nns2", "nns1", "nn4", "nn3", "nn2", "nn1"):
        yield name, {"model.name": name, "model.input_size": NETWORKS[name].input_size}

"""How long should an embedding be?

Table 5 of the paper trains NN1 with 64, 128, 256 and 512 dimensions and finds no significant difference. It uses 128,
which an application can store as 128 bytes.

facenet-jax sweep embedding_size --config=nn1 --config.data.path=faces
"""

AXIS = "embedding size (dimensions)"
# VAL at FAR 0.001 and its standard error, on the paper's own hold-out of personal photos.
PAPER = {"64": (0.868, 0.017), "128": (0.879, 0.019), "256": (0.877, 0.019), "512": (0.856, 0.020)}


def points(base):
    for size in (64, 128, 256, 512):
        yield str(size), {"model.embedding_size": size}

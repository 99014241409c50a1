"""NNS2, the tiny Inception for phones, 140x116: a reconstruction that meets 4.3M parameters and 20M multiply-adds.

facenet-jax train --config=configs/nns2.py --config.data.path=faces --workdir=runs/nns2

On two CPU cores a step of 24 faces took 0.08 s. The batch of 1,800 needs much memory:
the command says which --config.batch.chunk fits.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.name = "nns2"
    config.model.input_size = (140, 116)
    return config

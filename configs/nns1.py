"""NNS1, the mini Inception for phones, 165x165: a reconstruction that meets 26M parameters and 220M multiply-adds.

facenet-jax train --config=configs/nns1.py --config.data.path=faces --workdir=runs/nns1

On two CPU cores a step of 24 faces took 0.69 s. The batch of 1,800 needs much memory:
the command says which --config.batch.chunk fits.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.name = "nns1"
    config.model.input_size = (165, 165)
    return config

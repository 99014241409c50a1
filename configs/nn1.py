"""NN1 (Table 1): Zeiler & Fergus with 1x1 convolutions, 220x220, 140M parameters, 1.6B multiply-adds.

facenet-jax train --config=configs/nn1.py --config.data.path=faces --workdir=runs/nn1

On two CPU cores a step of 24 faces took 2.2 s. The batch of 1,800 needs much memory:
the command says which --config.batch.chunk fits.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.name = "nn1"
    config.model.input_size = (220, 220)
    return config

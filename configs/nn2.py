"""NN2 (Table 2): Inception, 224x224, 7.5M parameters, 1.6B multiply-adds.

facenet-jax train --config=configs/nn2.py --config.data.path=faces --workdir=runs/nn2

On two CPU cores a step of 24 faces took 2.6 s. The batch of 1,800 needs much memory:
the command says which --config.batch.chunk fits.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.name = "nn2"
    config.model.input_size = (224, 224)
    return config

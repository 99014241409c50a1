"""NN4: NN2 at 96x96 without the 5x5 branch in the higher layers, 285M multiply-adds (section 3.3).

facenet-jax train --config=configs/nn4.py --config.data.path=faces --workdir=runs/nn4

On two CPU cores a step of 24 faces took 0.36 s. The batch of 1,800 needs much memory:
the command says which --config.batch.chunk fits.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.name = "nn4"
    config.model.input_size = (96, 96)
    return config

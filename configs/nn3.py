"""NN3: NN2 at 160x160; only the input is smaller (section 3.3).

facenet-jax train --config=configs/nn3.py --config.data.path=faces --workdir=runs/nn3

On two CPU cores a step of 24 faces took 1.0 s. The batch of 1,800 needs much memory:
the command says which --config.batch.chunk fits.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.name = "nn3"
    config.model.input_size = (160, 160)
    return config

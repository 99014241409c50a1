"""NN2 (Table 2): Inception, 224x224, 7.5M parameters, 1.6B multiply-adds.

facenet-jax train --config=configs/nn2.py --config.data.path=photos --workdir=runs/nn2
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.model.name = "nn2"
    config.model.input_size = (224, 224)
    return config

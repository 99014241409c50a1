"""A few thousand people and an afternoon on two CPU cores: what trained best so far (docs/results.md).

facenet-jax train --config=configs/recipe_cpu.py --config.data.path=photos --workdir=runs/recipe

NNS2 at 96x96 with standardised kernels and Adam, identities of five faces or more, crops and light changed a little.
Twenty minutes of one core took 1,120 steps; `make reproduce` chooses the number of steps by the clock.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.steps = 4000
    config.model.name = "nns2"
    config.model.input_size = (96, 96)
    config.model.norm = "weight"
    config.data.min_faces = 5  # batches full of pairs
    config.data.augment.crop = 0.1
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2
    config.data.augment.saturation = 0.2
    config.batch.size = 360
    config.batch.faces_per_identity = 15
    config.batch.random_negatives = 60
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.001
    config.optimizer.warmup_steps = 200
    config.optimizer.finalise_steps = 2000
    config.optimizer.final_learning_rate = 1e-5
    config.eval.every = 1000
    return config

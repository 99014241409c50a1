"""The recipe that trained best so far on a few thousand people in half an hour of two CPU cores (docs/results.md).

facenet-jax train --config=configs/recipe_cpu.py --config.data.path=faces --workdir=runs/recipe

Two NNS2 at 112x112 side by side, which err less than one (docs/experiments/members.md; model.members=1 takes half as
long), with standardised kernels, Adam and averaged parameters; identities of five faces or more; faces moved and turned
a little, so that it does not matter how exactly they were cut out, and colours from almost none to almost twice as
strong, so that a person is not known by the light of a photograph. 1,120 steps: twice as many overfit the 678 people.
"""

from facenet_jax.config import default_config


def get_config():
    config = default_config()
    config.steps = 1120
    config.model.name = "nns2"
    config.model.input_size = (112, 112)
    config.model.norm = "weight"
    config.model.members = 2
    config.data.min_faces = 5  # batches full of pairs
    config.data.augment.zoom = 0.05
    config.data.augment.rotate = 0.09
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2
    config.data.augment.saturation = 0.95
    config.batch.size = 360
    config.batch.faces_per_identity = 15
    config.batch.random_negatives = 60
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.001
    config.optimizer.warmup_steps = 56
    config.optimizer.finalise_steps = 560
    config.optimizer.final_learning_rate = 1e-5
    config.optimizer.weight_average = 0.99
    config.eval.every = 280
    return config

"""A few thousand people and an hour of a CPU core: recipe_cpu with more people and three times the steps.

facenet-jax train --config=configs/recipe_cpu_long.py --config.data.path=faces --workdir=runs/recipe

Identities of two faces or more in place of five: it learns more slowly, and by heart later. Before the recipe had its
present size, colours, average and places this did better than it on faces like those it was trained on, and not on
others (LFW); with them it has not been measured (docs/results.md).
"""

from facenet_jax.config import load_config


def get_config():
    config = load_config("recipe_cpu", [])
    config.steps = 3500
    config.data.min_faces = 2
    config.optimizer.warmup_steps = 175
    config.optimizer.finalise_steps = 1750
    config.eval.every = 875
    return config

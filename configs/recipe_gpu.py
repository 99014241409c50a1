"""Ten minutes of a GPU on a few thousand people: recipe_cpu_long with a larger network and ten times the faces seen.

facenet-jax train --config=configs/recipe_gpu.py --config.data.path=faces --workdir=runs/recipe_gpu

NN2 at 112x112 in bfloat16; --config.model.name=nns1 trains NNS1 instead. Deep networks need a lower rate and random
semi-hard negatives to start (docs/experiments/starting.md). So far it has run only on a CPU at toy size, not on a GPU,
and its result is not known.
"""

from facenet_jax.config import load_config


def get_config():
    config = load_config("recipe_cpu_long", [])
    config.steps = 5600
    config.model.name = "nn2"
    config.model.dtype = "bfloat16"
    config.batch.size = 720
    config.batch.random_negatives = 120
    config.loss.negatives = "random_semi_hard"
    config.loss.stages = ((1120, "all", "semi_hard", 0.2),)
    config.optimizer.learning_rate = 0.0003
    config.optimizer.warmup_steps = 560
    return config

"""recipe_cpu for four times as many steps, without overfitting in them.

facenet-jax train --config=configs/recipe_cpu_long.py --config.data.path=faces --workdir=runs/recipe

In that many steps recipe_cpu would overfit its 678 people. So identities of two faces or more give anchors,
everybody's faces are random negatives, and zooms and turns are larger; all of which learns more slowly. The rate stays
constant and parameters are averaged, so that any step's parameters are good. On 5,799 people one network's VAL levelled
off at half of these steps, where one of recipe_cpu ends, and the run began to overfit after 5,040
(docs/experiments/longer_runs.md). With more people, which was not tried, give a larger --config.steps: the checkpoint
with the best VAL is kept.
"""

from facenet_jax.config import load_config


def get_config():
    config = load_config("recipe_cpu", [])
    config.steps = 4480
    config.model.members = 1
    config.data.min_faces = 1
    config.data.augment.zoom = 0.1
    config.data.augment.rotate = 0.15
    config.optimizer.finalise_steps = 0
    config.optimizer.weight_average = 0.995
    config.eval.every = 1120
    return config

"""The configuration of a run: a table of keys, files that set them, and the configs that runs were saved with."""

from facenet_jax.config.keys import KEYS, Key, datasets_of, default_config, flatten, validate
from facenet_jax.config.load import config_folders, find_config, load_config
from facenet_jax.config.saved import MAY_CHANGE, difference, from_saved

__all__ = [
    "KEYS",
    "MAY_CHANGE",
    "Key",
    "config_folders",
    "datasets_of",
    "default_config",
    "difference",
    "find_config",
    "flatten",
    "from_saved",
    "load_config",
    "validate",
]

"""The configuration of a run: a table of keys, files that set them, and the configs that runs were saved with."""

from facenet_jax.config.keys import KEYS, Key, datasets_of, default_config, flatten, validate
from facenet_jax.config.load import asks_for_batch, config_folders, find_config, load_config
from facenet_jax.config.saved import BATCH, MAY_CHANGE, as_saved, difference, from_saved, smaller_batch

__all__ = [
    "BATCH",
    "KEYS",
    "MAY_CHANGE",
    "Key",
    "as_saved",
    "asks_for_batch",
    "config_folders",
    "datasets_of",
    "default_config",
    "difference",
    "find_config",
    "flatten",
    "from_saved",
    "load_config",
    "smaller_batch",
    "validate",
]

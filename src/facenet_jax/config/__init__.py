"""The configuration of a run: a table of keys, files that set them, and the configs that runs were saved with."""

from facenet_jax.config.keys import KEYS, Key, datasets_of, default_config, flatten, network_title, validate
from facenet_jax.config.load import config_folders, find_config, left_open, load_config
from facenet_jax.config.saved import (
    ALL_ASKED,
    BATCH,
    MAY_CHANGE,
    SCHEDULE,
    LeftOpen,
    as_saved,
    difference,
    from_saved,
    smaller_batch,
)

__all__ = [
    "ALL_ASKED",
    "BATCH",
    "KEYS",
    "MAY_CHANGE",
    "SCHEDULE",
    "Key",
    "LeftOpen",
    "as_saved",
    "config_folders",
    "datasets_of",
    "default_config",
    "difference",
    "find_config",
    "flatten",
    "from_saved",
    "left_open",
    "load_config",
    "network_title",
    "smaller_batch",
    "validate",
]

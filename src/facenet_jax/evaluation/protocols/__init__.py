"""The protocols: one module each, which adds its arguments, checks them, and runs a request to an outcome.

Each has
  add_arguments(parser)            what it can be asked, beyond what all can
  check(options)                   InputError for what is wrong whatever the faces are, before any is embedded
  run(request, options) -> Outcome its table for people and its document for machines
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Name of the module -> what it measures. Modules are imported once they are asked for: they bring NumPy and JAX along.
PROTOCOLS = {
    "holdout": "VAL at a FAR over splits of identities (section 4.1)",
    "photos": "all squared pairs of a folder of photographs (section 4.2)",
    "lfw": "Labelled Faces in the Wild, view 1 or 2 (section 5.6)",
    "pairs": "a .bin verification file of the field: lfw, cfp_fp, agedb_30, ...",
    "ytf": "YouTube Faces (section 5.7)",
    "robustness": "VAL against JPEG quality and image size (Table 4)",
    "compact": "float32 against one byte a coordinate; several sizes (Table 5)",
    "identify": "rank-1 and open-set identification",
    "cluster": "agglomerative clustering: B-cubed and pairwise F (section 5.8)",
}


def load(name: str) -> ModuleType:
    """The module of a protocol."""
    return import_module(f"{__name__}.{name}")

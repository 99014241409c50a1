"""Lists the evaluation protocols and loads them; each is a module.

Each module has
  add_arguments(parser)            adds the options that not all protocols have
  check(options)                   raises InputError for wrong options, before any face is embedded
  run(request, options) -> Outcome gives the table for people and the document for machines
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Name of the module -> what it measures. Modules are imported when they are used: they import NumPy and JAX.
PROTOCOLS = {
    "holdout": "VAL at a FAR over splits of identities (section 4.1)",
    "photos": "all squared pairs of a folder of photographs (section 4.2)",
    "lfw": "Labelled Faces in the Wild, view 1 or 2 (section 5.6)",
    "pairs": "a .bin verification file as InsightFace has them: lfw, cfp_fp, agedb_30, ...",
    "ytf": "YouTube Faces (section 5.7)",
    "robustness": "VAL against JPEG quality and image size (Table 4)",
    "compact": "float32 against one byte a coordinate; several sizes (Table 5)",
    "identify": "rank-1 and open-set identification",
    "cluster": "agglomerative clustering: B-cubed and pairwise F (section 5.8)",
}


def load(name: str) -> ModuleType:
    """The module of a protocol."""
    return import_module(f"{__name__}.{name}")

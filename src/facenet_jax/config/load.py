"""Config files: found by path or name, run, and overridden from the command line.

A file in configs/ starts from `default_config()` and says only what differs.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from absl import flags
from ml_collections import ConfigDict, config_flags

from facenet_jax.config.keys import flatten, validate
from facenet_jax.config.saved import BATCH, REMOVED, SCHEDULE, LeftOpen
from facenet_jax.errors import InputError, first_line


def left_open(name: str, overrides: Sequence[str]) -> LeftOpen:
    """What the overrides of a config leave open; both are such that `load_config` takes them."""
    given = {override.removeprefix("--config.").partition("=")[0] for override in overrides}
    schedule = {}
    if "steps" in given:
        own = flatten(_get_config(find_config(name)))
        schedule = {key: own[key] for key in SCHEDULE if key not in given}
    return LeftOpen(batch=given.isdisjoint(BATCH), schedule=schedule)


def load_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a config file and applies overrides.

    Args:
      name: a path to a config file, or the bare name of one that comes with the package.
      overrides: `--config.loss.margin=0.1`, and so on. Where `steps` is among them, and the rate falls at the end, the
        steps of warm-up and fall that are not among them keep their shares of it.

    Raises:
      InputError: no such file, an unknown key (naming the nearest), a value of the wrong type or out of range.
    """
    path = find_config(name)
    config = _get_config(path)
    keys, own_steps = list(flatten(config)), config.steps
    last: dict[str, str] = {}
    for override in overrides:
        key, equals, _ = override.removeprefix("--").removeprefix("config.").partition("=")
        if not override.startswith("--config.") or not equals:
            raise InputError(f"{override}: not understood; overrides are written --config.loss.margin=0.1.")
        if key in REMOVED:
            raise InputError(f"config.{key}: this option is gone, and was {REMOVED[key]} by default; leave it out.")
        if key not in keys:
            nearest = difflib.get_close_matches(key, keys, n=1, cutoff=0.0)[0]
            raise InputError(f"config.{key}: there is no such key in {path.name}; did you mean config.{nearest}?")
        last[key] = override  # a key given twice has its last value; absl would join two tuples into one
    values = flags.FlagValues()
    arguments = ["facenet-jax", *last.values()]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    try:
        values(arguments)
    except (flags.Error, TypeError, ValueError) as error:
        raise InputError(f"{first_line(error)}; give a value of the key's type.") from error
    # A run of other lengths warms up and falls for the same shares of its steps. Where the rate does not fall a run may
    # be given more steps later, so that nothing depends on their number.
    if "steps" in last and own_steps > 0 and config.optimizer.finalise_steps:
        values_now = flatten(config)
        shares = {key: values_now[key] * config.steps // own_steps for key in SCHEDULE if key not in last}
        config.update_from_flattened_dict(shares)
    validate(config)
    config.lock()
    return config


def config_folders() -> list[Path]:
    """Where configs are looked for by name: the repository's configs/, or the copy inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    return [folder for folder in (package / "configs", package.parents[1] / "configs") if folder.is_dir()]


def find_config(name: str) -> Path:
    """The config file meant by a path, or by a bare name such as `nn1`.

    Raises:
      InputError: there is none; names the nearest.
    """
    known = {file.stem: file for folder in config_folders() for file in sorted(folder.glob("*.py"))}
    return find_file(name, known, "config", f"--config={name}")


def find_file(name: str, known: Mapping[str, Path], kind: str, said: str) -> Path:
    """The file meant by a path, or by a bare name among those that come with the package.

    Args:
      name: as given.
      known: files by name.
      kind: of file, in one word.
      said: how the sentence of an error begins.

    Raises:
      InputError: there is none; names the nearest.
    """
    path = Path(name)
    try:
        if path.is_file():
            return path
    except OSError as error:  # a name too long, a folder that may not be entered
        raise InputError(f"{said}: cannot be read ({error.strerror}); give another file.") from error
    if path.name == name and path.stem in known and path.suffix in ("", ".py"):
        return known[path.stem]
    nearest = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise InputError(f"{said}: there is no such {kind}; {hint}There are {', '.join(sorted(known))}.")


def run_file(path: Path, kind: str, said: str) -> ModuleType:
    """The module of a Python file; what is wrong in the file is reported as such.

    Raises:
      InputError: it is not a Python file, or it ends in an exception.
    """
    spec = importlib.util.spec_from_file_location(f"facenet_jax_{kind}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{said}: not a Python file; {kind}s end in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise mistake(f"{said}:", error) from error
    return module


def mistake(said: str, error: Exception) -> InputError:
    """The sentence for an exception that a file of the user's ended in."""
    return InputError(f"{said} {type(error).__name__}: {first_line(error)}; fix the file.")


def _get_config(path: Path) -> ConfigDict:
    said = f"--config={path}"
    module = run_file(path, "config", said)
    try:
        config = module.get_config()
    except Exception as error:
        raise mistake(f"{said}:", error) from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"{said}: get_config() returned no ConfigDict; start it from default_config().")
    return config

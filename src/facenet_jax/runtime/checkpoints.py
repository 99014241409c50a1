"""Parameters, optimiser and step on disk, through Orbax: the latest few and the best."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import checkpoint_managers

from facenet_jax.errors import MACHINE_ERRORS, InputError, first_line
from facenet_jax.runtime.checksum import fingerprint
from facenet_jax.runtime.files import in_bucket, write_whole
from facenet_jax.runtime.hosts import all_say, is_first, wait_for_all
from facenet_jax.runtime.json_files import read_json

FOLDER = "checkpoints"
FINGERPRINT = "fingerprint"
# VAL of the checkpoints on the held-out identities, by which the best is chosen: {"<step>": VAL}.
VAL_FILE = "val.json"
_OS_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")


class Checkpoints:
    """The checkpoints of a working directory, in `<workdir>/checkpoints/<step>/`.

    Each holds `state` (parameters, optimiser, step), `config`, the config that made them, and `fingerprint`, by which
    values that changed on disk are noticed. Saving goes on while training does; a checkpoint appears under its name
    only once it is whole. VAL stands in a file of its own, since it may be measured after a checkpoint is saved.
    """

    def __init__(self, workdir: Path, keep: int = 2, read_only: bool = False) -> None:
        """Opens, and creates the folder unless read_only.

        Args:
          workdir: of the run.
          keep: how many of the latest stay, in addition to the best.
          read_only: for those who only load.

        Raises:
          InputError: there is nothing to load from.
        """
        self._on_disk, self._read_only = not in_bucket(workdir), read_only
        folder = epath.Path(workdir / FOLDER)
        self._folder = folder.resolve() if self._on_disk else folder  # which would make gs://b a folder gs:/b here
        if read_only and not self._folder.is_dir():
            raise InputError(
                f"{self._folder} does not exist; give the working directory of a run that saved a checkpoint."
            )
        self._val_file = workdir / FOLDER / VAL_FILE
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LatestAndBest(keep, self._best),
            create=not read_only,
            enable_async_checkpointing=not read_only,
        )
        # Handlers are named, and not left to the first save, so that a checkpoint's metadata can be asked for.
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
            FINGERPRINT: ocp.JsonCheckpointHandler(),
        }
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)
        except RecursionError as error:  # of the metadata that Orbax reads of each step; other damage it passes over
            raise InputError(
                f"a _CHECKPOINT_METADATA in {self._folder} is damaged (its brackets are nested too deep): remove the "
                "checkpoint that it is in."
            ) from error
        self._vals = self._read_vals()

    def save(self, step: int, state: Any, config: dict[str, Any], val: float | None) -> None:
        """Saves in the background; a step that is saved already is left as it is.

        Args:
          step: its name.
          state: the training state; copied off the devices before this returns.
          config: flattened.
          val: VAL on held-out identities at this step, where it was measured.

        Raises:
          OSError: there is no room for it, or the one before could not be written; so of `wait` and `close`.
        """
        if step in self._manager.all_steps():
            return
        if self._on_disk:
            self._check_room(state)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            config=ocp.args.JsonSave(config),
            **{FINGERPRINT: ocp.args.JsonSave({name: fingerprint(part) for name, part in _parts(state).items()})},
        )
        self._set_vals({step: val})
        with self._disk():
            saved = self._manager.save(step, args=items)
        if not saved:
            raise RuntimeError(f"no checkpoint of step {step} was saved in {self._folder}, which holds {self.steps()}")

    def set_val(self, step: int, val: float | None) -> None:
        """Adds VAL to a checkpoint that was saved before evaluation, as when a run is asked to stop.

        Nothing happens where VAL is None, the step has no checkpoint, or its VAL is known.
        """
        if step in self._manager.all_steps() and self._vals.get(step) is None:
            self._set_vals({step: val})

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def best_or_latest(self) -> int:
        """The step with the highest VAL, or the latest where none was measured.

        Raises:
          InputError: there is no checkpoint.
        """
        steps = self.steps()
        if not steps:
            raise InputError(f"{self._folder} holds no checkpoint; give the working directory of a run that saved one.")
        best = self._best(steps)
        return steps[-1] if best is None else best

    def vals(self) -> dict[int, float]:
        """VAL by the step of a checkpoint, for those where it was measured."""
        return {step: self._vals[step] for step in self.steps() if step in self._vals}

    def _best(self, steps: Sequence[int]) -> int | None:
        """Of these steps the one with the highest VAL, the latest of equals; None where none was measured."""
        measured = [(self._vals[step], step) for step in steps if step in self._vals]
        return max(measured)[1] if measured else None

    def _read_vals(self) -> dict[int, float]:
        vals: dict[int, float] = {}
        file = self._val_file
        try:
            for step in self._manager.all_steps():  # where VAL stood before it had a file
                file = self._folder / str(step) / "metrics" / "metrics"
                if file.exists():
                    vals[step] = float(read_json(file)["val"])
            file = self._val_file
            if file.exists():
                vals |= {int(step): float(val) for step, val in read_json(file).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file} is damaged ({first_line(error)}); copy it again, or remove it: then the latest "
                "checkpoint is taken for the best."
            ) from error
        return vals

    def _set_vals(self, new: dict[int, float | None]) -> None:
        """Keeps VAL of the checkpoints that are there, and of one that is about to be."""
        there = {*self.steps(), *new}
        known = {step: val for step, val in {**self._vals, **new}.items() if val is not None and step in there}
        if known != self._vals and is_first():
            write_whole(self._val_file, json.dumps(known) + "\n")
        self._vals = known

    def restore_latest(self, target: Any, say: Callable[[str], None]) -> tuple[int, Any] | None:
        """The newest state that can be read, with its step, or None where there is no checkpoint.

        One that is damaged is named through `say` and left out for the one before; it is moved aside to
        `<workdir>/damaged_checkpoints/`, so that its step can be saved again.

        Args:
          target: the state's tree of jax.ShapeDtypeStruct, with the shardings wanted now; they need not be those
            that it was saved from.
          say: takes a line.

        Raises:
          InputError: there are checkpoints, and none can be read.
          OSError: one is out of reach for now, and may be whole.
        """
        damaged: list[tuple[int, str]] = []
        for step in reversed(self.steps()):
            restored, reason = None, "another process cannot"
            try:
                with self._disk():
                    restored = self._restore(step, target)
            except Exception as error:  # whatever a damaged file makes the reader raise
                if _may_be_whole(error):
                    raise
                reason = first_line(error)
            if not all_say(restored is not None):  # or processes would go on from different steps
                damaged.append((step, reason))
                continue
            try:
                self._check(step, restored, _parts(restored))
            except InputError as error:
                damaged.append((step, first_line(error)))
                continue
            for broken, reason in damaged:
                say(f"checkpoint {self._folder / str(broken)} cannot be read ({reason}); using that of step {step}.")
                if is_first():
                    aside = self._folder.parent / "damaged_checkpoints"
                    aside.mkdir(exist_ok=True)
                    (aside / str(broken)).rmtree(missing_ok=True)
                    (self._folder / str(broken)).rename(aside / str(broken))
            if damaged:
                wait_for_all("damaged checkpoints are moved")
                self._manager.reload()
            return step, restored
        if damaged:
            raise InputError(
                f"none of the checkpoints in {self._folder} can be read (the latest: {damaged[0][1]}); "
                "fix what keeps them from being read, or begin again with another --workdir."
            )
        return None

    def restore_params(self, step: int) -> Any:
        """The parameters a run is evaluated with, on this process's first device, whichever they were saved from.

        They are the average of the parameters where the run kept one.

        Raises:
          InputError: they are other values than were saved, or those of another step. What cannot be read at all
            raises what Orbax does.
        """
        here = SingleDeviceSharding(jax.local_devices()[0])
        saved = self._manager.item_metadata(step)["state"]
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), saved.tree)
        restored = self._restore(step, target)
        parts = _parts(restored)
        part = "average" if "average" in parts else "params"
        self._check(step, restored, {part: parts[part]})
        return parts[part]

    def config(self, step: int) -> dict[str, Any]:
        """The flattened config that made a checkpoint."""
        return dict(self._manager.restore(step, args=ocp.args.Composite(config=ocp.args.JsonRestore()))["config"])

    def _restore(self, step: int, target: Any) -> Any:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        return self._manager.restore(step, args=items)["state"]

    def _check(self, step: int, state: Any, parts: dict[str, Any]) -> None:
        """Raises InputError where a state is that of another step, or its arrays are not those that were saved."""
        folder = self._folder / str(step)
        inside = int(_fields(state).get("step", step))
        if inside != step:
            raise InputError(
                f"{folder} holds step {inside:,}, which is not what its name says: it was copied or renamed; remove "
                "it, or take another checkpoint."
            )
        if not (folder / FINGERPRINT).is_dir():  # saved before there were fingerprints
            return
        items = ocp.args.Composite(**{FINGERPRINT: ocp.args.JsonRestore()})
        try:
            saved = dict(self._manager.restore(step, args=items)[FINGERPRINT])
        except Exception as error:  # whatever a damaged file makes the reader raise
            if _may_be_whole(error):
                raise
            raise InputError(f"the fingerprint of {folder} cannot be read ({first_line(error)[:100]}).") from error
        if any(fingerprint(tree) != saved.get(part) for part, tree in parts.items()):
            raise InputError(
                f"{folder} holds other values than were saved: it was damaged or changed; take another checkpoint."
            )

    def wait(self) -> None:
        """Returns once everything saved is on disk."""
        with self._disk():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees the threads."""
        with self._disk():
            self._manager.close()
        if self._on_disk and not self._read_only:
            with suppress(OSError):
                os.rmdir(self._folder)  # nothing was saved

    def _check_room(self, state: Any) -> None:
        """Raises OSError where the disk has less room than a state takes.

        Asked beforehand, as one that fills up under TensorStore leaves pages of its complaints around the error.
        """
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            why = f"no space left, {free / 1e6:,.1f} MB where a checkpoint takes {needed / 1e6:,.1f} MB"
            raise OSError(errno.ENOSPC, why, str(self._folder))

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """What the disk refuses comes as from Python's own files: TensorStore has the system's number in its text."""
        try:
            yield
        except ValueError as error:
            number = _OS_ERROR.search(str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(self._folder)) from error


def _may_be_whole(error: Exception) -> bool:
    """Whether it could not be read for lack of memory or of permission, or as storage on the network is gone."""
    if isinstance(error, OSError):
        return error.errno in {*MACHINE_ERRORS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT}
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


@dataclass
class _LatestAndBest(checkpoint_managers.PreservationPolicy):
    """Which checkpoints stay: the latest `keep`, and the best."""

    keep: int
    best: Callable[[Sequence[int]], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-self.keep :], self.best(steps)}
        return [step in kept for step in steps]


def _parts(state: Any) -> dict[str, Any]:
    """What of a state has a fingerprint, each value in one of them; an average of parameters has its own."""
    fields = _fields(state)
    parts: dict[str, Any] = {name: fields[name] for name in ("params", "opt_state") if name in fields}
    of_optimizer = _fields(parts.get("opt_state"))
    if "average" in of_optimizer:
        parts["average"] = of_optimizer.pop("average")
        parts["opt_state"] = of_optimizer
    return parts


def _fields(tree: Any) -> dict[str, Any]:
    """Those of a named tuple; it is saved, and comes back where nothing says what it was, as a dictionary."""
    return dict(tree) if isinstance(tree, dict) else getattr(tree, "_asdict", dict)()

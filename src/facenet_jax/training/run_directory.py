"""The working directory of a run: one run at a time, one config from its first step to its report."""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from facenet_jax.config import ALL_ASKED, BATCH, LeftOpen, as_saved, datasets_of, difference
from facenet_jax.errors import InputError, first_line
from facenet_jax.evaluation.holdout import HoldoutResult, format_evaluation, holdout_to_json
from facenet_jax.evaluation.plots import loss_figure, roc_figure
from facenet_jax.runtime import library_log
from facenet_jax.runtime.files import held_folder, in_bucket, write_whole
from facenet_jax.runtime.hosts import AgreedError, all_say, gather, is_first, several, wait_for_all
from facenet_jax.runtime.json_files import read_json
from facenet_jax.training.metrics import read_metrics

RUN_FILE = "run.json"
REPORT_FILE = "report.json"


class RunDirectory:
    """Holds a working directory for one process, and holds its run to the config that it began with.

    `run.json` keeps the flattened config and the fingerprints of the faces and of the compiled step; what may change is
    brought up to date.
    """

    def __init__(self, path: Path) -> None:
        """Creates or enters it; of a job of several processes the first holds it for all.

        Raises:
          InputError: it cannot be written, or another process trains in it.
        """
        self.path = path
        self._held = ExitStack()
        try:
            if is_first() and not in_bucket(path):
                self._held.enter_context(held_folder(path))
            else:  # nothing in a bucket can be locked: there two jobs in one directory are not kept apart
                path.mkdir(parents=True, exist_ok=True)
        except BlockingIOError as error:
            raise InputError(
                f"another process is training in {path}; wait for it, or give another --workdir."
            ) from error
        except OSError as error:
            why = error.strerror or first_line(error)
            raise InputError(
                f"the working directory {path} cannot be written ({why}); give another --workdir."
            ) from error

    def check(self, config: dict[str, Any], digests: dict[str, str]) -> None:
        """Compares with the run that has checkpoints here.

        Args:
          config: flattened, and once through JSON.
          digests: fingerprints of the faces.

        Raises:
          InputError: the config differs in what may not change, or the training faces are others.
        """
        before = read_run(self.path)
        if not {"train", "held_out"} <= before["digests"].keys():
            raise InputError(f"{self.path / RUN_FILE} lacks a digest of its faces; copy it again.")
        others = before["digests"]["train"] != digests["train"]
        # A batch that follows the faces differs where they do, and then they are what to tell.
        batch = {key: before["config"][key] for key in BATCH if others and key in before["config"]}
        check_config(self.path, before["config"], config | batch)
        trained_on = " and ".join(path for path, _ in datasets_of(config))
        if others:
            raise InputError(
                f"{self.path} holds a run on other faces than those of {trained_on} now: files "
                "came, went or were renamed, or other identities are held out, so its batches could not continue; "
                "restore them, or give another --workdir."
            )
        if before["digests"]["held_out"] != digests["held_out"]:
            raise InputError(
                f"{self.path} holds a run that was evaluated on other faces than config.eval.path="
                f"{config['eval.path'] or trained_on} has now; restore them, or give another --workdir (a "
                "trained network is measured on any faces by `facenet-jax evaluate holdout`)."
            )

        if before["digests"].get("compatible_with") != digests.get("compatible_with"):
            raise InputError(
                f"{self.path} holds a run that is to be compatible with another embedder than config.compatible_with="
                f"{config['compatible_with'] or 'none'} is now (its digest is another); restore that, or give another "
                "--workdir."
            )

    def begin(self, config: dict[str, Any], digests: dict[str, str], program: str) -> None:
        """Writes run.json.

        Args:
          config, digests: see `check`.
          program: the fingerprint of the compiled step.

        Raises:
          AgreedError: other processes of the job do not see what process 0 writes.
        """
        file = self.path / RUN_FILE
        if is_first():
            write_whole(file, json.dumps({"config": config, "digests": digests, "program": program}, indent=1) + "\n")
        if not several():
            return
        # A copy of the directory on a disk of another host has a run.json too, so what is looked for is new.
        mark = self.path / f".seen-{gather(secrets.token_hex(8))[0]}"
        if is_first():
            mark.touch()
        wait_for_all("the working directory is marked")
        shared = all_say(mark.exists())
        if is_first():
            mark.unlink()
        if not shared:
            raise AgreedError(
                f"the working directory {self.path} is not the same on all hosts; give a --workdir on storage that "
                "they share."
            )

    def close(self) -> None:
        """Lets another process in."""
        library_log.release()
        self._held.close()


def check_config(path: Path, before: dict[str, Any], now: dict[str, Any], may_follow: LeftOpen = ALL_ASKED) -> None:
    """Raises InputError with the difference where a config would make another run of the one in a directory.

    What the command leaves open may be as the run has it: its batch followed the faces, which may be gone by now.
    """
    lines = difference(before, now | may_follow.batch_of(before, now) | may_follow.schedule_of(before, now))
    if lines:
        raise InputError(
            f"{path} holds a run with another config; go on with its own, or give another --workdir. Then -> now:\n  "
            + "\n  ".join(lines)
        )


def keep_schedule(config: ConfigDict, path: Path, may_follow: LeftOpen) -> tuple[ConfigDict, str]:
    """The config with the schedule of the run that the same command began here in an older version, and a line on it.

    Nothing changes where there is no such run.
    """
    if not may_follow.schedule or not (path / RUN_FILE).exists():
        return config, ""
    now = as_saved(config)
    kept = may_follow.schedule_of(read_run(path)["config"], now)
    if not kept:
        return config, ""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(kept)
    keys = " and ".join(f"--config.{key}={value}" for key, value in kept.items())
    shares = " and ".join(f"{now[key]:,}" for key in kept)
    return config, (
        f"\nschedule        as this run began: {keys}; a new run of {config.steps:,} steps has {shares}, their shares"
    )


def read_run(path: Path) -> dict[str, Any]:
    """The config (flattened), digests and, unless it is too old, program of the run in a working directory.

    Raises:
      InputError: no run has begun there, or its file is damaged.
    """
    file = path / RUN_FILE
    try:
        run: dict[str, Any] = read_json(file)
    except FileNotFoundError as error:
        raise InputError(f"{path} is not the working directory of a run: it has no {RUN_FILE}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); remove it only if the run is to begin again.") from error
    parts = [run.get(part) for part in ("config", "digests")] if isinstance(run, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise InputError(f"{file} is not the config of a run; remove it only if the run is to begin again.")
    return run


def write_report(workdir: Path, step: int, result: HoldoutResult, held_out_name: str) -> str:
    """Writes roc.png, loss.png and report.json, and returns the text that ends a run."""
    roc_figure({held_out_name: result}, workdir / "roc.png")
    loss_figure(read_metrics(workdir), workdir / "loss.png")
    table = (
        f"after {step:,} steps, on {held_out_name} (identities never trained on)\n{format_evaluation(result)}\n"
        f"pictures        {workdir / 'roc.png'}, {workdir / 'loss.png'}\n"
        f"checkpoint      {workdir / 'checkpoints' / str(step)}"
    )
    report = {"step": step, "table": table, "holdout": holdout_to_json(result)}
    write_whole(workdir / REPORT_FILE, json.dumps(report, indent=1) + "\n")
    return table


def finished_report(workdir: Path, steps: int) -> str | None:
    """The text that ended a run, or None where the run in this directory has not got so far as `steps`."""
    try:
        report = read_json(workdir / REPORT_FILE)
        return str(report["table"]) if report["step"] >= steps else None
    except (OSError, ValueError, KeyError, TypeError):  # another kind of file is overwritten
        return None

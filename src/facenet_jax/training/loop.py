"""A run, in the order in which it happens: configure, open, compile, restore; then take, step, log, evaluate, save."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from facenet_jax import models
from facenet_jax.config import ALL_ASKED, LeftOpen, as_saved, difference, network_title
from facenet_jax.errors import InputError
from facenet_jax.evaluation.holdout import HoldoutResult
from facenet_jax.images.change import Changes
from facenet_jax.input.bad_files import BadFiles
from facenet_jax.input.kept_faces import KeptFaces
from facenet_jax.input.loader import Loader
from facenet_jax.input.plan import Plan
from facenet_jax.runtime import checksum, library_log
from facenet_jax.runtime.checkpoints import Checkpoints
from facenet_jax.runtime.compiled import compiling, fingerprint
from facenet_jax.runtime.files import in_bucket, locate
from facenet_jax.runtime.hosts import AgreedStop, alike, devices, is_first, joined, wait_for_all
from facenet_jax.runtime.mesh import make_mesh, on_cpu, padded_batch_size
from facenet_jax.runtime.progress import Progress
from facenet_jax.runtime.shutdown import StopRequest
from facenet_jax.training import agreement
from facenet_jax.training.device_batch import DeviceBatch, prefetch
from facenet_jax.training.device_faces import DeviceFaces
from facenet_jax.training.evaluator import Evaluator, val_of
from facenet_jax.training.figures import Figures
from facenet_jax.training.kept_pixels import choose
from facenet_jax.training.metrics import Hook
from facenet_jax.training.offline_selection import OfflineSelection, is_listed
from facenet_jax.training.old_points import OldPoints
from facenet_jax.training.optimizer import make_optimizer
from facenet_jax.training.preflight import bytes_of, check_fits, estimate
from facenet_jax.training.run_directory import (
    RunDirectory,
    check_config,
    finished_report,
    keep_schedule,
    read_run,
    write_report,
)
from facenet_jax.training.state import TrainState, abstract_state, create_state
from facenet_jax.training.step import compile_step
from facenet_jax.training.step_log import StepLog
from facenet_jax.training.training_faces import fit_batch, open_faces


def train(
    config: ConfigDict,
    workdir: Path | str,
    trace_step: int | None = None,
    on_metrics: Hook | None = None,
    may_follow: LeftOpen = ALL_ASKED,
) -> int:
    """Trains, or continues training, in a working directory.

    Args:
      config: validated.
      workdir: where everything of the run goes.
      trace_step: the step, counted from 1, of which a profile is written to `<workdir>/trace`.
      on_metrics: is called by process 0 with each row of metrics.jsonl as it is written: the step, and its figures by
        name (docs/training.md). What it raises is reported once, and changes nothing about the run.
      may_follow: what is not asked for: the batch follows the faces, the schedule that of a resumed run.

    Returns:
      The exit code: 0 when the run is finished, 130 or 143 when it was asked to stop and has saved.

    Raises:
      InputError: the config, the data or the working directory cannot be used.
      TrainingError: the loss or the gradient is not finite.
    """
    workdir = locate(workdir) if isinstance(workdir, str) else workdir
    devices()  # a platform that JAX cannot use is reported before anything else
    flat_config = as_saved(config)
    facts = agreement.of_settings(flat_config) if joined() else {}
    with alike(facts):
        report = finished_report(workdir, config.steps)
        facts["whether the run in --workdir is finished"] = report is not None
        facts["whether --config.batch.size or --config.batch.random_negatives is given"] = not may_follow.batch
        if report is not None:
            check_config(workdir, read_run(workdir)["config"], flat_config, may_follow)
    if report is not None:
        if trace_step is not None:
            raise InputError(
                f"--trace={trace_step}: this run is finished, and takes no more steps; give a larger config.steps, or "
                "another --workdir."
            )
        if is_first():
            print(f"this run is finished\n{report}")
        return 0
    run = _Run(config, workdir, may_follow)
    with closing(run.directory), closing(run.checkpoints):
        run.open()
        run.compile()
        run.restore(trace_step)
        return run.loop(trace_step, on_metrics)


class _Run:
    """One run: what its config names, its state, and the step that it has come to."""

    state: TrainState
    first_step: int  # steps taken before this process; 0: the run is fresh
    on_devices: DeviceFaces | None = None  # where pixels are kept there

    def __init__(self, config: ConfigDict, workdir: Path, may_follow: LeftOpen) -> None:
        """Configures: most that can be wrong is found here, before anything is compiled."""
        self.workdir = workdir
        self.progress = Progress(quiet=not is_first())
        facts: dict[str, Any] = {}
        with alike(facts):
            self.mesh = make_mesh(config.mesh.data, config.mesh.fsdp)
            self.network, self.size = models.from_config(config.model), tuple(config.model.input_size)
            self.faces = open_faces(config)
            if may_follow.batch:
                config, self.faces = fit_batch(config, self.faces)
            config, self.remark = keep_schedule(config, workdir, may_follow)
            self.config, self.flat_config = config, as_saved(config)
            self.old = OldPoints(config) if config.compatible_with else None
            self.offline = OfflineSelection(config, self.network, self.mesh, self.faces, workdir)
            self.directory = RunDirectory(workdir)
            if not in_bucket(workdir):
                own = f"library.{jax.process_index()}.log"  # a file takes the lines of one process
                library_log.keep_in(workdir, library_log.FILE if is_first() else own)
            if joined():
                facts |= agreement.of_faces(self.faces, config.data.exclude)
                facts["the embedder of config.compatible_with"] = self.old.given if self.old else None
        self.checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)

    @property
    def _digests(self) -> dict[str, str]:
        """What run.json keeps fingerprints of."""
        return self.faces.digests | ({"compatible_with": self.old.digest} if self.old else {})

    def open(self) -> None:
        """Checks that the working directory holds this run or none, and reads the parameters to start from."""
        config = self.config
        facts: dict[str, Any] = {"the checkpoints in --workdir": self.checkpoints.steps()}
        resumes = bool(self.checkpoints.steps())
        with alike(facts):
            if resumes:
                self.directory.check(self.flat_config, self._digests)
            elif config.init_from:
                read_run(locate(config.init_from))
        self.optimizer = make_optimizer(config)
        self.shapes = abstract_state(self.network, self.size, self.optimizer, self.mesh)
        self.initial_params = None
        if config.init_from and not resumes:
            facts = {}
            with alike(facts):
                params = _params_of(locate(config.init_from), self.shapes)
                if joined():
                    facts["the parameters of config.init_from"] = checksum.fingerprint(params)
                self.initial_params = _divided(params, self.shapes.params)
        rows, columns = self.size
        self.progress.say(f"network         {network_title(self.flat_config)} at {rows}x{columns}")
        self.progress.say(self.faces.describe() + self.remark)

    def compile(self) -> None:
        """Compiles the step, says what it takes, and refuses what does not fit."""
        config = self.config

        def compiled(config: ConfigDict, listed: bool = False) -> jax.stages.Compiled:
            what = f"a step of {config.model.name}, {config.batch.size:,} faces"
            what += f" in pieces of {config.batch.chunk}" if config.batch.chunk else ""
            with compiling(f"{what}, listed triplets" if listed else what, self.progress.say, at_once=True):
                return compile_step(config, self.network, self.optimizer, self.mesh, self.shapes, listed)

        self.step_of = {False: compiled(config)}  # by whether triplets are listed with the batch, or selected in it
        if config.offline.every and config.offline.mode == "alone":
            self.step_of[True] = compiled(config, listed=True)
        found = estimate(self.step_of[False], self.mesh, config, *models.totals(self.network, self.size))
        taken = max(self.checkpoints.steps(), default=0)
        self.progress.say(found.describe(config.steps - taken))

        def bytes_with(chunk: int) -> int:
            other = config.copy_and_resolve_references()
            other.batch.chunk = chunk
            return bytes_of(compiled(other))

        check_fits(found, padded_batch_size(config.batch.size, self.mesh, 0) // self.mesh.size, bytes_with)
        if self.old is not None:
            self.progress.say(f"compatible      with {self.old.name}")
            self.old.embed(self.faces, self.workdir, self.progress)
        self.keeping = choose(config, self.faces, self.mesh, found)
        self.progress.say(self.keeping.describe())
        if self.keeping.where == "host":
            self.faces = replace(self.faces, train=KeptFaces(self.faces.train, self.size))

    def restore(self, trace_step: int | None) -> None:
        """Restores the latest state, or creates the first."""
        config, progress = self.config, self.progress
        restored = self.checkpoints.restore_latest(self.shapes, progress.say)
        if restored:
            self.first_step, self.state = restored
            self._check_own(self.first_step)
            progress.say(f"resuming        from step {self.first_step:,} of {config.steps:,} in {self.workdir}")
        else:
            self.first_step = 0
            self.state = create_state(self.network, self.size, self.optimizer, self.mesh, config.seed)
            if self.initial_params is not None:
                self.state = self.state.with_params(self.initial_params)
                progress.say(f"starting        from the parameters of {config.init_from}")
        if trace_step is not None and not self.first_step < trace_step <= config.steps:
            raise InputError(
                f"--trace={trace_step}: this run takes steps {self.first_step + 1:,} to {config.steps:,}; "
                "name one of them."
            )
        program = fingerprint(self.step_of.values())
        if restored and read_run(self.workdir).get("program", program) != program:
            progress.say(
                "figures         can differ in the last digits from here on: the step is compiled to another program "
                "than before (another machine, version, config.mesh or batch.chunk, or kernels chosen again; see "
                "docs/training.md)"
            )
        self.directory.begin(self.flat_config, self._digests, program)

    def _check_own(self, step: int) -> None:
        """Raises InputError where a checkpoint was saved by another run, whatever its name and step."""
        if lines := difference(self.checkpoints.config(step), self.flat_config):
            raise InputError(
                f"the checkpoint of step {step:,} in {self.workdir} was saved by a run with another config, so it was "
                "copied there; move it away, and the run resumes from the one before. Its config -> this run's:\n  "
                + "\n  ".join(lines)
            )

    def loop(self, trace_step: int | None, on_metrics: Hook | None) -> int:
        """Takes the steps from first_step to the end, or to where the run is asked to stop; returns the exit code."""
        config, first_step, checkpoints, result = self.config, self.first_step, self.checkpoints, None
        bad_held_out = BadFiles(self.faces.held_out.source, self.workdir, config.data.max_bad_share)
        evaluator = Evaluator(config, self.network, self.mesh, self.faces.held_out, bad_held_out)
        if self.keeping.where == "device":
            index, workers = self.faces.train.index, config.data.workers
            records = index.records_of(self.faces.train_identities)
            self.on_devices = DeviceFaces(self.faces.train, records, self.size, self.mesh, workers, self.progress)
        figures = Figures(config, self.mesh, first_step)
        with closing(StepLog(config, self.workdir, first_step, self.progress, figures, on_metrics)) as log:

            def evaluate(step: int) -> HoldoutResult:
                result = evaluator(self.state.result)
                log.evaluation(step, result, evaluator.left_out)
                return result

            if evaluator.is_due(first_step) and not (log.evaluated and first_step < config.steps):
                result = evaluate(first_step)
                checkpoints.set_val(first_step, val_of(result))  # it was saved without, if the run was asked to stop
            stopping = AgreedStop() if joined() else StopRequest("stopping after the steps under way, to save them")
            batches = self._batches(log, figures)
            with stopping as stop, closing(batches), jax.transfer_guard_device_to_host("disallow"):
                for step, batch, waited, begins in batches:
                    step_of = self.step_of[is_listed(step - 1, config)]
                    with self._traced(step, figures) if step == trace_step else nullcontext():
                        self.state, measured = step_of(self.state, batch)
                        figures.add(measured)
                    log.step(step, waited, begins)

                    asked = stop.asked(step)
                    evaluates = evaluator.is_due(step) and asked is None
                    if evaluates or step % config.checkpoint.every == 0 or asked is not None:
                        log.look()  # a step that is not finite is never saved
                        with _pause(log):
                            result = evaluate(step) if evaluates else None
                            val = val_of(result) if result else None
                            log.keep()
                            checkpoints.save(step, self.state, self.flat_config, val)
                    if asked is not None:
                        checkpoints.wait()
                        self.progress.say(
                            f"stopped by {asked.name}; step {step:,} is saved: the same command resumes from it"
                        )
                        return 128 + asked.value
            checkpoints.wait()
        self.progress.say("")
        if is_first():
            assert result is not None  # the last step is always evaluated
            print(write_report(self.workdir, max(first_step, config.steps), result, self.faces.held_out.name))
        wait_for_all("the report is written")
        return 0

    @contextmanager
    def _traced(self, step: int, figures: Figures) -> Iterator[None]:
        """Profiles the step that is sent within `with`, and no other."""
        folder = str(self.workdir / "trace")
        figures.wait()
        with jax.profiler.trace(folder):
            yield
            figures.wait()
        self.progress.say(f"trace           of step {step} in {folder}")

    def _batches(self, log: StepLog, figures: Figures) -> Generator[tuple[int, DeviceBatch, float, bool]]:
        """The batches of the steps to take: (step, batch, seconds without a step to do, whether it begins a plan)."""
        config = self.config
        bad_files = BadFiles(self.faces.train, self.workdir, config.data.max_bad_share)
        loader = Loader(
            self.faces.train,
            self.offline.plan(0, None),
            self.size,
            padded_batch_size(config.batch.size, self.mesh, config.batch.chunk),
            workers=config.data.workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        changes = Changes.of(config.data)
        draw = partial(changes.draw, config.seed, size=self.size) if changes else None
        old_points = self.old.of if self.old else None
        for start, end in self.offline.segments(self.first_step, config.steps):
            log.look()  # no hard faces are found with what is not finite
            with _pause(log):
                piece = replace(loader, plan=self._plan(start, bad_files, log))
            # On a CPU an array of JAX may be the very memory that it was made from, so that is not lent.
            loads = self.on_devices.batches if self.on_devices else partial(Loader.__call__, lent=not on_cpu(self.mesh))
            with (
                closing(loads(piece, start, end)) as loaded,
                closing(prefetch(loaded, self.mesh, bad_files, draw, figures.running, old_points)) as batches,
            ):
                for step, (batch, waited) in enumerate(batches, start + 1):
                    yield step, batch, waited, step == start + 1

    def _plan(self, step: int, bad_files: BadFiles, log: StepLog) -> Plan:
        """The plan of the batches from a step on, with the hard faces of the table that is saved, or is now due."""
        offline = self.offline
        table = offline.load(step) if step == self.first_step and step else None
        if table is None and offline.table_step(step):
            self.progress.line(f"step {step:,}: finding hard faces among {self.config.offline.faces:,}")
            started = time.perf_counter()
            table, found = offline.make(step, self.state.params, self.faces.train, bad_files)
            log.hard_faces(step, found, time.perf_counter() - started)
            self.checkpoints.wait()
            offline.forget([*self.checkpoints.steps(), step])
        return offline.plan(step, table)


@contextmanager
def _pause(log: StepLog) -> Iterator[None]:
    """Where the loop stops on purpose: out of the clock, and what the devices hold may come to the host."""
    with log.clock.paused(), jax.transfer_guard_device_to_host("allow"):
        yield


def _params_of(workdir: Path, target: TrainState) -> Any:
    """Another run's best parameters, for fine-tuning, on this process's first device."""
    with closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        params = checkpoints.restore_params(checkpoints.best_or_latest())
    wanted, found = (jax.tree.map(lambda x: tuple(x.shape), tree) for tree in (target.params, params))
    if wanted != found:
        raise InputError(
            f"config.init_from={workdir} holds another network; "
            "give the same model.name, input_size, embedding_size and members."
        )
    return params


def _divided(params: Any, target: Any) -> Any:
    """Parameters that every process has whole, on the devices of all as `target` says."""

    def divided(whole: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
        # Not device_put, which moves no array of this process to devices of others.
        return jax.make_array_from_callback(whole.shape, like.sharding, np.asarray(whole).__getitem__)

    return jax.tree.map(divided, params, target)

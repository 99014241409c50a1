"""A run, in the order in which it happens."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, Sharding
from ml_collections import ConfigDict

from facenet_jax import models
from facenet_jax.config import flatten
from facenet_jax.errors import InputError
from facenet_jax.evaluation.holdout import HoldoutResult, format_holdout
from facenet_jax.images.change import Changes
from facenet_jax.input.bad_files import FILE_NAME, BadFiles
from facenet_jax.input.hard_batches import HardTable
from facenet_jax.input.loader import Loader
from facenet_jax.runtime.checkpoints import Checkpoints
from facenet_jax.runtime.files import locate
from facenet_jax.runtime.hosts import AgreedStop, devices, is_first, joined, wait_for_all
from facenet_jax.runtime.mesh import make_mesh, padded_batch_size
from facenet_jax.runtime.progress import Progress, duration
from facenet_jax.runtime.shutdown import StopRequest
from facenet_jax.training.ahead import Ahead
from facenet_jax.training.compiled import compile_step
from facenet_jax.training.evaluator import Evaluator
from facenet_jax.training.faces import Faces, online_plan, open_faces
from facenet_jax.training.health import check_finite, collapse_words, has_collapsed, read_step
from facenet_jax.training.metrics import Metrics, MetricsWriter, NoMetrics, read_metrics
from facenet_jax.training.offline import FOLDER, OfflineSelection, is_listed
from facenet_jax.training.optimizer import learning_rate, make_optimizer
from facenet_jax.training.preflight import bytes_of, check_fits, estimate
from facenet_jax.training.progress import Clock
from facenet_jax.training.report import best_metric, finished_report, val_metrics, write_report
from facenet_jax.training.run_directory import RunDirectory, check_config, read_run
from facenet_jax.training.state import TrainState, abstract_state, create_state


def train(config: ConfigDict, workdir: Path, trace_step: int | None = None) -> int:
    """Trains, or goes on training, in a working directory.

    Args:
      config: validated.
      workdir: where everything of the run goes.
      trace_step: the step, counted from 1, of which a profile is written to `<workdir>/trace`.

    Returns:
      The exit code: 0 when the run is finished, 130 or 143 when it was asked to stop and has saved.

    Raises:
      InputError: the config, the data or the working directory will not do.
      TrainingError: the loss or the gradient is not finite.
    """
    devices()  # what JAX cannot use is said before anything else
    progress = Progress(quiet=not is_first())
    flat_config = json.loads(json.dumps(flatten(config)))
    finished = _finished(workdir, flat_config)
    if finished is not None:
        if trace_step is not None:
            raise InputError(
                f"--trace={trace_step}: this run is finished, and takes no more steps; give a larger config.steps, or "
                "another --workdir."
            )
        if is_first():
            print(f"this run is finished\n{finished}")
        return 0

    # Whatever can be wrong without a compiled program is found first.
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp)
    network = models.from_config(config.model)
    rows, columns = config.model.input_size
    faces = open_faces(config)
    plan = online_plan(config, faces, config.batch.size)
    offline = OfflineSelection(config, network, mesh, faces, plan, workdir)
    digests = {"train": faces.digest, "held_out": faces.held_out.digest}
    directory = RunDirectory(workdir)
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
    try:
        if checkpoints.steps():
            directory.check(flat_config, digests)
        optimizer = make_optimizer(config)
        target = abstract_state(network, (rows, columns), optimizer, mesh)
        other_params = None
        if config.init_from and not checkpoints.steps():
            other_params = _other_params(locate(config.init_from), target)
        progress.say(f"network         {config.model.name} at {rows}x{columns}")
        progress.say(faces.describe())

        rows_per_device = padded_batch_size(config.batch.size, mesh, 0) // mesh.size
        chunk = min(config.batch.chunk, rows_per_device)

        def compiled_for(chunk: int, listed: bool = False) -> jax.stages.Compiled:
            return compile_step(config, network, optimizer, mesh, target, chunk, listed)

        started = time.perf_counter()
        compiled = {False: compiled_for(chunk)}
        if offline.every and config.offline.mode == "alone":
            compiled[True] = compiled_for(chunk, listed=True)
        padded = padded_batch_size(config.batch.size, mesh, chunk)
        parameters, multiply_adds = models.totals(network, (rows, columns))
        arithmetic = {"parameters": parameters, "multiply_adds": multiply_adds, "rows": padded, "chunk": chunk}
        found = estimate(compiled[False], mesh, **arithmetic)
        first_step = max(checkpoints.steps(), default=0)
        progress.say(found.describe(config.steps - first_step))
        progress.say(f"compiled        in {duration(time.perf_counter() - started)}")
        check_fits(found, rows_per_device, lambda chunk: bytes_of(compiled_for(chunk)))

        restored = checkpoints.restore_latest(target, progress.say)
        if restored:
            first_step, state = restored
            progress.say(f"going on        from step {first_step:,} of {config.steps:,} in {workdir}")
        else:
            first_step, state = 0, create_state(network, (rows, columns), optimizer, mesh, config.seed)
            if other_params is not None:
                state = state.with_params(other_params)
                progress.say(f"starting        from the parameters of {config.init_from}")
        if trace_step is not None and not first_step < trace_step <= config.steps:
            raise InputError(
                f"--trace={trace_step}: this run takes steps {first_step + 1:,} to {config.steps:,}; name one of them."
            )
        directory.begin(flat_config, digests)
        loader = Loader(
            faces.train,
            plan,
            (rows, columns),
            padded,
            seed=config.seed,
            flip=config.data.flip,
            changes=Changes(**config.data.augment),
            workers=config.data.workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        bad_held_out = BadFiles(faces.held_out.source, workdir, config.data.max_bad_share)
        evaluator = Evaluator(network, mesh, config, faces.held_out, bad_held_out)
        run = _Run(config, workdir, mesh, checkpoints, flat_config, faces, offline, evaluator, progress)
        return run.go(compiled, loader, state, first_step, trace_step, fresh=restored is None)
    finally:
        checkpoints.close()
        directory.close()


def _finished(workdir: Path, flat_config: dict[str, Any]) -> str | None:
    """The text that ended the run in a working directory, if this config's run is finished there."""
    text = finished_report(workdir, flat_config["steps"])
    if text is not None:
        check_config(workdir, read_run(workdir)["config"], flat_config)
    return text


class _Run:
    """The loop itself, with what it writes to."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        mesh: Mesh,
        checkpoints: Checkpoints,
        flat_config: dict[str, Any],
        faces: Faces,
        offline: OfflineSelection,
        evaluate: Evaluator,
        progress: Progress,
    ) -> None:
        self.config = config
        self.workdir = workdir
        self.mesh = mesh
        self.checkpoints = checkpoints
        self.flat_config = flat_config
        self.faces = faces
        self.offline = offline
        self.evaluate = evaluate
        self.progress = progress
        self.rate = learning_rate(config)

    def go(
        self,
        compiled: dict[bool, jax.stages.Compiled],
        loader: Loader,
        state: TrainState,
        first_step: int,
        trace_step: int | None,
        fresh: bool,
    ) -> int:
        """Steps from first_step to the end, or to where it is asked to stop.

        `compiled` holds the step where triplets are selected (False) and, if it is needed, where they are listed.
        """
        config, progress = self.config, self.progress
        # A fresh run in a directory where another ended before its first checkpoint drops that one's step 0 too.
        from_step = -1 if fresh else first_step
        # Also where a run was asked to stop just when an evaluation was due.
        before = [row for row in read_metrics(self.workdir) if row["step"] <= from_step]
        measured_before = any(row["step"] == from_step and "val_far_0.01" in row for row in before)
        wait_for_all("metrics are read")
        self.metrics: Metrics = MetricsWriter(self.workdir, from_step) if is_first() else NoMetrics()
        self.bad_files = BadFiles(self.faces.train, self.workdir, config.data.max_bad_share)
        self.clock = Clock(config.batch.size)
        self.result: HoldoutResult | None = None
        self.warned = False
        self.most_spread = max((row.get("spread") or 0.0 for row in before), default=0.0)  # of any step so far
        self.going = False
        try:
            if self._is_due(first_step) and not (measured_before and first_step < config.steps):
                result = self._evaluate_at(first_step, state)
                if not fresh:
                    self.checkpoints.add_val(first_step, state, self.flat_config, best_metric(result))
            with AgreedStop() if joined() else StopRequest("stopping after this step, to save it") as stop:
                for start, end in self.offline.segments(first_step, config.steps):
                    paused = time.perf_counter()
                    table = self._table(start, state, resumed=start == first_step and not fresh)
                    self.clock.pause(time.perf_counter() - paused)
                    piece = replace(loader, plan=self.offline.plan(start, table))
                    step_of = compiled[is_listed(start, config)]
                    state, asked = self._steps(step_of, piece, state, start, end, trace_step, stop)
                    if asked is not None:
                        step = int(state.step)
                        progress.say(
                            f"stopped by {asked.name}; step {step:,} is saved: the same command goes on from it"
                        )
                        return 128 + asked.value
            self.checkpoints.wait()
            assert self.result is not None  # the last step is always due
        finally:
            self.metrics.close()
        progress.say("")
        if is_first():
            print(write_report(self.workdir, max(first_step, config.steps), self.result, self.faces.held_out.name))
        wait_for_all("the report is written")
        return 0

    def _steps(
        self,
        compiled: jax.stages.Compiled,
        loader: Loader,
        state: TrainState,
        start: int,
        end: int,
        trace_step: int | None,
        stop: StopRequest | AgreedStop,
    ) -> tuple[TrainState, signal.Signals | None]:
        """Steps with one plan; returns the state, and the signal that asked to stop, when everything is saved."""
        config, progress, clock = self.config, self.progress, self.clock
        with loader(start, end) as batches, Ahead(batches, self.mesh, self.bad_files) as ahead:
            for step in range(start + 1, end + 1):
                batch, waited = ahead.take()
                if step == trace_step:
                    jax.profiler.start_trace(str(self.workdir / "trace"))
                state, measured = compiled(state, batch)
                ahead.fetch()
                values = read_step(measured)
                if step == trace_step:
                    jax.profiler.stop_trace()
                    progress.say(f"trace           of step {step} in {self.workdir / 'trace'}")
                check_finite(values, step)
                if step == start + 1:
                    clock.pause(waited)  # it waited for workers to start
                    waited = 0.0
                clock.step_done(waited)
                if not self.going:
                    clock.restart()  # the first step also starts up what starts only once
                    self.going = True

                if step % config.log.every == 0 or step in (1, start + 1, config.steps):
                    values |= {"learning_rate": self.rate(step - 1)}
                    if clock.seconds_per_step:
                        values |= {"images_per_second": clock.images_per_second, "wait_share": clock.wait_share}
                    self.metrics.write(step, values)
                    progress.line(self._progress_line(step, values))
                if has_collapsed(values["spread"], self.most_spread) and not self.warned:
                    self.warned = True
                    progress.say(collapse_words(step, values, self.most_spread, config))
                self.most_spread = max(self.most_spread, values["spread"])

                asked = stop.asked(step)
                paused = time.perf_counter()
                if self._is_due(step) and asked is None:
                    result = self._evaluate_at(step, state)
                    self.checkpoints.save(step, state, self.flat_config, best_metric(result))
                elif step % config.checkpoint.every == 0 or asked is not None:
                    self.checkpoints.save(step, state, self.flat_config, None)
                clock.pause(time.perf_counter() - paused)
                if asked is not None:
                    self.checkpoints.wait()
                    return state, asked
        return state, None

    def _table(self, step: int, state: TrainState, resumed: bool) -> HardTable | None:
        """The table of hard faces for the batches from a step on: made when it is due, found again when going on."""
        table_step = self.offline.table_step(step)
        if not table_step:
            return None
        if resumed:
            table = self.offline.load(table_step)
            if table is not None:
                return table
            if table_step < step:
                raise InputError(
                    f"the table of hard faces of step {table_step:,} is missing in {self.workdir / FOLDER}, and the "
                    f"batches after step {step:,} hang on it; put it back, or remove the checkpoints after step "
                    f"{table_step:,} so that it is made anew."
                )
        self.progress.line(f"step {step:,}: finding hard faces among {self.config.offline.faces:,}")
        started = time.perf_counter()
        table, found = self.offline.make(step, state.params, self.bad_files)
        self.metrics.write(step, found.metrics() | {"offline_seconds": time.perf_counter() - started})
        self.progress.say(found.describe(step))
        self.checkpoints.wait()
        self.offline.forget([*self.checkpoints.steps(), step])
        return table

    def _is_due(self, step: int) -> bool:
        """Whether held-out faces are judged at a step: before the first, every so many, and after the last."""
        every = self.config.eval.every
        return step in (0, self.config.steps) or step > self.config.steps or bool(every and step % every == 0)

    def _evaluate_at(self, step: int, state: TrainState) -> HoldoutResult:
        self.result = result = self.evaluate(state.result)
        self.metrics.write(step, val_metrics(result))
        self.progress.say(f"step {step:,}: {format_holdout(result)}")
        if self.evaluate.left_out:
            self.progress.say(f"  {self.evaluate.left_out:,} faces that cannot be decoded were left out ({FILE_NAME})")
        return result

    def _progress_line(self, step: int, values: dict[str, float]) -> str:
        clock = self.clock
        # A narrow terminal cuts the end, so what matters least stands there.
        text = f"step {step:,}/{self.config.steps:,}  loss {values['loss']:.4f}  active {values['active_share']:.0%}"
        if clock.seconds_per_step:
            left = duration((self.config.steps - step) * clock.seconds_per_step_with_pauses)
            text += f"  {clock.images_per_second:,.0f} images/s  waiting {clock.wait_share:.0%}  {left} to go"
        return f"{text}  spread {values['spread']:.3f}"


def _other_params(workdir: Path, target: TrainState) -> Any:
    """Another run's best parameters, for fine-tuning."""
    read_run(workdir)
    others = Checkpoints(workdir, read_only=True)
    try:
        params = others.restore_params(others.best_or_latest())
    finally:
        others.close()
    wanted, found = (jax.tree.map(lambda x: tuple(x.shape), tree) for tree in (target.params, params))
    if wanted != found:
        raise InputError(
            f"config.init_from={workdir} holds another network; "
            "give the same model.name, input_size and embedding_size."
        )
    return jax.tree.map(lambda x, like: _placed(x, like.sharding), params, target.params)


def _placed(whole: jax.Array, sharding: Sharding) -> jax.Array:
    """An array that every process has whole, with each device of the mesh taking its part of it."""
    # Not device_put, which moves no array of this process to devices of others.
    return jax.make_array_from_callback(whole.shape, sharding, np.asarray(whole).__getitem__)

"""A run, in the order in which it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from facenet_jax import models
from facenet_jax.checkpoints import Checkpoints
from facenet_jax.data.bad_files import BadFiles
from facenet_jax.data.loader import Batch, Loader
from facenet_jax.data.plan import BatchPlan
from facenet_jax.errors import InputError, TrainingError
from facenet_jax.evaluation.holdout import HoldoutResult, format_table
from facenet_jax.mesh import make_mesh, over_batch, padded_batch_size
from facenet_jax.training.evaluator import Evaluator
from facenet_jax.training.faces import Faces, open_faces
from facenet_jax.training.metrics import MetricsWriter
from facenet_jax.training.optimizer import learning_rate, make_optimizer
from facenet_jax.training.preflight import check_fits, estimate
from facenet_jax.training.progress import Clock, Progress, duration
from facenet_jax.training.report import best_metric, finished_report, val_metrics, write_report
from facenet_jax.training.run_directory import RunDirectory, read_run
from facenet_jax.training.state import TrainState, abstract_state, create_state
from facenet_jax.training.step import DeviceBatch, StepMetrics, make_train_step
from facenet_jax.training.stopping import StopRequest

# Below this spread (1 - |mean embedding|^2) all faces lie within a squared distance of about 0.002 of each other.
COLLAPSED_SPREAD = 1e-3


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
    progress = Progress()
    # Whatever can be wrong without a compiled program is found first.
    mesh = make_mesh(config.mesh.data)
    network = models.build(
        config.model.name,
        embedding_size=config.model.embedding_size,
        dtype=config.model.dtype,
        five_by_five=config.model.five_by_five or None,
    )
    input_size = tuple(config.model.input_size)
    models.check_input_size(*input_size)
    faces = open_faces(config)
    plan = BatchPlan(
        faces.train.index,
        faces.train_identities,
        size=config.batch.size,
        faces_per_identity=config.batch.faces_per_identity,
        random_negatives=config.batch.random_negatives,
        seed=config.seed,
    )
    directory = RunDirectory(workdir, config, {"train": faces.digest, "held_out": faces.held_out_digest})
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
    try:
        optimizer = make_optimizer(config)
        target = abstract_state(network, input_size, optimizer, mesh)
        restored = checkpoints.restore_latest(target, progress.say)
        if restored and restored[0] >= config.steps:
            text = finished_report(workdir, restored[0])
            if text is not None:
                print(f"this run is finished\n{text}")
                return 0
        progress.say(f"network         {config.model.name} at {input_size[0]}x{input_size[1]}")
        progress.say(faces.describe())

        rows = padded_batch_size(config.batch.size, mesh, config.batch.chunk)
        step_function = make_train_step(
            network,
            optimizer,
            mesh,
            margin=config.loss.margin,
            divide_by=config.loss.divide_by,
            chunk=config.batch.chunk,
        )
        started = time.perf_counter()
        compiled = step_function.lower(target, _abstract_batch(rows, input_size, mesh)).compile()
        parameters, multiply_adds = models.totals(network, input_size)
        found = estimate(
            compiled,
            mesh,
            parameters=parameters,
            multiply_adds=multiply_adds,
            rows=rows,
            chunk=config.batch.chunk,
        )
        progress.say(found.describe(config.steps))
        progress.say(f"compiled        in {duration(time.perf_counter() - started)}")
        check_fits(found, config.batch.size, config.batch.chunk)

        if restored:
            first_step, state = restored
            progress.say(f"going on        from step {first_step:,} of {config.steps:,} in {workdir}")
        else:
            first_step, state = 0, create_state(network, input_size, optimizer, mesh, config.seed)
            if config.init_from:
                state = state._replace(params=_other_params(Path(config.init_from), target))
                progress.say(f"starting        from the parameters of {config.init_from}")
        loader = Loader(
            faces.train,
            plan,
            input_size,
            rows,
            seed=config.seed,
            flip=config.data.flip,
            workers=config.data.workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        run = _Run(config, workdir, mesh, checkpoints, directory.config, faces, progress)
        run.evaluate = Evaluator(network, mesh, config, faces)
        return run.go(compiled, loader, state, first_step, trace_step)
    finally:
        checkpoints.close()
        directory.close()


class _Run:
    """The loop itself, with what it writes to."""

    evaluate: Evaluator

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        mesh: Mesh,
        checkpoints: Checkpoints,
        flat_config: dict[str, Any],
        faces: Faces,
        progress: Progress,
    ) -> None:
        self.config = config
        self.workdir = workdir
        self.mesh = mesh
        self.checkpoints = checkpoints
        self.flat_config = flat_config
        self.faces = faces
        self.progress = progress
        self.rate = learning_rate(config)

    def go(
        self, compiled: Any, loader: Loader, state: TrainState, first_step: int, trace_step: int | None
    ) -> int:
        """Steps from first_step to the end, or to where it is asked to stop."""
        config, progress = self.config, self.progress
        metrics = MetricsWriter(self.workdir, from_step=first_step)
        bad_files = BadFiles(self.faces.train, self.workdir, config.data.max_bad_share)
        clock = Clock(config.batch.size)
        result: HoldoutResult | None = None
        warned = False
        try:
            if first_step == 0:
                result = self._evaluate_at(0, state, metrics)
            with (
                StopRequest() as stop,
                loader(first_step, config.steps) as batches,
                _Ahead(batches, self.mesh, bad_files) as ahead,
            ):
                clock.restart()
                for step in range(first_step + 1, config.steps + 1):
                    batch, waited = ahead.take()
                    if step == trace_step:
                        jax.profiler.start_trace(str(self.workdir / "trace"))
                    state, measured = compiled(state, batch)
                    ahead.fetch()
                    values = _read(measured)
                    if step == trace_step:
                        jax.profiler.stop_trace()
                        progress.say(f"trace           of step {step} in {self.workdir / 'trace'}")
                    _check_finite(values, step)
                    clock.step_done(waited)
                    if step == first_step + 1:
                        clock.restart()  # the first step also waits for workers to start

                    if step % config.log.every == 0 or step in (1, first_step + 1, config.steps):
                        values |= {"learning_rate": self.rate(step - 1)}
                        if clock.seconds_per_step:
                            values |= {"images_per_second": clock.images_per_second, "wait_share": clock.wait_share}
                        metrics.write(step, values)
                        progress.line(self._progress_line(step, values, clock))
                    if values["spread"] < COLLAPSED_SPREAD and not warned:
                        warned = True
                        progress.say(_collapse_words(step, values))

                    asked = stop.signal
                    last = step == config.steps
                    due = config.eval.every and step % config.eval.every == 0
                    paused = time.perf_counter()
                    if (due or last) and asked is None:
                        result = self._evaluate_at(step, state, metrics)
                        self.checkpoints.save(step, state, self.flat_config, best_metric(result))
                    elif step % config.checkpoint.every == 0 or asked is not None:
                        self.checkpoints.save(step, state, self.flat_config, None)
                    clock.pause(time.perf_counter() - paused)
                    if asked is not None:
                        self.checkpoints.wait()
                        progress.say(f"stopped by {asked.name}; step {step:,} is saved: the same command goes on from it")
                        return 128 + asked.value
            self.checkpoints.wait()
            if result is None:  # a run that was complete but for its report
                result = self.evaluate(state.params)
        finally:
            metrics.close()
        progress.say("")
        print(write_report(self.workdir, max(first_step, config.steps), result, self.faces.held_out_name))
        return 0

    def _evaluate_at(self, step: int, state: TrainState, metrics: MetricsWriter) -> HoldoutResult:
        result = self.evaluate(state.params)
        metrics.write(step, val_metrics(result))
        self.progress.say(f"step {step:,}: {format_table(result)}")
        return result

    def _progress_line(self, step: int, values: dict[str, float], clock: Clock) -> str:
        text = (
            f"step {step:,}/{self.config.steps:,}  loss {values['loss']:.4f}  active {values['active_share']:.0%}  "
            f"spread {values['spread']:.3f}"
        )
        if clock.seconds_per_step:
            left = duration((self.config.steps - step) * clock.seconds_per_step)
            text += f"  {clock.images_per_second:,.0f} images/s  waiting {clock.wait_share:.0%}  {left} to go"
        return text


class _Ahead:
    """Fetches the next batch onto the devices while the current step runs."""

    def __init__(self, batches: Iterator[tuple[int, Batch]], mesh: Mesh, bad_files: BadFiles) -> None:
        self._batches = batches
        self._mesh = mesh
        self._bad_files = bad_files
        self._thread = ThreadPoolExecutor(1)
        self._next: Future[DeviceBatch | None] | None = None

    def __enter__(self) -> _Ahead:
        self.fetch()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True)

    def fetch(self) -> None:
        """Begins with the next batch."""
        self._next = self._thread.submit(self._load)

    def take(self) -> tuple[DeviceBatch, float]:
        """The batch last asked for, and the seconds that this call waited for it."""
        assert self._next is not None
        started = time.perf_counter()
        batch = self._next.result()
        assert batch is not None
        return batch, time.perf_counter() - started

    def _load(self) -> DeviceBatch | None:
        try:
            _, batch = next(self._batches)
        except StopIteration:
            return None
        self._bad_files.update(batch)
        rows = over_batch(self._mesh)
        return DeviceBatch(
            *(
                jax.make_array_from_process_local_data(rows, np.asarray(part))
                for part in (batch.images, batch.labels, batch.valid)
            )
        )


def _abstract_batch(rows: int, input_size: tuple[int, int], mesh: Mesh) -> DeviceBatch:
    sharding = over_batch(mesh)
    return DeviceBatch(
        jax.ShapeDtypeStruct((rows, *input_size, 3), jnp.uint8, sharding=sharding),
        jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=sharding),
        jax.ShapeDtypeStruct((rows,), jnp.bool_, sharding=sharding),
    )


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
            f"config.init_from={workdir} holds another network; give the same model.name, input_size and embedding_size."
        )
    return jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), params, target.params)


def _read(measured: StepMetrics) -> dict[str, float]:
    """Brings a step's metrics to the host, which waits for the step."""
    measured = jax.device_get(measured)
    triplets = measured.triplets
    return {
        "loss": float(measured.loss),
        "active_share": float(triplets.active / max(triplets.pairs, 1.0)),
        "mean_ap": float(triplets.mean_ap),
        "mean_an": float(triplets.mean_an),
        "spread": float(triplets.spread),
        "pairs": float(triplets.pairs),
        "triplets": float(triplets.triplets),
        "gradient_norm": float(measured.gradient_norm),
    }


def _check_finite(values: dict[str, float], step: int) -> None:
    for name in ("loss", "gradient_norm"):
        if not np.isfinite(values[name]):
            raise TrainingError(
                f"the {name.replace('_', ' ')} is not finite at step {step}; the run stops here, and its last checkpoint "
                "is good: go on from it with a lower config.optimizer.learning_rate as a new run with config.init_from."
            )


def _collapse_words(step: int, values: dict[str, float]) -> str:
    return (
        f"warning: at step {step:,} the embedding has all but collapsed: the spread of the embeddings is "
        f"{values['spread']:.1e}, so every face lies at almost the same point (mean D(a,p) {values['mean_ap']:.1e}, "
        f"mean D(a,n) {values['mean_an']:.1e}) and the loss stays near the margin. If it does not grow within some "
        "hundred steps, lower config.optimizer.learning_rate or set config.optimizer.warmup_steps."
    )

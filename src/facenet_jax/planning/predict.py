"""Predicts seconds, days and chip-hours from a compiled step and a chip."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from facenet_jax.planning.chips import Chip
from facenet_jax.planning.hlo import Collective
from facenet_jax.planning.program import Program
from facenet_jax.runtime.progress import duration

# The paper's own training time: "1,000 to 2,000 hours" on a cluster of CPUs (section 3.3).
PAPER_HOURS = (1000, 2000)
# Seconds before the first byte of a collective arrives; assumed.
LATENCY = 20e-6


@dataclass(frozen=True)
class Assumptions:
    """Figures that specifications do not give.

    Attributes:
      utilisation: share of the peak arithmetic that convolutions and products reach.
      bandwidth_share: share of the published bandwidths, of memory and of links, that is reached.
    """

    utilisation: float = 0.4
    bandwidth_share: float = 0.8


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step by each limit; a step takes the largest."""

    program: Program
    chip: Chip
    assumptions: Assumptions
    arithmetic_seconds: float
    memory_seconds: float
    interconnect_seconds: float

    @property
    def limits(self) -> dict[str, float]:
        """Seconds by the name of the limit."""
        return {
            "arithmetic": self.arithmetic_seconds,
            "memory bandwidth": self.memory_seconds,
            "interconnect": self.interconnect_seconds,
        }

    @property
    def bound(self) -> str:
        """The name of the largest limit."""
        return max(self.limits, key=lambda name: self.limits[name])

    @property
    def seconds(self) -> float:
        """Seconds of a step."""
        return max(self.limits.values())

    @property
    def images_per_second(self) -> float:
        """Faces a second, masked rows not counted."""
        return self.program.batch / self.seconds


def predict(program: Program, chip: Chip, assumptions: Assumptions | None = None) -> Prediction:
    """Computes the three limits of a step.

    arithmetic        network / (peak x utilisation) + loss / (exact x utilisation)
    memory bandwidth  traffic / (bandwidth x share)
    interconnect      for each collective: bytes sent within a domain / (link x share), bytes that a chip sends beyond
                      its domain / (network x share), and a latency
    """
    given = assumptions or Assumptions()
    peak = chip.peak if program.dtype == "bfloat16" else chip.peak_float32
    network = program.arithmetic / (peak * given.utilisation)
    loss = program.loss_arithmetic / (chip.exact * given.utilisation)
    memory = program.traffic / (chip.bandwidth * given.bandwidth_share)
    interconnect = sum(_seconds(c, chip, given.bandwidth_share) for c in program.collectives)
    return Prediction(program, chip, given, network + loss, memory, interconnect)


def _seconds(collective: Collective, chip: Chip, share: float) -> float:
    """Seconds of a collective: first within each domain, then between chips of the same place in their domains."""
    inside = min(collective.devices, chip.domain)
    outside = collective.devices / inside
    rounds = 2 if collective.kind == "all-reduce" else 1
    near = rounds * collective.size * (inside - 1) / inside / (chip.link * share)
    far = rounds * collective.size / inside * (outside - 1) / outside / (chip.network * share)
    return collective.times * (near + far + LATENCY)


def by_purpose(program: Program) -> list[tuple[str, str, int, float]]:
    """The data sent: (kind, purpose, how many operations, bytes that each device sends), the most first."""
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    for collective in program.collectives:
        entry = totals[collective.kind, _purpose(collective, program)]
        entry[0] += collective.times
        entry[1] += collective.sent
    found = [(kind, what, int(count), sent) for (kind, what), (count, sent) in totals.items()]
    return sorted(found, key=lambda line: -line[3])


def _purpose(collective: Collective, program: Program) -> str:
    labels, embeddings = 4 * program.rows, 4 * program.rows * program.embedding_size
    if collective.size < 256:
        return "sums of the loss"
    if collective.size == labels:
        return "labels"
    # Those of an ensemble's members are exchanged one by one, unless the compiler combines them.
    if any(size <= collective.size <= size + 256 for size in (embeddings // program.members, embeddings)):
        names = {"all-gather": "embeddings", "reduce-scatter": "gradient of the embeddings"}
        return names.get(collective.kind, "embeddings, or their gradient")
    return "parameters" if collective.kind == "all-gather" else "gradient of the parameters"


def format_prediction(prediction: Prediction, images: float) -> str:
    """The prediction with its formula and assumptions, for the screen."""
    program, chip, given = prediction.program, prediction.chip, prediction.assumptions
    many = program.devices
    own = program.rows // many
    float32 = program.dtype != "bfloat16"
    peak = chip.peak_float32 if float32 else chip.peak
    masked = program.rows - program.batch
    fits = "fits" if program.memory <= chip.memory else "DOES NOT FIT: set --config.batch.chunk, or take more chips"
    hours = images / prediction.images_per_second / 3600
    low, high = (3600 * h * prediction.images_per_second for h in PAPER_HOURS)
    lines = [
        f"network         {program.parameters:,} parameters, {program.multiply_adds:,} multiply-adds a face",
        f"batch           {program.batch:,} faces, {own:,} rows on each of {many:,} {chip.name}"
        + (f", {masked:,} of all masked" if masked else "")
        + (f", {program.chunk:,} at once" if program.chunk < own else ""),
        f"compiled        by {program.compiler}",
        f"memory          {_bytes(program.memory)} of {_bytes(chip.memory)} on each ({_bytes(program.state)} of it "
        f"parameters and accumulators): {fits}",
        f"interconnect    {_bytes(sum(c.sent for c in program.collectives))} sent by each in a step",
    ]
    for kind, what, count, sent in by_purpose(program):
        lines.append(f"                  {_bytes(sent):>9}  {kind} x {count}, {what}")
    exact = program.loss_arithmetic / (chip.exact * given.utilisation)
    sent = sum(c.sent for c in program.collectives)
    lines += [
        f"arithmetic      {program.arithmetic:.3g} operations on each for network and update, "
        f"{program.loss_arithmetic:.3g} for the loss",
        f"memory traffic  {_bytes(program.traffic)} on each, caches not counted",
        "",
        "seconds of a step, by each limit",
        f"  arithmetic        {prediction.arithmetic_seconds:.2e} = {program.arithmetic:.3g} / ({peak:.3g} x "
        f"{given.utilisation:g}) + {exact:.1e} for the loss",
        f"  memory bandwidth  {prediction.memory_seconds:.2e} = {program.traffic:.3g} / ({chip.bandwidth:.3g} x "
        f"{given.bandwidth_share:g})",
        f"  interconnect      {prediction.interconnect_seconds:.2e} = {sent:.3g} / ({chip.link:.3g} x "
        f"{given.bandwidth_share:g})"
        + (" and the network between domains" if many > chip.domain else "")
        + f" + {sum(c.times for c in program.collectives)} x {LATENCY:g}",
        f"a step takes the largest, {prediction.seconds:.2e} s: {prediction.bound}",
        "",
        f"images          {prediction.images_per_second:,.0f} a second",
        f"time            {duration(hours * 3600)} for {images:,.0f} images, {hours * many:,.0f} chip-hours",
        "the paper       trained 1,000 to 2,000 hours on a cluster of CPUs and does not say on how many images;",
        f"                in that time these would see {low:.2g} to {high:.2g}",
        "",
        "assumed",
        f"  {given.utilisation:.0%} of the peak is reached in arithmetic (--utilisation), "
        f"{given.bandwidth_share:.0%} of the bandwidths (--bandwidth-share)",
        "  the three limits overlap fully, so that the largest counts; faces arrive in time; evaluation and "
        "checkpoints take nothing",
        f"  peak {peak:.3g} operations a second ({'float32 config' if float32 else 'bfloat16'}), memory "
        f"{chip.bandwidth:.3g} B/s, links {chip.link:.3g} B/s one way"
        + (f", {chip.network:.3g} B/s beyond {chip.domain:,} chips" if many > chip.domain else ""),
        "  measured here" if chip.name == "cpu" else "  as published: see facenet_jax/planning/chips.py",
        f"  rings within {min(many, chip.domain):,} chips, each sending at the full rate of its links; "
        f"{LATENCY * 1e6:g} microseconds before each collective",
    ]
    return "\n".join(lines)


def prediction_to_json(prediction: Prediction, images: float) -> dict[str, Any]:
    """The prediction as plain numbers, to be written as JSON."""
    program, chip, given = prediction.program, prediction.chip, prediction.assumptions
    hours = images / prediction.images_per_second / 3600
    return {
        "chip": vars(chip),
        "assumptions": vars(given) | {"latency": LATENCY},
        "program": vars(program)
        | {"collectives": [vars(c) | {"sent": c.sent, "what": _purpose(c, program)} for c in program.collectives]},
        "seconds": prediction.limits | {"step": prediction.seconds},
        "bound": prediction.bound,
        "images_per_second": prediction.images_per_second,
        "images": images,
        "days": hours / 24,
        "chip_hours": hours * program.devices,
        "fits": program.memory <= chip.memory,
    }


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"

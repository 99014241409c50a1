"""Reads a compiled program: bytes sent between devices, and bytes moved to and from memory.

The text is XLA's optimised HLO of one device, after partitioning, as `Compiled.as_text()` gives it. A loop's body
counts as often as the compiler says that it runs; without a known count, once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4}
_BYTES |= {"s64": 8, "u64": 8, "f64": 8}
_ARRAY = re.compile(rf"\b({'|'.join(_BYTES)})\[([\d,]*)\](\{{[^}}]*\}})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z\d-]*)\((.*)$")
_ON_CHIP = re.compile(r"S\([1-9]")  # a memory space other than the device's main memory
# Operations that move no data themselves; the operations that use or belong to them do.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all"}
_FREE |= {"opt-barrier", "partition-id", "replica-id", "iota"}


@dataclass(frozen=True)
class Collective:
    """An operation in which devices exchange data.

    Attributes:
      kind: one of COLLECTIVES.
      size: bytes of the whole array, which an all-gather returns, a reduce-scatter takes, and an all-reduce both.
      devices: how many take part together.
      times: how often it runs in a step.
    """

    kind: str
    size: int
    devices: int
    times: int = 1

    @property
    def sent(self) -> float:
        """Bytes that each device sends in a step, by the algorithms that are optimal in bytes (rings)."""
        rounds = {"all-reduce": 2, "collective-permute": self.devices / max(self.devices - 1, 1)}.get(self.kind, 1)
        return self.times * rounds * self.size * (self.devices - 1) / self.devices


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    op: str
    rest: str


def collectives(text: str) -> list[Collective]:
    """The collectives of a program between several devices, in the order of its text."""
    found = []
    for instruction, shapes, times in _walk(text, into_fusions=True):
        kind = instruction.op.removesuffix("-start")
        if kind not in COLLECTIVES:
            continue
        devices = _group_size(instruction.rest, text)
        operands = sum(_sizes(shapes.get(name, "")) for name in _operands(instruction.rest))
        # An operation in two halves returns its operands too; a reduce-scatter takes more than it returns.
        size = devices * operands if kind == "all-gather" else operands
        if devices > 1:
            found.append(Collective(kind, size, devices, times))
    return found


def memory_traffic(text: str) -> int:
    """Bytes read from and written to a device's main memory in a step.

    Every operation that was not fused into another reads its inputs and writes its result, once. Arrays that the
    compiler places in a nearer memory, as on TPU, are left out; caches, which it does not know, are ignored.
    """
    total = 0
    for instruction, shapes, times in _walk(text, into_fusions=False):
        if instruction.op in _FREE or instruction.op.endswith("-done"):
            continue
        if instruction.op in ("copy-start", "slice-start"):
            # Between two memories, one of which is main memory. The tuple holds source, target and a flag.
            moved = [size for size in _each_size(instruction.shape, everywhere=True) if size > 4]
            total += times * min(moved, default=0)
            continue
        arrays = [instruction.shape, *(shapes.get(name, "") for name in _operands(instruction.rest))]
        total += times * sum(sum(_each_size(shape)) for shape in arrays)
    return total


def _walk(text: str, into_fusions: bool) -> Iterator[tuple[_Instruction, dict[str, str], int]]:
    """Every instruction that runs, the shapes by name in its computation, and how often it runs."""
    computations, entry = _parse(text)

    def visit(name: str, times: int) -> Iterator[tuple[_Instruction, dict[str, str], int]]:
        instructions = computations.get(name, [])
        shapes = {i.name: i.shape for i in instructions}
        for instruction in instructions:
            yield instruction, shapes, times
            trips = re.search(r"known_trip_count[^\d]*(\d+)", instruction.rest) if instruction.op == "while" else None
            for called in _called(instruction, into_fusions):
                yield from visit(called, times * (int(trips[1]) if trips else 1))

    return visit(entry, 1)


def _called(instruction: _Instruction, into_fusions: bool) -> list[str]:
    op, rest = instruction.op, instruction.rest
    if op == "while":
        return re.findall(r"body=%?([\w.-]+)", rest)
    if op == "conditional":
        branches = re.findall(r"branch_computations=\{([^}]*)\}", rest)
        either = re.findall(r"(?:true|false)_computation=%?([\w.-]+)", rest)
        return [name.strip().lstrip("%") for names in branches for name in names.split(",")] + either
    if op in ("call", "async-start"):
        return re.findall(r"(?:to_apply|calls)=%?([\w.-]+)", rest)
    if op == "fusion" and into_fusions:
        return re.findall(r"calls=%?([\w.-]+)", rest)
    return []


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    computations: dict[str, list[_Instruction]] = {}
    entry = current = ""
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head:
            current = head[2]
            computations[current] = []
            entry = current if head[1] else entry
        elif current and (found := _INSTRUCTION.match(line)):
            computations[current].append(_Instruction(*found.groups()))
    return computations, entry


def _operands(rest: str) -> list[str]:
    """The names within the first parentheses, which may be preceded by types."""
    depth, end = 1, len(rest)
    for place, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            end = place
            break
    return re.findall(r"%([\w.-]+)", rest[:end])


def _group_size(rest: str, text: str) -> int:
    """How many devices take part in a collective together.

    XLA writes {{0,1},{2,3}} or [2,2]<=[4] for two groups of two, mesh['a'=2,'b'=2] {'b'} for those along an axis, and
    {} for all devices.
    """
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", rest)
    if listed:
        return listed[1].count(",") + 1
    counted = re.search(r"replica_groups=\[\d+,(\d+)\]", rest)
    if counted:
        return int(counted[1])
    along = re.search(r"replica_groups=mesh\[([^]]*)\](?:, device_ids=\([^{]*\))? \{([^}]*)\}", rest)
    if along:
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", along[1])}
        # A part of an axis is written 'a':(before)size.
        parts = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", along[2])
        return math.prod(int(part) if part else sizes[name] for name, part in parts)
    if "replica_groups=" not in rest or "replica_groups={}" in rest:
        partitions = re.search(r"num_partitions=(\d+)", text)
        return int(partitions[1]) if partitions else 1
    raise ValueError(f"unknown notation of groups of devices: {rest[:300]}")


def _sizes(shape: str) -> int:
    return sum(_each_size(shape, everywhere=True))


def _each_size(shape: str, everywhere: bool = False) -> list[int]:
    """Bytes of each array of a shape or tuple of shapes; those in a nearer memory only with `everywhere`."""
    sizes = []
    for kind, dimensions, layout in _ARRAY.findall(shape):
        if everywhere or not _ON_CHIP.search(layout):
            sizes.append(_BYTES[kind] * math.prod(int(n) for n in dimensions.split(",") if n))
    return sizes

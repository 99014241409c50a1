"""Gives damaged inputs to every reader; any case can be repeated by its seed and number.

    python -m benchmarks.storm --cases 10000 --seed 0              # all kinds
    python -m benchmarks.storm --cases 1 --seed 0 --first 4711     # one case again
    python -m benchmarks.storm --cases 300 --only index            # one kind
    python -m benchmarks.storm --cases 0 --kills 10                # processes killed instead: see storm_kills

Each case damages one file of a small undamaged input and reads it by the function that a command would use. That must
refuse it with one sentence (InputError, BadFace, TrainingError), or read something legitimate: if the format has a
checksum, the same as from the undamaged file. Any other exception, a dead process, a hang and memory beyond the limit
are findings. The exit code is 1 if there are any.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.storm_damage import damaged

_SECONDS = 60  # for one case, on a shared machine
_MEMORY = 6 * 2**30  # beyond that of a process after it read each kind undamaged: decoding may take 1.2 GB
_SENTENCE = 2000


class Case(NamedTuple):
    """A case and its result.

    Attributes:
      number: its number, by which it can be repeated.
      kind: the kind of input.
      harm: the damage, and the file.
      end: refused, same, read; or `finding`.
      words: the sentence of the refusal, or the finding.
    """

    number: int
    kind: str
    harm: str
    end: str
    words: str


class Storm:
    """Undamaged inputs in a folder, and the cases of a seed.

    Args:
      place: an empty folder.
      seed: of all cases.
      only: the kinds; empty: all.
      slow: whether to include slow kinds.
    """

    def __init__(self, place: Path, seed: int, only: Sequence[str] = (), slow: bool = True) -> None:
        from benchmarks.storm_readers import KINDS

        self._place, self._seed = place, seed
        self.kinds = [kind for kind in KINDS if (slow or not kind.slow) and kind.name.startswith(tuple(only) or "")]
        self._whole: dict[str, str] = {}

    def case(self, number: int) -> Case:
        """Runs a case."""
        from benchmarks.storm_readers import reading
        from facenet_jax.errors import InputError, TrainingError
        from facenet_jax.images.decode import BadFace

        rng = random.Random(f"{self._seed}/{number}")
        kind = rng.choices(self.kinds, [kind.weight for kind in self.kinds])[0]
        source, work = self._place / f"whole {kind.name}", self._place / "work"
        if kind.name not in self._whole:
            source.mkdir(parents=True)
            kind.make(source)
            _fresh(source, work)
            self._whole[kind.name] = reading(kind.read(work))
        _fresh(source, work)
        files = sorted(p for pattern in kind.harmed for p in source.glob(pattern) if p.is_file())
        file = work / rng.choice(files).relative_to(source)
        if rng.random() < 0.03:
            file.unlink()
            harm = "gone"
        else:
            data, harm = damaged(file.read_bytes(), rng)
            file.write_bytes(data)
        about = number, kind.name, f"{harm} in {file.relative_to(work)}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = reading(kind.read(work))
        except (InputError, BadFace, TrainingError) as error:
            words = str(error)
            # A config that differs is reported line by line.
            if "\n" in words.partition("Then -> now:\n")[0] or not words or len(words) > _SENTENCE:
                return Case(*about, "finding", f"no sentence: {words[:300]!r}")
            return Case(*about, "refused", words[:300])
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            own = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "facenet_jax" in f.filename]
            return Case(*about, "finding", f"{type(error).__name__} at {own[-1:]}: {str(error)[:200]}")
        if found == self._whole[kind.name]:
            return Case(*about, "same", "")
        if kind.checked:
            return Case(*about, "finding", "other values than the undamaged file's, silently")
        return Case(*about, "read", "")


def _fresh(source: Path, work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work)


def _child(options: argparse.Namespace) -> None:
    """Runs cases one after another and writes a line of JSON for each; the parent kills it if one takes too long."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as place:
        storm = Storm(Path(place), options.seed, options.only)
        for number in range(options.first, options.first + options.cases):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + _MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            out.write(json.dumps(storm.case(number)) + "\n")


def run(options: argparse.Namespace) -> Iterator[Case]:
    """Runs the cases in separate processes: one that dies or hangs is a finding, and another process continues."""
    number, last = options.first, options.first + options.cases
    while number < last:
        command = [sys.executable, "-m", "benchmarks.storm", "--child", f"--seed={options.seed}", f"--first={number}"]
        command += [f"--cases={min(last - number, 2000)}", *(f"--only={only}" for only in options.only)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as child:
            assert child.stdout is not None
            stop = min(number + 2000, last)
            began = True
            while number < stop:
                ready, _, _ = select.select([child.stdout], [], [], _SECONDS + (60 if began else 0))
                line = child.stdout.readline() if ready else b""
                if not line:
                    if not ready:
                        child.kill()
                    why = f"the process died ({child.wait()})" if ready else f"no end after {_SECONDS} s"
                    yield Case(number, "?", "", "finding", why)
                    number += 1
                    break
                began = False
                yield Case(*json.loads(line))
                number += 1


def _missing(only: Sequence[str]) -> list[str]:
    """The packages that kinds need and that are not installed: without them a seed would give other cases."""
    kinds = Storm(Path(), 0, only).kinds
    return sorted({kind.needs for kind in kinds if kind.needs and find_spec(kind.needs) is None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", action="append", default=[], help="begin of a kind's name, or a command")
    parser.add_argument("--kills", type=int, default=0, help="kills of each command, after the cases")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        _child(options)
        return 0
    from facenet_jax.errors import how_to_install

    if options.cases and (missing := _missing(options.only)):
        parser.error(f"what is read needs {', '.join(missing)}: {how_to_install('onnx', 'parquet', 'index')}.")
    started = time.monotonic()
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    findings: list[Any] = []
    for case in run(options):
        counts[case.kind][case.end] += 1
        if case.end == "finding":
            findings.append(case)
            print(f"seed {options.seed} number {case.number}: {case.kind}: {case.harm}: {case.words}", flush=True)
    if counts:
        print(f"{'kind':<34}{'cases':>7}{'refused':>9}{'same':>7}{'read':>7}{'findings':>10}")
    for kind, ends in sorted(counts.items()):
        print(
            f"{kind:<34}{sum(ends.values()):>7}{ends['refused']:>9}{ends['same']:>7}{ends['read']:>7}"
            f"{ends['finding']:>10}"
        )
    total = sum(sum(ends.values()) for ends in counts.values())
    print(f"{total:,} cases of seed {options.seed} from {options.first} in {time.monotonic() - started:,.0f} s: "
          f"{len(findings)} findings")  # fmt: skip
    failed = bool(findings)
    if options.kills:
        from benchmarks.storm_kills import storm_of_kills

        failed |= storm_of_kills(options.kills, options.seed, options.only) > 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

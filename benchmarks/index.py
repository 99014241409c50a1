"""Times searches of an index of a million faces: float32 and one byte a coordinate, compared with the bare product.

    python -m benchmarks.index                     (or `make bench-index`)
    python -m benchmarks.index --faces 100000

The faces are synthetic: unit vectors around a centre for each person, ten faces each; a query is one more face of
somebody. Searches take turns, one query at a time, so that other work of the machine affects all of them alike. The
bare product is that of all faces with the query by NumPy, on one thread like the searches: the first part of a search
by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import ROOT
from benchmarks.machine import describe_machine, in_words
from facenet_jax.evaluation.compact import calibrate, distance_error, pack
from facenet_jax.recognition.index import PeopleIndex, Vectors
from facenet_jax.recognition.index_files import load_index, save_index

_EACH = 10  # faces of a person
_SPREAD = 0.6  # of faces around their person's centre
_AIM = 0.1  # seconds a query


def made_up(faces: int, size: int, queries: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Faces [faces, size], grouped by person, and queries [queries, size] of people at even intervals."""
    rng = np.random.default_rng(0)
    centres = _unit(rng.standard_normal((-(-faces // _EACH), size), np.float32))
    points = np.repeat(centres, _EACH, axis=0)[:faces]
    spread = np.float32(_SPREAD / np.sqrt(size))
    points += spread * rng.standard_normal(points.shape, np.float32)
    asked = centres[np.linspace(0, len(centres) - 1, queries).astype(int)]
    return _unit(points), _unit(asked + spread * rng.standard_normal(asked.shape, np.float32))


def build(points: NDArray[np.float32], compact: bool) -> PeopleIndex:
    """An index of synthetic people."""
    index = PeopleIndex(
        "", None, "made up", "", "none", Vectors(points.shape[1], calibrate(points) if compact else None)
    )
    people = [f"person {number // _EACH}" for number in range(len(points))]
    files = [f"{name}/{number}.jpg" for number, name in enumerate(people)]
    index.add(points, people, files, [number.to_bytes(16, "little") for number in range(len(points))])
    return index


def measure(faces: int, size: int, queries: int, k: int) -> dict[str, Any]:
    """The figures of each search: seconds of its queries, errors and sizes."""
    points, asked = made_up(faces, size, queries)
    forms: dict[str, Any] = {}
    indices: dict[str, PeopleIndex] = {}
    for form in ("float32", "int8"):
        index = build(points, form == "int8")
        with tempfile.TemporaryDirectory() as folder:
            seconds, _ = _timed(lambda index=index, folder=folder: save_index(index, Path(folder)))
            (vectors,) = Path(folder).glob("vectors-*")
            read, indices[form] = _timed(lambda folder=folder: load_index(Path(folder)))
            forms[form] = {"save_seconds": seconds, "load_seconds": read, "bytes": vectors.stat().st_size}
    searches: dict[str, Callable[[NDArray[np.float32]], Any]] = {
        "float32": lambda query: indices["float32"].nearest(query, k)[0],
        "int8": lambda query: indices["int8"].nearest(query, k)[0],
        "product": lambda query: np.einsum("nd,d->n", points, query[0]),
    }
    times: dict[str, list[float]] = {name: [] for name in searches}
    work: dict[str, list[float]] = {name: [] for name in searches}
    found: dict[str, list[Any]] = {name: [] for name in searches}
    for number in range(-2, queries):  # the first two warm up
        for name, search in searches.items():
            before = time.process_time()
            seconds, result = _timed(lambda search=search, number=number: search(asked[[number]]))
            if number >= 0:
                times[name].append(seconds)
                work[name].append(time.process_time() - before)
                found[name].append([] if name == "product" else result)
    pairs = [
        (near.distance, _distance(points[int(near.file.split("/")[1][:-4])], query))
        for query, nearest in zip(asked, found["int8"], strict=True)
        for near in nearest
    ]
    rounding = indices["int8"].vectors.rounding + max(
        pack(query[None], indices["int8"].vectors.step).rounding for query in asked
    )
    return {
        "faces": faces,
        "size": size,
        "queries": queries,
        "k": k,
        "seconds": {name: _quantiles(values) for name, values in times.items()},
        "cpu_seconds": {name: _quantiles(values) for name, values in work.items()},
        "forms": forms,
        "same_nearest": sum(
            one[0].person == other[0].person for one, other in zip(found["float32"], found["int8"], strict=True)
        ),
        "load_average": os.getloadavg()[0],
        "clipped": indices["int8"].vectors.clipped,
        "rounding": rounding,
        "largest_error": max(abs(seen - true) for seen, true in pairs),
        "error_at_most": max(distance_error(rounding, true) for _, true in pairs),
    }


def report(found: dict[str, Any], machine: dict[str, str | int | float]) -> str:
    """The table."""
    product = found["seconds"]["product"]["median"]
    lines = [
        f"{found['faces']:,} synthetic faces of {found['faces'] // _EACH:,} people, {found['size']} dimensions. A "
        f"query finds the {found['k']} nearest people of one face, exactly; {found['queries']} queries, in turns. The "
        f"aim is less than {1000 * _AIM:.0f} ms.",
        "",
        "| | median | least | most | CPU, median | median / product | vectors on disk | opened |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, title in (("float32", "float32"), ("int8", "one byte a coordinate"), ("product", "the bare product")):
        wall, cpu = found["seconds"][name], found["cpu_seconds"][name]
        form = found["forms"].get(name)
        disk = f"{form['bytes'] / 2**20:,.0f} MiB | {form['load_seconds']:.1f} s" if form else "- | -"
        lines.append(
            f"| {title} | {_ms(wall['median'])} | {_ms(wall['least'])} | {_ms(wall['most'])} | {_ms(cpu['median'])} | "
            f"{wall['median'] / product:.2f} | {disk} |"
        )
    lines += [
        "",
        f"Bytes and float32 find the same nearest person for {found['same_nearest']} of {found['queries']} queries; "
        f"{found['clipped']:,} coordinates were clipped. By its bound a distance to one of the nearest is off by at "
        f"most {found['error_at_most']:.4f}; the largest error seen is {found['largest_error']:.4f}.",
        "",
        f"{in_words(machine)} The load average was {found['load_average']:.1f} at the end, of which the search is 1.",
    ]
    return "\n".join(lines) + "\n"


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def _quantiles(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "least": min(values), "most": max(values)}


def _unit(points: NDArray[np.float32]) -> NDArray[np.float32]:
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    difference = one.astype(np.float64) - other
    return float(difference @ difference)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=128, help="of the embedding")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("-k", type=int, default=5, help="people to find")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="for index.md and .json")
    options = parser.parse_args()
    found = measure(options.faces, options.size, options.queries, options.k)
    machine = describe_machine(("numpy", "faiss-cpu"))
    text = report(found, machine)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "index.md").write_text(f"# Searching a million faces\n\n{text}")
    (options.out / "index.json").write_text(json.dumps({"machine": machine, "index": found}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()

"""Reads what runs and evaluations left on disk, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facenet_jax.errors import InputError
from facenet_jax.runtime.files import modified
from facenet_jax.runtime.json_files import read_json, read_json_lines

YARDSTICK = "sface"
# Where a run's own documents are looked for, besides its directory itself.
FOLDER = "evaluation"
# The paper's smallest FAR, and the protocols that judge pairs of photographs.
FAR = 1e-3
PAIR_PROTOCOLS = ("photos", "lfw", "lfw-view1", "pairs", "ytf")


@dataclass
class Measured:
    """One embedder, and all that was measured of it.

    Attributes:
      name: of it.
      about: what its documents say of it: network, input size, config, training faces.
      documents: protocol -> (document, the embedder's entry in it); of several the newest in the folder named last.
    """

    name: str
    about: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)

    def result(self, protocol: str) -> dict[str, Any] | None:
        """What a protocol found, or None where it was not run."""
        found = self.documents.get(protocol)
        return None if found is None else dict(found[1]["result"])

    def roots(self, protocol: str) -> list[Path]:
        """The folders of the images that a protocol judged."""
        return [Path(part) for part in self.documents[protocol][0]["data"].split(", ")]


@dataclass(frozen=True)
class Collected:
    """Everything that the report shows.

    Attributes:
      embedders: in the order of the folders, the yardstick last.
      comparisons: (protocol, data, comparison).
      left_out: (protocol, data, names, whether they were kept all the same).
      histories: name -> rows of metrics of a run.
      sweeps: (folder, what its sweep.json says).
    """

    embedders: tuple[Measured, ...]
    comparisons: tuple[tuple[str, str, dict[str, Any]], ...]
    left_out: tuple[tuple[str, str, list[str], bool], ...]
    histories: dict[str, list[dict[str, Any]]]
    sweeps: tuple[tuple[Path, dict[str, Any]], ...] = ()


def collect(folders: Sequence[Path]) -> Collected:
    """Reads working directories of runs, folders that `facenet-jax evaluate --out` wrote, and sweeps with their runs.

    Raises:
      InputError: a folder is missing or nothing was measured in any.
    """
    embedders: dict[str, Measured] = {}
    comparisons, left_out = [], []
    histories: dict[str, list[dict[str, Any]]] = {}
    sweeps = [(folder, content) for folder in folders if (content := _read(folder / "sweep.json")) is not None]
    swept = {folder for folder, _ in sweeps}
    finished = [report.parent for folder in swept for report in sorted(folder.glob("points/*/report.json"))]
    for folder in [*(one for one in folders if one not in swept), *finished]:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; give the working directory of a run, or an --out of `evaluate`.")
        before = len(embedders)
        for document in _documents(folder):
            for entry in document["embedders"]:
                one = embedders.setdefault(entry["name"], Measured(entry["name"]))
                one.about |= {key: value for key, value in entry.items() if key != "result"}
                one.documents[document["protocol"]] = document, entry
            data = document["data"]
            comparisons += [(document["protocol"], data, one) for one in document.get("comparisons", [])]
            for key, kept in (("left_out", False), ("shared_and_kept", True)):
                if document.get(key):
                    left_out.append((document["protocol"], data, list(document[key]), kept))
        run = _run(folder)
        if run is not None and not any(m.about.get("workdir") == str(folder) for m in embedders.values()):
            embedders[run.name] = run
        history = _history(folder / "metrics.jsonl")
        if history:
            histories[str(folder)] = history
        if len(embedders) == before and run is None and not any(_documents(folder)):
            raise InputError(
                f"Nothing was measured in {folder}; finish the run, or write there by `facenet-jax evaluate … --out`."
            )
    # A network's mean with the mirror image stands behind the network itself, where that was measured too.
    places = {name: place for place, name in enumerate(embedders)}

    def place(one: Measured) -> tuple[bool, int, bool]:
        of = one.about.get("flip_of", one.name)
        return of == YARDSTICK, places.get(of, places[one.name]), of != one.name

    ordered = sorted(embedders.values(), key=place)
    return Collected(tuple(ordered), tuple(comparisons), tuple(left_out), histories, tuple(sweeps))


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _documents(folder: Path) -> Iterator[dict[str, Any]]:
    files = [*folder.glob("*.json"), *(folder / FOLDER).glob("*.json")]
    for file in sorted(files, key=modified):
        document = _read(file)
        if document is None or not {"protocol", "data", "embedders"} <= set(document):
            continue
        entries = document["embedders"]
        named = isinstance(entries, list) and all(
            isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("result"), dict)
            for one in entries
        )
        if not named or not isinstance(document["protocol"], str) or not isinstance(document["data"], str):
            raise InputError(f"{file} is damaged: copy it again, or evaluate again; or remove it.")
        yield document


def _run(folder: Path) -> Measured | None:
    """A run that nothing but its own last evaluation was measured of."""
    run, report = _read(folder / "run.json"), _read(folder / "report.json")
    if run is None or report is None:
        return None
    config = run["config"]
    name = f"{folder} at step {report['step']:,}"
    about = {
        "name": name,
        "kind": "run",
        "workdir": str(folder),
        "step": report["step"],
        "network": config["model.name"],
        "input_size": config["model.input_size"],
        "embedding_size": config["model.embedding_size"],
        "config": config,
    }
    document = {"protocol": "holdout", "data": "held out by the run itself", "crop": "none", "embedders": []}
    return Measured(name, about, {"holdout": (document, {"name": name, "result": report["holdout"]})})


def _history(file: Path) -> list[dict[str, Any]]:
    try:
        return read_json_lines(file)
    except OSError:
        return []


def finest(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """The rate at the smallest FAR, from the paper's on, that the pairs resolve."""
    known = [rate for rate in (result or {}).get("rates", []) if rate["val"] is not None and rate["far"] >= FAR]
    return min(known, key=lambda rate: float(rate["far"]), default=None)


def flips(embedders: Sequence[Measured]) -> Iterator[tuple[Measured, Measured, str]]:
    """(network, its mean with the mirror image, protocol) where a protocol measured both on the same."""
    by_name = {one.name: one for one in embedders}
    for flipped in embedders:
        single = by_name.get(flipped.about.get("flip_of", ""))
        if single is not None:
            yield from ((single, flipped, protocol) for protocol in _alike(flipped, single))


def compatible(embedders: Sequence[Measured]) -> Iterator[tuple[Measured, Measured, Measured, list[str]]]:
    """(old, new against old, new, protocols) of each pair of embedders, with what measured all three on the same."""
    by_name = {one.name: one for one in embedders}
    for both in embedders:
        names = both.about.get("against", {})
        old, new = by_name.get(names.get("old", "")), by_name.get(names.get("new", ""))
        if old is not None and new is not None and (protocols := _alike(both, old, new)):
            yield old, both, new, protocols


def _alike(one: Measured, *others: Measured) -> list[str]:
    """The protocols that judged an embedder and all of these others on the same faces, cut alike."""

    def faces(measured: Measured, protocol: str) -> list[Any]:
        document = measured.documents[protocol][0]
        return [document.get(key) for key in ("data", "pairs", "crop")]

    return [
        protocol
        for protocol in one.documents
        if all(protocol in other.documents and faces(other, protocol) == faces(one, protocol) for other in others)
    ]


def results(embedders: Sequence[Measured], *protocols: str) -> Iterator[tuple[Measured, str, dict[str, Any]]]:
    """(embedder, protocol, result) of each of these protocols that was run."""
    for one in embedders:
        for protocol in protocols:
            result = one.result(protocol)
            if result is not None:
                yield one, protocol, result

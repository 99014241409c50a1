"""Reads the results of runs and evaluations from disk, for the report."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facenet_jax.config import network_title
from facenet_jax.errors import InputError, first_line
from facenet_jax.runtime.files import modified
from facenet_jax.runtime.json_files import read_json, read_rows

YARDSTICK = "sface"
# The folder of a run that may have documents, in addition to the run's directory itself.
FOLDER = "evaluation"
# The paper's smallest FAR, and the protocols that judge pairs of photographs.
FAR = 1e-3
PAIR_PROTOCOLS = ("photos", "lfw", "lfw-view1", "pairs", "ytf")
# Exceptions that reading a damaged document may raise.
DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass
class Measured:
    """One embedder and its results.

    Attributes:
      name: of the embedder.
      about: its description in documents: network, input size, config, training faces.
      documents: protocol -> (document, the embedder's entry in it); of several the newest in the folder named last.
      by_its_run: whether its only result is its run's own last evaluation.
    """

    name: str
    about: dict[str, Any] = field(default_factory=dict)
    documents: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    by_its_run: bool = False

    def result(self, protocol: str) -> dict[str, Any] | None:
        """The result of a protocol, or None if it was not run."""
        found = self.documents.get(protocol)
        return None if found is None else dict(found[1]["result"])

    def roots(self, protocol: str) -> list[Path]:
        """The folders of the images that a protocol judged."""
        return [Path(part) for part in self.documents[protocol][0]["data"].split(", ")]


@dataclass(frozen=True)
class Collected:
    """Everything that the report shows.

    Attributes:
      embedders: in the order of the folders, SFace last.
      comparisons: (protocol, data, comparison).
      left_out: (protocol, data, names, whether they were kept nevertheless).
      histories: name -> rows of metrics of a run.
      sweeps: (folder, content of its sweep.json).
      files: each file that was read, with its content alone.
    """

    embedders: tuple[Measured, ...] = ()
    comparisons: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    left_out: tuple[tuple[str, str, list[str], bool], ...] = ()
    histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sweeps: tuple[tuple[Path, dict[str, Any]], ...] = ()
    files: tuple[tuple[Path, Collected], ...] = ()


def collect(folders: Sequence[Path]) -> Collected:
    """Reads working directories of runs, folders that `facenet-jax evaluate --out` wrote, and sweeps with their runs.

    Files that are damaged are named, and left out.

    Raises:
      InputError: a folder is missing or nothing was measured in any.
    """
    sweeps = [
        (file, Collected(sweeps=((file.parent, content),)))
        for file in (folder / "sweep.json" for folder in folders)
        if (content := _read(file)) is not None
    ]
    swept = {file.parent for file, _ in sweeps}
    finished = [report.parent for folder in swept for report in sorted(folder.glob("points/*/report.json"))]
    files = []
    for folder in [*(one for one in folders if one not in swept), *finished]:
        if not folder.is_dir():
            raise InputError(
                f"{folder} is not a folder; give the working directory of a run, or an --out of `evaluate`."
            )
        found = list(_files(folder))
        if not any(alone.embedders for _, alone in found):
            raise InputError(
                f"Nothing was measured in {folder}; finish the run, or write there by `facenet-jax evaluate … --out`."
            )
        files += found
    return together([*files, *sweeps])


def together(files: Sequence[tuple[Path, Collected]]) -> Collected:
    """Merges the content of several files, each of which was read alone."""
    embedders: dict[str, Measured] = {}
    histories: dict[str, list[dict[str, Any]]] = {}
    alone = [said for _, said in files]
    for said in alone:
        histories |= said.histories
        for one in said.embedders:
            measured_too = any(m.about.get("workdir") == one.about.get("workdir") for m in embedders.values())
            if one.by_its_run and measured_too:
                continue
            known = embedders.setdefault(one.name, Measured(one.name))
            known.about |= one.about
            known.documents |= one.documents
    # A network's mean with the mirror image follows the network itself, where that was measured too.
    places = {name: place for place, name in enumerate(embedders)}

    def place(one: Measured) -> tuple[bool, int, bool]:
        of = one.about.get("flip_of", one.name)
        return of == YARDSTICK, places.get(of, places[one.name]), of != one.name

    return Collected(
        tuple(sorted(embedders.values(), key=place)),
        tuple(one for said in alone for one in said.comparisons),
        tuple(one for said in alone for one in said.left_out),
        histories,
        tuple(one for said in alone for one in said.sweeps),
        tuple(files),
    )


def leave_out(file: Path, why: str) -> None:
    """Warns that a file is damaged, and that the report is made without it."""
    print(
        f"facenet-jax: warning: {file} is damaged and left out ({why}): copy it again, evaluate again, or remove it.",
        file=sys.stderr,
    )


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = read_json(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        leave_out(file, first_line(error))
        return None
    return content if isinstance(content, dict) else None


def _files(folder: Path) -> Iterator[tuple[Path, Collected]]:
    """Yields each file of a folder that has figures, with its content."""
    own, run = folder / "report.json", folder / "run.json"
    found = [file for file in (*folder.glob("*.json"), *(folder / FOLDER).glob("*.json")) if file not in (own, run)]
    for file in [*sorted(found, key=modified), *([own] if own.is_file() else [])]:
        try:
            said = _of_run(folder) if file == own else _of_document(_read(file))
        except DAMAGE as error:
            leave_out(file, f"{type(error).__name__}: {first_line(error)}")
            continue
        if said is not None:
            yield file, said
    history = _history(folder / "metrics.jsonl")
    if history:
        yield folder / "metrics.jsonl", Collected(histories={str(folder): history})


def _of_document(document: dict[str, Any] | None) -> Collected | None:
    """The content of a document of `evaluate --out`; None for other files.

    Raises:
      one of DAMAGE: it is damaged.
    """
    if document is None or not {"protocol", "data", "embedders"} <= set(document):
        return None
    json.dumps(document, allow_nan=False)  # raises ValueError for NaN, which `evaluate` does not write
    protocol, data, entries = document["protocol"], document["data"], document["embedders"]
    named = isinstance(entries, list) and all(
        isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("result"), dict)
        for one in entries
    )
    if not named or not isinstance(protocol, str) or not isinstance(data, str):
        raise ValueError("a name or a result is missing")
    return Collected(
        tuple(
            Measured(
                entry["name"],
                {key: value for key, value in entry.items() if key != "result"},
                {protocol: (document, entry)},
            )
            for entry in entries
        ),
        tuple((protocol, data, one) for one in document.get("comparisons", [])),
        tuple(
            (protocol, data, list(document[key]), kept)
            for key, kept in (("left_out", False), ("shared_and_kept", True))
            if document.get(key)
        ),
    )


def _of_run(folder: Path) -> Collected | None:
    """A run by its own last evaluation; None if it has none.

    Raises:
      one of DAMAGE: it is damaged.
    """
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
        "network": network_title(config),
        "input_size": config["model.input_size"],
        "embedding_size": config["model.embedding_size"],
        "config": config,
    }
    document = {"protocol": "holdout", "data": "held out by the run itself", "crop": "none", "embedders": []}
    measured = {"holdout": (document, {"name": name, "result": dict(report["holdout"])})}
    return Collected((Measured(name, about, measured, by_its_run=True),))


def _history(file: Path) -> list[dict[str, Any]]:
    try:
        return read_rows(file)
    except OSError:
        return []


def finest(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """The rate at the smallest FAR that the pairs resolve, at least the paper's."""
    known = [rate for rate in (result or {}).get("rates", []) if rate["val"] is not None and rate["far"] >= FAR]
    return min(known, key=lambda rate: float(rate["far"]), default=None)


def flips(embedders: Sequence[Measured]) -> Iterator[tuple[Measured, Measured, str]]:
    """(network, its mean with the mirror image, protocol) where a protocol measured both on the same faces."""
    by_name = {one.name: one for one in embedders}
    for flipped in embedders:
        single = by_name.get(flipped.about.get("flip_of", ""))
        if single is not None:
            yield from ((single, flipped, protocol) for protocol in _alike(flipped, single))


def compatible(embedders: Sequence[Measured]) -> Iterator[tuple[Measured, Measured, Measured, list[str]]]:
    """(old, new against old, new, protocols) of each pair of embedders that protocols measured on the same faces."""
    by_name = {one.name: one for one in embedders}
    for both in embedders:
        names = both.about.get("against", {})
        old, new = by_name.get(names.get("old", "")), by_name.get(names.get("new", ""))
        if old is not None and new is not None and (protocols := _alike(both, old, new)):
            yield old, both, new, protocols


def _alike(one: Measured, *others: Measured) -> list[str]:
    """The protocols that measured an embedder and all of these others on the same faces and crop."""

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

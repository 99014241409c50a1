"""Reads thresholds measured by `facenet-jax evaluate --out`, each for one embedder and crop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facenet_jax.errors import InputError
from facenet_jax.recognition.finder import FaceFinder
from facenet_jax.runtime.json_files import is_number, read_json

# Protocols that measure rates over pairs of single images.
_OF_PAIRS = ("holdout", "photos", "lfw", "lfw-view1", "pairs")
_OF_STRANGERS = "identify"
# Expected rates of strangers being named above which a threshold is refused, and above which there is a warning.
ACCEPT_RATE = 0.1
_WARN_RATE = 0.01


@dataclass(frozen=True)
class Threshold:
    """A distance up to which faces are taken for the same person, and the rate of errors measured at it.

    Attributes:
      far: the false accept rate that was asked for; of `identify`, the false-alarm rate.
      distance: squared L2.
      reached: the rate at this distance, or near it where `trials` is 0.
      protocol, data, crop: of the evaluation.
      trials: pairs of different people; of `identify`, faces of strangers. 0 if the rate was not counted at this
        distance itself, which for a hold-out is the mean of its splits' thresholds.
      enrolled: of `identify`, people that strangers were compared with; otherwise None.
    """

    far: float
    distance: float
    reached: float
    protocol: str
    data: str
    crop: str
    trials: int
    enrolled: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what was read of a damaged file."""
        numbers = (self.far, self.distance, self.reached, self.trials, self.enrolled or 0)
        if not all(is_number(number) and number >= 0 for number in numbers):
            raise ValueError("a number that is finite and not negative")

    def expected(self, faces: int) -> float:
        """The expected rate of strangers being taken for somebody, when compared with this many faces.

        Each comparison may go wrong. A rate of pairs gives an upper bound: the rate times the faces. An evaluation of
        strangers, where each person was enrolled by one face, gives the rate by independent comparisons. If no
        stranger was accepted, one of the trials is assumed to have been.
        """
        rate = min(1.0, max(self.reached, 1 / self.trials) if self.trials else self.far)
        if not self.enrolled:
            return min(1.0, rate * faces)
        return 1 - (1 - rate) ** (faces / self.enrolled)

    def promise(self, faces: int = 1, people: int | None = None) -> str:
        """A sentence about the errors to expect at this threshold, with a warning if they are many.

        Args:
          faces, people: how many are enrolled; people None: two faces are compared.
        """
        rate = self.expected(faces)
        share = f"{'about' if self.enrolled else 'up to' if self.trials else 'some'} {100 * rate:.3g}%"
        if people is None:
            text = f"{share} of different people may be taken for the same person"
        else:
            text = f"with {faces:,} faces enrolled, {share} of strangers may be named{self._grown(faces)}"
        if rate > ACCEPT_RATE and people is not None:
            text += f"; above {100 * ACCEPT_RATE:g}% `identify` refuses it unless --accept-rate allows it"
        return f"{'warning: ' if rate > _WARN_RATE else ''}{text}"

    def check(self, faces: int, accept_rate: float | None, older: tuple[Threshold, int] | None = None) -> None:
        """Refuses a threshold at which too many strangers would be taken for somebody.

        Args:
          faces: how many faces a stranger is compared with.
          accept_rate: the highest expected rate that is allowed; None: `ACCEPT_RATE`.
          older: another threshold, and how many more faces a stranger is compared with by it.

        Raises:
          InputError: a higher rate is to be expected, or accept_rate is out of range.
        """
        most = ACCEPT_RATE if accept_rate is None else accept_rate
        if not 0 < most <= 1:
            raise InputError(f"--accept-rate={most:g}: give a rate above 0 and up to 1.")
        rate = self.expected(faces)
        if older is not None:
            rate = 1 - (1 - rate) * (1 - older[0].expected(older[1]))
            faces += older[1]
        if rate > most:
            among = f"among {faces:,} enrolled faces" if faces > 1 else "in one comparison"
            raise InputError(
                f"At a squared distance of {self.distance:.4f} (evaluate {self.protocol} on {self.data}) about "
                f"{100 * rate:.3g}% of strangers would be taken for somebody {among}{self._grown(faces)}, and more "
                f"than {100 * most:g}% is refused: take a stricter rate with --far, measure on as many people as are "
                f"enrolled, or allow it with --accept-rate {math.ceil(100 * rate) / 100:g}."
            )

    def _grown(self, faces: int) -> str:
        if self.enrolled is None or faces <= self.enrolled:
            return ""
        return f" (it was measured with {self.enrolled:,})"

    def __str__(self) -> str:
        where = f"evaluate {self.protocol} on {self.data}, crop {self.crop}"
        if not self.trials:
            return (
                f"squared distance {self.distance:.4f}: the mean of several, which each accepted at most "
                f"{100 * self.far:.3g}% of pairs of different people of their own ({where})"
            )
        if self.enrolled is None:
            return (
                f"squared distance {self.distance:.4f}: of {self.trials:,} pairs of different people "
                f"{100 * self.reached:.3g}% were accepted ({where})"
            )
        return (
            f"squared distance {self.distance:.4f}: of {self.trials:,} faces of strangers {100 * self.reached:.3g}% "
            f"were taken for one of {self.enrolled:,} people enrolled ({where})"
        )


def read_thresholds(file: Path, finder: FaceFinder, among_people: bool = False) -> list[Threshold]:
    """All thresholds that an evaluation of an embedder resolved, the strictest first; the smallest FAR added is last.

    Args:
      file: PROTOCOL.json of holdout, photos, lfw or pairs; with among_people also of identify.
      finder: the embedder and crop that the evaluation must be of.
      among_people: whether faces will be compared with all of an index.

    Raises:
      InputError: the file cannot be read, is of another embedder, crop or protocol, or resolved nothing.
    """
    instead = how_to_evaluate(finder, among_people)
    try:
        document = read_json(file)
        protocol, data, entries = document["protocol"], document["data"], document["embedders"]
        digests = [entry.get("digest") for entry in entries]
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); {instead}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is not a result of `facenet-jax evaluate`; {instead}") from error
    if protocol not in _OF_PAIRS and not (among_people and protocol == _OF_STRANGERS):
        raise InputError(f"{file} is of the protocol {protocol}, which does not judge pairs of photographs; {instead}")
    if finder.digest not in digests:
        raise InputError(
            f"{file} is of {', '.join(str(entry.get('name', '?')) for entry in entries)}, and not of {finder.name} "
            f"as it is now (its digest is another); {instead}"
        )
    entry = entries[digests.index(finder.digest)]
    # Faces of a prepared dataset were cut before: `none` took them as they are.
    crop = document.get("prepared_crop", "none") if entry.get("crop") == "none" else entry.get("crop")
    if crop != finder.crop:
        raise InputError(
            f"{file} judged faces with --crop {crop}, and here they are cut with --crop {finder.crop}; {instead}"
        )
    entry = entry | {"crop": crop}
    try:
        found = _of_strangers(entry, data) if protocol == _OF_STRANGERS else _of_pairs(entry, protocol, data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{file} lacks {error}; {instead}") from error
    if not found:
        raise InputError(
            f"{file} resolved no false accept rate: it has too few pairs; measure on more faces, or ask for a larger "
            "rate with --far."
        )
    # The added rate, the smallest that the pairs resolve, depends on a single false accept.
    return sorted(found, key=lambda threshold: (threshold.far == entry["result"].get("smallest_far"), threshold.far))


def choose_threshold(thresholds: list[Threshold], far: float | None) -> Threshold:
    """The threshold of a false accept rate; by default the first, the strictest that was asked for.

    Raises:
      InputError: the rate was not measured.
    """
    if far is None:
        return thresholds[0]
    for threshold in thresholds:
        if threshold.far == far:
            return threshold
    there = ", ".join(f"{threshold.far:g}" for threshold in thresholds)
    option = "--false-alarms" if thresholds[0].enrolled is not None else "--far"
    raise InputError(
        f"--far={far:g} was not measured; there are {there}. Give one of them, or evaluate again with {option} {far:g}."
    )


def how_to_evaluate(finder: FaceFinder, among_people: bool = False) -> str:
    """The end of an error message: the command of a suitable evaluation."""
    protocol = _OF_STRANGERS if among_people else "photos"
    return f"make one, on other people: facenet-jax evaluate {protocol} {finder.options} --data PEOPLE --out RESULTS"


def _of_pairs(entry: dict[str, Any], protocol: str, data: str) -> list[Threshold]:
    result, found = entry["result"], []
    for rate in result["rates"]:
        if rate["threshold"] is None:
            continue
        # `far_reached` of a hold-out is the mean of rates at its splits' own thresholds.
        counted = rate.get("far_at_threshold") if protocol == "holdout" else rate["far_reached"]
        found.append(
            Threshold(
                float(rate["far"]),
                float(rate["threshold"]),
                float(rate["far_reached"] if counted is None else counted),
                protocol,
                data,
                entry["crop"],
                0 if counted is None else int(result["different_pairs"]),
            )
        )
    return found


def _of_strangers(entry: dict[str, Any], data: str) -> list[Threshold]:
    result = entry["result"]
    return [
        Threshold(
            float(rate["false_alarm_rate"]),
            float(rate["threshold"]),
            float(rate["reached"]),
            _OF_STRANGERS,
            data,
            entry["crop"],
            int(result["strangers"]),
            int(result["open_enrolled"]),
        )
        for rate in result["open_set"]
        if rate["threshold"] is not None
    ]

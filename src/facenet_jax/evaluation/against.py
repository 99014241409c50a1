"""Compares a new network's points with an old one's: can old enrolments be kept (appendix A)?"""

from __future__ import annotations

from dataclasses import dataclass

from facenet_jax.embedders import FileOfEmbeddings, Network
from facenet_jax.errors import InputError

# Between the names of a new embedder and an old one.
AGAINST = " against "


@dataclass(frozen=True)
class Against:
    """Two embedders: in each pair of faces one is embedded by the new, the other by the old.

    Attributes:
      new: embeds the face that is asked about.
      old: embedded the face that is known, such as an index's.
    """

    new: Network | FileOfEmbeddings
    old: Network | FileOfEmbeddings

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.new.name}{AGAINST}{self.old.name}"

    @property
    def digest(self) -> str:
        """The digest of both; a threshold holds for this pair of embedders, in this order."""
        return against_digest(self.new.digest, self.old.digest)

    def check_sizes(self, new: int, old: int) -> None:
        """Raises InputError where points of these sizes can't be compared."""
        if new != old:
            raise InputError(
                f"{self.new.name} gives points of {new} coordinates and {self.old.name} of {old}, which cannot be "
                "compared; a compatible network has the old one's embedding size."
            )


def against_digest(new: str, old: str) -> str:
    """The digest of a pair of embedders, where a new one's points are judged against an old one's."""
    return f"{new}|against|{old}"

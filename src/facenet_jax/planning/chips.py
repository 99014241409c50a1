"""Lists published rates of chips: arithmetic, memory bandwidth, interconnect.

Sources, all figures for dense (not sparse) arithmetic:
  v4, v5e, v5p, v6e   Google Cloud's documentation, "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e", tables of key
                      specifications (cloud.google.com/tpu/docs); v4's links, 2,400 Gbit/s, from v5p's announcement.
                      The published interconnect is in both directions together (400 GB/s for v5e) and halved here.
                      Between pods: the published data-centre bandwidth of a pod, by its chips.
  a100, h100, h200    NVIDIA's data sheets of the SXM modules, 80, 80 and 141 GB; NVLink is published in both directions
                      together (900 GB/s for H100) and halved here. Between machines: one network card a GPU, 200 Gbit/s
                      (DGX A100) or 400 Gbit/s (DGX H100, H200).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from facenet_jax.errors import InputError


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
      name: as --chip takes it.
      peak: floating-point operations a second of matrix products and convolutions in bfloat16.
      peak_float32: the peak of a config in float32: on TPU the same, since its default precision multiplies in
        bfloat16; on GPU that of TF32.
      exact: the peak of float32 products at highest precision, which the loss uses for distances: on TPU six passes in
        bfloat16, on GPU the rate of its ordinary float32 units.
      memory: bytes.
      bandwidth: of that memory, bytes a second.
      link: bytes a second that a chip can send to the others of its domain.
      domain: how many chips are linked at this rate: a pod, or a machine with NVLink.
      network: bytes a second that a chip can send beyond its domain.
      dimensions: of the torus that the chips form, 0 if every chip reaches every other.
    """

    name: str
    peak: float
    peak_float32: float
    exact: float
    memory: float
    bandwidth: float
    link: float
    domain: int
    network: float
    dimensions: int = 0


def _tpu(name: str, peak: float, memory: float, bandwidth: float, link: float, domain: int, network: float) -> Chip:
    dimensions = 3 if name in ("v4", "v5p") else 2
    return Chip(name, peak, peak, peak / 6, memory, bandwidth, link, domain, network, dimensions)


CHIPS = {
    chip.name: chip
    for chip in (
        _tpu("v4", 275e12, 32 * 2**30, 1.2e12, 300e9, 4096, 3.125e9),
        _tpu("v5e", 197e12, 16e9, 819e9, 200e9, 256, 3.125e9),
        _tpu("v5p", 459e12, 95e9, 2.765e12, 600e9, 8960, 6.25e9),
        _tpu("v6e", 918e12, 32e9, 1.638e12, 400e9, 256, 12.5e9),
        Chip("a100", 312e12, 156e12, 19.5e12, 80e9, 2.039e12, 300e9, 8, 25e9),
        Chip("h100", 989e12, 494.5e12, 67e12, 80e9, 3.35e12, 450e9, 8, 50e9),
        Chip("h200", 989e12, 494.5e12, 67e12, 141e9, 4.8e12, 450e9, 8, 50e9),
    )
}


def find_chip(name: str) -> Chip:
    """A chip by name.

    Raises:
      InputError: it is not in the table.
    """
    if name not in CHIPS:
        raise InputError(f"--chip={name}: not in the table; there are {', '.join(CHIPS)}, and cpu for this machine.")
    return CHIPS[name]


def slices_of(chip: Chip, chips: int, slices: int = 0) -> int:
    """The number of TPU slices, or machines with NVLink, for a number of chips; slices 0: as few as hold them.

    Raises:
      InputError: the slices cannot be of equal size, or do not hold that many chips.
    """
    least = -(-chips // chip.domain)
    count = slices or least
    if slices and (count < least or chips % count):
        raise InputError(
            f"--slices={slices}: {chips:,} chips of {chip.name} need {least:,} or more, with the same number of chips "
            f"in each, at most {chip.domain:,}."
        )
    return count


def topology(chip: Chip, chips: int, slices: int = 1) -> str:
    """Google Cloud's name of slices with a total number of chips, each as square as possible: `v5e:16x16`.

    Raises:
      InputError: there are no such slices, or the chip is not a TPU.
    """
    if not chip.dimensions:
        raise InputError(f"--compiler=tpu compiles for TPU chips, and {chip.name} is not one; leave it out.")
    own, left = divmod(chips, slices)
    if left or own & (own - 1) or own > chip.domain:
        raise InputError(
            f"--chips={chips}: --compiler=tpu needs a power of two, within one pod of {chip.domain:,}, in each slice; "
            "give one, or leave it out."
        )
    # As square as powers of two allow.
    sides = [1] * chip.dimensions
    while math.prod(sides) < own:
        sides[sides.index(min(sides))] *= 2
    return f"{chip.name}:{'x'.join(map(str, sorted(sides, key=lambda n: (n == 1, n))))}"

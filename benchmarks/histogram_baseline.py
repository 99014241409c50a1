"""How far colour alone gets on drawn faces: VAL at a low FAR with colour histograms as embeddings.

The drawn faces are of use only where this baseline fails and a network does not. Run:

    python benchmarks/histogram_baseline.py --identities 200 --faces 10 --size 64
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from facenet_jax.data import synthetic


def histograms(faces: NDArray[np.uint8], bins: int = 8) -> NDArray[np.float64]:
    """Joint RGB histograms [n, bins³] on the unit sphere; distances between them are Hellinger's, up to a factor."""
    level = faces.reshape(len(faces), -1, 3).astype(np.int64) * bins // 256
    cell = (level[..., 0] * bins + level[..., 1]) * bins + level[..., 2]
    counts = np.stack([np.bincount(one, minlength=bins**3) for one in cell])
    return np.sqrt(counts / counts.sum(1, keepdims=True))


def main() -> None:
    """Draws people whom no training run meets, and prints what their colours say about who they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=200)
    parser.add_argument("--faces", type=int, default=10, help="pictures of each identity")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=1_000_000, help="the first identity; training sets start from 0")
    args = parser.parse_args()

    who = np.repeat(np.arange(args.first, args.first + args.identities), args.faces)
    which = np.tile(np.arange(args.faces), args.identities)
    points = histograms(synthetic.render_batch(args.seed, who, which, (args.size, args.size)))
    distance = 2 - 2 * points @ points.T  # squared L2
    one, other = np.triu_indices(len(who), 1)
    pairs, same = distance[one, other], who[one] == who[other]
    genuine, impostor = np.sort(pairs[same]), np.sort(pairs[~same])

    print(f"colour histograms, {args.identities} unseen identities x {args.faces} faces at {args.size} pixels")
    print(f"{genuine.size:,} same pairs, {impostor.size:,} different pairs")
    for far in (1e-2, 1e-3):
        # Equations 4 to 6 of the paper, with the largest distance whose FAR does not exceed the one asked.
        allowed = int(far * impostor.size)
        val = np.searchsorted(genuine, impostor[allowed], side="left") / genuine.size
        print(f"VAL {val:7.2%} at FAR {far:g}")
    np.fill_diagonal(distance, np.inf)
    print(f"rank-1 accuracy of the nearest face {np.mean(who[distance.argmin(1)] == who):.2%}")


if __name__ == "__main__":
    main()

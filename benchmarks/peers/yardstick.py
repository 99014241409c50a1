"""Trains what is common today: NN4 with batch normalisation in PyTorch, with pytorch-metric-learning's miner and loss.

    python -m benchmarks.peers.yardstick job.json

The job lists the faces of each identity to train on, the minutes after which faces are embedded, and those faces. The
library's defaults are used: semi-hard triplets of TripletMarginMiner, TripletMarginLoss with margin 0.2, batches of 20
identities with 15 faces each from MPerClassSampler, Adam at 0.001, identities with five images or more, half of the
faces mirrored. Faces are decoded once, before the clock starts; those that cannot be decoded are counted and passed
over. Minutes are of training alone, in wall-clock or processor time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import nn

from benchmarks.peers.network import Table2, pixels
from facenet_jax.images.decode import BadFace, decode
from facenet_jax.runtime.files import write_whole

IDENTITIES, FACES = 20, 15
MIN_FACES = 5


def load(files: list[str], size: int) -> tuple[torch.Tensor, list[int]]:
    """uint8 [N, 3, size, size] of the files that can be decoded, and the places of these."""
    images, kept = [], []
    for place, file in enumerate(files):
        try:
            images.append(decode(file, (size, size)))
        except BadFace:
            continue
        kept.append(place)
    if len(kept) < len(files):
        print(f"{len(files) - len(kept):,} of {len(files):,} faces cannot be decoded", file=sys.stderr)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), kept


@torch.no_grad()
def embed(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    """Embeddings float32 [N, 128], with the running averages of batch normalisation."""
    network.eval()
    points = torch.cat([network(pixels(part)) for part in images.split(128)])
    network.train()
    return points.numpy()


def main() -> None:
    """Trains and embeds; writes a line of JSON to `<out>/log.jsonl` every 20 steps."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    out, size = Path(job["out"]), job["size"]
    out.mkdir(parents=True, exist_ok=True)
    clock = time.process_time if job["clock"] == "processor" else time.monotonic
    per_minute = 60 * (torch.get_num_threads() if job["clock"] == "processor" else 1)

    people = [files for files in job["train"] if len(files) >= MIN_FACES]
    images, kept = load([file for files in people for file in files], size)
    labels = torch.tensor([label for label, files in enumerate(people) for _ in files])[kept]
    judged = {name: load(files, size) for name, files in job["judged"].items()}

    network = Table2(job["table"]).to(memory_format=torch.channels_last)
    miner = TripletMarginMiner(margin=0.2, type_of_triplets="semihard")
    criterion = TripletMarginLoss(margin=0.2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    sampler = MPerClassSampler(labels, FACES, IDENTITIES * FACES, length_before_new_iter=10**6)

    due = sorted(job["minutes"])
    seen, steps, spent, total = 0, 0, 0.0, 0.0
    marks: list[dict[str, float]] = []
    log = (out / "log.jsonl").open("w")
    order = iter(())
    while due:
        started = clock()
        places = torch.tensor([place for _, place in zip(range(IDENTITIES * FACES), order, strict=False)])
        if len(places) < IDENTITIES * FACES:
            order = iter(list(sampler))
            continue
        batch = images[places]
        mirrored = torch.rand(len(batch)) < 0.5
        batch[mirrored] = batch[mirrored].flip(3)
        points = network(pixels(batch))
        loss = criterion(points, labels[places], miner(points, labels[places]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(loss.detach())
        seen, steps, spent = seen + len(batch), steps + 1, spent + clock() - started
        if steps % 20 == 0:
            log.write(json.dumps({"step": steps, "images": seen, "seconds": spent, "loss": total / 20}) + "\n")
            log.flush()
            total = 0.0
        if spent >= due[0] * per_minute:
            for name, (faces, places_of) in judged.items():
                names = [job["names"][name][place] for place in places_of]
                whole = out / f"{name}-{due[0]:g}.npz"
                part = whole.with_name(f"part-{whole.name}")
                np.savez(part, embeddings=embed(network, faces), names=names)
                part.replace(whole)
            marks.append({"asked": due.pop(0), "minutes": spent / per_minute, "images": seen})
    done = {"clock": job["clock"], "judged": list(judged), "marks": marks}
    write_whole(out / job["done"], json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()

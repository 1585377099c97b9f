"""Train the small OSNet that the demo starts from, on rendered people none of whom is in any demo.

    python deploy/demo/pretrain.py --out deploy/demo/weights/osnet_x0_25_rendered.safetensors

No weights can be downloaded where the demo must run, so it ships this file (float32, under 2 MB, made by the command
above). The recipe is plain supervised re-identification: softmax over cosine similarities to one learned prototype per
identity, every crop under one of a fixed set of invented camera looks. The people come from the identity stream
"pretrain", which the demo never draws from. The looks are those of well-balanced cameras, while the demo's cameras are
cheap ones with a colour cast: the gap that any published model meets at a new site, on purpose.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from camera import CameraLook, random_camera_look
from crops import render_crop
from figure import Figure
from numpy.typing import NDArray
from people import identity_stream, random_person
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from calr.augment import Augment
from calr.metrics import evaluate_ranking
from calr.precision import best_precision
from models.preprocess import normalise, resize_crop
from models.reid import ReidNet, build_reid
from models.weights import save_checkpoint

INPUT_SIZE = (128, 64)
LOOKS = 60
DEVIATION = 0.5
HELD_OUT = 100
SCALE = 16.0
PEOPLE_PER_BATCH, CROPS_PER_PERSON = 16, 4
LEARNING_RATE = 3e-3

console = Console(stderr=True)


class Crops(NamedTuple):
    """images (N, 3, 128, 64) uint8 RGB; people, looks (N,) int64."""

    images: Tensor
    people: Tensor
    looks: Tensor


def well_balanced(look: CameraLook) -> CameraLook:
    """A camera that deviates from faithful colours only half as far as `look` does."""

    def towards(value: float, faithful: float) -> float:
        return faithful + DEVIATION * (value - faithful)

    blue, green, red = (towards(gain, 1.0) for gain in look.gain)
    return replace(
        look,
        gain=(blue, green, red),
        gamma=towards(look.gamma, 1.0),
        contrast=towards(look.contrast, 1.0),
        saturation=towards(look.saturation, 1.0),
    )


def _render_person(number: int, crops: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = identity_stream("pretrain", number)
    figure = Figure(random_person(rng))
    looks = rng.integers(0, LOOKS, crops)
    drawn = [
        resize_crop(
            render_crop(figure, well_balanced(random_camera_look(identity_stream("pretrain-look", int(look)))), rng),
            INPUT_SIZE,
        )
        for look in looks
    ]
    return np.stack(drawn).transpose(0, 3, 1, 2), looks


def render_people(first: int, count: int, crops: int, workers: int) -> Crops:
    """Render `crops` crops of each of `count` people, numbered from `first` in the stream "pretrain"."""
    images, looks = [], []
    with ProcessPoolExecutor(workers) as pool, progress() as bar:
        task = bar.add_task("rendering people", total=count)
        for drawn, used in pool.map(_render_person, range(first, first + count), [crops] * count, chunksize=4):
            images.append(torch.from_numpy(drawn))
            looks.append(torch.from_numpy(used))
            bar.advance(task)
    people = torch.arange(count).repeat_interleave(crops)
    return Crops(torch.cat(images), people, torch.cat(looks))


def progress() -> Progress:
    return Progress(TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn(), console=console)


def train(net: ReidNet, crops: Crops, steps: int, seed: int) -> None:
    """Fit the network in place: Adam, one-cycle learning rate, bfloat16 where the processor has it."""
    people = int(crops.people.max()) + 1
    per_person = len(crops.people) // people
    torch.manual_seed(seed)
    prototypes = nn.Parameter(F.normalize(torch.randn(people, net.embedding_dim)))
    optimiser = torch.optim.Adam([*net.parameters(), prototypes], lr=LEARNING_RATE, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    augment = Augment(pad=5, colour=0.1, erase=0.3, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    precision = best_precision()
    net.train().to(memory_format=torch.channels_last)
    with progress() as bar:
        task = bar.add_task("training", total=steps)
        for step in range(steps):
            chosen = torch.randperm(people, generator=draw)[:PEOPLE_PER_BATCH]
            rows = chosen[:, None] * per_person + torch.randint(
                per_person, (PEOPLE_PER_BATCH, CROPS_PER_PERSON), generator=draw
            )
            images = normalise(augment(crops.images[rows.flatten()])).contiguous(memory_format=torch.channels_last)
            with precision.autocast():
                embeddings = net(images)
            logits = SCALE * F.normalize(embeddings.float()) @ F.normalize(prototypes).T
            loss = F.cross_entropy(logits, crops.people[rows.flatten()], label_smoothing=0.1)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update(task, advance=1, description=f"training, loss {loss.item():.2f}")
            if step % 200 == 199:
                console.print(f"step {step + 1}: loss {loss.item():.3f}", highlight=False)


@torch.no_grad()
def judge(net: ReidNet, crops: Crops) -> float:
    """mAP over held-out people, each crop a query among the crops of other looks."""
    net.eval()
    found = torch.cat([F.normalize(net(normalise(chunk))) for chunk in crops.images.split(256)])
    people, looks = crops.people.numpy(), crops.looks.numpy()
    other = looks[:, None] != looks[None, :]
    same = (people[:, None] == people[None, :]) & other
    return evaluate_ranking((1 - found @ found.T).numpy(), same, other).mAP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--people", type=int, default=300, help="identities to train on")
    parser.add_argument("--crops", type=int, default=32, help="crops of each")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of 64 crops")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    args = parser.parse_args()
    crops = render_people(HELD_OUT, args.people, args.crops, args.workers)
    held_out = render_people(0, HELD_OUT, 8, args.workers)
    torch.manual_seed(args.seed)
    net = build_reid("osnet_x0_25")
    train(net, crops, args.steps, args.seed)
    reached = judge(net, held_out)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(args.out, net.to(memory_format=torch.contiguous_format), {"input_size": list(INPUT_SIZE)})
    console.print(f"{args.out}: mAP {reached:.3f} over {HELD_OUT} held-out people", highlight=False)


if __name__ == "__main__":
    sys.exit(main())

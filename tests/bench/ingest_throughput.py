"""Frames per second of the whole of ingest, against its detector alone and against ultralytics' tracking.

    .venv/bin/python tests/bench/ingest_throughput.py --weights FOLDER CLIP...

Every frame of every clip is looked at, with the same weights, an export to OpenVINO. `ingest` is the command, from
the start of its worker processes to the last shard. `detector` gets 200 of their frames out of memory, already decoded,
scaled and padded, with several requests in flight, and nothing is done with what it finds: the speed of the network, at
the size of the export; `detector_cut` the same at the size that ingest runs it with. `ultralytics` tracks one clip, the
next one in every turn. All in turns, `--repetitions` times; medians are printed as one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import yaml
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

FRAMES_IN_MEMORY = 200


def ingest(weights: Path, clips: list[Path]) -> int:
    """The command on a new site of one camera a clip; frames looked at."""
    with tempfile.TemporaryDirectory() as name:
        cameras = [{"id": f"cam{number}", "videos": [str(clip)]} for number, clip in enumerate(clips, 1)]
        config = {
            "name": "bench",
            "timezone": "UTC",
            "cameras": cameras,
            "detector": {"weights": str(weights), "fps": 120},
        }
        site = Path(name) / "bench"
        site.mkdir()
        (site / "site.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", "ingest", "run", str(site), "--json"]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"error: ingest ended with status {done.returncode}; see above")
        return int(json.loads(done.stdout)["counts"]["frames"])


def detector(weights: Path, frames: NDArray[np.uint8], rounds: int) -> int:
    """The network alone, asynchronously, on frames (n, height, width, 3) of the size it is to take."""
    import openvino

    from ingest.openvino_yolo import takes_frames
    from ingest.yolo_reshape import reshape_yolo

    core = openvino.Core()
    model = core.read_model(next(weights.glob("*.xml")))
    if tuple(frames.shape[1:3]) != tuple(int(side) for side in model.input(0).shape[2:]):
        reshape_yolo(model, *frames.shape[1:3])
    compiled = core.compile_model(takes_frames(model), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    queue = openvino.AsyncInferQueue(compiled)
    for number in range(rounds):
        queue.start_async({0: frames[number % len(frames)][None]}, share_inputs=True)
    queue.wait_all()
    return rounds


def ultralytics(weights: Path, clip: Path) -> int:
    """ultralytics' own tracking."""
    from ingest.ultralytics_offline import prepare_ultralytics

    prepare_ultralytics()
    from ultralytics import YOLO

    tracked = YOLO(str(weights), task="detect").track(
        str(clip), stream=True, tracker="bytetrack.yaml", conf=0.1, iou=0.6, classes=[0], verbose=False, save=False
    )
    return sum(1 for _ in tracked)


def in_memory(clips: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Frames from the whole length of the clips."""
    from ingest.video import frames

    for clip in clips:
        found = [frame.image for frame in frames(clip)]
        yield from found[:: max(1, len(found) * len(clips) // FRAMES_IN_MEMORY)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--weights", required=True, type=Path, help="folder of an OpenVINO export")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    weights, clips = arguments.weights.resolve(), [clip.resolve() for clip in arguments.clips]

    from ingest.openvino_yolo import letterbox, without_bars

    pictures = list(in_memory(clips))
    whole_height, whole_width = yaml.safe_load((weights / "metadata.yaml").read_text(encoding="utf-8"))["imgsz"]
    whole = (whole_width, whole_height)
    cut = without_bars(pictures[0].shape[1], pictures[0].shape[0], whole)
    padded = {size: np.stack([letterbox(picture, size)[0] for picture in pictures]) for size in (whole, cut)}
    frames = ingest(weights, clips)  # which also warms the files' cache
    turn = itertools.cycle(clips)
    rivals: dict[str, Callable[[], int]] = {
        "ingest": lambda: ingest(weights, clips),
        "detector": lambda: detector(weights, padded[whole], frames // 3),
        "detector_cut": lambda: detector(weights, padded[cut], frames // 3),
        "ultralytics": lambda: ultralytics(weights, next(turn)),
    }
    rates: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(arguments.repetitions):
        for name, work in rivals.items():
            began = time.perf_counter()
            done = work()
            rates[name].append(done / (time.perf_counter() - began))
            print(f"{name}: {rates[name][-1]:.1f} frames/s", file=sys.stderr, flush=True)
    medians = {name: median(found) for name, found in rates.items()}
    print(
        json.dumps(
            {
                "benchmark": "ingest_throughput",
                "frames": frames,
                "cores": len(os.sched_getaffinity(0)),
                "input": {"detector": whole, "ingest": cut},
                "frames_per_s": medians,
                "ingest_to": {name: medians["ingest"] / medians[name] for name in medians if name != "ingest"},
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

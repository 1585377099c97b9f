"""Render the demo site: invented people walking past invented cameras, with the truth about who is where.

    python deploy/demo/render.py --out sites/demo --seed 1

writes into the folder

    site.yaml                      a site like any other; its cameras tell the time in three different ways
    plan.png                       the map its cameras hang on
    recordings/cam1.mp4 ...        H.264, one file per camera
    ground_truth/cam1.csv ...      frame,person_id,x1,y1,x2,y2,visibility
    demo.json                      seed, arguments, and whether the folder is complete

A ground-truth box is that of the whole body as drawn (hair, bag and all), whether seen or hidden, clipped to the frame;
`visibility` is the share of the body's pixels that are seen: not behind somebody, behind a wall or outside the frame.

The same arguments give the same pictures and truth, whatever the number of workers. A complete folder of the same
arguments is left alone; one of other arguments, or one that was interrupted, is replaced whole, with all that was
made from it. A folder that is no demo is never touched.

The parts: people.py (who), figure.py (the body), camera.py and looks.py (how a camera sees), scene.py (where),
choreography.py (when), recording.py (frames and truth), plan.py (the map), crops.py (single crops, for pre-training).
"""

import argparse
import fcntl
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import yaml
from choreography import arrange
from looks import demo_look
from people import demo_people
from plan import draw_plan, position
from recording import CameraPlan, write_recording
from scene import demo_scene

from models.atomic import write_bytes, write_json, write_text

HERE = Path(__file__).resolve().parent
MARK = "demo.json"
PLAN = "plan.png"
LOCK = ".lock"  # the workspace's own lock: nothing is replaced while a stage is at work in it
WEIGHTS = HERE / "weights" / "osnet_x0_25_rendered.safetensors"
TIMEZONE = "Europe/Amsterdam"
START = datetime(2026, 1, 5, 9, 0, 0, tzinfo=ZoneInfo(TIMEZONE))
FRAME_RATES = (10, 12, 10)
PARTS = (
    "people", "figure", "camera", "looks", "scene", "choreography", "recording", "plan", "render",
)  # fmt: skip


class DemoError(ValueError):
    """The demo cannot be rendered there; the message says why and what to do."""


@dataclass(frozen=True)
class Arguments:
    """What a demo site is made from. `seconds`: length of each recording."""

    seed: int
    cameras: int
    walkers: int
    seconds: float

    def described(self) -> dict[str, Any]:
        """As it is kept in demo.json; two demos are the same exactly when these are."""
        source = hashlib.sha256()
        for part in PARTS:
            source.update((HERE / f"{part}.py").read_bytes())
        return {
            "seed": self.seed,
            "cameras": self.cameras,
            "walkers": self.walkers,
            "seconds": self.seconds,
            "renderer": source.hexdigest()[:16],
        }


def recording_name(number: int) -> str:
    """File name of camera `number` (from 0): the second camera tells the time by it."""
    return f"cam{number + 1}_{START:%Y%m%d_%H%M%S}.mp4" if number % 3 == 1 else f"cam{number + 1}.mp4"


def plan_site(arguments: Arguments) -> list[CameraPlan]:
    """Everything that will be rendered, one plan per camera."""
    people = demo_people(arguments.seed, arguments.walkers)
    scenes = [demo_scene(number) for number in range(arguments.cameras)]
    rng = np.random.default_rng(np.random.SeedSequence(entropy=arguments.seed, spawn_key=(5,)))
    looks = [demo_look(number, rng) for number in range(arguments.cameras)]
    passes = arrange(people, scenes, arguments.seconds, rng)
    plans = []
    for number, (scene, look, walks) in enumerate(zip(scenes, looks, passes, strict=True)):
        fps = Fraction(FRAME_RATES[number % len(FRAME_RATES)])
        plans.append(
            CameraPlan(
                seed=arguments.seed,
                camera=number,
                scene=scene,
                look=look,
                people=people,
                walks=walks,
                fps=fps,
                frames=max(1, int(arguments.seconds * fps)),
                start=START.astimezone(UTC),
            )
        )
    return plans


def site_description(plans: list[CameraPlan], folder: Path) -> dict[str, Any]:
    """The content of site.yaml."""
    cameras = []
    for plan in plans:
        number = plan.camera
        tells_time: dict[str, Any] = (
            {"from": "container"},
            {"from": "filename", "pattern": f"cam{number + 1}_%Y%m%d_%H%M%S"},
            {"from": "start", "start": START.isoformat()},
        )[number % 3]
        cameras.append(
            {
                "id": f"cam{number + 1}",
                "videos": [f"recordings/{recording_name(number)}"],
                "time": tells_time,
                "ground_truth": f"ground_truth/cam{number + 1}.csv",
                "position": list(position(number, len(plans))),
                "heading": 0,
            }
        )
    return {
        "schema": 1,
        "name": "demo",
        "timezone": TIMEZONE,
        "cameras": cameras,
        "training": {
            "profile": "cpu-quick",
            "arch": "osnet_x0_25",
            "init": Path(os.path.relpath(WEIGHTS, folder.resolve())).as_posix(),
            "input_size": [128, 64],
        },
        "clips": {"enabled": True, "seconds": 6},
        "map": {"image": PLAN},
    }


def _render_camera(plan: CameraPlan, folder: Path, done: Any, parent: int) -> None:
    """Body of a worker process. `done`: shared counter of this camera's finished frames."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    cv2.setNumThreads(1)
    video = folder / "recordings" / recording_name(plan.camera)
    truth = folder / "ground_truth" / f"cam{plan.camera + 1}.csv"
    for count in write_recording(plan, video, truth):
        done.value = count
        if os.getppid() != parent:  # whoever started this is gone; do not render for nobody
            os._exit(1)


def render_recordings(plans: list[CameraPlan], folder: Path, workers: int) -> None:
    """Render all cameras, `workers` at a time, with a progress bar on standard error.

    Raises:
        DemoError: a worker failed; it has said why on standard error.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    (folder / "recordings").mkdir()
    (folder / "ground_truth").mkdir()
    context = multiprocessing.get_context("spawn")
    counters = [context.Value("i", 0) for _ in plans]
    waiting = sorted(zip(plans, counters, strict=True), key=lambda item: -item[0].frames)
    running: list[Any] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of {task.total} frames"))
    try:
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("rendering", total=sum(plan.frames for plan in plans))
            while waiting or running:
                while waiting and len(running) < workers:
                    plan, counter = waiting.pop(0)
                    process = context.Process(
                        target=_render_camera, args=(plan, folder, counter, os.getpid()), daemon=True
                    )
                    process.start()
                    running.append(process)
                time.sleep(0.05)
                bar.update(task, completed=sum(counter.value for counter in counters))
                failed = [process for process in running if process.exitcode not in (None, 0)]
                if failed:
                    raise DemoError(f"{folder}: rendering stopped (status {failed[0].exitcode}); run the command again")
                running = [process for process in running if process.exitcode is None]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError(f"{folder}: in use by another command; wait until that is done") from None
        yield
    finally:
        os.close(descriptor)


def _read_mark(folder: Path) -> dict[str, Any] | None:
    """demo.json, or None where there is none. Raises DemoError where the folder is somebody's else's."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        # A kill while the mark was first written leaves its temporary file.
        ours = re.compile(rf"{re.escape(LOCK)}|\.{re.escape(MARK)}\..*\.tmp")
        others = sorted(path.name for path in folder.iterdir() if not ours.fullmatch(path.name))
        if others:
            raise DemoError(
                f"{folder}: not empty ({others[0]}) and without {MARK}, so it is no demo and stays as it is; "
                "give --out an empty or new folder"
            ) from None
        return None
    except (OSError, ValueError) as error:
        raise DemoError(f"{folder / MARK}: cannot be read ({error}); remove the folder yourself") from None
    if not isinstance(mark, dict) or mark.get("kind") != "calr-demo":
        raise DemoError(f"{folder / MARK}: not written by this program; give --out an empty or new folder")
    return mark


def _whole(folder: Path, mark: dict[str, Any]) -> bool:
    files: dict[str, int] = mark.get("files", {})
    try:
        return bool(files) and all((folder / name).stat().st_size == size for name, size in files.items())
    except OSError:
        return False


def render_site(folder: Path, arguments: Arguments, workers: int) -> bool:
    """Render a demo site into `folder`; False when it was already there, complete.

    Raises:
        DemoError: the folder holds something else, is in use, or rendering failed.
    """
    if folder.exists() and not folder.is_dir():
        raise DemoError(f"{folder}: is a file; give --out a folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark = _read_mark(folder)  # before the lock's file is made: a folder that is no demo is not touched
    with _only_writer(folder):
        described = arguments.described()
        if mark and mark.get("complete") and mark.get("arguments") == described and _whole(folder, mark):
            return False
        # From here on the folder is marked as an unfinished demo, so that a kill at any moment leaves one.
        write_json(folder / MARK, {"schema": 1, "kind": "calr-demo", "complete": False, "arguments": described})
        for path in folder.iterdir():
            if path.name in (MARK, LOCK):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        plans = plan_site(arguments)
        render_recordings(plans, folder, workers)
        text = yaml.safe_dump(site_description(plans, folder), sort_keys=False, default_flow_style=None, width=110)
        write_text(folder / "site.yaml", text)
        write_bytes(folder / PLAN, cv2.imencode(".png", draw_plan(len(plans)))[1].tobytes())
        rendered = [folder / PLAN, *(folder / "recordings").iterdir(), *(folder / "ground_truth").iterdir()]
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(rendered)}
        write_json(
            folder / MARK,
            {"schema": 1, "kind": "calr-demo", "complete": True, "arguments": described, "files": files},
        )
    return True


def _at_least(low: float, high: float, kind: type) -> Any:
    def read(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return read


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Render the demo site: invented people, invented cameras, known truth.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the site")
    parser.add_argument("--seed", type=_at_least(0, 2**31 - 1, int), default=1, help="other people, other ways")
    parser.add_argument("--cameras", type=_at_least(1, 9, int), default=3)
    parser.add_argument("--walkers", type=_at_least(1, 200, int), default=24)
    parser.add_argument("--seconds", type=_at_least(1, 3600, float), default=75.0, help="length of each recording")
    parser.add_argument("--workers", type=_at_least(1, 64, int), default=2, help="cameras rendered at once")
    given = parser.parse_args()
    arguments = Arguments(given.seed, given.cameras, given.walkers, given.seconds)
    began = time.monotonic()
    try:
        fresh = render_site(given.out, arguments, given.workers)
    except (DemoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: stopped; run the same command to start again", file=sys.stderr)
        return 130
    took = f"rendered in {time.monotonic() - began:.0f} s" if fresh else "already there, nothing to do"
    print(f"{given.out}: demo site of seed {given.seed}, {took}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

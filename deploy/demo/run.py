"""The whole way on a rendered site whose truth is known: render, ingest, train, export, index, ceiling, report.

    python deploy/demo/run.py --seed 1

Each step is the command a real site uses, in a process of its own; stopped at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from ingest.site import sites_folder
from models.atomic import write_json

HERE = Path(__file__).resolve().parent
NAME = "demo"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seed", type=int, default=1, help="which site to render: people, paths and cameras (default 1)"
    )
    seed = parser.parse_args().seed
    folder = sites_folder().absolute() / NAME
    python = [sys.executable, "-m"]
    steps = {
        "render": [sys.executable, str(HERE / "render.py"), "--seed", str(seed), "--out", str(folder)],
        "ingest": [*python, "ingest", "run", NAME],
        "train": [*python, "calr", "train", NAME],
        "export": [*python, "calr", "export", NAME],
        "index": [*python, "gallery_service", "index", NAME],
        "ceiling": [*python, "calr", "train", NAME, "--labels", "ground-truth"],
        "report": [*python, "calr", "report", NAME],
    }
    # Packages are installed editable, yet the demo must also run from another folder than the repository's.
    environment = os.environ | {"CALR_SITES": str(folder.parent)}
    for number, (name, command) in enumerate(steps.items(), start=1):
        print(f"[{number}/{len(steps)}] {name}", file=sys.stderr, flush=True)
        rendered = (folder / "status" / "render.json").is_file()
        began = time.monotonic()
        status = subprocess.run(command, env=environment, check=False).returncode
        if status:
            print(f"error: the step '{name}' ended with status {status}", file=sys.stderr)
            return status
        if name == "render" and not (rendered and (folder / "status" / "render.json").is_file()):
            (folder / "status").mkdir(exist_ok=True)
            write_json(
                folder / "status" / "render.json", {"schema": 1, "seconds": time.monotonic() - began, "seed": seed}
            )
    print(f"contact sheet: {folder / 'contact_sheet.png'}\nreport: {folder / 'report.html'}", file=sys.stderr)
    print(f"search it in a browser: make serve SITE={NAME}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)

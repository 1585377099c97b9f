"""Importing ultralytics without its habits.

Left alone it looks for the internet at import, sends usage statistics, installs packages it finds missing, unpickles
weights and writes to standard output, where only JSON may go. All of that is decided by its environment before the
first import, hence this module: every import of ultralytics in ingest comes after `prepare_ultralytics`.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """$CALR_CACHE/ultralytics, or ~/.cache/calr/ultralytics."""
    return Path(os.environ.get("CALR_CACHE") or Path.home() / ".cache" / "calr") / "ultralytics"


def prepare_ultralytics(*, online: bool = False) -> None:
    """Set ultralytics up: no network (unless `online`), no installing, no statistics, no unpickling, no chatter.

    Args:
        online: let it reach the network, to fetch weights by name. Only the first call in a process decides.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_VERBOSE"] = "false"
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "true"
    os.environ["YOLO_OFFLINE"] = "false" if online else "true"
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    os.environ.setdefault("MPLBACKEND", "Agg")

    from PIL import Image

    # It replaces Image.open for the whole process by one that fails on what is no image in another way.
    pristine = Image.open
    import ultralytics

    Image.open = pristine

    if ultralytics.settings.get("sync"):
        ultralytics.settings.update({"sync": False})
    logger = logging.getLogger("ultralytics")
    logger.setLevel(logging.ERROR)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.__stdout__):
            handler.setStream(sys.stderr)

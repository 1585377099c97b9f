"""Which tracklet ids stand in the bytes of files.

A program of its own does the reading. A process that closes a SQLite file which it has opened itself gives up the locks
that SQLite has on it there (https://sqlite.org/howtocorrupt.html, section 2.2), so the next process that is done with
the database takes it for unused and deletes its log, and with it what is still written there. The service has
databases open while it proves an erasure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_BLOCK = 8 << 20


def names_in_files(paths: Sequence[Path], names: set[str]) -> list[set[str]]:
    """By file, the tracklet ids that stand in its bytes.

    Args:
        paths: of the files. One that is gone holds none: whoever is done with a database removes its log.
        names: tracklet ids to look for.

    Raises:
        OSError: one of them cannot be read.
    """
    asked = json.dumps([[str(path) for path in paths], sorted(names)])
    # Isolated: its only imports are Python's own.
    done = subprocess.run([sys.executable, "-I", __file__], input=asked, capture_output=True, text=True)
    if done.returncode:
        raise OSError((done.stderr.splitlines() or [f"looking through {len(paths)} files was stopped"])[-1])
    return [set(found) for found in json.loads(done.stdout)]


def _names_in(path: str, pattern: re.Pattern[bytes], longest: int) -> set[str]:
    found: set[str] = set()
    with suppress(FileNotFoundError), Path(path).open("rb") as file:
        kept = b""
        while block := file.read(_BLOCK):
            text = kept + block
            found.update(match.decode() for match in pattern.findall(text))
            kept = text[-longest:]
    return found


def _main() -> None:
    paths, names = json.load(sys.stdin)
    if not names:
        json.dump([[] for _ in paths], sys.stdout)
        return
    starts = sorted({name.rpartition("/")[0] for name in names})
    pattern = re.compile(b"(?:" + b"|".join(re.escape(start.encode()) for start in starts) + rb")/\d+")
    longest = max(len(name.encode()) for name in names)
    json.dump([sorted(_names_in(path, pattern, longest) & {*names}) for path in paths], sys.stdout)


if __name__ == "__main__":
    _main()

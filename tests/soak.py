"""What all long tests (`make soak`) share: they are seeded, and each outcome is appended to docs/soak.jsonl.

CALR_SOAK_SEED chooses another seed, CALR_SOAK_ROUNDS another length.
"""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime

from tests.conftest import REPOSITORY

SEED = int(os.environ.get("CALR_SOAK_SEED", "1"))
ROUNDS = int(os.environ.get("CALR_SOAK_ROUNDS", "0"))


def record(name: str, **figures: object) -> None:
    line = {"soak": name, "seed": SEED, "day": datetime.now(UTC).date().isoformat(), **figures}
    with (REPOSITORY / "docs" / "soak.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut off, doubled or zeroed."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 12)):
        at = draw.randrange(len(out))
        kind = draw.randrange(4)
        if kind == 0:
            out[at] = draw.randrange(256)
        elif kind == 1:
            del out[at : at + draw.randint(1, 64)]
        elif kind == 2:
            out[at:at] = out[at : at + draw.randint(1, 64)]
        else:
            length = min(draw.randint(1, 64), len(out) - at)
            out[at : at + length] = bytes(length)
        if len(out) < 2:
            break
    return bytes(out)

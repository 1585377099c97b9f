"""The demo's modules are scripts that lie beside each other, not a package: they are imported from their folder."""

from __future__ import annotations

import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo"
if str(DEMO) not in sys.path:
    sys.path.append(str(DEMO))

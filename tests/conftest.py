"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test imports torch: its threads wait by spinning, so beside anything else that runs two of them are many
# times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: how long an example takes says more about the machine than about the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real footage, data sets and weights that lies beside the checkout and is never part of it.

    Its tests skip where it is absent; with CALR_REQUIRE_SHARED_DATA=1 (CI) its absence is a failure.
    """
    folder = REPOSITORY.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    if os.environ.get("CALR_REQUIRE_SHARED_DATA") == "1":
        pytest.fail(f"CALR_REQUIRE_SHARED_DATA=1, but {folder} is missing")
    pytest.skip(f"real footage and weights are not on this machine ({folder})")

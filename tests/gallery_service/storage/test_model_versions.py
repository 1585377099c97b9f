"""Which model searches use, whatever was promoted and taken back before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gallery_service.storage.model_versions import ModelVersions, model_versions
from gallery_service.storage.repository import GalleryRepository
from models.bundle import ModelStore


def versions(folder: Path, history: str, completed: str) -> ModelVersions:
    """Of models whose names are letters: those promoted, the live one last, and those that took over, the latest
    first."""
    for name in "ABC":
        (folder / name).mkdir(exist_ok=True)
    (folder / "history").write_text("".join(f"{name}\n" for name in history))
    (folder / "current").write_text(history[-1:])
    repository = SimpleNamespace(completed_versions=lambda: list(completed))
    return model_versions(ModelStore(folder), cast(GalleryRepository, repository))


@pytest.mark.parametrize(
    ("history", "completed", "serving", "previous"),
    [
        ("", "", None, None),
        ("A", "", None, None),
        ("A", "A", "A", None),
        ("AB", "A", "A", "A"),
        ("AB", "BA", "B", "A"),
        ("ABC", "A", "A", "A"),  # B has never taken over
        ("ABC", "CA", "C", "A"),
        ("AB", "CA", "A", "A"),  # gone back from C, to B, which has never taken over
        ("A", "CA", "A", None),
        ("ABA", "BA", "A", "B"),
        ("AC", "B", "B", None),  # A's vectors are lost: better another's than none
    ],
)
def test_a_model_serves_from_its_takeover_and_one_before_it_is_kept(
    tmp_path: Path, history: str, completed: str, serving: str | None, previous: str | None
) -> None:
    found = versions(tmp_path, history, completed)
    assert (found.serving, found.previous) == (serving, previous)
    assert set(found.kept) == {name for name in (serving, previous, history[-1:]) if name}


def test_a_model_that_was_deleted_serves_no_more(tmp_path: Path) -> None:
    versions(tmp_path, "AB", "BA")
    (tmp_path / "A").rmdir()
    repository = SimpleNamespace(completed_versions=lambda: ["B", "A"])
    assert model_versions(ModelStore(tmp_path), cast(GalleryRepository, repository)).previous is None

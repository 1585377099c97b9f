"""Which of a site's models searches use, and for which the gallery keeps vectors.

A promoted model takes over in one step, once it has embedded what the model before it had and was checked; until then
that one goes on serving, and new recordings are embedded for both. The last model before the live one that has taken
over is kept up to date as well, so that going back is one step, too: also past models that were promoted and never took
over.
"""

from __future__ import annotations

from dataclasses import dataclass

from gallery_service.storage.repository import GalleryRepository
from models.bundle import ModelStore


@dataclass(frozen=True)
class ModelVersions:
    """The versions that matter, each a folder of the store.

    Attributes:
        live: what models/current names, None before the first promotion.
        serving: what searches use: the live one if it has taken over, else `previous`; None before the first.
        previous: the last promoted before the live one that has taken over.
    """

    live: str | None
    serving: str | None
    previous: str | None

    @property
    def kept(self) -> list[str]:
        """Those whose vectors are kept, the most urgent first."""
        wanted = (self.serving, self.live, self.previous)
        return list(dict.fromkeys(version for version in wanted if version is not None))


def model_versions(store: ModelStore, repository: GalleryRepository) -> ModelVersions:
    """The versions of this moment.

    Raises:
        BundleError: `models/current` cannot be read.
    """
    completed = [version for version in repository.completed_versions() if (store.folder / version).is_dir()]
    live = store.current_version()
    before = [version for version in store.history() if version in completed and version != live]
    previous = before[-1] if before else None
    serving = live if live in completed else previous or next(iter(completed), None)
    return ModelVersions(live, serving, previous)

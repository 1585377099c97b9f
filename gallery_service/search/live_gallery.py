"""The gallery of one served site, as it is on disk now.

A running service notices a new index run, a promoted model and a changed site.yaml by itself: before every request it
compares one row, one small file and one modification time with what it has loaded. Loading a large gallery takes long:
whoever asks meanwhile waits a moment, and is answered from the one loaded before if that was not enough.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gallery_service.audit.trail import AuditTrail
from gallery_service.caller import Caller, Role
from gallery_service.databases.gallery import gallery_database
from gallery_service.erasure.erased_tracklets import ErasedTracklets
from gallery_service.errors import DatabaseUnavailable, NotFound, NotIndexed, SegmentError
from gallery_service.investigations.repository import InvestigationRepository
from gallery_service.search.loaded_gallery import LoadedGallery, load_gallery
from gallery_service.search.recall_probe import RecallProbe
from gallery_service.settings import ServiceSettings
from gallery_service.storage.model_versions import model_versions
from gallery_service.storage.repository import GalleryRepository, StoredTracklet, VisibleGallery
from ingest.site import SiteConfig, SiteError, load_site
from ingest.workspace import Workspace
from models.bundle import BundleError, ModelStore

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.embedder import Embedder

# A gallery that cannot be loaded is not tried again with every request, unless something changes.
_AFTER_FAILURE_S = 5.0

_log = logging.getLogger("gallery_service")


class LiveGallery:
    """A site, its rows and its index, always those of now. Safe to use from several threads.

    Args:
        site: from `ingest.site.load_site`.
        settings: limits.
        ref: how the site was named on the command line, for the commands that messages tell people to run.

    Attributes:
        workspace: where the site's files lie.
        erased: who must not be shown.
    """

    def __init__(self, site: SiteConfig, settings: ServiceSettings, ref: str | None = None) -> None:
        self.settings = settings
        self.ref = ref or site.name
        self.workspace = Workspace(site)
        self.erased = ErasedTracklets(self.workspace)
        self._site = site
        self._site_changed = site.file.stat().st_mtime_ns
        self._repository: GalleryRepository | None = None
        self._database = gallery_database(self.workspace)
        self._opened: Hashable | None = None
        self._loaded: LoadedGallery | None = None
        self._next_attempt = 0.0
        self._as_of = -math.inf
        self._complained: str | None = None
        self._opening = threading.Lock()
        self._rereading = threading.Lock()
        self._loading = threading.Lock()
        self._probe = RecallProbe()

    @property
    def name(self) -> str:
        """The site's name."""
        return self._site.name

    @property
    def site(self) -> SiteConfig:
        """The site as site.yaml has it now."""
        return self._site

    @property
    def audit(self) -> AuditTrail:
        """Who did what at this site.

        Raises:
            NotIndexed: there is no gallery yet.
        """
        return self.repository().audit

    def record(self, caller: Caller, action: str, details: Mapping[str, Any], purpose: str | None = None) -> None:
        """Write an entry of the audit log; see `GalleryRepository.record`."""
        self.repository().record(caller, action, details, purpose)

    def close(self) -> None:
        """Close the database."""
        if self._repository is not None:
            self._repository.close()
        self._database.close()

    def current_site(self) -> SiteConfig:
        """The site, read again where site.yaml has changed."""
        with self._rereading:
            self._reread_site()
            return self._site

    # What is on disk.

    def refresh(self, *, outdated: bool = False) -> LoadedGallery:
        """What can be searched now, loaded anew when it has changed.

        That may be the one loaded before: while another thread takes long to load, and for a while after a load that
        took long or failed. Whoever meets a row in it that is gone says so; a model that is promoted or taken back does
        not wait for that while to pass.

        Args:
            outdated: the one returned before has shown to be out of date, which no pause excuses: this one is of now.

        Raises:
            NotIndexed: the site has no gallery yet; the message names the command to run.
            DatabaseUnavailable: its rows cannot be reached.
        """
        asked = time.monotonic()
        self.current_site()
        loaded = self._loaded
        must_wait = outdated or loaded is None
        if not self._loading.acquire(timeout=-1 if must_wait else self.settings.reload_wait_s):
            assert loaded is not None
            return loaded
        try:
            loaded = self._loaded
            if loaded is not None and self._as_of > asked:
                return loaded  # another thread has looked while this one waited
            paused = time.monotonic() < self._next_attempt
            # What could not be loaded a moment ago is not tried again, whoever asks.
            if loaded is not None and paused and (self._complained or not (outdated or self._model_changed(loaded))):
                return loaded
            return self._load_what_changed(loaded)
        finally:
            self._loading.release()

    def _model_changed(self, loaded: LoadedGallery) -> bool:
        try:
            return ModelStore(self.workspace.models).current_version() != loaded.current_model
        except BundleError:
            return False  # told when it is loaded

    def _load_what_changed(self, loaded: LoadedGallery | None) -> LoadedGallery:
        started = time.monotonic()
        try:
            found = self._load()
            self._complained, self._as_of = None, started
        except (NotIndexed, DatabaseUnavailable):
            raise
        except (ValueError, OSError, SQLAlchemyError) as error:
            # A segment that vanished under a running index command, a model or a database that was damaged since: what
            # is loaded is whole.
            if loaded is None:
                raise NotIndexed(f"site '{self.name}' cannot be searched: {error}") from None
            if str(error) != self._complained:  # once, not every few seconds for as long as it lasts
                _log.warning("keeping the gallery loaded before: %s", error)
            found, self._complained = loaded, str(error)
        ended = time.monotonic()
        # While an index run adds shard after shard, loading must not take up all time.
        pause = self.settings.reload_pause * (ended - started) if ended - started > 1 else 0.0
        self._next_attempt = ended + (pause if self._complained is None else max(pause, _AFTER_FAILURE_S))
        return found

    def _load(self) -> LoadedGallery:
        """The gallery as it is on disk now: the loaded one where that has not changed."""
        repository = self.repository()
        current = ModelStore(self.workspace.models).current_version()
        previous, state = self._loaded, (repository.generation(), current)
        if previous is not None and state == (previous.generation, previous.current_model):
            return previous
        version = model_versions(ModelStore(self.workspace.models), repository).serving
        if version is None:
            raise NotIndexed(self._no_gallery())
        if previous is not None and previous.bundle.version == version:
            bundle, embedder = previous.bundle, previous.embedder
        else:
            bundle, embedder = self._load_model(version)
        cameras = [camera.id for camera in self._site.cameras]
        while True:
            try:
                found = load_gallery(
                    self.workspace.gallery, repository, bundle, embedder, cameras, *state, before=previous
                )
                break
            except SegmentError as error:
                # Replaced by a compaction since the rows were read, or damaged: then the rest is searched on, and the
                # index command makes it again.
                try:
                    removed = repository.remove_segments([error.name])
                except DatabaseUnavailable:  # a full disk, say: what is loaded is whole
                    raise error from None
                if removed:
                    _log.warning("%s", error)
        with self._opening:
            if self._repository is repository:  # else another database lies there now: the next to ask loads that
                self._loaded = found
        return found

    def _load_model(self, version: str) -> tuple[Bundle, Embedder]:
        from models.embedder import Embedder

        bundle = ModelStore(self.workspace.models).load(version)
        return bundle, Embedder(bundle, threads=self.settings.threads)

    def database(self) -> Engine:
        """The site's database, for what is kept beside the gallery.

        Raises:
            NotIndexed: there is no gallery yet.
        """
        return self.repository().engine

    def repository(self) -> GalleryRepository:
        """The site's rows, opened anew when another database lies there now.

        Raises:
            NotIndexed: there is no gallery yet.
            GalleryError: it cannot be opened.
        """
        with self._opening:
            identity = self._database.identity()
            if identity is None:
                raise NotIndexed(self._no_gallery())
            # A gallery that was moved away or put back from a backup is another one, whatever its rows count.
            if self._repository is None or self._opened != identity:
                if self._repository is not None:
                    self._repository.close()
                self._repository, self._loaded = GalleryRepository(self._database.open(), self.erased), None
                self._opened = identity
            return self._repository

    def _no_gallery(self) -> str:
        return f"site '{self.name}' has no gallery yet: run 'python -m gallery_service index {self.ref}'"

    def _reread_site(self) -> None:
        """Take up a changed site.yaml: a mask drawn or clips turned off must hold from now on, not from a restart."""
        try:
            changed = self._site.file.stat().st_mtime_ns
            if changed == self._site_changed:
                return
            self._site_changed = changed
            site = load_site(str(self._site.folder))
        except (OSError, SiteError) as error:
            _log.warning("keeping the site as it was read before: %s", error)
            return
        if site.name == self._site.name:
            self._site = site

    # Who sees what of it.

    def visible(self, caller: Caller) -> VisibleGallery:
        """The gallery's rows as a caller sees them.

        Raises:
            NotIndexed: there is no gallery yet.
        """
        return self.repository().seen_by(caller.cameras(self.name))

    def tracklet(self, caller: Caller, tracklet_id: str) -> StoredTracklet:
        """A tracklet that the caller may look at: of their cameras, and where they only view, of an investigation.

        Raises:
            NotFound: there is none, or they may not: the same error.
        """
        found = self.visible(caller).tracklets([tracklet_id]).get(tracklet_id)
        if found is None or not (caller.may(Role.INVESTIGATOR) or self._is_investigated(caller, found)):
            raise NotFound(self.no_tracklet(tracklet_id))
        return found

    def _is_investigated(self, caller: Caller, tracklet: StoredTracklet) -> bool:
        return InvestigationRepository(self.database(), caller, self.name, self.audit, self.erased).names(tracklet)

    def no_tracklet(self, tracklet_id: str) -> str:
        """What to say to somebody who asks for a tracklet that is not there for them."""
        return f"site '{self.name}' has no tracklet {tracklet_id[:200]!r}; it may have been erased or ingested anew"

    # What is loaded, for the gauges.

    @property
    def searchable_tracklets(self) -> int:
        """How many tracklets the loaded index holds."""
        return 0 if self._loaded is None else len(self._loaded.index)

    @property
    def answering(self) -> tuple[str, str] | None:
        """The loaded model's version and what it runs on."""
        loaded = self._loaded
        return None if loaded is None else (loaded.bundle.version, loaded.embedder.provider)

    def recall(self) -> float:
        """Recall@10 of the index, probed now and then; NaN while nothing can be searched."""
        return float("nan") if self._loaded is None else self._probe.recall(self._loaded)

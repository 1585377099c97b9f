"""What can go wrong for a person who uses the gallery; every message says what to do about it."""

from __future__ import annotations


class GalleryError(ValueError):
    """Something the user has to do differently; `status` is the HTTP status that says so."""

    status = 400

    @property
    def told(self) -> str:
        """What clients of the service are told."""
        return str(self)


class NotIndexed(GalleryError):  # noqa: N818 a state of the gallery, met by indexing
    """The site has no gallery to search yet."""

    status = 409


class NotFound(GalleryError):  # noqa: N818 the name HTTP has for it
    """There is no such site, tracklet, crop or clip."""

    status = 404


class BadQuery(GalleryError):  # noqa: N818 what the client sent
    """A filter or an image that cannot be understood."""

    status = 422


class Forbidden(GalleryError):  # noqa: N818 the name HTTP has for it
    """The caller may see it, but may not do that to it."""

    status = 403


class Conflict(GalleryError):  # noqa: N818 the name HTTP has for it
    """Not in the state that what was asked for needs."""

    status = 409


class NoDetector(GalleryError):  # noqa: N818 what the site lacks
    """The site has no detector that can look at a single picture."""

    status = 409


class Busy(GalleryError):  # noqa: N818 what the service is
    """Too much is being done already; the same request may go well in a moment."""

    status = 503


class DatabaseUnavailable(GalleryError):  # noqa: N818 a state of the database
    """The server that CALR_DATABASE names cannot be reached or does not let us in, a file is locked or may not be
    written, or another version of this program has changed the tables. The message says where it is, which is for
    whoever runs the service."""

    status = 503
    told = "the database cannot be used now; the service's log says why"


class NotSignedIn(GalleryError):  # noqa: N818 what the client has not done
    """Nobody knows who asks."""

    status = 401


class TooManyAttempts(GalleryError):  # noqa: N818 what the client made
    """Signing in failed too often."""

    status = 429


class WrongMediaType(GalleryError):  # noqa: N818 the name HTTP has for it
    """A body that is not the kind this address takes."""

    status = 415


class SegmentError(GalleryError):
    """A vector segment that is missing or damaged; indexing again makes it anew.

    Attributes:
        name: of the segment.
    """

    status = 500

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name

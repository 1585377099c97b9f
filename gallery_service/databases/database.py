"""What the rest of the program asks of a database, whichever kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine


@dataclass(frozen=True)
class Contents:
    """What a database is for.

    Attributes:
        migrations: Alembic's folder.
        remedy: what to do when it cannot be read.
    """

    migrations: Path
    remedy: str


class Database(ABC):
    """One database: a site's gallery, or the users. Making such an object touches nothing.

    Whoever begins a transaction to write says so, with `execution_options(writes=True)`: writers of one database wait
    for each other from the start, so that what they have read stays true, and are refused once another version of this
    program has migrated the database (`migrates=True` is that). Readers wait for nobody, and all that one
    transaction reads is of one moment.

    Attributes:
        place: how messages name it.
    """

    place: Path | str

    @abstractmethod
    def identity(self) -> Hashable | None:
        """What tells it from another one that was put in its place; None while it is not there.

        Raises:
            GalleryError: nobody can say, or it is another's; the message says what to do.
        """

    def exists(self) -> bool:
        """Whether it is there; see `identity`."""
        try:
            return self.identity() is not None
        finally:
            self.close()

    @abstractmethod
    def open(self) -> Engine:
        """Open it, make it when it is missing, and migrate it to this version's schema.

        Raises:
            GalleryError: it cannot be read or reached, is another's, or was written by a newer version of this program.
        """

    def close(self) -> None:
        """Close what `identity` holds open."""
        return

    def empty_log(self) -> None:
        """Let what rows that were deleted have left behind go soon, as far as that costs nobody any time."""
        return

    @abstractmethod
    def scrub(self) -> None:
        """Leave nothing of what was deleted in the database's files, but for `beyond_reach`.

        Raises:
            GalleryError: it is in use all the time, or the disk is full.
        """

    @property
    def beyond_reach(self) -> Sequence[str]:
        """Where else rows may be that were deleted, in words."""
        return ()

    @abstractmethod
    def rows(self) -> Iterator[tuple[str, Sequence[object]]]:
        """Every row of every table as it is stored, with the table's name."""

    @abstractmethod
    def inconsistencies(self) -> list[str]:
        """What the database itself finds wrong, in words. It is read in full, not opened or migrated."""

    @abstractmethod
    def changed_definitions(self) -> list[str]:
        """Tables, indexes and triggers that are not as the migrations make them, in words."""

    def unchecked(self) -> list[str]:
        """What `inconsistencies` cannot find here, in words."""
        return []

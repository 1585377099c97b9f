"""How every command ends that cannot do what was asked: one line and a status, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what a user can meet into a line on standard error and exit status 1; Ctrl-C into 130."""
    try:
        yield
    except ValueError as error:  # every error a user can meet derives from it
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        raise typer.Exit(130) from None

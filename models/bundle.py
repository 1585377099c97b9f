"""Model bundles: an immutable folder that holds everything needed to embed, and the store that says which one is live.

    <models>/<version>/model.onnx        images (N, 3, H, W) RGB 0..255 → embeddings (N, D) of length 1
    <models>/<version>/bundle.json       what it is, and the SHA-256 of the files beside it
    <models>/<version>/SHA256SUMS        the SHA-256 of bundle.json
    <models>/<version>/calibration.json  how a similarity becomes a probability
    <models>/current                     the live version's name
    <models>/history                     promoted versions, one a line, the live one last
    <models>/.lock                       held by who changes which one is live

A bundle is filled in a folder whose name starts with a dot and then renamed, so it is whole or not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias

from models.atomic import make_folder, publish_folder, sha256_file, write_json, write_text
from models.matching.calibration import Calibration, CalibrationError, calibration_json, read_calibration

if TYPE_CHECKING:
    from models.reid import ReidNet

SCHEMA = 1

INPUT = "images"
"""Name of the graph's input."""

OUTPUT = "embeddings"
"""Name of the graph's output."""

SUMS = "SHA256SUMS"
"""Has the checksum of bundle.json, in the form that sha256sum writes."""

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


_AGAIN = "the bundle is damaged: delete its folder and export it again"
_Names: TypeAlias = list[str]  # inside ModelStore, `list` is a method


class BundleError(ValueError):
    """A bundle that is missing, damaged or not ours. The message names the file."""


class LiveVersionError(BundleError):
    """Another version is live than was taken for it, or was live before it; nothing has changed."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk.

    Attributes:
        path: its folder.
        version: embeddings of two versions are never compared.
        arch, pooling: see :class:`models.reid.ReidNet`.
        embedding_dim: D.
        input_size: (height, width) of the crops that the graph takes.
        training_run: id of the run that trained it, None for weights from elsewhere.
        data_fingerprint: of the data it was trained on.
        metrics: what was measured when it was exported (JSON values).
        calibration: how its cosines become probabilities, None where they do not.
    """

    path: Path
    version: str
    arch: str
    pooling: str
    embedding_dim: int
    input_size: tuple[int, int]
    training_run: str | None = None
    data_fingerprint: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.path / "model.onnx"


Calibrate: TypeAlias = Callable[[Bundle], Calibration | None]
"""Fits a calibration to a model: with the graph that will be searched with, so before the bundle is whole."""


def model_version(net: ReidNet, input_size: tuple[int, int]) -> str:
    """The name that follows from what the embeddings depend on: architecture, pooling, input size and weights."""
    digest = hashlib.sha256(f"{net.arch} {net.pooling} {input_size[0]}x{input_size[1]}".encode())
    for name, tensor in sorted(net.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue  # a counter that inference does not read
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return "m-" + digest.hexdigest()[:12]


def write_bundle(
    out_dir: str | Path,
    net: ReidNet,
    input_size: tuple[int, int],
    *,
    version: str | None = None,
    training_run: str | None = None,
    data_fingerprint: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    calibrate: Calibrate | None = None,
) -> Bundle:
    """Export ``net`` as a bundle in the new folder ``out_dir``.

    Exporting the same model to the same folder again changes nothing and gives back the bundle that is there.

    Args:
        out_dir: the bundle's folder, not its parent.
        net: the network.
        input_size: (height, width).
        version: None: :func:`model_version`.
        training_run, data_fingerprint, metrics: see :class:`Bundle`.
        calibrate: fits the calibration; None leaves the model uncalibrated.

    Raises:
        BundleError: ``out_dir`` holds something else, or the version is no plain name.
        models.onnx_export.ExportError: the network cannot be exported.
    """
    # Only writing needs torch; asking which version is live should not take the seconds that importing it does.
    from models.onnx_export import OPSET, export_onnx

    out_dir = Path(out_dir)
    version = version if version is not None else model_version(net, input_size)
    if not _VERSION.fullmatch(version):
        raise BundleError(f"{version!r} is no version name: letters, digits, dot, dash and underscore, at most 64")
    if out_dir.exists():
        present = load_bundle(out_dir)
        if present.version == version:
            return present
        raise BundleError(f"{out_dir}: holds version {present.version}, not {version}; choose another folder")
    make_folder(out_dir.parent)
    _remove_leftovers(out_dir)
    temporary = out_dir.parent / f".{out_dir.name}.{os.getpid()}.tmp"
    temporary.mkdir()
    try:
        parity = export_onnx(net, temporary / "model.onnx", input_size)
        unfinished = Bundle(temporary, version, net.arch, net.pooling, net.embedding_dim, input_size, training_run)
        calibration = None if calibrate is None else calibrate(unfinished)
        write_json(temporary / "calibration.json", calibration_json(calibration))
        record = {
            "schema": SCHEMA,
            "version": version,
            "arch": net.arch,
            "pooling": net.pooling,
            "embedding_dim": net.embedding_dim,
            "input_size": list(input_size),
            "input": {"name": INPUT, "layout": "N3HW", "channels": "RGB", "range": [0, 255], "type": "float32"},
            "output": {"name": OUTPUT, "normalised": True, "type": "float32"},
            "opset": OPSET,
            "export_max_abs_difference": parity,
            "training_run": training_run,
            "data_fingerprint": data_fingerprint,
            "metrics": dict(metrics or {}),
            "files": {name: sha256_file(temporary / name) for name in ("model.onnx", "calibration.json")},
        }
        write_json(temporary / "bundle.json", record)
        write_text(temporary / SUMS, f"{sha256_file(temporary / 'bundle.json')}  bundle.json\n")
        try:
            publish_folder(temporary, out_dir)
        except FileExistsError:
            present = load_bundle(out_dir)  # somebody else was faster
            if present.version != version:
                raise BundleError(f"{out_dir}: another writer put version {present.version} there") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load_bundle(out_dir)


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle and verify the SHA-256 of each of its files.

    Raises:
        BundleError: no bundle, a newer schema, a field of the wrong kind, or a file that is missing or changed.
    """
    path = Path(path)
    record = _read_json(path / "bundle.json")
    if record.get("schema") != SCHEMA:
        raise BundleError(
            f"{path / 'bundle.json'}: schema {record.get('schema')!r}, this version reads {SCHEMA}; update the product"
        )
    files = _need(record, "files", dict, path)
    for name in ("model.onnx", "calibration.json"):
        if name not in files:
            raise BundleError(f"{path / 'bundle.json'}: field files does not list {name}; {_AGAIN}")
    for name, wanted in files.items():
        if not _FILE_NAME.fullmatch(name):
            raise BundleError(f"{path / 'bundle.json'}: {name!r} is no plain file name")
        if not (path / name).is_file():
            raise BundleError(f"{path / name}: missing; {_AGAIN}")
        found = sha256_file(path / name)
        if found != wanted:
            raise BundleError(f"{path / name}: SHA-256 is {found}, bundle.json says {wanted}; {_AGAIN}")
    size = _need(record, "input_size", list, path)
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise BundleError(f"{path / 'bundle.json'}: field input_size must be [height, width], got {size!r}")
    version = _need(record, "version", str, path)
    if not _VERSION.fullmatch(version):
        raise BundleError(f"{path / 'bundle.json'}: field version {version!r} is no version name")
    bundle = Bundle(
        path=path,
        version=version,
        arch=_need(record, "arch", str, path),
        pooling=_need(record, "pooling", str, path),
        embedding_dim=_need(record, "embedding_dim", int, path),
        input_size=(size[0], size[1]),
        training_run=record.get("training_run"),
        data_fingerprint=record.get("data_fingerprint"),
        metrics=_need(record, "metrics", dict, path),
        calibration=_calibration(path / "calibration.json"),
    )
    sums = path / SUMS
    # Bundles of earlier versions have none.
    if sums.exists() and sums.read_bytes() != f"{sha256_file(path / 'bundle.json')}  bundle.json\n".encode():
        raise BundleError(f"{path / 'bundle.json'}: its SHA-256 is not the one in {SUMS}; {_AGAIN}")
    return bundle


class ModelStore:
    """The versions of one site and which of them is live."""

    def __init__(self, models_dir: str | Path) -> None:
        self.folder = Path(models_dir)

    def list(self) -> _Names:
        """The versions that are there, oldest first. They are not verified."""
        if not self.folder.is_dir():
            return []
        found = [
            (entry.stat().st_mtime_ns, entry.parent.name)
            for entry in self.folder.glob("*/bundle.json")
            if _VERSION.fullmatch(entry.parent.name)
        ]
        return [name for _, name in sorted(found)]

    def load(self, version: str) -> Bundle:
        """One version, verified. Raises BundleError."""
        if not _VERSION.fullmatch(version):
            raise BundleError(f"{version!r} is no version name")
        if not (self.folder / version).is_dir():
            known = ", ".join(self.list()) or "none"
            raise BundleError(f"{self.folder}: no version {version}; there are: {known}")
        bundle = load_bundle(self.folder / version)
        if bundle.version != version:
            raise BundleError(f"{bundle.path}: holds version {bundle.version}; a bundle's folder bears its name")
        return bundle

    def current(self) -> Bundle | None:
        """The live version, verified; None before the first promotion.

        Raises:
            BundleError: ``current`` names a version that is missing or damaged.
        """
        version = self.current_version()
        return None if version is None else self.load(version)

    def current_version(self) -> str | None:
        """The live version's name, None before the first promotion. Raises BundleError where it cannot be read."""
        try:
            return (self.folder / "current").read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{self.folder / 'current'}: cannot be read ({error}); promote a version again") from None

    def history(self) -> _Names:
        """Promoted versions, oldest first, up to the live one."""
        try:
            lines = (self.folder / "history").read_text(encoding="utf-8").split()
        except FileNotFoundError:
            lines = []
        live = self.current_version()
        if live is None:
            return []
        # The two files are written one after the other: after a crash between them, `current` is right.
        while lines and lines[-1] != live and live in lines:
            lines.pop()
        return lines if lines and lines[-1] == live else [*lines, live]

    def previous_version(self) -> str | None:
        """The version that `rollback` would make live, None where there is none."""
        lines = self._history_to_previous()
        return lines[-1] if lines else None

    def _history_to_previous(self) -> _Names:
        live, lines = self.current_version(), self.history()
        while lines and (lines[-1] == live or not (self.folder / lines[-1]).is_dir()):
            lines.pop()
        return lines

    def add(
        self,
        net: ReidNet,
        input_size: tuple[int, int],
        *,
        training_run: str | None = None,
        data_fingerprint: str | None = None,
        metrics: Mapping[str, Any] | None = None,
        calibrate: Calibrate | None = None,
    ) -> Bundle:
        """Export ``net`` into the store under its own version. Idempotent; does not make it live. See
        :func:`write_bundle`."""
        version = model_version(net, input_size)
        return write_bundle(
            self.folder / version,
            net,
            input_size,
            version=version,
            training_run=training_run,
            data_fingerprint=data_fingerprint,
            metrics=metrics,
            calibrate=calibrate,
        )

    def promote(self, version: str, *, instead_of: str | EllipsisType | None = ...) -> Bundle:
        """Make a version live, after verifying it. Promoting the live one changes nothing.

        Args:
            version: of the store.
            instead_of: the version that must be live, None where none may be; left out, it takes the place of any.

        Raises:
            LiveVersionError: another one is live than `instead_of`.
            BundleError: the version is missing or damaged; then nothing has changed.
        """
        bundle = self.load(version)
        with self._choosing():
            live = self.current_version()
            if live != instead_of and not isinstance(instead_of, EllipsisType):
                raise LiveVersionError(f"{self.folder}: {live} is live now, not {instead_of}; nothing was promoted")
            if version != live:
                lines = [*self.history(), version]
                write_text(self.folder / "history", "".join(f"{line}\n" for line in lines))
                write_text(self.folder / "current", version + "\n")
        return bundle

    def rollback(self, to: str | None = None, record: Callable[[str, str], None] | None = None) -> Bundle:
        """Make the version live that was live before the present one; again, and it is the one before that.

        Versions that were deleted since are passed over.

        Args:
            to: the version that this must lead to; None: whichever it is.
            record: is told the live version and the one that takes its place, just before; what it raises prevents it.

        Raises:
            LiveVersionError: it would lead to another version than `to`.
            BundleError: there is none, or it is damaged; then nothing has changed.
        """
        with self._choosing():
            live, lines = self.current_version(), self._history_to_previous()
            previous = lines[-1] if lines else None
            if to not in (None, previous):
                raise LiveVersionError(f"{self.folder}: the version before {live} is {previous}, not {to}")
            if live is None:
                raise BundleError(f"{self.folder}: no version is live, so there is nothing to go back from")
            if previous is None:
                raise BundleError(f"{self.folder}: no version was live before {live}")
            bundle = self.load(previous)
            if record is not None:
                record(live, previous)
            write_text(self.folder / "current", bundle.version + "\n")
            write_text(self.folder / "history", "".join(f"{line}\n" for line in lines))
            return bundle

    @contextlib.contextmanager
    def _choosing(self) -> Iterator[None]:
        """Be the only one, of threads and processes, who changes which version is live; waits for whoever does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"{path}: missing; {path.parent} is no model bundle") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); {_AGAIN}") from error
    if not isinstance(record, dict):
        raise BundleError(f"{path}: must be a JSON object")
    return record


def _calibration(path: Path) -> Calibration | None:
    try:
        return read_calibration(_read_json(path))
    except CalibrationError as error:
        raise BundleError(f"{path}: {error}; {_AGAIN}") from None


def _need(record: dict[str, Any], name: str, kind: type, path: Path) -> Any:
    value = record.get(name)
    if type(value) is not kind:
        raise BundleError(
            f"{path / 'bundle.json'}: field {name} must be of kind {kind.__name__}, got {value!r}; {_AGAIN}"
        )
    return value


def _remove_leftovers(out_dir: Path) -> None:
    """Delete the temporary folders of writers of this bundle that died."""
    for folder in out_dir.parent.glob(f".{out_dir.name}.*.tmp"):
        pid = folder.name.removeprefix(f".{out_dir.name}.").removesuffix(".tmp")
        if pid.isdecimal() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False

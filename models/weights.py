"""Weights in, weights out: safetensors only, checked before use.

Pretrained weights come from a name (downloaded once, checked against a checksum, cached) or from a ``.safetensors``
path. No pickle is ever read from a path a user can name; the zoos' own ``.pth`` files are read only after their
checksum matched, and then by torch's loader that admits tensors alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.atomic import sha256_file, write_bytes
from models.osnet import CHANNELS as OSNET_CHANNELS
from models.pooling import POOLINGS
from models.reid import ARCHITECTURES, ReidNet, build_reid

_METADATA_KEY = "calr"


class WeightsError(ValueError):
    """Weights that cannot be had, cannot be read or do not fit. The message names the file and the way out."""


@dataclass(frozen=True)
class LoadReport:
    """What happened to each tensor of a weights file, by the network's own parameter names (``skipped``: the file's).

    Attributes:
        loaded: taken over.
        skipped: in the file, not wanted: classification heads.
        missing: not in the file, left at its initial value: a neck or pooling that the pretraining did not have.
    """

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _ZooFile:
    arch: str
    trained_on: str
    page: str
    url: str | None = None
    # The first hex digits of the SHA-256. torchvision and IBN-Net publish eight of them, as part of the file's name
    # (the convention that torch.hub checks too); no longer checksum is published, so none is claimed here.
    sha256_prefix: str | None = None


_TORCHVISION = "https://download.pytorch.org/models/"
_IBN_NET = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0/"
_TORCHREID = "https://kaiyangzhou.github.io/deep-person-reid/MODEL_ZOO"

ZOO: dict[str, _ZooFile] = {
    "resnet50_imagenet": _ZooFile(
        "resnet50", "ImageNet-1k", "torchvision", _TORCHVISION + "resnet50-0676ba61.pth", "0676ba61"
    ),
    "mobilenet_v2_imagenet": _ZooFile(
        "mobilenet_v2", "ImageNet-1k", "torchvision", _TORCHVISION + "mobilenet_v2-b0353104.pth", "b0353104"
    ),
    "ibn_resnet50_a_imagenet": _ZooFile(
        "ibn_resnet50_a", "ImageNet-1k", "IBN-Net", _IBN_NET + "resnet50_ibn_a-d9d0bb7b.pth", "d9d0bb7b"
    ),
    # torchreid keeps its files on Google Drive and publishes no checksums.
    "osnet_x0_25_imagenet": _ZooFile("osnet_x0_25", "ImageNet-1k", _TORCHREID),
    "osnet_x1_0_imagenet": _ZooFile("osnet_x1_0", "ImageNet-1k", _TORCHREID),
    "osnet_x0_25_msmt17": _ZooFile("osnet_x0_25", "MSMT17", _TORCHREID),
    "osnet_x1_0_msmt17": _ZooFile("osnet_x1_0", "MSMT17", _TORCHREID),
}
"""Names that :func:`load_weights` knows."""


def load_weights(net: ReidNet, ref: str | Path) -> LoadReport:
    """Fill ``net`` with pretrained weights, in place. Nothing is changed unless everything fits.

    Args:
        net: the network.
        ref: a name of :data:`ZOO`, or the path of a ``.safetensors`` file: a zoo's body with that zoo's parameter
            names, or a checkpoint of this product. ``path#sha256=<hex>`` demands that checksum (a prefix of at least
            eight digits is enough).

    Raises:
        WeightsError: the file is missing, damaged, of another architecture, has the wrong checksum or cannot be
            downloaded.
    """
    text = str(ref)
    if text in ZOO:
        state, source = _read_zoo(text), text
        hint = ZOO[text].arch
    else:
        path = _checked_path(text)
        state, metadata = _read_safetensors(path)
        source, hint = str(path), str(_own_metadata(metadata).get("arch", metadata.get("arch", "")))
    return _fill(net, state, source, hint)


def save_checkpoint(path: str | Path, net: ReidNet, meta: dict[str, Any]) -> None:
    """Write network and ``meta`` (JSON values; training settings, ``input_size`` ...) as one safetensors file,
    atomically. Equal weights and meta give equal bytes."""
    from safetensors.torch import save

    record = {**meta, "schema": 1, "arch": net.arch, "pooling": net.pooling}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    # One key: the order in which the library writes several is not fixed, and the bytes should be.
    metadata = {_METADATA_KEY: json.dumps(record, sort_keys=True, allow_nan=False)}
    write_bytes(path, save(tensors, metadata))


def checkpoint_meta(ref: str | Path) -> dict[str, Any] | None:
    """The meta of a checkpoint of this product; None for plain weights and for names of :data:`ZOO`.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    if str(ref) in ZOO:
        return None
    _, metadata = _read_safetensors(_checked_path(str(ref)))
    return _own_metadata(metadata) or None


def load_checkpoint(path: str | Path) -> tuple[ReidNet, dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote: the network in eval mode on the CPU, and its meta (with ``arch`` and
    ``pooling``; ``input_size``, where there is one, as (height, width)).

    Raises:
        WeightsError: missing, damaged, not a checkpoint of this product, or of a newer schema.
    """
    path = _checked_path(str(path))
    state, metadata = _read_safetensors(path)
    meta = _own_metadata(metadata)
    if not meta:
        raise WeightsError(f"{path}: plain weights, not a checkpoint of this product; give them as initial weights")
    if meta.get("schema") != 1:
        raise WeightsError(
            f"{path}: checkpoint schema {meta.get('schema')!r}, this version reads 1; update the product"
        )
    arch, pooling = meta.get("arch"), meta.get("pooling")
    if arch not in ARCHITECTURES or pooling not in POOLINGS:
        raise WeightsError(f"{path}: unknown architecture {arch!r} or pooling {pooling!r}; update the product")
    if "input_size" in meta:
        size = meta["input_size"]
        if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
            raise WeightsError(f"{path}: its input_size is {size!r}, not [height, width]; it was not written by us")
        meta["input_size"] = (size[0], size[1])
    net = build_reid(arch, pooling=pooling)
    report = _fill(net, state, str(path), arch)
    if report.missing:
        raise WeightsError(f"{path}: the checkpoint lacks {report.missing[0]}; it was not written whole, train again")
    return net.eval(), meta


def cache_folder() -> Path:
    """Where downloads are kept: ``$CALR_CACHE``, else ``~/.cache/calr``."""
    return Path(os.environ.get("CALR_CACHE") or Path.home() / ".cache" / "calr")


def _checked_path(text: str) -> Path:
    name, _, demanded = text.partition("#sha256=")
    path = Path(name).expanduser()
    if not path.is_file():
        state = "is a folder, not a file" if path.is_dir() else "no such file"
        raise WeightsError(
            f"{path}: {state}; give the path of a .safetensors file or one of the names {', '.join(sorted(ZOO))}"
        )
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path}: only .safetensors files are read, because reading a pickle (.pth, .pt, .ckpt) can run code. "
            f"Convert it where you trust it: {_CONVERT}"
        )
    if demanded:
        _check_sha256(path, demanded)
    return path


_CONVERT = (
    "python -c \"import torch, safetensors.torch as s; w = torch.load('FILE.pth', weights_only=True); "
    "s.save_file({k.removeprefix('module.'): v.contiguous() for k, v in w.get('state_dict', w).items()}, "
    "'FILE.safetensors')\""
)


def _check_sha256(path: Path, demanded: str) -> None:
    wanted = demanded.lower()
    if not 8 <= len(wanted) <= 64 or set(wanted) - set("0123456789abcdef"):
        raise WeightsError(f"{path}: #sha256={demanded} is no checksum; give 8 to 64 hex digits")
    found = sha256_file(path)
    if not found.startswith(wanted):
        raise WeightsError(f"{path}: SHA-256 is {found}, wanted {wanted}; the file is damaged or another one")


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}); fetch or write it again") from error


def _own_metadata(metadata: dict[str, str]) -> dict[str, Any]:
    try:
        meta = json.loads(metadata.get(_METADATA_KEY, "{}"))
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}


def _fill(net: ReidNet, state: dict[str, torch.Tensor], source: str, hint: str) -> LoadReport:
    wanted = net.state_dict()
    fitting: dict[str, torch.Tensor] = {}
    skipped: list[str] = []
    misfits: list[str] = []
    misshapen: set[str] = set()
    for name, tensor in sorted(state.items()):
        target = _target_name(net.arch, name)
        if target is None:
            skipped.append(name)
        elif target not in wanted:
            misfits.append(f"{name} has no place in it")
        elif target in fitting:
            misfits.append(f"{name} is in it twice, under two names")
        elif wanted[target].is_floating_point() and not tensor.is_floating_point():
            misfits.append(f"{name} holds {tensor.dtype}, not floating-point numbers")
        elif wanted[target].shape != tensor.shape:
            misshapen.add(target)
            misfits.append(f"{name} is {tuple(tensor.shape)}, it needs {tuple(wanted[target].shape)}")
        else:
            fitting[target] = tensor.to(wanted[target].dtype)
    missing = [name for name in wanted if name not in fitting]
    essential = [name for name in missing if name not in misshapen and not _may_be_missing(net, name)]
    misfits += [f"{name} is not in the file" for name in essential]
    if misfits:
        raise WeightsError(
            f"{source}: these weights do not fit {net.arch}{_says(hint, net.arch)}: {misfits[0]} "
            f"({len(misfits)} such differences, {len(fitting)} tensors fit). "
            "Choose the architecture the weights were trained for, or other weights"
        )
    for name, tensor in fitting.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{source}: {name} holds NaN or infinity; the file is damaged or its training failed")
    net.load_state_dict(fitting, strict=False)
    return LoadReport(tuple(fitting), tuple(skipped), tuple(missing))


def _says(hint: str, arch: str) -> str:
    return f" (they are for {hint})" if hint and hint != arch else ""


def _target_name(arch: str, name: str) -> str | None:
    """The network's name for a tensor of a weights file; None for a classification head."""
    if name.startswith(("backbone.", "neck.", "pool.")):
        return name
    if name.startswith("classifier."):
        return None
    if arch in OSNET_CHANNELS:
        return "neck." + name.removeprefix("fc.") if name.startswith("fc.") else "backbone." + name
    return None if name in ("fc.weight", "fc.bias") else "backbone." + name


def _may_be_missing(net: ReidNet, name: str) -> bool:
    if name.endswith(".num_batches_tracked"):
        return True  # a counter that inference never reads; converted files often lack it
    if name.startswith("pool."):
        return True
    # A fresh batch norm passes vectors on unchanged; OSNet's fully connected layer is part of the trained network.
    return name.startswith("neck.") and net.arch not in OSNET_CHANNELS


def _read_zoo(name: str) -> dict[str, torch.Tensor]:
    entry = ZOO[name]
    if entry.url is None or entry.sha256_prefix is None:
        raise WeightsError(
            f"{name}: the {entry.arch} weights trained on {entry.trained_on} are published without a checksum, so they "
            f"are not fetched by themselves. Download the file from {entry.page}, convert it with {_CONVERT}, "
            "and give the path of the .safetensors file instead of the name"
        )
    file_name = entry.url.rsplit("/", 1)[1]
    path = cache_folder() / "weights" / file_name
    if not path.is_file():
        _download(entry.url, entry.sha256_prefix, path, name)
    try:
        _check_sha256(path, entry.sha256_prefix)
    except WeightsError as error:
        raise WeightsError(f"{error}; delete it and run again to download it anew") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path}: torch cannot read it ({error}); delete it and run again") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    return {key.removeprefix("module."): value for key, value in state.items() if isinstance(value, torch.Tensor)}


def _download(url: str, sha256_prefix: str, path: Path, name: str) -> None:
    from rich.console import Console
    from rich.progress import Progress

    chunks: list[bytes] = []
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=30) as answer,  # noqa: S310 (https, from the table above)
            Progress(console=Console(stderr=True)) as progress,
        ):
            size = int(answer.headers.get("Content-Length") or 0)
            task = progress.add_task(f"download {name}", total=size or None)
            while chunk := answer.read(1 << 20):
                chunks.append(chunk)
                digest.update(chunk)
                progress.advance(task, len(chunk))
    except (urllib.error.URLError, OSError) as error:
        raise WeightsError(
            f"{name}: cannot download {url} ({error}). Without internet, fetch it on another machine and put it at "
            f"{path}, or give the path of a .safetensors file"
        ) from error
    if not digest.hexdigest().startswith(sha256_prefix):
        raise WeightsError(
            f"{name}: {url} has SHA-256 {digest.hexdigest()}, wanted {sha256_prefix}…; it was not kept. "
            "Something between here and there changes files"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, b"".join(chunks))

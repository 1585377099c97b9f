"""``python -m models``: export networks as bundles, and say which bundle of a site is live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.bundle import Bundle, BundleError, ModelStore, load_bundle, write_bundle
from models.onnx_export import ExportError
from models.onnx_session import SessionError
from models.pooling import POOLINGS
from models.reid import ARCHITECTURES, ReidNet, build_reid
from models.weights import WeightsError, checkpoint_meta, load_checkpoint, load_weights

app = typer.Typer(help="Export networks as model bundles; list, promote and roll back a site's versions.")
errors = Console(stderr=True)

DEFAULT_SIZE = (256, 128)

ModelsDir = Annotated[Path, typer.Argument(help="A site's models folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@app.command()
def export(
    weights: Annotated[
        str, typer.Option(help="A .safetensors file (path, or path#sha256=<hex>) or the name of known weights.")
    ],
    out: Annotated[Path, typer.Option(help="The bundle's folder; it must not exist or hold the same bundle.")],
    arch: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(ARCHITECTURES)}; not needed for a checkpoint of this product."),
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(POOLINGS)}; default: the checkpoint's, or avg.")
    ] = None,
    input_size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of the input; default: the checkpoint's, or 256 128."),
    ] = None,
    json_: Json = False,
) -> None:
    """Turn weights into a bundle."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=errors
    ) as progress:
        task = progress.add_task("read weights", total=3)
        net, size = _network(weights, arch, pooling, input_size)
        progress.update(task, advance=1, description=f"export {net.arch} at {size[0]}×{size[1]}")
        bundle = write_bundle(out, net, size)
        progress.update(task, advance=2, description="done")
    _show(bundle, json_)


@app.command()
def info(bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")], json_: Json = False) -> None:
    """Verify a bundle and say what it is."""
    _show(load_bundle(bundle), json_)


@app.command("list")
def list_(models_dir: ModelsDir, json_: Json = False) -> None:
    """List a site's versions, oldest first; a star marks the live one."""
    store = ModelStore(_existing(models_dir))
    live = store.current_version()
    versions = store.list()
    if json_:
        _print_json({"schema": 1, "versions": versions, "current": live, "history": store.history()})
        return
    for version in versions:
        typer.echo(f"{'*' if version == live else ' '} {version}")


@app.command()
def promote(models_dir: ModelsDir, version: Annotated[str, typer.Argument()], json_: Json = False) -> None:
    """Make a version live."""
    _show(ModelStore(_existing(models_dir)).promote(version), json_)


@app.command()
def rollback(models_dir: ModelsDir, json_: Json = False) -> None:
    """Go back to the version that was live before."""
    _show(ModelStore(_existing(models_dir)).rollback(), json_)


def _network(
    weights: str, arch: str | None, pooling: str | None, size: tuple[int, int] | None
) -> tuple[ReidNet, tuple[int, int]]:
    own = checkpoint_meta(weights)
    if own is not None:
        net, meta = load_checkpoint(weights)
        trained: tuple[int, int] | None = meta.get("input_size")
        for option, wanted, is_ in (
            ("--arch", arch, net.arch),
            ("--pooling", pooling, net.pooling),
            ("--input-size", size, trained),
        ):
            if wanted is not None and is_ is not None and wanted != is_:
                raise WeightsError(f"{weights}: trained with {is_}, not with {option} {wanted}; leave {option} out")
        return net, trained or size or DEFAULT_SIZE
    if arch is None:
        raise WeightsError(f"{weights}: plain weights do not say their architecture; add --arch")
    pooling = pooling or "avg"
    if arch not in ARCHITECTURES or pooling not in POOLINGS:
        raise WeightsError(
            f"unknown --arch {arch!r} or --pooling {pooling!r}; "
            f"known: {', '.join(ARCHITECTURES)}; {', '.join(POOLINGS)}"
        )
    net = build_reid(arch, pooling="gem" if pooling == "gem" else "avg")
    report = load_weights(net, weights)
    if report.missing:
        errors.print(f"not in the weights, left at its initial value: {', '.join(report.missing)}", style="yellow")
    return net, size or DEFAULT_SIZE


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder")
    return folder


def _show(bundle: Bundle, as_json: bool) -> None:
    record: dict[str, Any] = {
        "schema": 1,
        "path": str(bundle.path),
        "version": bundle.version,
        "arch": bundle.arch,
        "pooling": bundle.pooling,
        "embedding_dim": bundle.embedding_dim,
        "input_size": list(bundle.input_size),
        "training_run": bundle.training_run,
        "data_fingerprint": bundle.data_fingerprint,
        "metrics": dict(bundle.metrics),
    }
    if as_json:
        _print_json(record)
        return
    for name, value in record.items():
        if name != "schema":
            typer.echo(f"{name:17} {value if isinstance(value, str) else json.dumps(value)}")


def _print_json(record: dict[str, Any]) -> None:
    typer.echo(json.dumps(record, sort_keys=True))


def main() -> None:
    """Run the command line; what a user can cause is one line on stderr and exit code 1."""
    try:
        app()
    except (BundleError, ExportError, SessionError, WeightsError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()

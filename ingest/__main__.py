"""`python -m ingest`: from recordings to tracklets and crops."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ingest.pipeline import Executor, IngestResult, Refusal, ingest_site
from ingest.set_aside import SetAside
from ingest.site import load_site
from ingest.workspace import Workspace

if TYPE_CHECKING:
    from ingest.site_status import SiteStatus

app = typer.Typer(
    help="Turn a site's recordings (or crops cut out elsewhere) into tracklets and person crops.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


Workers = Annotated[int | None, typer.Option(min=1, help="Recordings at a time; default: one per core.")]
RunsOn = Annotated[
    Executor, typer.Option(help="Processes of this machine, or the Ray cluster that it belongs to ($RAY_ADDRESS).")
]


@app.command()
def run(
    site: Annotated[str, typer.Argument(help="Name of a site, or the folder that holds its site.yaml.")],
    workers: Workers = None,
    executor: RunsOn = "processes",
    json_: Annotated[bool, typer.Option("--json", help="Print the status as JSON on standard output.")] = False,
) -> None:
    """Ingest what is new at a site. Can be stopped at any moment and run again.

    Exit status: 0 every recording is in; 1 nothing could be done; 2 wrong usage; 3 done, but some recordings were
    refused or are still being written.
    """
    console = Console(stderr=True)
    with _errors(console), _Bar.shown(console) as bar:
        result = ingest_site(load_site(site), workers=workers, executor=executor, view=bar)
    _report(console, result)
    if json_:
        json.dump(result.status, sys.stdout, indent=1, sort_keys=True)
        sys.stdout.write("\n")
    if result.refusals or result.waiting:
        raise typer.Exit(3 if result.status["counts"]["videos"] or result.waiting else 1)


@app.command()
def status(
    site: Annotated[str, typer.Argument(help="Name of a site, or the folder that holds its site.yaml.")],
    page: Annotated[bool, typer.Option("--page", help="Also write a page with crops of every camera.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print it as JSON on standard output.")] = False,
) -> None:
    """How a site stands: hours, gaps, tracklets, rejects, failures and what is still to come, for every camera."""
    from ingest.site_status import site_status, write_page

    console = Console(stderr=True)
    with _errors(console):
        config = load_site(site)
        found = site_status(config)
        written = write_page(config, found) if page else None
    _show_status(console, found)
    if written is not None:
        _say(console, f"page: {written}")
    if json_:
        json.dump(found.as_json(), sys.stdout, indent=1, sort_keys=True)
        sys.stdout.write("\n")


@app.command()
def watch(
    site: Annotated[str, typer.Argument(help="Name of a site, or the folder that holds its site.yaml.")],
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between looks.")] = 30.0,
    workers: Workers = None,
    executor: RunsOn = "processes",
) -> None:
    """Ingest what recorders write into a site's folders, as it comes, until Ctrl-C. site.yaml is read anew every time.

    A recording is taken when nobody writes to it any more. What goes wrong is said once, and does not end the watch.
    """
    console = Console(stderr=True)
    _say(console, f"watching {site}, every {every:g} s; Ctrl-C ends it")
    said: set[str] = set()
    try:
        while True:
            try:
                with _Bar.shown(console) as bar:
                    result = ingest_site(load_site(site), workers=workers, executor=executor, view=bar)
            except (ValueError, OSError) as error:
                news = [f"error: {error}"]
            else:
                news = [f"refused: {refusal.camera}: {refusal.error}" for refusal in result.refusals]
                _say_forgotten(console, result)
                if result.new:
                    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
                    _say(console, f"{now}: recordings ingested: {result.new}, in {result.seconds:.0f} s")
            for text in news:
                if text not in said:
                    _say(console, text, style="red")
            said = set(news)
            time.sleep(every)
    except KeyboardInterrupt:
        _say(console, "stopped; what was being ingested is taken up again by the next run")


@app.command()
def forget(
    site: Annotated[str, typer.Argument(help="Name of a site, or the folder that holds its site.yaml.")],
    tracklet: Annotated[list[str] | None, typer.Option(help="This tracklet, by its id; can be repeated.")] = None,
    camera: Annotated[str | None, typer.Option(help="What this camera saw.")] = None,
    since: Annotated[str | None, typer.Option(help="From this moment on, as 2026-03-01T08:00, site time.")] = None,
    until: Annotated[str | None, typer.Option("--until", "--before", help="Up to this moment.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the camera saw, at unknown times too.")] = False,
    expired: Annotated[bool, typer.Option("--expired", help="What is older than site.yaml's retention_days.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go; so does leaving --yes out.")] = (
        False
    ),
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the tracklets as JSON on standard output.")] = False,
) -> None:
    """Erase tracklets, or what a camera saw at some time: crops, tracklets and what was drawn from them, for good; no
    later ingest brings them back.

    The recordings themselves are not touched. Where there is a gallery, use this instead, which reaches it too and
    leaves a proof: python -m gallery_service erase SITE
    """
    from ingest.erasure_selection import expired as what_expired
    from ingest.erasure_selection import make_selection
    from ingest.forgetting import forget as forget_sightings

    console = Console(stderr=True)
    with _errors(console):
        config = load_site(site)
        if expired:
            if tracklet or camera or since or until or everything:
                raise ValueError("--expired stands alone; leave the other choices out")
            selection = what_expired(config, datetime.now(UTC))
            if not selection.spans:
                raise ValueError(f"{config.file}: neither the site nor a camera has 'retention_days'")
        else:
            selection = make_selection(
                config, tracklets=tracklet or (), camera=camera, since=since, until=until, everything=everything
            )
        really = yes and not dry_run
        found = forget_sightings(config, selection, really=really)
    if json_:
        json.dump({"schema": 1, "forgotten": really, **vars(found)}, sys.stdout, indent=1, sort_keys=True)
        sys.stdout.write("\n")
    else:
        for name in found.tracklets if not really else ():
            _say(console, name)
    done = "forgotten" if really else "would be forgotten (say --yes to do it)"
    _say(console, f"{len(found.tracklets)} tracklets with {found.crops} crops {done}")
    for text in found.remarks():
        _say(console, text)
    if really and found.tracklets:
        _say(console, f"now run: python -m gallery_service index {site}")


@app.command()
def retry(
    site: Annotated[str, typer.Argument(help="Name of a site, or the folder that holds its site.yaml.")],
    camera: Annotated[str | None, typer.Option(help="Only this camera's recordings.")] = None,
) -> None:
    """Give recordings that were set aside another chance; the next run takes them."""
    console = Console(stderr=True)
    with _errors(console):
        config = load_site(site)
        if camera is not None:
            config.camera(camera)
        workspace = Workspace(config)
        with workspace.lock():
            again = SetAside(workspace).forget(camera)
    for failure in again:
        _say(console, f"{failure.camera}: {failure.path}: failed {failure.tries} times, last: {failure.error}")
    _say(console, f"recordings that get another chance: {len(again)}; now run: python -m ingest run {site}")


@app.command("import")
def import_(
    site: Annotated[str, typer.Argument(help="Name of a site, or its folder; made if it does not exist.")],
    folder: Annotated[Path, typer.Argument(help="Folder of person crops.")],
    layout: Annotated[
        str, typer.Option(help="folder-per-camera, market1501-names, mars-names, or csv (a crops.csv in the folder).")
    ] = "folder-per-camera",
    json_: Annotated[bool, typer.Option("--json", help="Print what was done as JSON on standard output.")] = False,
) -> None:
    """Take over crops that were cut out already, in place of recordings. The same folder again changes nothing."""
    from ingest.crop_import import import_crops

    console = Console(stderr=True)
    with _errors(console), _Bar.shown(console) as bar:

        def step(done: int, total: int) -> None:
            if done == 1:
                bar.begin("importing crops", total)
            bar.advance_to(done)

        imported = import_crops(site, folder, layout, step)
    table = Table(box=None, pad_edge=False)
    table.add_column("camera")
    for name in ("tracklets", "crops", "skipped"):
        table.add_column(name, justify="right")
    table.add_column("")
    for one in imported:
        counts = one.shard.summary["counts"]
        skipped = sum(one.skipped.values())
        table.add_row(
            one.shard.camera_id,
            str(counts["tracklets"]),
            str(counts["crops"]),
            str(skipped),
            "new" if one.new else "as before",
        )
    console.print(table)
    if json_:
        cameras = {
            one.shard.camera_id: {**one.shard.summary["counts"], "skipped": one.skipped, "new": one.new}
            for one in imported
        }
        json.dump({"schema": 1, "cameras": cameras}, sys.stdout, indent=1, sort_keys=True)
        sys.stdout.write("\n")


@contextmanager
def _errors(console: Console) -> Iterator[None]:
    """What goes wrong, as one readable line and an exit status."""
    try:
        yield
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("stopped; run the same command again to go on", highlight=False)
        raise typer.Exit(130) from None


class _Bar:
    """The bar; nothing is drawn before there is something to wait for."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", visible=False, total=1.0)

    @classmethod
    @contextmanager
    def shown(cls, console: Console) -> Iterator[_Bar]:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield cls(progress)

    def begin(self, what: str, total: float) -> None:
        self._progress.reset(self._task, description=what, total=total, completed=0, visible=True)

    def advance_to(self, done: float) -> None:
        self._progress.update(self._task, completed=done)


def _show_status(console: Console, found: SiteStatus) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("camera")
    for name in ("recordings", "hours", "gaps", "tracklets", "crops", "rejected", "failed", "queue"):
        table.add_column(name, justify="right")
    for camera in found.cameras:
        table.add_row(
            camera.camera,
            str(camera.recordings),
            f"{camera.hours:.2f}",
            str(len(camera.gaps)),
            str(camera.tracklets),
            str(camera.crops),
            str(sum(camera.rejected.get("tracklets", {}).values())),
            str(len(camera.failures)),
            str(camera.queue),
        )
    console.print(table)
    whole = found.whole
    if whole is not None:
        zone = ZoneInfo(found.timezone)
        begin, end = (moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") for moment in whole)
        _say(console, f"recorded: {begin} to {end}, {found.timezone}")
        longest = max(len(camera.camera) for camera in found.cameras)
        for camera in found.cameras:
            shares = "".join(" ░▒▓█"[-(-round(share * 100) // 25)] for share in found.timeline(camera))
            _say(console, f"{camera.camera:<{longest}} |{shares}|")
    for camera in found.cameras:
        for failure in camera.failures:
            _say(console, f"failed: {camera.camera}: {failure.path}: {failure.error}", style="red")


def _together(remarks: list[Refusal]) -> dict[tuple[str, str], str]:
    """The recordings of a camera about which the same is to be said, by (camera, what)."""
    paths: dict[tuple[str, str], list[str]] = {}
    for remark in remarks:
        paths.setdefault((remark.camera, remark.error), []).append(remark.path)
    return {
        key: f"{found[0]} and {len(found) - 1} more recordings" if len(found) > 2 else " and ".join(found)
        for key, found in paths.items()
    }


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _say_forgotten(console: Console, result: IngestResult) -> None:
    if result.forgotten:
        _say(console, f"older than 'retention_days', forgotten: {result.forgotten} tracklets")


def _report(console: Console, result: IngestResult) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("camera")
    for name in ("videos", "hours", "tracklets", "crops", "rejected", "failures"):
        table.add_column(name, justify="right")
    for camera, count in result.cameras.items():
        table.add_row(
            camera,
            str(count.videos),
            f"{count.seconds / 3600:.2f}",
            str(count.tracklets),
            str(count.crops),
            str(sum(count.rejected.values())),
            str(count.failures),
        )
    console.print(table)
    reasons: Counter[str] = Counter()
    for count in result.cameras.values():
        reasons.update(count.rejected)
    if reasons:
        console.print("rejected tracklets: " + ", ".join(f"{count} {why}" for why, count in sorted(reasons.items())))
    for (camera, error), names in _together(result.remarks).items():
        _say(console, f"note: {camera}: {names}: {error}")
    for (camera, error), names in _together(result.waiting).items():
        _say(console, f"waiting: {camera}: {names}: {error}")
    for refusal in result.refusals:
        where = "" if refusal.path in refusal.error else f"{refusal.path}: "
        _say(console, f"refused: {refusal.camera}: {where}{refusal.error}", style="red")
    _say_forgotten(console, result)
    if result.new:
        console.print(
            f"{result.new} recording{'s' if result.new > 1 else ''} ingested in {result.seconds:.1f} s", highlight=False
        )
    else:
        console.print(f"nothing new ({result.seconds:.1f} s)", highlight=False)


if __name__ == "__main__":
    app(prog_name="python -m ingest")

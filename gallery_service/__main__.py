"""python -m gallery_service: index a site, search it, serve it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gallery_service.access.commands import keys, users
from gallery_service.audit.commands import app as audit
from gallery_service.command_errors import readable_errors
from gallery_service.errors import GalleryError

app = typer.Typer(
    help="Store a site's tracklets as vectors, search them, and serve the search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(audit, name="audit")
app.add_typer(users, name="users")
app.add_typer(keys, name="keys")

SiteArgument = Annotated[
    str, typer.Argument(metavar="SITE", help="Name of a site, or a folder that holds a site.yaml.")
]


@app.command()
def index(
    site: SiteArgument,
    json_: Annotated[bool, typer.Option("--json", help="Print what was done as JSON on standard output.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")] = None,
) -> None:
    """Embed a site's new tracklets with its current model, and forget what was erased or replaced.

    A model promoted since takes over once it has embedded everything and was checked. Exit status 3: done, but some
    shards could not be read, or the new model has not taken over; the reasons are named.
    """
    with readable_errors():
        from gallery_service.indexing.build import build_gallery
        from ingest.site import load_site

        report = build_gallery(load_site(site), threads=threads)
        for failure in report.failures:
            print(f"error: {failure['shard']}: {failure['error']}", file=sys.stderr)
        counts = report.counts
        held = (
            f"{counts['tracklets']} tracklets ({counts['crops']} crops, {counts['cameras']} cameras) "
            f"with model {report.model_version}"
        )
        if not report.changed:
            print(f"nothing new; the gallery holds {held}", file=sys.stderr)
        else:
            added = report.added
            done = [f"{added['tracklets']} new tracklets ({added['crops']} crops) in {report.seconds:.1f} s"]
            if report.repaired:
                done.append(f"{report.repaired} damaged segments made again")
            if report.compacted:
                done.append(f"{report.compacted} segments written anew")
            if report.removed:
                done.append(f"{report.removed} shards removed")
            print(f"{'; '.join(done)}; the gallery holds {held}", file=sys.stderr)
        for problem in report.problems:
            print(f"error: model {report.model_version} does not take over: {problem}", file=sys.stderr)
        if json_:
            print(json.dumps(report.as_json()))
        if report.failures or report.problems:
            raise typer.Exit(3)


@app.command("compact")
def compact_(site: SiteArgument) -> None:
    """Merge small vector files, and remove the vectors of what was erased from the disk. `index` does it by itself."""
    with readable_errors():
        from gallery_service.indexing.build import compact_gallery
        from ingest.site import load_site

        done = compact_gallery(load_site(site))
        for problem in done.damaged:
            print(f"error: {problem}", file=sys.stderr)
        print(f"{done.replaced} segments written anew; vectors of {done.dropped} tracklets removed", file=sys.stderr)
        if done.damaged:
            raise typer.Exit(3)


@app.command()
def models(
    site: SiteArgument,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """List a site's models, the newest first: which one answers, how far the others are, and why each went live or not.

    `python -m models promote` and `rollback` choose the live one; the next `index` lets it take over.
    """
    with readable_errors():
        from gallery_service.databases.gallery import gallery_database
        from gallery_service.pages.model_cards import model_cards
        from gallery_service.storage.model_versions import model_versions
        from gallery_service.storage.repository import GalleryRepository
        from ingest.site import load_site
        from ingest.workspace import Workspace
        from models.bundle import ModelStore

        workspace = Workspace(load_site(site))
        database = gallery_database(workspace)
        if not database.exists():
            raise GalleryError(f"site '{site}' has no gallery yet: run 'python -m gallery_service index {site}'")
        repository = GalleryRepository(database.open())
        try:
            serving = model_versions(ModelStore(workspace.models), repository).serving
            shards = len(repository.shards())
            listed = []
            for card in model_cards(workspace, serving or ""):
                states = {"answers": card.answers, "live": card.live, "rollback": card.rollback}
                listed.append(
                    {
                        "version": card.version,
                        **states,
                        "embedded_shards": len(repository.embedded(card.version)),
                        "label_free_score": card.label_free.get("score"),
                        "reason": card.reason,
                        "problem": card.problem,
                    }
                )
        finally:
            repository.close()
        if json_:
            print(json.dumps({"schema": 1, "shards": shards, "models": listed}))
            return
        for model in listed:
            marks = ", ".join(name for name in ("answers", "live", "rollback") if model[name]) or "kept"
            score = model["label_free_score"]
            judged = "not judged" if score is None else f"label-free score {score:.3f}"
            known = f"{marks}; {model['embedded_shards']} of {shards} shards; {judged}"
            remark = model["problem"] or model["reason"]
            print(f"{model['version']}  {known}" + (f"; {remark}" if remark else ""))


@app.command()
def verify(
    site: SiteArgument,
    json_: Annotated[bool, typer.Option("--json", help="Print what was found as JSON on standard output.")] = False,
) -> None:
    """Read everything the gallery stands on, users included, and compare it with its checksums; name what was changed
    or damaged, in a database the table and the row.

    Exit status 1: something is damaged.
    """
    with readable_errors():
        from gallery_service.verification import verify_site
        from ingest.site import load_site

        found = verify_site(load_site(site))
        for remark in found.unsure:
            print(f"not checked: {remark}", file=sys.stderr)
        for damage in found.damaged:
            print(f"error: {damage.path}: {damage.problem}", file=sys.stderr)
        checked = ", ".join(f"{count} {kind}" for kind, count in sorted(found.checked.items()))
        print(f"checked {checked or 'nothing'}: {len(found.damaged)} damaged", file=sys.stderr)
        if json_:
            print(json.dumps(found.as_json()))
        if found.damaged:
            raise typer.Exit(1)


@app.command()
def search(
    site: SiteArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A crop of one person: JPEG, PNG, WebP or BMP.")],
    top_k: Annotated[int, typer.Option(help="At most this many matches, 1 to 200.")] = 20,
    camera: Annotated[list[str] | None, typer.Option(help="Only this camera; can be repeated.")] = None,
    exclude_camera: Annotated[list[str] | None, typer.Option(help="Not this camera; can be repeated.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 with offset.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339 with offset.")] = None,
    rerank: Annotated[bool, typer.Option(help="Order by k-reciprocal re-ranking.")] = False,
    purpose: Annotated[str | None, typer.Option(help="Why you search; kept in the record of searches.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")] = None,
) -> None:
    """Search a site once and print the answer as JSON."""
    with readable_errors():
        from gallery_service.caller import at_the_command_line
        from gallery_service.search.site_search import SearchRequest, SiteSearch
        from gallery_service.settings import ServiceSettings
        from ingest.site import load_site

        settings = ServiceSettings()
        if threads is not None:
            settings = settings.model_copy(update={"threads": threads})
        content = _read_image(image, settings.max_upload_bytes)
        request = SearchRequest(top_k, camera or (), exclude_camera or (), since, until, rerank, purpose)
        found = SiteSearch(load_site(site), settings, ref=site)
        try:
            print(found.search_image(at_the_command_line(), content, request, what=str(image)).model_dump_json())
        finally:
            found.close()


@app.command()
def erase(
    site: SiteArgument,
    tracklet: Annotated[list[str] | None, typer.Option(help="This tracklet, by its id; can be repeated.")] = None,
    camera: Annotated[str | None, typer.Option(help="What this camera saw.")] = None,
    since: Annotated[str | None, typer.Option(help="From this moment on, as 2026-03-01T08:00, site time.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this moment.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the camera saw, at unknown times too.")] = False,
    expired: Annotated[bool, typer.Option("--expired", help="What is older than site.yaml's retention_days.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the proof and the audit log.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go; so does leaving --yes out.")] = (
        False
    ),
    check: Annotated[
        str | None, typer.Option("--verify", metavar="PROOF", help="Look again for what that erasure erased.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the proofs as JSON on standard output.")] = False,
) -> None:
    """Erase tracklets, or what a camera saw, from everywhere: crops, vectors, rows, reports, training runs; with proof.

    Killed on the way, it goes on when it is run again. The proof lies in erasures/ in the site's workspace.

    Exit status: 0 gone; 1 nothing was erased; 3 hidden but not removed yet, or something was found afterwards.
    """
    with readable_errors():
        from gallery_service.erasure.command import run_erasure, verify_proof

        if check is not None:
            clean = verify_proof(site, check, json_)
        else:
            choice = {
                "tracklets": tracklet or [],
                "camera": camera,
                "since": since,
                "until": until,
                "everything": everything,
            }
            clean = run_erasure(site, choice, expired, reason, yes and not dry_run, json_)
    if not clean:
        raise typer.Exit(3)


@app.command()
def serve(
    sites: Annotated[list[str], typer.Argument(metavar="SITE...", help="Names of sites, or their folders.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's own once there is a user.")
    ] = "127.0.0.1",
    ssl_certfile: Annotated[Path | None, typer.Option(help="Speak TLS with this certificate, PEM.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
) -> None:
    """Serve the API and the search page of one or more sites.

    While no user is configured, whoever is at this machine is admin and nobody else gets in; `users add` changes that.
    On a network put a reverse proxy with TLS in front (it has to set X-Forwarded-Proto), or give --ssl-certfile and
    --ssl-keyfile: passwords and pictures of people must not travel in the open.
    """
    with readable_errors():
        from gallery_service.access.database import service_database
        from gallery_service.access.identity import Identities
        from gallery_service.erasure.retention import keeping_retention
        from gallery_service.search.site_search import SiteSearch
        from gallery_service.settings import ServiceSettings
        from gallery_service.web.app import create_app
        from gallery_service.web.certificate import Certificate
        from gallery_service.web.request_log import configure_log
        from gallery_service.web.serving import address_of, is_loopback, listening_socket, run
        from ingest.site import load_site

        settings = ServiceSettings()
        configure_log(settings.log_format)
        served = {}
        for ref in sites:
            site = load_site(ref)
            if site.name in served:
                raise GalleryError(f"two of the sites are called '{site.name}'; serve one of them, or rename one")
            served[site.name] = SiteSearch(site, settings, ref=ref)
        certificate = None
        if ssl_certfile is not None or ssl_keyfile is not None:
            if ssl_certfile is None or ssl_keyfile is None:
                raise GalleryError("--ssl-certfile and --ssl-keyfile go together; give both or neither")
            certificate = Certificate(ssl_certfile, ssl_keyfile)
            certificate.check()
        identities = Identities(service_database(), settings.session_hours, settings.session_idle_minutes)
        listening = listening_socket(host, port, has_users=identities.has_users, names=settings.allowed_hosts)
        for found in served.values():
            found.refresh()
        address = address_of(listening, "http" if certificate is None else "https")

        def announce() -> None:
            if not identities.has_users:
                print(f"no user in {service_database().place}: whoever is at this machine is admin", file=sys.stderr)
            elif certificate is None and not is_loopback(listening):
                print("warning: plain HTTP; put a reverse proxy with TLS in front", file=sys.stderr)
            print(f"serving {', '.join(served)} on {address} (Ctrl-C stops)", file=sys.stderr, flush=True)

        with keeping_retention(served.values()):
            run(create_app(served.values(), settings, identities), listening, settings, announce, certificate)
        print("stopped", file=sys.stderr)


def _read_image(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > max_bytes:
        raise GalleryError(f"{path}: larger than {max_bytes / 1024 / 1024:g} MiB; give one crop of one person")
    return content


if __name__ == "__main__":
    app(prog_name="python -m gallery_service")

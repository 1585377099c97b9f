"""Command line: train a site without labels, export the model, report, evaluate on a benchmark."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Label-free training of a person re-identification model for one camera network (CALR, arXiv 2403.16450).",
)
console = Console(stderr=True)

Site = Annotated[str, typer.Argument(help="a site's name, or the path to a folder that holds site.yaml")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON on standard output")]


@contextmanager
def errors_for_people() -> Iterator[None]:
    """A mistake that a person can mend is told in one line and ends with status 1; anything else is our own fault."""
    try:
        yield
    except ValueError as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def train(
    site: Site,
    profile: Annotated[str | None, typer.Option(help="training profile; default: site.yaml's training.profile")] = None,
    labels: Annotated[
        str, typer.Option(help="none: the method. ground-truth: the ceiling, where the site has ground truth")
    ] = "none",
    as_json: AsJson = False,
) -> None:
    """Train on the site's crops: intra-camera stage, then inter-camera stage with label refinement. Resumable.

    On several GPUs: torchrun --nproc-per-node 4 -m calr train SITE --profile gpu-paper
    """
    from calr.torchrun import is_first, torchrun
    from calr.train import train_site

    with errors_for_people(), torchrun():
        status = train_site(site, profile=profile, labels=labels)
        if is_first():
            for notice in status["notices"]:
                say(f"note: {notice}")
            emit(status, as_json)


@app.command()
def export(site: Site, as_json: AsJson = False) -> None:
    """Export the last run as an ONNX bundle; it goes live only if the label-free score is not worse."""
    from calr.export import export_site

    with errors_for_people():
        status = export_site(site)
        if status["state"] == "nothing to do":
            say(f"{status['live_version']} is live: nothing to do")
        else:
            goes = "goes live" if status["promoted"] else "does not go live"
            say(f"{status['candidate_version']} {goes}: {status['reason']}")
        emit(status, as_json)


@app.command()
def report(site: Site, as_json: AsJson = False) -> None:
    """Write report.json, report.html and contact_sheet.png. Status 3: done, but some recordings were refused."""
    from calr.site_report import report_site, tables

    with errors_for_people():
        found = report_site(site)
        if not found.fresh:
            say("nothing new since the last report:")
        for title, rows in tables(found.content):
            table = Table(*rows[0], title=title, title_justify="left")
            for row in rows[1:]:
                table.add_row(*row)
            console.print(table)
        for notice in found.content["notices"]:
            say(f"note: {notice}")
        emit(found.content, as_json)
        failures = found.content["failures"]
        for failure in failures:
            say(f"not ingested: camera {failure['camera']}, {failure['path']}: {failure['error']}")
        if failures:
            raise typer.Exit(3)


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Option(help="name of the benchmark: market1501")],
    root: Annotated[Path, typer.Option(help="folder of the data set")],
    model: Annotated[Path, typer.Option(help="model bundle (folder)")],
    as_json: AsJson = False,
) -> None:
    """Score a model bundle on a benchmark's query and gallery images."""
    from calr.benchmark_evaluation import evaluate_bundle

    with errors_for_people():
        found = evaluate_bundle(dataset, root, model)
        say(f"mAP {found['mAP']:.4f}  rank-1 {found['rank1']:.4f}  rank-5 {found['rank5']:.4f}")
        judged = found.get("calibration")
        if judged is not None:
            error, skill = judged["expected_calibration_error"], judged["brier_skill"]
            say(f"probabilities: expected calibration error {error:.4f}  Brier skill {skill:.4f}")
        emit(found, as_json)


@app.command()
def reliability(
    judged: Annotated[list[Path], typer.Argument(help="report.json of sites, what `evaluate --json` printed")],
    out: Annotated[Path, typer.Option(help="PNG file")],
) -> None:
    """Draw reliability curves: what calibrated probabilities said, and how often it was true."""
    from calr.reliability import draw_reliability, read_curves
    from models.atomic import write_bytes

    with errors_for_people():
        write_bytes(out, draw_reliability(read_curves(judged)))


@app.command()
def benchmark(
    dataset: Annotated[str, typer.Argument(help="market1501, dukemtmc, msmt17, veri776 or personx")],
    root: Annotated[Path, typer.Option(help="folder of the data set")],
    init: Annotated[str, typer.Option(help="start weights: a safetensors file or a published name")],
    row: Annotated[str, typer.Option(help="which parts of the method; an unknown name lists them")] = "full",
    profile: Annotated[str, typer.Option(help="training profile")] = "cpu-bench",
    arch: Annotated[str, typer.Option(help="architecture")] = "osnet_x0_25",
    seed: Annotated[int, typer.Option(help="of every random choice")] = 1,
    out: Annotated[Path, typer.Option(help="where runs lie; a stopped one goes on from there")] = Path(
        "build/benchmarks"
    ),
    record: Annotated[Path, typer.Option(help="JSON lines file the result is appended to")] = Path(
        "docs/accuracy.jsonl"
    ),
    judge_epochs: Annotated[
        bool,
        typer.Option(help="keep every epoch's model; afterwards, does the label-free score rank them as mAP does?"),
    ] = False,
    float32: Annotated[
        bool, typer.Option("--float32", help="train in float32 also where bfloat16 would be faster: to compare them")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train on a benchmark without its labels and score the last epoch. Resumable."""
    from calr.benchmark import Question, run_benchmark
    from calr.precision import best_precision, leave_one_core
    from calr.torchrun import is_first, torchrun
    from calr.train import progress

    with errors_for_people(), torchrun():
        question = Question(dataset, row, profile, arch, init, seed, float32)
        question.settings()
        leave_one_core()
        precision = replace(best_precision(), bf16=False) if float32 else best_precision()
        with progress(f"{dataset}, {row}") as step:
            line = run_benchmark(question, root, out, precision, step, judge_epochs)
        if not is_first():
            return
        if line.pop("new"):
            record.parent.mkdir(parents=True, exist_ok=True)
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        else:
            say("answered before: nothing to do")
        say(f"mAP {line['mAP']:.4f}  rank-1 {line['rank1']:.4f}  in {line['seconds'] / 60:.1f} min of training")
        emit(line, as_json)


@app.command()
def dataset(
    name: Annotated[str, typer.Argument(help="market1501, dukemtmc, msmt17, veri776 or personx")],
    root: Annotated[Path, typer.Option(help="folder of the data set")],
    as_json: AsJson = False,
) -> None:
    """Count a benchmark's images, identities and cameras, as papers list them."""
    from calr.datasets import load_benchmark

    with errors_for_people():
        parts = load_benchmark(name, root)
        counts = {"train": parts.train.counts(), "query": parts.query.counts(), "gallery": parts.gallery.counts()}
        table = Table("part", *counts["train"])
        for part, found in counts.items():
            table.add_row(part, *(f"{count:,}" for count in found.values()))
        console.print(table)
        emit({"schema": 1, "dataset": name, **counts}, as_json)


@app.command()
def accuracy(
    record: Annotated[Path, typer.Option(help="JSON lines file that `benchmark` appended to")] = Path(
        "docs/accuracy.jsonl"
    ),
    document: Annotated[Path, typer.Option(help="markdown file whose tables are made anew")] = Path("docs/accuracy.md"),
) -> None:
    """Make the tables of docs/accuracy.md anew from docs/accuracy.jsonl."""
    from calr.accuracy_table import accuracy_tables, read_lines, with_tables
    from models.atomic import write_text

    with errors_for_people():
        write_text(document, with_tables(document.read_text(encoding="utf-8"), accuracy_tables(read_lines(record))))


def emit(content: dict[str, Any], as_json: bool) -> None:
    if as_json:
        json.dump(content, sys.stdout, indent=1, sort_keys=True)
        sys.stdout.write("\n")


if __name__ == "__main__":
    app()

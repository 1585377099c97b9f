"""The tables of docs/accuracy.md, made from docs/accuracy.jsonl: nobody types a figure."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from calr.ablation import ROWS

BEGIN, END = "<!-- table: made by `python -m calr accuracy`, do not edit -->", "<!-- /table -->"


def read_lines(jsonl: Path) -> list[dict[str, Any]]:
    """The answers in a file, in its order; of one question asked twice the last.

    Raises:
        ValueError: a line is not JSON; it is named.
    """
    latest: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(jsonl.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            question = json.dumps([line[key] for key in ("dataset", "profile", "start", "row", "seed", "device")])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{jsonl}, line {number}: not an answer of the benchmark command ({error!r})") from None
        latest.pop(question, None)
        latest[question] = line
    return list(latest.values())


def accuracy_tables(lines: list[dict[str, Any]]) -> str:
    """Markdown: a table for each (data set, profile, start weights, device), rows in the order of `calr.ablation.ROWS`.

    mAP and rank-1 in per cent, last epoch; over several seeds the mean ± standard deviation.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(tuple(line[key] for key in ("dataset", "profile", "start", "device")), []).append(line)
    return "\n\n".join(_table(group, found) for group, found in sorted(groups.items()))


def _table(group: tuple[str, ...], lines: list[dict[str, Any]]) -> str:
    dataset, profile, start, device = group
    order = {name: number for number, name in enumerate(ROWS)}
    names = sorted({line["row"] for line in lines}, key=lambda name: (order.get(name, len(order)), name))
    text = [
        f"### {dataset}, profile `{profile}`, from `{start}`, on {device}",
        "",
        "| row | what it is | seeds | mAP | rank-1 | refined clusters, last epoch: P / R / F | minutes | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        of_row = sorted((line for line in lines if line["row"] == name), key=lambda line: int(line["seed"]))
        text.append(
            "| "
            + " | ".join(
                (
                    f"`{name}`",
                    ROWS[name].says if name in ROWS else "a row of an earlier version",
                    ", ".join(str(line["seed"]) for line in of_row),
                    _spread([100 * line["mAP"] for line in of_row]),
                    _spread([100 * line["rank1"] for line in of_row]),
                    _clusters(of_row),
                    f"{fmean(line['seconds'] for line in of_row) / 60:.0f}",
                    ", ".join(sorted({str(line["commit"]) for line in of_row})),
                )
            )
            + " |"
        )
    return "\n".join(text)


def _spread(values: list[float]) -> str:
    return f"{values[0]:.1f}" if len(values) == 1 else f"{fmean(values):.1f} ± {stdev(values):.1f}"


def _clusters(lines: list[dict[str, Any]]) -> str:
    refined = [line.get("last_epoch", {}).get("refined") for line in lines]
    known = [found for found in refined if found]
    if not known:
        return "–"
    return " / ".join(f"{fmean(found[key] for found in known):.2f}" for key in ("precision", "recall", "f"))


def with_tables(document: str, tables: str) -> str:
    """The document with what stands between the marks replaced.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"

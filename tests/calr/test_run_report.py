import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from calr.run_report import draw_curves, example_clusters, refinement_examples, write_run_report
from calr.training_run import RunResult
from tests.calr.test_training_run import EXACT
from tests.calr.toy_people import ToyNet, toy_people


def _labels(data):
    # Person 0 and 1 of camera 0 merged with person 0 of camera 1; person 1's tracklet was discarded.
    node_global = np.full(data.nodes, -1)
    node_global[[0, 1, 6]] = 0
    node_global[[2, 8]] = 1
    refined = node_global.copy()
    refined[1] = -1
    return {"global": node_global, "refined": refined, "crop": refined[data.node]}


def _history(identities: bool):
    agreement = {"precision": 0.5, "recall": 0.25, "f": 1 / 3}
    intra = {"stage": "intra", "epoch": 0, "clusters": 12, "silhouette": 0.3, "loss_contrastive": 1.5, "loss": 1.5}
    inter = {
        "stage": "inter",
        "epoch": 0,
        "clusters": 6,
        "trained_clusters": 5,
        "doubted": 0.2,
        "discarded": 0.1,
        "unused_crops": 0.3,
        "graph": {"k_own": 2, "min_similarity": 0.4321},
        "links": 17,
        "loss": 1.2,
        "loss_contrastive": 1.0,
        "camera_accuracy": 0.55,
        "silhouette": -0.1,
        "lr": 3.5e-4,
    }
    if identities:
        intra["local"] = inter["global"] = inter["refined"] = agreement
    return [intra, inter]


def _status(**changes):
    return {
        "run_id": "r-0123",
        "profile": "cpu-tiny",
        "arch": "osnet_x0_25",
        "labels": "none",
        "counts": {"crops": 72, "tracklets": 12, "cameras": 2},
        "seconds": 12.0,
        "notices": ["<b>one & only</b>"],
        **changes,
    }


class _WellFormed(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag, attrs):
        self.pictures += tag == "img"
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("identities", [True, False])
def test_the_page_is_whole_escaped_and_needs_nothing_from_outside(tmp_path: Path, identities: bool) -> None:
    data = toy_people(people=6)
    data = data if identities else replace(data, identity=None)
    (tmp_path / "labels").mkdir()
    save_file(_labels(data), tmp_path / "labels" / "inter-00.safetensors")
    result = RunResult(ToyNet(), _history(identities), [], 12.0)  # type: ignore[arg-type]
    page = write_run_report(tmp_path, data, ToyNet(), result, _status(), EXACT).read_text()  # type: ignore[arg-type]
    parser = _WellFormed()
    parser.feed(page)
    assert parser.open == [] and parser.pictures > 10
    assert "&lt;b&gt;one &amp; only" in page and "<b>one" not in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "min_similarity 0.432" in page and "17 links" in page
    assert ("ground truth" in page) is identities
    assert ("truly 1 person" in page) is identities


def test_rows_show_cameras_in_turn_and_what_was_discarded() -> None:
    data = toy_people(people=6)
    labels = _labels(data)
    first, second = example_clusters(labels, data)
    assert [crop.camera for crop in first.crops[:4]] == ["cam0", "cam1", "cam0", "cam1"]
    assert first.title.startswith("cluster 0: 12 crops, 2 cameras (truly 1 person, 100% of one)")
    assert second.title.startswith("cluster 1: 12 crops")
    (row,) = refinement_examples(labels, data)
    assert row.title.startswith("global cluster 0: 12 crops kept (truly 1 person")
    assert "6 discarded (truly 1 person" in row.title
    assert {crop.camera for crop in row.discarded} == {"cam0"}


def test_a_run_of_one_stage_or_without_clusters_still_reports(tmp_path: Path) -> None:
    data = toy_people(people=6)
    assert b"<svg" in draw_curves(_history(False)[:1])
    result = RunResult(ToyNet(), _history(False)[:1], [], 1.0)  # type: ignore[arg-type]
    page = write_run_report(tmp_path, data, ToyNet(), result, _status(notices=[]), EXACT).read_text()  # type: ignore[arg-type]
    assert "Clusters of the last epoch" not in page and "Every epoch" in page

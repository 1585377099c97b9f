import json

import pytest

from calr.profiles import PROFILES, Stage, find_profile


def test_every_profile_is_named_after_its_key_and_can_be_recorded() -> None:
    assert {"cpu-quick", "cpu-tiny", "cpu-bench", "gpu-paper"} <= set(PROFILES)
    records = set()
    for name, profile in PROFILES.items():
        assert profile.name == name == find_profile(name).name
        records.add(json.dumps(profile.as_json(), sort_keys=True))
    assert len(records) == len(PROFILES)


def test_gpu_paper_has_the_papers_numbers() -> None:
    paper = find_profile("gpu-paper")
    assert paper.intra is not None
    assert (paper.intra.epochs, paper.intra.batch, paper.intra.iterations(12_936)) == (20, 64, 100)
    assert (paper.inter.epochs, paper.inter.batch, paper.inter.iterations(12_936)) == (50, 256, 400)
    assert (paper.inter.lr, paper.inter.lr_step, paper.weight_decay) == (3.5e-4, 20, 5e-4)
    assert (paper.temperature, paper.momentum, paper.min_cluster_crops, paper.entropy_warmup) == (0.05, 0.1, 5, 5)
    assert (paper.local.k1, paper.local.k2) == (15, 4)


@pytest.mark.parametrize(("crops", "wanted"), [(1, 10), (640, 10), (641, 11), (1500, 24), (2560, 40), (10**6, 40)])
def test_iterations_follow_the_data_within_bounds(crops: int, wanted: int) -> None:
    stage = Stage(epochs=1, passes=1.0, min_iterations=10, max_iterations=40, clusters=16, crops=4)
    assert stage.iterations(crops) == wanted


def test_an_unknown_profile_lists_the_known() -> None:
    with pytest.raises(ValueError, match="unknown profile 'fast'; known: cpu-quick"):
        find_profile("fast")

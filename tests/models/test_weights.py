"""models.weights: what fits is loaded, everything else is refused with a message that helps."""

from __future__ import annotations

import functools
import http.server
import io
import json
import pickle
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models import weights
from models.atomic import sha256_file
from models.pooling import GemPooling
from models.reid import ARCHITECTURES, build_reid
from models.weights import WeightsError, load_checkpoint, load_weights, save_checkpoint


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """OSNet x0.25 with torchreid's names, random, and a classifier on top."""
    torch.manual_seed(1)
    net = build_reid("osnet_x0_25")
    state = {
        name.removeprefix("backbone.").replace("neck.", "fc."): tensor for name, tensor in net.state_dict().items()
    }
    state["classifier.weight"] = torch.zeros(751, 512)
    state["classifier.bias"] = torch.zeros(751)
    path = tmp_path / "osnet.safetensors"
    save_file(state, path)
    return path


def untouched(net: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def snapshot(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.mark.shared_data
def test_real_osnet_loads_whole(shared_data: Path) -> None:
    path = shared_data / "weights" / "osnet_x0_25_msmt17.safetensors"
    net = build_reid("osnet_x0_25")
    report = load_weights(net, path)
    assert report.missing == ()
    assert all(name.startswith("classifier.") for name in report.skipped)
    assert set(report.loaded) == set(net.state_dict())
    file = load_file(path)
    assert torch.equal(net.state_dict()["backbone.conv1.conv.weight"], file["conv1.conv.weight"])
    assert torch.equal(net.state_dict()["neck.1.running_var"], file["fc.1.running_var"])


@pytest.mark.shared_data
def test_real_mobilenet_loads_whole_body(shared_data: Path) -> None:
    net = build_reid("mobilenet_v2")
    report = load_weights(net, shared_data / "weights" / "mobilenet_v2_imagenet.safetensors")
    assert report.skipped == ()
    assert all(name.startswith("neck.") for name in report.missing)
    assert set(report.loaded) == {name for name in net.state_dict() if name.startswith("backbone.")}


@pytest.mark.shared_data
def test_real_weights_of_another_architecture_are_named(shared_data: Path) -> None:
    path = shared_data / "weights" / "osnet_x0_25_msmt17.safetensors"
    for arch in set(ARCHITECTURES) - {"osnet_x0_25"}:
        net = build_reid(arch)
        before = snapshot(net)
        with pytest.raises(WeightsError, match=rf"osnet_x0_25_msmt17.*do not fit {arch} \(they are for osnet_x0_25\)"):
            load_weights(net, path)
        assert untouched(net, before)


def test_heads_are_skipped(small_file: Path) -> None:
    report = load_weights(build_reid("osnet_x0_25"), small_file)
    assert report.skipped == ("classifier.bias", "classifier.weight")
    assert report.missing == ()


@pytest.mark.parametrize("arch", ["resnet50", "ibn_resnet50_a", "mobilenet_v2"])
def test_torchvision_names(arch: str, tmp_path: Path) -> None:
    source = build_reid(arch)
    state = {
        name.removeprefix("backbone."): tensor
        for name, tensor in source.state_dict().items()
        if name.startswith("backbone.")
    }
    head = "classifier.1" if arch == "mobilenet_v2" else "fc"
    state |= {f"{head}.weight": torch.zeros(1000, 8), f"{head}.bias": torch.zeros(1000)}
    save_file(state, tmp_path / "w.safetensors")
    net = build_reid(arch, pooling="gem")
    report = load_weights(net, tmp_path / "w.safetensors")
    assert report.skipped == (f"{head}.bias", f"{head}.weight")
    assert all(name.startswith(("neck.", "pool.")) for name in report.missing)
    for name, tensor in net.backbone.state_dict().items():
        assert torch.equal(tensor, source.backbone.state_dict()[name]), name


def test_torchvision_itself_has_these_names() -> None:
    import torchvision

    for arch, reference in (
        ("resnet50", torchvision.models.resnet50(weights=None)),
        ("mobilenet_v2", torchvision.models.mobilenet_v2(weights=None)),
    ):
        wanted = {n: t.shape for n, t in reference.state_dict().items() if not n.startswith(("fc.", "classifier."))}
        assert {n: t.shape for n, t in build_reid(arch).backbone.state_dict().items()} == wanted


def test_osnet_without_its_fully_connected_layer_is_refused(small_file: Path) -> None:
    state = {name: tensor for name, tensor in load_file(small_file).items() if not name.startswith("fc.")}
    save_file(state, small_file)
    with pytest.raises(WeightsError, match=r"neck\.0\.weight is not in the file"):
        load_weights(build_reid("osnet_x0_25"), small_file)


def test_counters_may_be_missing(small_file: Path) -> None:
    state = {name: t for name, t in load_file(small_file).items() if not name.endswith("num_batches_tracked")}
    save_file(state, small_file)
    report = load_weights(build_reid("osnet_x0_25"), small_file)
    assert report.missing
    assert all(name.endswith("num_batches_tracked") for name in report.missing)


def test_half_precision_is_widened(small_file: Path) -> None:
    save_file({n: t.half() if t.is_floating_point() else t for n, t in load_file(small_file).items()}, small_file)
    net = build_reid("osnet_x0_25")
    load_weights(net, small_file)
    assert {t.dtype for n, t in net.state_dict().items() if "num_batches" not in n} == {torch.float32}


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: no such file.*osnet_x0_25_msmt17"):
        load_weights(build_reid("osnet_x0_25"), tmp_path / "nowhere.safetensors")
    with pytest.raises(WeightsError, match=r"is a folder"):
        load_weights(build_reid("osnet_x0_25"), tmp_path)
    with pytest.raises(WeightsError, match=r"resnet51_imagenet: no such file.*resnet50_imagenet"):
        load_weights(build_reid("resnet50"), "resnet51_imagenet")


def test_text_named_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "page.safetensors"
    path.write_text("<html>Google Drive - Virus scan warning</html>")
    with pytest.raises(WeightsError, match=r"page\.safetensors: not a whole safetensors file"):
        load_weights(build_reid("osnet_x0_25"), path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"not a whole"):
        load_weights(build_reid("osnet_x0_25"), path)


def test_truncated_file(small_file: Path) -> None:
    data = small_file.read_bytes()
    net = build_reid("osnet_x0_25")
    before = snapshot(net)
    for length in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
        small_file.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"not a whole safetensors file"):
            load_weights(net, small_file)
    assert untouched(net, before)


def test_header_that_claims_the_world(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(WeightsError, match=r"not a whole"):
        load_weights(build_reid("osnet_x0_25"), path)


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=150, deadline=None)
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, body: bytes, framed: bool) -> None:
    path = tmp_path_factory.mktemp("w") / "a.safetensors"
    path.write_bytes((struct.pack("<Q", len(body)) if framed else b"") + body)
    with pytest.raises(WeightsError):
        load_weights(_net(), path)
    with pytest.raises(WeightsError):
        load_checkpoint(path)


@functools.cache
def _net() -> weights.ReidNet:
    return build_reid("osnet_x0_25")


def test_nan_is_refused(small_file: Path) -> None:
    state = load_file(small_file)
    state["conv5.conv.weight"][3, 2] = float("nan")
    save_file(state, small_file)
    net = build_reid("osnet_x0_25")
    before = snapshot(net)
    with pytest.raises(WeightsError, match=r"conv5\.conv\.weight holds NaN"):
        load_weights(net, small_file)
    assert untouched(net, before)


def test_numbers_that_overflow_are_refused(small_file: Path) -> None:
    state = load_file(small_file)
    state["conv5.conv.weight"] = state["conv5.conv.weight"].double() * 1e300
    save_file(state, small_file)
    with pytest.raises(WeightsError, match=r"conv5\.conv\.weight holds NaN or infinity"):
        load_weights(build_reid("osnet_x0_25"), small_file)


def test_whole_numbers_are_no_weights(small_file: Path) -> None:
    state = load_file(small_file)
    state["conv5.conv.weight"] = state["conv5.conv.weight"].to(torch.int8)
    save_file(state, small_file)
    with pytest.raises(WeightsError, match=r"conv5\.conv\.weight holds torch\.int8"):
        load_weights(build_reid("osnet_x0_25"), small_file)


def test_one_tensor_under_two_names_is_refused(small_file: Path) -> None:
    state = load_file(small_file)
    state["backbone.conv5.conv.weight"] = state["conv5.conv.weight"] * 2
    save_file(state, small_file)
    with pytest.raises(WeightsError, match="twice, under two names"):
        load_weights(build_reid("osnet_x0_25"), small_file)


def test_checksum_in_the_path(small_file: Path) -> None:
    net = build_reid("osnet_x0_25")
    good = sha256_file(small_file)
    load_weights(net, f"{small_file}#sha256={good}")
    load_weights(net, f"{small_file}#sha256={good[:8].upper()}")
    wrong = ("0" if good[0] != "0" else "1") + good[1:]
    with pytest.raises(WeightsError, match=rf"osnet\.safetensors: SHA-256 is {good}, wanted {wrong}"):
        load_weights(net, f"{small_file}#sha256={wrong}")
    for bad in (good[:7], "x" * 64, good + "0"):
        with pytest.raises(WeightsError, match=r"no checksum"):
            load_weights(net, f"{small_file}#sha256={bad}")


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("exploded", "w"))  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.ckpt", "w.pkl", "w"])
def test_no_pickle_is_read_from_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(_Bomb()))
    for read in (lambda p: load_weights(_net(), p), load_checkpoint):
        with pytest.raises(WeightsError, match=r"only \.safetensors files are read.*Convert"):
            read(tmp_path / name)
    (tmp_path / "bomb.safetensors").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(WeightsError, match=r"not a whole"):
        load_weights(_net(), tmp_path / "bomb.safetensors")
    assert not (tmp_path / "exploded").exists()


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("arch", ["osnet_x0_25", "mobilenet_v2"])
def test_checkpoint_round_trip(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build_reid(arch, pooling="gem")
    assert isinstance(net.pool, GemPooling)
    with torch.no_grad():
        net.pool.p.fill_(2.5)
        net.train()(torch.randn(4, 3, 64, 32))  # moves the running statistics
    save_checkpoint(tmp_path / "c.safetensors", net, {"input_size": [64, 32], "epoch": 3})
    back, meta = load_checkpoint(tmp_path / "c.safetensors")
    assert meta == {"schema": 1, "arch": arch, "pooling": "gem", "input_size": (64, 32), "epoch": 3}
    assert not back.training
    assert untouched(back, snapshot(net))


def test_checkpoint_bytes_are_reproducible(tmp_path: Path) -> None:
    net = build_reid("osnet_x0_25")
    for name in ("a", "b"):
        save_checkpoint(tmp_path / f"{name}.safetensors", net, {"z": 1, "a": [1, 2]})
    assert sha256_file(tmp_path / "a.safetensors") == sha256_file(tmp_path / "b.safetensors")


def test_checkpoint_as_initial_weights(tmp_path: Path) -> None:
    source = build_reid("osnet_x0_25")
    save_checkpoint(tmp_path / "c.safetensors", source, {})
    net = build_reid("osnet_x0_25", pooling="gem")
    report = load_weights(net, tmp_path / "c.safetensors")
    assert report.missing == ("pool.p",)
    with pytest.raises(WeightsError, match=r"they are for osnet_x0_25"):
        load_weights(build_reid("osnet_x1_0"), tmp_path / "c.safetensors")


def test_plain_weights_are_no_checkpoint(small_file: Path) -> None:
    with pytest.raises(WeightsError, match=r"not a checkpoint of this product"):
        load_checkpoint(small_file)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"schema": 2, "arch": "osnet_x0_25", "pooling": "avg"}, "schema 2"),
        ({"schema": 1, "arch": "vgg", "pooling": "avg"}, "'vgg'"),
        ({"schema": 1, "arch": "osnet_x0_25", "pooling": "max"}, "'max'"),
        ({"schema": 1, "arch": ["osnet_x0_25"], "pooling": None}, "unknown architecture"),
        ({"schema": 1, "arch": "osnet_x0_25", "pooling": "avg", "input_size": "big"}, "input_size is 'big'"),
        (["schema"], "not a checkpoint"),
    ],
)
def test_checkpoints_from_elsewhere(record: object, message: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "c.safetensors", {"calr": json.dumps(record)})
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(tmp_path / "c.safetensors")


def test_checkpoint_that_lacks_a_tensor(tmp_path: Path) -> None:
    net = build_reid("mobilenet_v2")
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("neck.")}
    save_file(state, tmp_path / "c.safetensors", {"calr": '{"schema":1,"arch":"mobilenet_v2","pooling":"avg"}'})
    with pytest.raises(WeightsError, match=r"lacks neck\."):
        load_checkpoint(tmp_path / "c.safetensors")


# ---------------------------------------------------------------- the zoo


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[str] | bytes]]:
    """A zoo on the loopback interface with one MobileNetV2 file, and an empty cache."""
    torch.manual_seed(2)
    state = dict(build_reid("mobilenet_v2").backbone.state_dict())
    buffer = io.BytesIO()
    torch.save(state, buffer)
    shelf: dict[str, list[str] | bytes] = {"data": buffer.getvalue(), "requests": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests, data = shelf["requests"], shelf["data"]
            assert isinstance(requests, list)
            assert isinstance(data, bytes)
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    (tmp_path / "w").write_bytes(buffer.getvalue())
    prefix = sha256_file(tmp_path / "w")[:8]
    monkeypatch.setenv("CALR_CACHE", str(tmp_path / "cache"))
    entry = weights._ZooFile(
        "mobilenet_v2",
        "ImageNet-1k",
        "here",
        f"http://127.0.0.1:{server.server_port}/mobilenet_v2-{prefix}.pth",
        prefix,
    )
    monkeypatch.setitem(weights.ZOO, "mobilenet_v2_imagenet", entry)
    yield shelf
    server.shutdown()
    server.server_close()
    thread.join()


def test_download_once_then_from_the_cache(zoo: dict[str, list[str] | bytes], tmp_path: Path) -> None:
    net = build_reid("mobilenet_v2")
    load_weights(net, "mobilenet_v2_imagenet")
    load_weights(build_reid("mobilenet_v2"), "mobilenet_v2_imagenet")
    assert len(zoo["requests"]) == 1
    (kept,) = (tmp_path / "cache" / "weights").iterdir()
    assert kept.read_bytes() == zoo["data"]
    torch.manual_seed(2)
    assert untouched(net.backbone, build_reid("mobilenet_v2").backbone.state_dict())


def test_wrong_download_is_not_kept(zoo: dict[str, list[str] | bytes], tmp_path: Path) -> None:
    zoo["data"] = b"<html>hotel login</html>"
    with pytest.raises(WeightsError, match=r"SHA-256.*not kept"):
        load_weights(build_reid("mobilenet_v2"), "mobilenet_v2_imagenet")
    assert not (tmp_path / "cache").exists()


def test_damaged_cache_is_refused_before_it_is_read(
    zoo: dict[str, list[str] | bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load_weights(build_reid("mobilenet_v2"), "mobilenet_v2_imagenet")
    (kept,) = (tmp_path / "cache" / "weights").iterdir()
    kept.write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(WeightsError, match=r"mobilenet_v2-.*\.pth: SHA-256.*delete it"):
        load_weights(build_reid("mobilenet_v2"), "mobilenet_v2_imagenet")
    assert not (tmp_path / "exploded").exists()


def test_code_in_a_zoo_file_does_not_run(
    zoo: dict[str, list[str] | bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Even with the right checksum (a poisoned zoo) only tensors are admitted.
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"state_dict": _Bomb()}, buffer)
    zoo["data"] = buffer.getvalue()
    (tmp_path / "w").write_bytes(buffer.getvalue())
    entry = weights.ZOO["mobilenet_v2_imagenet"]
    monkeypatch.setitem(
        weights.ZOO,
        "mobilenet_v2_imagenet",
        weights._ZooFile(entry.arch, "", "", entry.url, sha256_file(tmp_path / "w")[:8]),
    )
    with pytest.raises(WeightsError, match=r"torch cannot read it"):
        load_weights(build_reid("mobilenet_v2"), "mobilenet_v2_imagenet")
    assert not (tmp_path / "exploded").exists()


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALR_CACHE", str(tmp_path / "cache"))
    # Port 9 of the loopback interface: nothing listens there.
    entry = weights._ZooFile("resnet50", "ImageNet-1k", "here", "http://127.0.0.1:9/resnet50-00000000.pth", "00000000")
    monkeypatch.setitem(weights.ZOO, "resnet50_imagenet", entry)
    with pytest.raises(WeightsError, match=r"cannot download.*put it at .*resnet50-00000000\.pth, or give the path"):
        load_weights(build_reid("resnet50"), "resnet50_imagenet")


def test_names_without_a_checksum_say_how_to_fetch_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("must not go out")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    for name, entry in weights.ZOO.items():
        if entry.url is None:
            with pytest.raises(WeightsError, match=rf"{name}: .*without a checksum.*MODEL_ZOO.*give the path"):
                load_weights(build_reid(entry.arch), name)


def test_zoo_table_is_consistent() -> None:
    for name, entry in weights.ZOO.items():
        assert name.startswith(entry.arch)
        assert entry.arch in ARCHITECTURES
        if entry.url is not None:
            assert entry.url.startswith("https://")
            assert entry.url.endswith(f"-{entry.sha256_prefix}.pth")


def test_the_conversion_it_advises_works(tmp_path: Path) -> None:
    import subprocess
    import sys

    state = build_reid("mobilenet_v2").backbone.state_dict()
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "FILE.pth")
    code = weights._CONVERT.split('"', 1)[1].rsplit('"', 1)[0]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    net = build_reid("mobilenet_v2")
    load_weights(net, tmp_path / "FILE.safetensors")
    assert untouched(net.backbone, state)

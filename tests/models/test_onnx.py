"""models.onnx_session and models.onnx_export."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F

from models import onnx_export, onnx_session
from models.onnx_export import ExportError, export_onnx
from models.onnx_session import SessionError, cpu_has_bfloat16, make_session, provider_order
from models.preprocess import normalise
from models.reid import ARCHITECTURES, ReidNet, build_reid
from tests.affinity import share_tied, tied_threads

SIZE = (64, 32)


def settled(arch: str, pooling: str = "avg") -> ReidNet:
    """A random network whose batch norms have seen some data, so that embeddings differ from image to image."""
    torch.manual_seed(0)
    net = build_reid(arch, pooling=pooling)  # type: ignore[arg-type]
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # a plain average: three batches are enough
    with torch.no_grad():
        for _ in range(3):
            net(normalise(torch.rand(8, 3, *SIZE) * 255))
    return net


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Exports, each made once and not to be changed: one takes seconds."""
    folder = tmp_path_factory.mktemp("onnx")

    def path_of(arch: str, pooling: str) -> Path:
        path = folder / f"{arch}-{pooling}.onnx"
        if not path.exists():
            net = settled(arch, pooling).train()
            assert export_onnx(net, path, SIZE) < 1e-4
            assert net.training  # as it was
        return path

    return path_of


@pytest.fixture(scope="module")
def osnet(exported: Callable[[str, str], Path]) -> Path:
    return exported("osnet_x0_25", "avg")


@pytest.fixture
def exporter_gives_osnet(osnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_serialise", lambda *_: osnet.read_bytes())


@pytest.mark.parametrize(("arch", "pooling"), [(a, "gem" if a == "mobilenet_v2" else "avg") for a in ARCHITECTURES])
def test_every_architecture_exports_and_agrees_with_torch(
    arch: str, pooling: str, exported: Callable[[str, str], Path]
) -> None:
    net = settled(arch, pooling)
    path = exported(arch, pooling)
    images = torch.rand(5, 3, *SIZE) * 255
    with torch.inference_mode():
        wanted = F.normalize(net.eval()(normalise(images)), dim=1).numpy()
    got = make_session(path, precision="exact").run(["embeddings"], {"images": images.numpy()})[0]
    assert got.dtype == np.float32
    assert np.abs(got - wanted).max() < 1e-4
    assert np.ptp(wanted @ wanted.T) > 1e-3  # the images are told apart, so agreement means something

    model = onnx.load(path)
    assert model.ir_version <= 10
    assert {o.domain: o.version for o in model.opset_import} == {"": 18}
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:] == [3, *SIZE]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert str(Path(onnx_export.__file__).parent).encode() not in path.read_bytes()


def test_fastest_provider_agrees_roughly(osnet: Path) -> None:
    images = (torch.rand(8, 3, *SIZE) * 255).numpy()
    exact = make_session(osnet, precision="exact").run(None, {"images": images})[0]
    fast = make_session(osnet, threads=1).run(None, {"images": images})[0]
    # bfloat16 has 8 bits, and a random network amplifies its rounding more than a trained one (0.99 there).
    agreement = exact @ fast.T
    assert agreement.argmax(axis=1).tolist() == list(range(8))
    assert agreement.diagonal().min() > 0.8


@pytest.mark.gpu
def test_a_gpu_is_used_and_agrees(osnet: Path) -> None:
    images = (torch.rand(16, 3, *SIZE) * 255).numpy()
    fast, exact = make_session(osnet), make_session(osnet, precision="exact")
    assert fast.get_providers()[0] == "CUDAExecutionProvider"
    agreement = (fast.run(None, {"images": images})[0] * exact.run(None, {"images": images})[0]).sum(axis=1)
    assert agreement.min() > 0.99  # TF32 has 10 bits


@pytest.mark.usefixtures("exporter_gives_osnet")
def test_a_graph_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crooked:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, *arguments: Any) -> list[np.ndarray]:
            return [self.session.run(*arguments)[0] + np.float32(0.001)]

    monkeypatch.setattr(onnx_export, "make_session", lambda *a, **k: Crooked(make_session(*a, **k)))
    with pytest.raises(ExportError, match=r"differs from torch by 1"):
        export_onnx(settled("osnet_x0_25"), tmp_path / "model.onnx", SIZE)


@pytest.mark.usefixtures("exporter_gives_osnet")
def test_other_weights_are_noticed(tmp_path: Path) -> None:
    net = settled("osnet_x0_25")
    assert export_onnx(net, tmp_path / "model.onnx", SIZE) < 1e-4
    with torch.no_grad():
        net.backbone.conv5.conv.weight[3] *= 1.5  # type: ignore[union-attr, index]
    with pytest.raises(ExportError, match=r"differs from torch"):
        export_onnx(net, tmp_path / "model.onnx", SIZE)


@pytest.mark.usefixtures("exporter_gives_osnet")
def test_nan_is_refused(tmp_path: Path) -> None:
    net = settled("osnet_x0_25")
    with torch.no_grad():
        net.backbone.conv5.conv.weight.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(ExportError, match=r"nan"):
        export_onnx(net, tmp_path / "model.onnx", SIZE)


def test_the_next_of_a_kind_is_traced_no_more_and_comes_out_the_same(
    osnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.random.get_rng_state()
    other = settled("osnet_x0_25")
    with torch.no_grad():
        other.backbone.conv5.conv.weight.mul_(1.5)  # type: ignore[union-attr, operator]
    onnx_export._traced.cache_clear()
    torch.random.set_rng_state(state)
    export_onnx(other, tmp_path / "other.onnx", SIZE)
    assert torch.equal(torch.random.get_rng_state(), state)
    monkeypatch.setattr(torch.onnx, "export", None)
    export_onnx(settled("osnet_x0_25"), tmp_path / "again.onnx", SIZE)
    other_bytes, again = ((tmp_path / f"{name}.onnx").read_bytes() for name in ("other", "again"))
    assert other_bytes != again == osnet.read_bytes()


def test_an_input_too_small_for_the_network(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"osnet_x0_25 cannot be exported at 4×2"):
        export_onnx(build_reid("osnet_x0_25"), tmp_path / "model.onnx", (4, 2))
    assert not (tmp_path / "model.onnx").exists()


def test_session_of_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"none\.onnx: no such file"):
        make_session(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    for precision in ("default", "exact"):
        with pytest.raises(SessionError, match=r"text\.onnx: onnxruntime .* cannot open it"):
            make_session(tmp_path / "text.onnx", precision=precision)  # type: ignore[arg-type]


def test_stderr_stays_clean(osnet: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07")
    program = (
        "import sys, numpy as np\n"
        "from models.onnx_session import make_session, SessionError\n"
        f"for p in ('default', 'exact'):\n"
        f"    s = make_session({str(osnet)!r}, threads=1, precision=p)\n"
        "    for n in (1, 3): s.run(None, {'images': np.zeros((n, 3, 64, 32), np.float32)})\n"
        f"    try: make_session({str(tmp_path / 'bad.onnx')!r}, precision=p)\n"
        "    except SessionError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "refused"]
    assert done.stderr == ""


@pytest.mark.parametrize("bfloat16", [True, False])
def test_provider_order(bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_session, "cpu_has_bfloat16", lambda: bfloat16)
    have = ["CPUExecutionProvider", "OpenVINOExecutionProvider", "CUDAExecutionProvider", "AzureExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: have)
    order = provider_order(threads=3)
    assert [name for name, _ in order] == [
        "CUDAExecutionProvider",
        "OpenVINOExecutionProvider",
        "CPUExecutionProvider",
    ]
    hint = "bf16" if bfloat16 else "f32"
    assert f'"INFERENCE_PRECISION_HINT": "{hint}"' in order[1][1]["load_config"]
    assert '"INFERENCE_NUM_THREADS": 3' in order[1][1]["load_config"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert provider_order() == [("CPUExecutionProvider", {})]


def test_a_provider_that_does_not_work_here_is_told_and_not_on_standard_output(
    osnet: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installation for CUDA whose libraries do not load, as where the driver or one of them is missing."""
    monkeypatch.setattr(
        onnx_session, "provider_order", lambda threads: [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})]
    )
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: print("libcurand.so.10 is missing"), raising=False)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        session = make_session(osnet, threads=1)
    assert session.get_providers()[0] == "CPUExecutionProvider"
    assert "CUDAExecutionProvider is installed but does not work here" in caplog.text
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [("fpu avx512_bf16 amx_tile", True), ("fpu amx_bf16", True), ("fpu avx2 avx512f", False), ("", False)],
)
def test_bfloat16_is_read_from_the_cpu(flags: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"processor\t: 0\nmodel name\t: some avx512_bf16 name\nflags\t\t: {flags}\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    cpu_has_bfloat16.cache_clear()
    try:
        assert cpu_has_bfloat16() is wanted
    finally:
        cpu_has_bfloat16.cache_clear()


@pytest.mark.shared_data
def test_serves_a_detector_too(shared_data: Path) -> None:
    session = make_session(shared_data / "weights" / "yolox_nano_coco80.onnx", threads=1)
    (entry,) = session.get_inputs()
    out = session.run(None, {entry.name: np.zeros((1, 3, 416, 416), np.float32)})[0]
    assert out.shape == (1, 3549, 85)


def test_a_session_is_not_tied_to_some_cores(osnet: Path) -> None:
    left_behind = tied_threads()
    session = make_session(osnet, threads=1)
    images = np.zeros((8, 3, *SIZE), np.float32)
    session.run(["embeddings"], {"images": images})  # compiles it
    assert share_tied(lambda: [session.run(["embeddings"], {"images": images}) for _ in range(100)], left_behind) < 0.01

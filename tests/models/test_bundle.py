"""models.bundle, models.embedder and the commands: whole bundles, or none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from models import onnx_export
from models.__main__ import main
from models.atomic import sha256_file
from models.bundle import Bundle, BundleError, LiveVersionError, ModelStore, load_bundle, model_version, write_bundle
from models.embedder import Embedder
from models.matching.calibration import Calibration, LookAlikes
from models.preprocess import normalise, to_batch
from models.reid import ReidNet, build_reid
from models.weights import save_checkpoint

SIZE = (64, 32)


def network(seed: int = 0) -> ReidNet:
    torch.manual_seed(seed)
    net = build_reid("osnet_x0_25").train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, 3, *SIZE))
    return net.eval()


@pytest.fixture(scope="module")
def net() -> ReidNet:
    return network()


@pytest.fixture(scope="module")
def shared_bundle(net: ReidNet, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(
        folder / "b", net, SIZE, training_run="run-1", data_fingerprint="abc", metrics={"retrieval": {"mAP": 0.5}}
    )


@pytest.fixture
def bundle(shared_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy, to be damaged."""
    (tmp_path / "b").mkdir()
    for file in shared_bundle.path.iterdir():
        (tmp_path / "b" / file.name).write_bytes(file.read_bytes())
    return load_bundle(tmp_path / "b")


def test_what_is_in_a_bundle(shared_bundle: Bundle, net: ReidNet) -> None:
    names = {"model.onnx", "bundle.json", "calibration.json", "SHA256SUMS"}
    assert {file.name for file in shared_bundle.path.iterdir()} == names
    assert json.loads((shared_bundle.path / "calibration.json").read_text()) == {"schema": 1, "calibrated": False}
    assert shared_bundle == Bundle(
        path=shared_bundle.path,
        version=model_version(net, SIZE),
        arch="osnet_x0_25",
        pooling="avg",
        embedding_dim=512,
        input_size=SIZE,
        training_run="run-1",
        data_fingerprint="abc",
        metrics={"retrieval": {"mAP": 0.5}},
    )
    assert list(shared_bundle.path.parent.iterdir()) == [shared_bundle.path]  # no temporary folder stays


@pytest.fixture
def exported_before(shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes seconds; here it only copies what it gave before."""

    def export(net: ReidNet, path: Path, size: tuple[int, int]) -> float:
        path.write_bytes(shared_bundle.model_path.read_bytes())
        return 0.0

    monkeypatch.setattr(onnx_export, "export_onnx", export)


@pytest.mark.usefixtures("exported_before")
def test_a_model_is_calibrated_with_the_graph_of_its_bundle_before_the_bundle_is_there(
    net: ReidNet, tmp_path: Path
) -> None:
    calibration = Calibration(9.5, -3.0, LookAlikes(2, 6, 36, 20.5), queries=40, expected_right=0.3)
    seen: list[Bundle] = []

    def calibrate(bundle: Bundle) -> Calibration:
        assert not (tmp_path / "b").exists()
        assert Embedder(bundle).embed([np.zeros((8, 4, 3), np.uint8)]).shape == (1, 512)
        seen.append(bundle)
        return calibration

    bundle = write_bundle(tmp_path / "b", net, SIZE, calibrate=calibrate)
    assert bundle.calibration == calibration
    assert load_bundle(tmp_path / "b") == bundle
    assert seen[0].version == bundle.version and seen[0].path != bundle.path
    assert write_bundle(tmp_path / "b", net, SIZE, calibrate=calibrate) == bundle
    assert len(seen) == 1, "a bundle that is there is not calibrated again"
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]


@pytest.mark.usefixtures("exported_before")
def test_a_calibration_that_cannot_be_fitted_leaves_no_bundle(net: ReidNet, tmp_path: Path) -> None:
    def calibrate(bundle: Bundle) -> Calibration:
        raise OSError("the crops are gone")

    with pytest.raises(OSError, match="the crops are gone"):
        write_bundle(tmp_path / "b", net, SIZE, calibrate=calibrate)
    assert list(tmp_path.iterdir()) == []


def test_a_calibration_of_the_wrong_kind_is_named(bundle: Bundle) -> None:
    file = bundle.path / "calibration.json"
    file.write_text(json.dumps({"schema": 1, "calibrated": True, "slope": "steep"}))
    record = json.loads((bundle.path / "bundle.json").read_text())
    record["files"]["calibration.json"] = sha256_file(file)
    (bundle.path / "bundle.json").write_text(json.dumps(record))
    (bundle.path / "SHA256SUMS").unlink()
    with pytest.raises(BundleError, match=r"calibration.json: field look_alikes"):
        load_bundle(bundle.path)


def test_the_version_follows_from_the_weights_and_the_input(net: ReidNet) -> None:
    version = model_version(net, SIZE)
    assert version.startswith("m-")
    assert len(version) == 14
    assert model_version(network(0), SIZE) == version
    assert model_version(network(1), SIZE) != version
    assert model_version(net, (128, 64)) != version
    changed = network(0)
    with torch.no_grad():
        changed.neck[1].running_mean[7] += 1e-3  # type: ignore[index]
    assert model_version(changed, SIZE) != version
    counted = network(0)
    counted.neck[1].num_batches_tracked += 1  # type: ignore[index]
    assert model_version(counted, SIZE) == version


def test_exporting_again_is_a_no_op(bundle: Bundle, net: ReidNet) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in bundle.path.iterdir()}
    assert write_bundle(bundle.path, net, SIZE) == bundle
    assert {file.name: file.stat().st_mtime_ns for file in bundle.path.iterdir()} == before


def test_a_folder_of_something_else_is_not_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"choose another folder"):
        write_bundle(bundle.path, network(1), SIZE)
    (tmp_path / "holiday").mkdir()
    with pytest.raises(BundleError, match=r"holiday is no model bundle"):
        write_bundle(tmp_path / "holiday", network(1), SIZE)
    with pytest.raises(BundleError, match=r"no version name"):
        write_bundle(tmp_path / "x", network(1), SIZE, version="../x")


@pytest.mark.parametrize("name", ["model.onnx", "calibration.json"])
def test_every_file_is_verified(name: str, bundle: Bundle) -> None:
    path = bundle.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: SHA-256 is"):
        load_bundle(bundle.path)
    path.unlink()
    with pytest.raises(BundleError, match=rf"{name}: missing"):
        load_bundle(bundle.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2"),
        ({"version": None}, "field version"),
        ({"version": "../../etc"}, "no version name"),
        ({"embedding_dim": "512"}, "field embedding_dim"),
        ({"embedding_dim": True}, "field embedding_dim"),
        ({"input_size": [64]}, "field input_size"),
        ({"input_size": [64, -1]}, "field input_size"),
        ({"files": {}}, "does not list model.onnx"),
        ({"files": []}, "field files"),
        ({"metrics": 3}, "field metrics"),
    ],
)
def test_fields_are_checked(change: dict[str, object], message: str, bundle: Bundle) -> None:
    path = bundle.path / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle.path)


def test_a_bundle_cannot_point_outside_itself(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.path / "bundle.json"
    record = json.loads(path.read_text())
    (tmp_path / "secret").write_text("s")
    record["files"]["../secret"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(BundleError, match=r"no plain file name"):
        load_bundle(bundle.path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
def test_bundle_json_that_is_none(text: str, bundle: Bundle) -> None:
    (bundle.path / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_bundle(bundle.path)


# ---------------------------------------------------------------- kill -9

# The export is replaced: it takes seconds, and what is tested is how its outcome becomes a bundle.
_WRITER = """
import sys, types
from models.atomic import write_bytes
from models.bundle import write_bundle
export = types.ModuleType("models.onnx_export")
export.OPSET = 18
def export_onnx(net, path, size):
    write_bytes(path, bytes(20_000_000))
    return 0.0
export.export_onnx = export_onnx
sys.modules["models.onnx_export"] = export
net = types.SimpleNamespace(arch="a", pooling="avg", embedding_dim=2)
print("ready", flush=True)
write_bundle(sys.argv[1], net, (64, 32), version="v")
print("done", flush=True)
"""


@pytest.mark.parametrize("stage", ["", "model.onnx", "calibration.json", "bundle.json"])
def test_a_killed_writer_leaves_no_half_bundle(stage: str, tmp_path: Path) -> None:
    """Kill a real process when the temporary folder is there, and when each of its files is."""
    final = tmp_path / "v"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(final)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout:
        assert writer.stdout.readline() == b"ready\n"
        while not list(tmp_path.glob(f".v.*.tmp/{stage}" if stage else ".v.*.tmp")):
            if writer.poll() is not None or final.exists():
                break  # faster than we look; what must hold below holds as well
            time.sleep(0.0005)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    if final.exists():
        load_bundle(final)  # whole
    assert ModelStore(tmp_path).list() == (["v"] if final.exists() else [])

    # The next writer succeeds and clears up.
    again = subprocess.run([sys.executable, "-c", _WRITER, str(final)], check=True, capture_output=True)
    assert again.stdout == b"ready\ndone\n"
    assert load_bundle(final).version == "v"
    assert [entry.name for entry in tmp_path.iterdir()] == ["v"]


def test_asking_for_the_live_version_needs_no_torch(store: ModelStore) -> None:
    store.promote("vb")
    program = (
        "import sys\n"
        "from models.bundle import ModelStore\n"
        "from models.embedder import Embedder\n"
        f"print(ModelStore({str(store.folder)!r}).current().version, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "vb False\n"


# ---------------------------------------------------------------- store


@pytest.fixture
def store(shared_bundle: Bundle, tmp_path: Path) -> ModelStore:
    """Three versions, made without three exports."""
    for number, version in enumerate(("va", "vb", "vc")):
        folder = tmp_path / "models" / version
        folder.mkdir(parents=True)
        for file in shared_bundle.path.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        record = json.loads((folder / "bundle.json").read_text())
        (folder / "bundle.json").write_text(json.dumps(record | {"version": version}))
        (folder / "SHA256SUMS").unlink()
        os.utime(folder / "bundle.json", (1_000_000 - number, 1_000_000 + number))
    return ModelStore(tmp_path / "models")


def test_an_empty_store(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    assert store.list() == []
    assert store.current() is None
    assert store.history() == []
    with pytest.raises(BundleError, match=r"nothing to go back from"):
        store.rollback()
    with pytest.raises(BundleError, match=r"no version v1; there are: none"):
        store.promote("v1")


def test_add_is_idempotent_and_promotes_nothing(tmp_path: Path, net: ReidNet, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = []

    def export_onnx(net: ReidNet, path: Path, size: tuple[int, int]) -> float:
        exports.append(size)
        path.write_bytes(b"graph")
        return 0.0

    monkeypatch.setattr(onnx_export, "export_onnx", export_onnx)
    store = ModelStore(tmp_path / "models")
    first = store.add(net, SIZE, training_run="r")
    assert store.add(net, SIZE, training_run="r") == first
    assert exports == [SIZE]
    assert store.list() == [first.version] == [first.path.name]
    assert store.current() is None
    store.promote(first.version)
    assert store.current() == first


def test_promote_and_rollback(store: ModelStore) -> None:
    assert store.list() == ["va", "vb", "vc"]
    for version in ("va", "vb", "vc"):
        assert store.promote(version).version == version
    assert (store.folder / "current").read_text() == "vc\n"
    assert (store.folder / "history").read_text() == "va\nvb\nvc\n"
    assert store.rollback().version == "vb"
    assert store.rollback().version == "va"
    current = store.current()
    assert current is not None
    assert current.version == "va"
    with pytest.raises(BundleError, match=r"no version was live before va"):
        store.rollback()
    assert store.current_version() == "va"


def test_a_version_that_was_rolled_back_is_not_rolled_back_to(store: ModelStore) -> None:
    store.promote("va")
    store.promote("vb")
    store.rollback()  # vb was bad
    store.promote("vc")
    assert store.rollback().version == "va"


def test_promoting_the_live_version_changes_nothing(store: ModelStore) -> None:
    store.promote("va")
    store.promote("vb")
    store.promote("vb")
    assert store.history() == ["va", "vb"]
    store.promote("va")
    assert store.rollback().version == "vb"


def test_only_the_version_that_was_meant_is_replaced(store: ModelStore) -> None:
    with pytest.raises(LiveVersionError, match=r"None is live now, not va"):
        store.promote("vb", instead_of="va")
    store.promote("va", instead_of=None)
    for wrong in (None, "vc"):
        with pytest.raises(LiveVersionError, match=r"va is live now"):
            store.promote("vb", instead_of=wrong)
    store.promote("vb", instead_of="va")
    assert store.history() == ["va", "vb"]


def test_going_back_leads_where_it_was_meant_to_or_nowhere(store: ModelStore) -> None:
    recorded: list[tuple[str, str]] = []

    def record(live: str, previous: str) -> None:
        assert store.current_version() == live
        recorded.append((live, previous))

    for version in ("va", "vb", "vc"):
        store.promote(version)
    for _ in range(2):
        with contextlib.suppress(LiveVersionError):
            store.rollback(to="vb", record=record)
    assert (store.current_version(), recorded) == ("vb", [("vc", "vb")])

    def refuse(live: str, previous: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.rollback(record=refuse)
    assert store.history() == ["va", "vb"]


@pytest.mark.parametrize(
    ("change", "history"),
    [
        (lambda store: store.rollback(to="vb"), ["va", "vb"]),  # the button pressed twice
        (lambda store: store.promote("va"), ["va", "vb", "va"]),
    ],
)
def test_one_at_a_time_changes_what_is_live(
    store: ModelStore, change: Callable[[ModelStore], Bundle], history: list[str]
) -> None:
    for version in ("va", "vb", "vc"):
        store.promote(version)
    recording = threading.Event()

    def record(live: str, previous: str) -> None:
        recording.set()
        time.sleep(0.5)

    def change_too() -> None:
        with contextlib.suppress(LiveVersionError):
            change(ModelStore(store.folder))

    first = threading.Thread(target=store.rollback, args=("vb", record))
    second = threading.Thread(target=change_too)
    first.start()
    assert recording.wait(60)
    second.start()
    first.join()
    second.join()
    assert store.history() == history


def test_a_damaged_version_is_not_promoted(store: ModelStore) -> None:
    store.promote("va")
    (store.folder / "vb" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"vb.model\.onnx"):
        store.promote("vb")
    assert store.current_version() == "va"
    assert store.history() == ["va"]


@pytest.mark.parametrize("version", ["../va", "", ".", "..", "va/", "a b"])
def test_names_that_are_none(version: str, store: ModelStore) -> None:
    with pytest.raises(BundleError, match=r"no version name"):
        store.promote(version)


def test_current_that_names_something_missing(store: ModelStore) -> None:
    store.promote("va")
    (store.folder / "current").write_text("vx\n")
    with pytest.raises(BundleError, match=r"no version vx"):
        store.current()


def test_deleted_versions_are_passed_over(store: ModelStore) -> None:
    for version in ("va", "vb", "vc"):
        store.promote(version)
    (store.folder / "vb").rename(store.folder.parent / "gone")
    assert store.rollback().version == "va"


@pytest.mark.parametrize(
    ("current", "history", "live", "back"),
    [
        ("va", "va\nvb\n", ["va"], None),  # killed in promote(vb), between the two files
        ("vb", "va\nvb\nvc\n", ["va", "vb"], "va"),  # killed in rollback() from vc, between the two files
        ("vb", "", ["vb"], None),  # history lost
        ("vb", "va\n", ["va", "vb"], "va"),
    ],
)
def test_after_a_crash_between_the_two_files(
    current: str, history: str, live: list[str], back: str | None, store: ModelStore
) -> None:
    (store.folder / "current").write_text(current + "\n")
    (store.folder / "history").write_text(history)
    assert store.history() == live
    if back is None:
        with pytest.raises(BundleError, match=r"no version was live before"):
            store.rollback()
    else:
        assert store.rollback().version == back


def test_a_bundle_in_a_folder_of_another_name(store: ModelStore) -> None:
    (store.folder / "va").rename(store.folder / "vz")
    with pytest.raises(BundleError, match=r"holds version va"):
        store.promote("vz")


# ---------------------------------------------------------------- embedder


def crops(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.integers(0, 256, (*rng.integers(20, 120, 2), 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33])
def test_embedder_is_the_network(count: int, shared_bundle: Bundle, net: ReidNet) -> None:
    embedder = Embedder(shared_bundle, threads=1, precision="exact")
    assert embedder.dim == 512
    assert embedder.version == shared_bundle.version
    images = crops(count)
    with torch.inference_mode():
        wanted = F.normalize(net(normalise(torch.from_numpy(to_batch(images, SIZE)))), dim=1).numpy()
    got = embedder.embed(images, batch_size=8)
    assert got.dtype == np.float32
    assert np.abs(got - wanted).max() < 1e-4


def test_embedding_does_not_depend_on_the_batch(shared_bundle: Bundle) -> None:
    embedder = Embedder(shared_bundle, threads=1)
    images = crops(11)
    whole = embedder.embed(images)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    single = np.concatenate([embedder.embed([image]) for image in images])
    assert (whole * single).sum(axis=1).min() > 0.999
    assert (whole * embedder.embed(images, batch_size=3)).sum(axis=1).min() > 0.999


def test_no_crops(shared_bundle: Bundle) -> None:
    out = Embedder(shared_bundle, threads=1).embed([])
    assert out.shape == (0, 512)
    assert out.dtype == np.float32


def test_bad_crops(shared_bundle: Bundle) -> None:
    embedder = Embedder(shared_bundle, threads=1)
    with pytest.raises(ValueError, match=r"uint8"):
        embedder.embed([np.zeros((4, 4), np.uint8)])
    with pytest.raises(ValueError, match=r"batch_size"):
        embedder.embed(crops(1), batch_size=0)


# ---------------------------------------------------------------- commands


class Commands:
    """``python -m models`` within this process: starting one takes seconds, for torch."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.monkeypatch.setattr(sys, "argv", ["models", *map(str, arguments)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = self.capsys.readouterr()
        code = stop.value.code
        return (code if isinstance(code, int) else 0), out, err


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(capsys, monkeypatch)


def test_commands(net: ReidNet, tmp_path: Path, command: Commands) -> None:
    save_checkpoint(tmp_path / "c.safetensors", net, {"input_size": list(SIZE)})
    folder = tmp_path / "models"
    version = model_version(net, SIZE)
    code, out, err = command("export", "--weights", tmp_path / "c.safetensors", "--out", folder / version, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["version"] == version
    assert record["input_size"] == list(SIZE)

    assert json.loads(command("info", folder / version, "--json")[1]) == record
    assert command("list", folder)[:2] == (0, f"  {version}\n")
    assert command("promote", folder, version)[0] == 0
    assert command("list", folder)[1] == f"* {version}\n"
    assert json.loads(command("list", folder, "--json")[1]) == {
        "schema": 1,
        "versions": [version],
        "current": version,
        "history": [version],
    }
    code, out, err = command("rollback", folder)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {folder}: no version was live before")


def test_a_checkpoint_knows_better_than_the_options(net: ReidNet, tmp_path: Path, command: Commands) -> None:
    checkpoint = tmp_path / "c.safetensors"
    save_checkpoint(checkpoint, net, {"input_size": list(SIZE)})
    export = ("export", "--weights", checkpoint, "--out", tmp_path / "b")
    code, out, err = command(*export, "--input-size", "256", "128")
    assert (code, out) == (1, "")
    assert f"trained with {SIZE}, not with --input-size (256, 128)" in err
    other = "gem" if net.pooling == "avg" else "avg"
    assert "not with --pooling" in command(*export, "--pooling", other)[2]
    assert "not with --arch" in command(*export, "--arch", "mobilenet_v2")[2]
    code, out, err = command(*export, "--arch", net.arch, "--json")
    assert code == 0, err
    assert json.loads(out)["input_size"] == list(SIZE)


def test_a_damaged_bundle_says_how_to_go_on(bundle: Bundle, net: ReidNet) -> None:
    with bundle.model_path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match="delete its folder and export it again"):
        write_bundle(bundle.path, net, bundle.input_size)


def test_command_errors(tmp_path: Path, command: Commands) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_text("no")
    plain = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, plain)
    for arguments, message in (
        (("export", "--arch", "osnet_x0_25", "--weights", weights, "--out", tmp_path / "o"), "not a whole"),
        (("export", "--arch", "vgg", "--weights", plain, "--out", tmp_path / "o"), "unknown --arch 'vgg'"),
        (("export", "--weights", plain, "--out", tmp_path / "o"), "do not say their architecture"),
        (("export", "--weights", weights, "--out", tmp_path / "o"), "not a whole"),
        (("info", tmp_path), "is no model bundle"),
        (("list", tmp_path / "none"), "no such folder"),
        (("promote", tmp_path, "v1"), "no version v1"),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (1, ""), arguments
        assert "error: " in err
        assert message in err
    assert command("export")[0] == 2
    assert not (tmp_path / "o").exists()


def test_command_line_of_a_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "models", "info", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'bundle.json'}: missing; {tmp_path} is no model bundle\n"


def test_a_model_that_gives_no_numbers_is_refused(shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """One such vector in a gallery, and no search would find anything."""
    embedder = Embedder(shared_bundle, threads=1)
    run = embedder._session.run

    class Broken:
        @staticmethod
        def run(*arguments: object) -> list[np.ndarray]:
            found = run(*arguments)[0]
            found[1, 3] = np.inf
            return [found]

    monkeypatch.setattr(embedder, "_session", Broken)
    with pytest.raises(ValueError, match="no finite number"):
        embedder.embed(crops(3))

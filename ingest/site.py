"""site.yaml: the one file a person writes, read where it lies and never copied.

`load_site` turns it into a checked `SiteConfig`, or into a `SiteError` that names the file, the field, what is wrong
there and what to write instead.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from ingest.recording_file import RecordingPath, find_objects, identity, in_store, is_file
from ingest.recording_time import TimePatternError, compile_time_pattern

SITE_FILE = "site.yaml"
SITE_NAME = re.compile(r"[a-z0-9-]{1,40}")
_CAMERA_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_MAX_SITE_BYTES = 4_000_000


class SiteError(ValueError):
    """A site that cannot be used as it is written; the message says where and what to do."""


def _site_name(value: str) -> str:
    if not SITE_NAME.fullmatch(value):
        raise ValueError("use 1 to 40 of the characters a-z, 0-9 and '-'")
    return value


def _camera_id(value: str) -> str:
    if not _CAMERA_ID.fullmatch(value):
        raise ValueError("use 1 to 40 letters, digits, '_' or '-'")
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"'{value}' is not a timezone; use an IANA name such as Europe/Berlin or UTC") from None
    return value


def _moment(value: object) -> object:
    if not isinstance(value, str | datetime):
        raise ValueError("write a moment as RFC 3339, such as 2026-03-01T08:00:00+01:00")
    return value


def _polygon(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) < 3:
        raise ValueError("a polygon needs at least 3 points [x, y]")
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= 1 and 0 <= y <= 1):
            raise ValueError(
                f"the point [{x:g}, {y:g}] lies outside the frame; write fractions from 0 to 1, not pixels"
            )
    twice_area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True))
    if twice_area == 0:
        raise ValueError("the polygon has no area; its points lie on one line")
    return points


def _place(point: tuple[float, float]) -> tuple[float, float]:
    if not all(0 <= side <= 1 for side in point):
        raise ValueError(
            f"[{point[0]:g}, {point[1]:g}] lies outside the map; write fractions of its width and height from 0 to 1, "
            "not pixels"
        )
    return point


def _below(path: str) -> str:
    if Path(path).is_absolute() or path.startswith("~") or ".." in Path(path).parts:
        raise ValueError(f"'{path}' lies outside the folder of site.yaml; put the picture beside it or below")
    return path


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
Polygon = Annotated[list[tuple[float, float]], AfterValidator(_polygon)]


def _video(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Video(_Strict):
    """One entry of a camera's `videos`; a plain string in site.yaml is its `path`.

    Attributes:
        path: file or glob, relative to the site's folder, or s3://bucket/... for objects of a store.
        start: when it began (RFC 3339 with offset); wins over the camera's `time`.
        offset_s: seconds added to the start that was found.
    """

    path: str = Field(min_length=1)
    start: Moment | None = None
    offset_s: float = 0.0


class CameraTime(_Strict):
    """Where a camera's recordings have their start time from.

    Attributes:
        source: written `from`: "container" (the file's creation time), "filename" (needs `pattern`) or "start".
        pattern: see `ingest.recording_time.compile_time_pattern`.
        start: for "start": when every recording of the camera began, unless the recording states its own.
        continuous: for "start": timestamps run on from file to file, as of one stream that was cut into segments, and
            `start` is when timestamp zero was.
        offset_s: seconds added to what containers and file names say, for a camera whose clock is slow (more than 0) or
            fast (less).
    """

    source: Literal["container", "filename", "start"] = Field("container", alias="from")
    pattern: str | None = None
    start: Moment | None = None
    continuous: bool = False
    offset_s: float = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> CameraTime:
        if self.source == "filename" and self.pattern is None:
            raise ValueError("'from: filename' needs a 'pattern', such as cam_%Y%m%d_%H%M%S")
        if self.source != "filename" and self.pattern is not None:
            raise ValueError("'pattern' is only used with 'from: filename'; remove it or change 'from'")
        if self.source != "start" and self.start is not None:
            raise ValueError("'start' is only used with 'from: start'; remove it or change 'from'")
        if self.source != "start" and self.continuous:
            raise ValueError("'continuous' is only used with 'from: start'; remove it or change 'from'")
        if self.source == "start" and self.offset_s:
            raise ValueError("'offset_s' corrects a camera's own clock; with 'from: start' correct 'start' instead")
        if self.pattern is not None:
            try:
                compile_time_pattern(self.pattern)
            except TimePatternError as error:
                raise ValueError(f"pattern: {error}") from None
        return self


class Camera(_Strict):
    """One camera of a site.

    Attributes:
        id: its name in every table and folder.
        videos: files or globs, relative to the site's folder; `[]` where crops are imported instead.
        time: where start times come from.
        mask: polygons, in fractions of the frame, blacked out before detection and before anything is stored.
        ignore: polygons, in fractions of the frame; who stands in one (the middle of the box's lower edge) is not
            looked at. For a road, a screen, a neighbour's ground; what nobody may see belongs into `mask`.
        retention_days: after how many days what this camera saw is forgotten (`python -m ingest forget --expired`);
            None: the site's.
        ground_truth: CSV of true boxes (frame, person_id, x1, y1, x2, y2, visibility), for judging only.
        position: where it hangs on the site's map, x and y in fractions of the picture from its upper left.
        heading: where it looks, in degrees clockwise from the top of the map.
    """

    id: Annotated[str, AfterValidator(_camera_id)]
    videos: list[Annotated[Video, BeforeValidator(_video)]]
    time: CameraTime = Field(default_factory=lambda: CameraTime.model_validate({}))
    mask: list[Polygon] = Field(default_factory=list)
    ignore: list[Polygon] = Field(default_factory=list)
    retention_days: int | None = Field(None, ge=1)
    ground_truth: str | None = None
    position: Annotated[tuple[float, float], AfterValidator(_place)] | None = None
    heading: float | None = Field(None, ge=0, le=360)
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _starts_stated(self) -> Camera:
        if self.time.source == "start" and self.time.start is None:
            for video in self.videos:
                if video.start is None:
                    raise ValueError("'from: start' needs 'start' in 'time' or at every entry of 'videos'")
        return self

    @model_validator(mode="after")
    def _looks_from_somewhere(self) -> Camera:
        if self.heading is not None and self.position is None:
            raise ValueError("'heading' is drawn at the camera's 'position' on the map; write that too")
        return self

    @property
    def folder(self) -> Path:
        """The folder that relative paths of this camera start from."""
        return self._folder

    @property
    def ground_truth_path(self) -> Path | None:
        """The ground truth's file, or None."""
        return None if self.ground_truth is None else _under(self._folder, self.ground_truth)


class Detector(_Strict):
    """How people are found in a frame.

    Attributes:
        weights: YOLO weights (.pt, .onnx, an OpenVINO folder, or a name ultralytics knows); `path#sha256=<hex>` pins a
            file's content. None: the motion detector, which needs no weights and a fixed camera.
        fps: frames looked at per second of video, chosen by timestamp.
        min_score: detections scoring less start no tracklet and become no crop; None: the detector's own default.
        min_height_px: detections less tall, in pixels, are dropped.
        image_size: longer side the frame is scaled to for YOLO; None: what the weights were exported for, else 640.
    """

    weights: str | None = None
    fps: float = Field(10.0, gt=0, le=120)
    min_score: float | None = Field(None, ge=0, le=1)
    min_height_px: int = Field(40, ge=1, le=10_000)
    image_size: int | None = Field(None, ge=32, le=8192, multiple_of=32)


class Training(_Strict):
    """How a model is trained for the site; read by calr.

    Attributes:
        profile: a named set of training settings.
        arch: backbone.
        init: weights to start from: a known name or a path; None: the default of the profile.
        pooling: "avg" or "gem".
        input_size: (height, width) in pixels of a crop given to the model.
        seed: of every random choice.
    """

    profile: str = "cpu-quick"
    arch: str = "osnet_x0_25"
    init: str | None = None
    pooling: Literal["avg", "gem"] = "avg"
    input_size: tuple[Annotated[int, Field(ge=32, le=1024)], Annotated[int, Field(ge=32, le=1024)]] = (256, 128)
    seed: int = Field(1, ge=0, le=2**31 - 1)


class Clips(_Strict):
    """Whether the gallery may cut short clips out of the recordings, and how long they are in seconds."""

    enabled: bool = False
    seconds: float = Field(6.0, gt=0, le=120)


class SiteMap(_Strict):
    """A picture of the place from above, that cameras and sightings are drawn on.

    Attributes:
        image: a PNG or JPEG in the site's folder or below.
    """

    image: Annotated[str, Field(min_length=1), AfterValidator(_below)]


class Audit(_Strict):
    """What the gallery records of those who use it.

    Attributes:
        purpose: whether a search has to say why, or for which case: "optional" or "required".
    """

    purpose: Literal["optional", "required"] = "optional"


class SiteConfig(_Strict):
    """A checked site.yaml.

    Attributes:
        schema_version: written `schema`; 1.
        name: of the site.
        timezone: IANA name; file name times are read in it.
        cameras: at least one, ids unique.
        detector, training, clips, audit: see there.
        retention_days: after how many days what was seen is forgotten; None: never. A camera may have its own.
        map: what the cameras' positions are on.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    name: Annotated[str, AfterValidator(_site_name)]
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    cameras: list[Camera] = Field(min_length=1)
    detector: Detector = Field(default_factory=lambda: Detector.model_validate({}))
    training: Training = Field(default_factory=lambda: Training.model_validate({}))
    clips: Clips = Field(default_factory=lambda: Clips.model_validate({}))
    audit: Audit = Field(default_factory=lambda: Audit.model_validate({}))
    retention_days: int | None = Field(None, ge=1)
    map: SiteMap | None = None
    _file: Path = PrivateAttr(default=Path(SITE_FILE))
    _by_path: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _camera_ids_unique(self) -> SiteConfig:
        seen: dict[str, str] = {}
        for camera in self.cameras:
            # Folders are named after cameras and some file systems do not tell A from a.
            other = seen.setdefault(camera.id.lower(), camera.id)
            if other is not camera.id:
                raise ValueError(f"camera id '{camera.id}' is used twice (as '{other}'); give each camera its own")
        return self

    @model_validator(mode="after")
    def _positions_on_a_map(self) -> SiteConfig:
        placed = [camera.id for camera in self.cameras if camera.position is not None]
        if placed and self.map is None:
            raise ValueError(
                f"camera '{placed[0]}' has a 'position', a place on the site's map; write 'map: {{image: ...}}' too"
            )
        return self

    @property
    def file(self) -> Path:
        """The site.yaml this was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder site.yaml lies in; relative paths start here."""
        return self._file.parent

    @property
    def by_path(self) -> bool:
        """True when the site was named by its folder, which then is the workspace too."""
        return self._by_path

    @property
    def zone(self) -> ZoneInfo:
        """The site's timezone."""
        return ZoneInfo(self.timezone)

    def camera(self, camera_id: str) -> Camera:
        """The camera of that id.

        Raises:
            SiteError: there is none.
        """
        for camera in self.cameras:
            if camera.id == camera_id:
                return camera
        known = ", ".join(camera.id for camera in self.cameras)
        raise SiteError(f"{self.file}: there is no camera '{camera_id}'; the site has {known}")

    def resolve(self, path: str) -> Path:
        """A path written in site.yaml, as a path from here."""
        return _under(self.folder, path)

    def resolve_weights(self, ref: str) -> str:
        """A weights reference of site.yaml: a path that exists below the site's folder is made absolute, with its
        `#sha256=` kept; anything else (a known name) is returned as it is written."""
        path, mark, pin = ref.partition("#")
        found = _under(self.folder, path)
        looks_like_path = "/" in path or found.exists()
        return f"{found}{mark}{pin}" if looks_like_path else ref


@dataclass(frozen=True)
class Recording:
    """One video file of a camera.

    Attributes:
        path: of the file, which may turn out to be missing.
        start: when it began as stated in site.yaml, UTC; None when site.yaml does not say.
        offset_s: seconds to add to the start, wherever that comes from.
    """

    path: RecordingPath
    start: datetime | None
    offset_s: float


def camera_videos(camera: Camera) -> list[Recording]:
    """The recordings of a camera: globs expanded, sorted by path, each file once.

    A plain path that does not exist is kept, so that ingesting can name it; a glob that matches nothing adds nothing.
    An entry that states a start wins over one that names the same file without.

    Raises:
        StoreError: a store does not answer.
    """
    found: dict[str, Recording] = {}
    for video in camera.videos:
        stated = video.start
        if stated is None and camera.time.source == "start":
            stated = camera.time.start
        start = None if stated is None else stated.astimezone(UTC)
        for path in find_objects(video.path) if in_store(video.path) else _find_files(camera.folder, video.path):
            # The camera's clock has nothing to do with a start that a person wrote down.
            recording = Recording(path, start, video.offset_s + (camera.time.offset_s if start is None else 0.0))
            key = identity(path)
            if key not in found or (found[key].start is None and start is not None):
                found[key] = recording
    return sorted(found.values(), key=lambda recording: (not isinstance(recording.path, Path), recording.path))


def _find_files(folder: Path, written: str) -> list[Path]:
    pattern = _under(folder, written)
    if os.path.exists(pattern) or not glob.has_magic(written):  # noqa: PTH110 Path.exists raises for a dead mount
        return [pattern]
    # Only what the person wrote is a pattern, not the names of the folders above.
    expanded = os.path.normpath(os.path.expanduser(written))  # noqa: PTH111
    matches = glob.glob(expanded, root_dir=folder, recursive=True)  # noqa: PTH207 may be absolute
    paths = [_under(folder, match) for match in matches]
    return [path for path in paths if is_file(path)]


def sites_folder() -> Path:
    """$CALR_SITES, or ./sites."""
    return Path(os.environ.get("CALR_SITES") or "sites")


def load_site(ref: str) -> SiteConfig:
    """Read a site.

    Args:
        ref: a name (`[a-z0-9-]{1,40}`), looked up in $CALR_SITES and then in deploy/sites below the current folder and
            below the repository; or a path to a folder that holds a site.yaml.

    Raises:
        SiteError: there is no such site, or its site.yaml is wrong.
    """
    file, by_path = _find(ref)
    config = parse_site(_read_yaml(file), file, by_path=by_path)
    if not by_path and config.name != ref:
        raise SiteError(f"{file}: 'name' is '{config.name}' but the site was looked up as '{ref}'; make both the same")
    return config


def parse_site(content: object, file: Path, *, by_path: bool = True) -> SiteConfig:
    """Check the content of a site.yaml.

    Args:
        content: what the YAML holds.
        file: where it lies; relative paths start from its folder.
        by_path: whether that folder is the workspace too.

    Raises:
        SiteError: with one line per wrong field.
    """
    if not isinstance(content, dict):
        raise SiteError(f"{file}: a site is a mapping that begins with 'schema: 1', not {type(content).__name__}")
    try:
        config = SiteConfig.model_validate(content)
    except ValidationError as error:
        raise SiteError(_readable(file, error)) from None
    config._file = file.absolute()
    config._by_path = by_path
    for camera in config.cameras:
        camera._folder = config.folder
    return config


def _under(folder: Path, path: str) -> Path:
    # normpath, not resolve: a recording may be a link into a store, and keeps the name it has here.
    return Path(os.path.normpath(folder / os.path.expanduser(path)))  # noqa: PTH111 leaves an unknown ~user as it is


def _find(ref: str) -> tuple[Path, bool]:
    looked: list[Path] = []
    if SITE_NAME.fullmatch(ref):
        repository = Path(__file__).resolve().parent.parent
        for folder in (sites_folder(), Path("deploy/sites"), repository / "deploy/sites"):
            file = folder / ref / SITE_FILE
            if file.is_file():
                return file, False
            looked.append(file)
    folder = Path(os.path.expanduser(ref))  # noqa: PTH111 leaves an unknown ~user as it is
    if ref and (folder / SITE_FILE).is_file():
        return folder / SITE_FILE, True
    if folder.is_file():
        raise SiteError(f"{folder}: name the folder that holds {SITE_FILE}, not a file")
    looked.append(folder / SITE_FILE)
    places = ", ".join(dict.fromkeys(str(path) for path in looked))
    raise SiteError(f"site '{ref}': no {SITE_FILE} found; looked at {places}. Write one there or set CALR_SITES")


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key written twice is an error, not silently the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' is written twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(file: Path) -> object:
    try:
        if file.stat().st_size > _MAX_SITE_BYTES:
            raise SiteError(f"{file}: larger than {_MAX_SITE_BYTES} bytes, which no site is")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"{file}: cannot be read: {error}") from None
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SiteError(f"{file}: not valid YAML: {error}") from None


def _readable(file: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        parts: list[str] = []
        for part in problem["loc"]:
            if isinstance(part, int) and parts:
                parts[-1] += f"[{part}]"
            else:
                parts.append(str(part))
        field = ".".join(parts) or "site"
        kind = problem["type"]
        if kind == "extra_forbidden":
            text = "is not a known key; check its spelling or remove it"
        elif kind == "missing":
            text = "is missing; write it"
        elif kind == "timezone_aware":
            text = "needs an offset from UTC, such as 2026-03-01T08:00:00+01:00 or ...Z"
        else:
            text = problem["msg"].removeprefix("Value error, ")
            given = problem.get("input")
            if isinstance(given, str | int | float) and str(given) not in text:
                text += f" (it is {str(given)[:60]!r})"
        lines.append(f"{field}: {text}")
    unique = list(dict.fromkeys(lines))
    return f"{file}: " + ("; ".join(unique) if len(unique) == 1 else "\n  " + "\n  ".join(unique))

"""A quantised network: the int8 form of a backbone, kept as one file beside the caches that it computes.

The file is a ZIP archive, not compressed, of `network.xml` and `network.bin` (OpenVINO's IR, pixels
in and pooled features out) and `origin.json`, which says what it was made from. The sha256 of the
file stands in the FeatureSpec: features are those of one file.
"""

import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tfl.errors import BackboneError, TflError
from tfl.files import hashing, strict_json
from tfl.files.codec import decode_record
from tfl.specs import DIGEST_PREFIX, FeatureSpec
from tfl.specs.features import QUANTIZED_ENDING, Pooling
from tfl.text import to_one_line

FORMAT = 1
GRAPH, WEIGHTS, ORIGIN = "network.xml", "network.bin", "origin.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the date of every member: the same network gives the same file
MAX_ORIGIN_BYTES = 1 << 20
MAX_REASON = 200  # characters


@dataclass(frozen=True)
class QuantizationOrigin:
    """What a quantised network was made from.

    Attributes:
      weights: digest of the float32 network's tensors.
      layers: whose pooled activations it returns, with `pooling` the columns of its output.
      images: the dataset that the calibration images are from, as `DatasetSpec.images`.
      split: the training split that they are from.
      num_images: how many calibration images there were.
      seed: of their choice.
      versions: of the libraries that made it.
    """

    format: int
    backbone: str
    weights: str
    image_size: int
    resize_mode: str
    interpolation: str
    antialias: bool
    layers: tuple[str, ...]
    pooling: tuple[Pooling, ...]
    revision: int
    images: str
    split: str
    num_images: int
    seed: int
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"its format is {self.format}; expected {FORMAT}")

    def list_differences(self, spec: FeatureSpec) -> list[str]:
        """Return a line for each reason why the network cannot compute features of a resolved spec."""
        lines = []
        for name in ("backbone", "weights", "image_size", "revision"):
            own, wanted = getattr(self, name), getattr(spec, name)
            if own != wanted:
                lines.append(f"{name}: {own} in the file, {wanted} requested")
        for name in ("layers", "pooling"):
            own, wanted = getattr(self, name), getattr(spec, name)
            if not set(wanted) <= set(own):
                lines.append(f"{name}: {' '.join(own)} in the file, {' '.join(wanted)} requested")
        return lines

    def presents_as(self, spec: FeatureSpec) -> bool:
        """Whether its calibration images were resized as the spec says."""
        own = (self.resize_mode, self.interpolation, self.antialias)
        return own == (spec.resize_mode, spec.interpolation, spec.antialias)


@dataclass(frozen=True)
class QuantizedNetwork:
    """A quantised network in its file.

    Attributes:
      digest: `sha256:...` of the file.
    """

    path: Path
    digest: str
    origin: QuantizationOrigin

    def read_graph(self) -> tuple[bytes, bytes]:
        """Return OpenVINO's IR: the graph as XML, and the weights.

        Raises:
          BackboneError: the file has changed since it was opened.
        """
        content = _read_file(self.path)
        if hashing.hash_bytes(content) != self.digest.removeprefix(DIGEST_PREFIX):
            raise BackboneError(f"{self.path} has changed while it was used; give the command again")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(GRAPH), archive.read(WEIGHTS)


def pack_network(graph: bytes, weights: bytes, origin: QuantizationOrigin) -> bytes:
    """Return the content of a quantised network's file."""
    text = json.dumps(asdict(origin), indent=2, sort_keys=True).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in ((GRAPH, graph), (WEIGHTS, weights), (ORIGIN, text)):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content)
    return file.getvalue()


def name_file(spec: FeatureSpec, digest: str) -> str:
    """Return `<backbone>-<image_size>-<first 12 digits of the digest>.int8.zip`."""
    return f"{spec.backbone_file_name}-{spec.image_size}-{digest.removeprefix(DIGEST_PREFIX)[:12]}{QUANTIZED_ENDING}"


def open_quantized(path: Path) -> QuantizedNetwork:
    """Open a quantised network's file.

    Raises:
      BackboneError: it is no such file, or it is damaged.
    """
    content = _read_file(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_plain_members(archive)
            damaged = archive.testzip()
            if damaged:
                raise ValueError(f"{damaged} is damaged: it has another CRC")
            values: Any = strict_json.parse_json(archive.read(ORIGIN))
        origin = decode_record(values, QuantizationOrigin)
    except (ValueError, TflError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        reason = to_one_line(error, MAX_REASON)
        raise BackboneError(
            f"{path} is not a quantised network that `tfl precompute --compute-dtype int8` made: {reason}"
        ) from error
    return QuantizedNetwork(path, DIGEST_PREFIX + hashing.hash_bytes(content), origin)


def _read_file(path: Path) -> bytes:
    try:
        strict_json.require_file(path)
        return path.read_bytes()
    except (ValueError, OSError) as error:
        raise BackboneError(f"the quantised network {path} cannot be read: {error}") from error


def _require_plain_members(archive: zipfile.ZipFile) -> None:
    """Refuse other members than the three, and compressed ones: a small file could claim any size."""
    members = archive.infolist()
    names = sorted(member.filename for member in members)
    if names != sorted((GRAPH, WEIGHTS, ORIGIN)):
        raise ValueError(f"it holds {', '.join(names[:10]) or 'nothing'}; expected {GRAPH}, {WEIGHTS}, {ORIGIN}")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("a member is compressed; expected none")
    if archive.getinfo(ORIGIN).file_size > MAX_ORIGIN_BYTES:
        raise ValueError(f"{ORIGIN} has more than {MAX_ORIGIN_BYTES:,} bytes")

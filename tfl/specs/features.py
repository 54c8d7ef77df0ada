"""FeatureSpec: everything that decides the value of one image's features."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Final, Literal

import tyro

from tfl.errors import SpecError
from tfl.specs.limits import MAX_IMAGE_SIZE
from tfl.specs.spec import DIGEST_PREFIX, Spec, to_file_stem

FEATURE_REVISION = 1  # raised when a change of the code changes features' values: then caches must be rebuilt
LAST_LAYER = "last"
FLOAT_DTYPES = ("float32", "bfloat16", "float16")
INT8: Final = "int8"
AUTO: Final = "auto"
IMPORTED = "imported:"  # begins the backbone's name where the features were made elsewhere: `imported:clip`
KNOWN_IF_IMPORTED = ("backbone", "weights", "feature_dtype")  # the fields that then say something
QUANTIZED_ENDING = ".int8.zip"  # of the name of a quantised network's file
Pooling = Literal["avg", "max"]
ComputeDtype = Literal["float32", "bfloat16", "float16", "int8", "auto"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]


@dataclass(frozen=True)
class FeatureSpec(Spec):
    """Everything that decides the value of one image's features."""

    backbone: str = "resnet50"
    """Name of a pretrained network, in any case; those of keras.applications need no prefix (`keras:resnet50`)."""
    weights: str = "imagenet"
    """`imagenet`, `random` (with a fixed seed), or a file: `.weights.h5`, `.h5` or `.keras`.
    A file holds the weights of the network without its top."""
    image_size: int = 224
    """Height and width in pixels to which images are resized on the device."""
    resize_mode: Literal["stretch", "crop", "pad"] = "stretch"
    """`stretch` ignores the aspect ratio; `crop` (centre crop) and `pad` (zero padding) keep it."""
    interpolation: Interpolation = "bilinear"
    """Interpolation used to resize images."""
    antialias: bool = False
    """Antialias when downsampling."""
    layers: tuple[str, ...] = (LAST_LAYER,)
    """Layers whose outputs are pooled and concatenated; `last` is the end of the network."""
    pooling: tuple[Pooling, ...] = ("avg",)
    """Pooling over height and width; the results of several are concatenated."""
    compute_dtype: ComputeDtype = "float32"
    """Data type in which the backbone computes; pooling is always float32.
    `int8` runs a network that is quantised on training images, on a CPU with OpenVINO.
    `auto` measures what each would cost here, and takes float32."""
    quantized_network: str = ""
    """File of the quantised network for `int8`; an earlier `precompute` left it beside its cache.
    If empty, the one of the same backbone and training split is found there, or made."""
    feature_dtype: Literal["float32", "float16"] = "float32"
    """Data type of the features in the cache."""
    revision: Annotated[int, tyro.conf.Suppress] = FEATURE_REVISION

    omitted_by_default: ClassVar[frozenset[str]] = frozenset({"quantized_network"})

    def __post_init__(self) -> None:
        self._check_types()
        if self.image_size < 1:
            raise SpecError(f"image_size is a positive number of pixels, got {self.image_size}")
        if self.image_size > MAX_IMAGE_SIZE:
            raise SpecError(f"image_size is at most {MAX_IMAGE_SIZE:,} pixels, got {self.image_size}")
        if not self.layers or not self.pooling:
            raise SpecError(f"at least one layer and one pooling are needed, got {self.layers}, {self.pooling}")
        if self.quantized_network and self.compute_dtype != INT8:
            raise SpecError(
                f"quantized_network is for compute_dtype {INT8}, got {self.quantized_network!r} "
                f"for {self.compute_dtype}"
            )
        self._require_known()

    def _require_known(self) -> None:
        """Refuse to say of imported features how they were made: nobody here knows it."""
        if not self.is_imported:
            return
        changed = [
            field.name
            for field in fields(self)
            if field.name not in KNOWN_IF_IMPORTED and getattr(self, field.name) != field.default
        ]
        if changed:
            raise SpecError(f"{', '.join(changed)} means nothing for features that were imported, {self.backbone!r}")

    @property
    def is_imported(self) -> bool:
        """True if the features were made elsewhere; `weights` is then the digest of the file that they came in."""
        return self.backbone.startswith(IMPORTED)

    def list_omitted_fields(self) -> list[str]:
        """Return the fields that JSON leaves out: of imported features all that only a backbone has."""
        if self.is_imported:
            return sorted(field.name for field in fields(self) if field.name not in KNOWN_IF_IMPORTED)
        return super().list_omitted_fields()

    @classmethod
    def _find_omissible(cls, values: dict[str, Any]) -> frozenset[str]:
        if str(values.get("backbone")).startswith(IMPORTED):
            return frozenset(field.name for field in fields(cls) if field.name not in KNOWN_IF_IMPORTED)
        return super()._find_omissible(values)

    @property
    def file_stem(self) -> str:
        """What a cache's name says of its features: `resnet50-224`, or `imported_clip`."""
        name = self.backbone_file_name
        return name if self.is_imported else f"{name}-{self.image_size}"

    @property
    def backbone_file_name(self) -> str:
        """The backbone's name with `_` for characters that file names should not have."""
        return to_file_stem(self.backbone)

    @property
    def is_resolved(self) -> bool:
        """True if `weights` is a digest of the tensors' values, and for int8 `quantized_network` one of its file."""
        if self.compute_dtype == INT8 and not self.quantized_network.startswith(DIGEST_PREFIX):
            return False
        return self.weights.startswith(DIGEST_PREFIX) and self.compute_dtype != AUTO

    def require_compute_dtype(self) -> None:
        """Refuse `auto`: it is for `precompute`, which measures and takes float32.

        Raises:
          SpecError: the compute dtype is `auto`.
        """
        if self.compute_dtype == AUTO:
            able = ", ".join((*FLOAT_DTYPES, INT8))
            raise SpecError(f"compute_dtype {AUTO} is for `tfl precompute` alone; expected one of {able} here")

    @property
    def layer_dtype(self) -> str:
        """Data type in which the backbone's Keras layers compute: that of a network to quantise is float32."""
        return self.compute_dtype if self.compute_dtype in FLOAT_DTYPES else "float32"

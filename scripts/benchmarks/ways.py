"""The ways to compute features: the engines of tfl, naive Keras, PyTorch, and matrix products as a bound."""

import functools
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAIVE = "keras predict"
NEW_MODEL = "a new keras model for every batch (the loop of thingsvision)"
MULTIPLY_ADDS = 3.86e9  # of an image in ResNet50 at 224 pixels; He et al. 2015, table 1, counts 3.8e9 without the top
NO_PREALLOCATION = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # else JAX leaves PyTorch no memory of the GPU

Batch = Sequence[np.ndarray]
# A way begins with a batch of images; what it returns waits for their features.
Way = Callable[[Batch], Callable[[], Any]]
Makers = dict[str, Callable[[], dict[str, Way]]]


@dataclass(frozen=True)
class Network:
    """The network that every way runs."""

    backbone: str = "resnet50"
    weights: str = "imagenet"
    """Weights of tfl and Keras; PyTorch's are random, which costs the same."""
    image_size: int = 224


def makers_of_all(network: Network, batch_size: int, is_quick: bool = False) -> Makers:
    """Return what makes the ways of each arithmetic."""
    makers: Makers = {}
    for dtype in list_dtypes():
        if dtype == "float32":
            makers["naive keras"] = functools.partial(make_naive, network, batch_size)
        for engine in list_engines(dtype):
            makers[f"{engine} {dtype}"] = functools.partial(make_engine, engine, dtype, network, batch_size)
        if dtype != "float16" or not is_processor():
            makers[f"pytorch {dtype}"] = functools.partial(make_pytorch, dtype, network, is_quick)
            makers[f"{dtype} matrix product bound"] = functools.partial(make_bound, dtype, network)
    return makers


def is_processor() -> bool:
    """Return whether Keras computes on a processor."""
    from tfl import engine

    return not engine.has_accelerator()


def list_dtypes() -> list[str]:
    """Return the arithmetics that the device has instructions for."""
    from tfl import engine

    if not is_processor():
        return ["float32", "bfloat16"]
    if importlib.util.find_spec("openvino") is not None:
        return engine.openvino.supported_dtypes()
    has_bfloat16 = {"avx512_bf16", "amx_bf16", "bf16"} & set(engine.list_instruction_sets())
    return ["float32", "bfloat16"] if has_bfloat16 else ["float32"]


def list_engines(dtype: str) -> list[str]:
    """Return the engines of `tfl precompute` that compute in this arithmetic here."""
    from tfl import engine
    from tfl.errors import TflError

    # float16 on a processor is for OpenVINO alone: TensorFlow has no kernels for it, and takes minutes.
    typed = ("openvino",) if dtype == "float16" and is_processor() else ("keras", "openvino", "torch.compile")
    found = []
    for name in typed:
        try:
            found.append(engine.resolve_engine(name, dtype))
        except TflError:
            continue
    return found


def build_backbone(dtype: str, network: Network) -> Any:
    """Build the network of tfl in an arithmetic."""
    from tfl.backbones import backbone
    from tfl.specs import FeatureSpec

    return backbone.build_backbone(FeatureSpec(**asdict(network), compute_dtype=dtype))  # type: ignore[arg-type]


def make_engine(name: str, dtype: str, network: Network, batch_size: int) -> dict[str, Way]:
    """Make the forward pass of `tfl precompute`."""
    from tfl import engine

    return {f"{name} {dtype}": engine.Forward(build_backbone(dtype, network), batch_size, name).start}


def make_int8(dataset: str, network: Network, batch_size: int, image_shape: tuple[int, int]) -> dict[str, Way]:
    """Make the forward pass of `tfl precompute` in int8, quantised on training images."""
    from tfl import datasets, engine
    from tfl.extraction.quantization import add_quantized
    from tfl.specs import DatasetSpec, FeatureSpec

    name = engine.resolve_engine("auto", "int8")
    opened = datasets.open_dataset(DatasetSpec(dataset))
    spec = datasets.resolve_spec(DatasetSpec(dataset), opened)
    features = FeatureSpec(**asdict(network), compute_dtype="int8")
    with tempfile.TemporaryDirectory() as folder:
        built = add_quantized(build_backbone("int8", network), features, opened, spec, Path(folder))
        forward = engine.Forward(built, batch_size, name, image_shape)
    return {f"{name} int8": forward.start}


def make_naive(network: Network, batch_size: int) -> dict[str, Way]:
    """Make what is done without tfl: `predict` on the whole model, and a new model for every batch."""
    import keras

    built = build_backbone("float32", network)

    def predict(batch: Batch) -> Callable[[], Any]:
        features = built.model.predict(np.stack(batch), batch_size=batch_size, verbose=0)
        return lambda: features

    def predict_anew(batch: Batch) -> Callable[[], Any]:
        model = keras.Model(built.model.input, built.model.output)
        features = model.predict_on_batch(np.stack(batch))
        return lambda: features

    return {NAIVE: predict, NEW_MODEL: predict_anew}


def make_pytorch(dtype: str, network: Network, is_quick: bool) -> dict[str, Way]:
    """Make torchvision's ResNet50 in evaluation mode and channels_last, as it is and by `torch.compile`.

    On a GPU float32 is float32, and once more as PyTorch does it unasked: convolutions in TensorFloat-32.
    """
    if importlib.util.find_spec("torchvision") is None:
        return {}
    import torch

    from tfl.comparison.reference.vision import import_torchvision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = getattr(torch, dtype)
    side = network.image_size
    model = import_torchvision().models.resnet50(weights=None)
    model.fc = torch.nn.Identity()
    model = model.eval().to(device, kind, memory_format=torch.channels_last)

    def begin(forward: Any, batch: Batch, is_tf32: bool = False) -> Callable[[], Any]:
        torch.backends.cudnn.allow_tf32 = is_tf32
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(batch)).to(device)  # (n, h, w, 3) uint8
            pixels = pixels.permute(0, 3, 1, 2).float()  # (n, 3, h, w)
            # In float32, as tfl resizes: on a processor PyTorch 2.13 cannot do it in bfloat16.
            pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
            pixels = pixels.to(kind, memory_format=torch.channels_last)  # (n, 3, side, side)
            features = forward(pixels).float()  # (n, 2048)
        return lambda: features.cpu().numpy()

    ways: dict[str, Way] = {f"pytorch {dtype}": functools.partial(begin, model)}
    if not is_quick:
        compiled = torch.compile(model, options={"freezing": True})
        ways[f"pytorch {dtype}, torch.compile"] = functools.partial(begin, compiled)
    if dtype == "float32" and device.type == "cuda":
        ways["pytorch TensorFloat-32"] = functools.partial(begin, model, is_tf32=True)
    return ways


def make_bound(dtype: str, network: Network) -> dict[str, Way]:
    """Make matrix products of as many operations as the images take: they bound a direct convolution."""
    operations = 2 * MULTIPLY_ADDS * (network.image_size / 224) ** 2
    return {f"{dtype} matrix product bound": functools.partial(multiply_matrices, dtype, operations)}


def multiply_matrices(dtype: str, operations_of_image: float, batch: Batch) -> Callable[[], Any]:
    """Begin matrix products of as many floating-point operations as these images take."""
    from keras import ops

    from tfl import engine

    size = 8192 if engine.has_accelerator() else 2048
    operations = operations_of_image * len(batch)
    with engine.exact_float32():
        square = ops.full((size, size), 1 / size, dtype)
        for _ in range(max(1, round(operations / (2 * size**3)))):
            square = ops.matmul(square, square)  # (size, size)
    return lambda: ops.convert_to_numpy(square[:1, :1])

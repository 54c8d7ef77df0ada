"""Keras' ResNet50 weights ported to torchvision's names, in numpy alone.

Keras' network is "v1": its convolutions have biases and read BGR. torchvision's have none
and read RGB. So:

- a convolution's bias b moves into the mean that BatchNorm subtracts:
  `(x + b) - mean = x - (mean - b)`;
- kernels `(h, w, in, out)` become `(out, in, h, w)`;
- the first convolution's input channels are reversed.

Strides and epsilon differ too: `network.move_strides` sets those.

Source: keras/src/applications/resnet.py, `residual_block_v1`; torchvision/models/resnet.py,
  `Bottleneck`.
"""

from collections.abc import Iterator, Mapping

import numpy as np

BLOCKS = {
    2: 3,
    3: 4,
    4: 6,
    5: 3,
}  # blocks of each stage; He et al. 2015, arXiv:1512.03385, table 1 (50 layers)
STATISTICS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def list_layers() -> Iterator[tuple[str, str, str]]:
    """Yield, for every convolution, Keras' name without `_conv`, torchvision's, and that of the BatchNorm after it."""
    yield "conv1", "conv1", "bn1"
    for stage, num_blocks in BLOCKS.items():
        for block in range(num_blocks):
            keras, torch = f"conv{stage}_block{block + 1}", f"layer{stage - 1}.{block}"
            if block == 0:
                yield f"{keras}_0", f"{torch}.downsample.0", f"{torch}.downsample.1"
            yield from ((f"{keras}_{i}", f"{torch}.conv{i}", f"{torch}.bn{i}") for i in (1, 2, 3))


def port_weights(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return tensors of Keras' ResNet50 without its top as torchvision's `resnet50` has them.

    Args:
      tensors: by their `weight.path`.

    Raises:
      ValueError: a name is missing, or one is left over.
    """
    state: dict[str, np.ndarray] = {}
    left = dict(tensors)
    try:
        for keras, convolution, norm in list_layers():
            kernel = left.pop(f"{keras}_conv/kernel")  # (h, w, in, out)
            if keras == "conv1":
                kernel = kernel[:, :, ::-1]
            state[f"{convolution}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
            for theirs, ours in STATISTICS.items():
                state[f"{norm}.{theirs}"] = left.pop(f"{keras}_bn/{ours}")
            bias = left.pop(f"{keras}_conv/bias")
            state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - bias
    except KeyError as error:
        raise ValueError(f"the tensors are not those of ResNet50 without its top: {error} is missing") from error
    if left:
        raise ValueError(f"the tensors are not those of ResNet50 without its top: left over are {sorted(left)[:5]}")
    return state

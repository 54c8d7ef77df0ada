"""A `.keras` file to PyTorch's exported program; a program, run with KERAS_BACKEND=torch and nothing of tfl.

python -P torch_program.py MODEL.keras MODEL.pt2
"""

import sys


def main() -> None:
    """Trace the model for images of any number and size, or for any number of features."""
    import keras
    import torch

    model = keras.saving.load_model(sys.argv[1], compile=False)
    model.eval()
    (taken,) = model.inputs  # images (n, height, width, 3), or features (n, d)
    free = {"n": 2, "height": 30, "width": 20}  # of axes that may have any size: an example
    names = list(free)[: sum(size is None for size in taken.shape)]
    axes = {axis: torch.export.Dim(name, min=1, max=1 << 16) for axis, name in enumerate(names)}
    example = torch.zeros([*map(free.get, names), *taken.shape[len(names) :]], dtype=getattr(torch, taken.dtype))
    program = torch.export.export(model, (example,), dynamic_shapes=[(axes,)], strict=False)
    torch.export.save(program, sys.argv[2])


if __name__ == "__main__":
    main()

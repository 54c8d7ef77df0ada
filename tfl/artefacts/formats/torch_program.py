"""A `.keras` file to PyTorch's exported program; a program, run with KERAS_BACKEND=torch and nothing of tfl.

python -P torch_program.py MODEL.keras MODEL.pt2
"""

import sys


def main() -> None:
    """Trace the model for images of any number and size."""
    import keras
    import torch

    model = keras.saving.load_model(sys.argv[1], compile=False)
    model.eval()
    images = torch.zeros((2, 30, 20, 3), dtype=torch.uint8)
    n, height, width = (torch.export.Dim(name, min=1, max=1 << 16) for name in ("n", "height", "width"))
    program = torch.export.export(model, (images,), dynamic_shapes=[({0: n, 1: height, 2: width},)], strict=False)
    torch.export.save(program, sys.argv[2])


if __name__ == "__main__":
    main()

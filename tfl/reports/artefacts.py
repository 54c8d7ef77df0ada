"""Exported models as lines of text: their parity and their predictions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `tfl --help` imports this module
    from tfl.artefacts.manifest import Parity


def format_prediction(image: str, probabilities: dict[str, float]) -> tuple[str, str]:
    """Return a prediction in two cells: the image, and the three likeliest classes."""
    likeliest = sorted(probabilities.items(), key=lambda item: -item[1])[:3]
    return image, " ".join(f"{name} {share:.1%}" for name, share in likeliest)


def format_parity(parity: "Parity") -> str:
    """Describe a parity check in one line."""
    return (
        f"(checked in a fresh process on {parity.num_images} images: logits within {parity.error:.1e} of the largest, "
        f"{parity.tolerance:.0e} allowed; {parity.same_class:.0%} of the classes the same)"
    )

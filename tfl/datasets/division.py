"""Division of a dataset that has no splits of its own into train, val and test."""

import hashlib
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Self

from tfl.specs import DatasetSpec

ALL = "all"  # the one split of such a dataset
DIVIDE_AGAIN = "more images of these classes, other shares (--val-fraction, --test-fraction) or another --split-seed"


@dataclass(frozen=True)
class Division:
    """The parts `train`, `val` and `test` of the split `all`, each a range of the images' hashes in percent.

    The part of an image depends on its own id (or its group) and the seed alone, so that it stays
    where it is when other images are added: see `hash_key`. The test part comes first: another
    share for validation moves no test image.
    """

    val_percent: Decimal
    test_percent: Decimal

    @classmethod
    def from_spec(cls, spec: DatasetSpec) -> Self:
        """Return the division that a spec asks for."""
        # By way of text: 0.1 is 10 percent, not 10.00000000000000055.
        return cls(Decimal(str(spec.val_fraction)) * 100, Decimal(str(spec.test_fraction)) * 100)

    @property
    def parts(self) -> dict[str, tuple[Decimal, Decimal]]:
        """First percent, and percent after the last, of each part that is not empty."""
        val_start = self.test_percent
        train_start = val_start + self.val_percent
        hundred = Decimal(100)
        parts = {"train": (train_start, hundred), "val": (val_start, train_start), "test": (Decimal(0), val_start)}
        return {name: (start, stop) for name, (start, stop) in parts.items() if start < stop}

    def use_parts(self, spec: DatasetSpec) -> DatasetSpec:
        """Return the spec with the parts there are as its splits, where the user named no others."""
        parts, default = self.parts, DatasetSpec()
        if spec.val_split == default.val_split and "val" in parts:
            spec = replace(spec, val_split="val")
        if spec.test_split == default.test_split and "test" not in parts:
            spec = replace(spec, test_split="")
        return spec


def hash_key(key: bytes, seed: int = 0) -> int:
    """Return a 64-bit hash of an image's id or group; a range of percent takes `a <= 100 * hash / 2**64 < b`.

    Args:
      seed: another one gives another hash; 0 that of the key alone.
    """
    salted = key if seed == 0 else b"%d\0%s" % (seed, key)
    return int.from_bytes(hashlib.sha256(salted).digest()[:8], "big")

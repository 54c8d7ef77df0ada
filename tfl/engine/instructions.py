"""The instruction sets of the processor that arithmetic depends on."""

import platform
import re
from pathlib import Path

from tfl.specs.features import INT8

# A library chooses its kernels by these when it is run, and their sums differ in the last bits. As Linux spells them.
INSTRUCTION_SETS = (
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2"),  # of ARM
)

# Any of them sums products of such numbers.
INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
NATIVE = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16"),
    INT8: INT8_INSTRUCTIONS,
}
"""By compute dtype narrower than float32: the instruction sets that compute in it."""


def list_native_dtypes() -> list[str]:
    """Return the compute dtypes narrower than float32 that the processor, as Linux lists it, has instructions for."""
    listed = list_instruction_sets()
    return [dtype for dtype, names in NATIVE.items() if any(name in listed for name in names)]


def list_instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return those of `INSTRUCTION_SETS` that the processor has; its name where Linux does not list them."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if found is None:
        return platform.processor().split()
    able = set(found[1].split())
    return [name for name in INSTRUCTION_SETS if name in able]

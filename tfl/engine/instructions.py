"""The instruction sets of the processor that arithmetic depends on."""

import platform
import re
from pathlib import Path

# A library chooses its kernels by these when it is run, and their sums differ in the last bits. As Linux spells them.
INSTRUCTION_SETS = (
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2"),  # of ARM
)


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

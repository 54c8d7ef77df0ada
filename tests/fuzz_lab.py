"""Mutated cache files, thousands of them, through the reader; a program of test_hostile.py.

    python fuzz_lab.py CASES SEED

Bytes of the golden file are flipped, overwritten, copied, cut off. Where that breaks the checksum of a block of HDF5's
metadata, the checksum is mostly mended, so that the mutation gets past it. Each file must be read as the golden one is,
or be refused; a few hundred at a time are read in a forked process with as little memory and time as a file from a
stranger is given, so that a crash or a loop can be counted. Writes a JSON object of counts to stdout.
"""

import json
import os
import random
import re
import signal
import struct
import sys
import tempfile
from pathlib import Path

from lab import FAILED, arrays, forked

from tfl.cache import verification
from tfl.cache.examine import limit_resources
from tfl.cache.file import read_file_header

GOLDEN = (Path(__file__).parent / "golden" / "format-1.h5").read_bytes()
SECONDS = 10  # for one file, after which it counts as a hang
MASK = 0xFFFFFFFF
INTERESTING = [0, 1, 2, 0x7FFF, 0xFFFF, 1 << 24, 0x7FFFFFFF, MASK, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]


def lookup3(data):
    """The checksum of HDF5's metadata: Bob Jenkins' lookup3 (2006), `hashlittle` with seed 0."""

    def rotated(x, bits):
        return (x << bits | x >> 32 - bits) & MASK

    a = b = c = (0xDEADBEEF + len(data)) & MASK
    for start in range(0, len(data), 12):
        x, y, z = struct.unpack("<III", data[start : start + 12].ljust(12, b"\0"))
        a, b, c = (a + x) & MASK, (b + y) & MASK, (c + z) & MASK
        if start + 12 < len(data):
            for bits in (4, 6, 8, 16, 19, 4):  # "mix": each step, then the next of the three
                a, c = (a - c & MASK) ^ rotated(c, bits), c + b & MASK
                a, b, c = b, c, a
        else:
            for bits in (14, 11, 25, 16, 4, 14, 24):  # "final"
                c = ((c ^ b) - rotated(b, bits)) & MASK
                a, b, c = b, c, a
    return b  # the last of the seven steps made what is now the second


def checksummed_blocks():
    """Start and length of each block of metadata that its checksum follows."""
    blocks = []
    for start in [
        0,
        *(match.start() for match in re.finditer(b"OHDR|OCHK|FAHD|FADB|FRHP|FHDB|FHIB|BTHD|BTLF|BTIN", GOLDEN)),
    ]:
        for length in range(10, min(3000, len(GOLDEN) - start - 4)):
            if lookup3(GOLDEN[start : start + length]) == struct.unpack_from("<I", GOLDEN, start + length)[0]:
                blocks.append((start, length))
                break
    return blocks


BLOCKS = checksummed_blocks()


def mutated(rng):
    content = bytearray(GOLDEN)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        start, length = rng.choice(BLOCKS) if rng.random() < 0.85 else (0, len(content) - 12)
        place = start + rng.randrange(length)
        match rng.randrange(6):
            case 0 | 1:
                content[place] ^= 1 << rng.randrange(8)
            case 2:
                content[place] = rng.randrange(256)
            case 3:
                size = rng.choice([2, 4, 8])
                value = rng.choice(INTERESTING) & (1 << 8 * size) - 1
                content[place : place + size] = value.to_bytes(size, "little")
            case 4:
                size, source = rng.randrange(1, 64), rng.randrange(len(content) - 64)
                content[place : place + size] = content[source : source + size]
            case 5:
                content[place : place + 8] = rng.randrange(len(content)).to_bytes(8, "little")  # an address, perhaps
    if rng.random() < 0.8:
        for start, length in BLOCKS:
            content[start + length : start + length + 4] = lookup3(bytes(content[start : start + length])).to_bytes(
                4, "little"
            )
    if rng.random() < 0.05:
        del content[rng.randrange(len(content)) :]
    return bytes(content[: len(GOLDEN) + 64])


def content_of(path):
    return read_file_header(path), arrays(path)


def examine(seed, path):
    """`refused`, `read` (and equal to the golden file), or `another` (a consistent file of another content)."""
    path.write_bytes(mutated(random.Random(seed)))
    signal.alarm(SECONDS)
    try:
        if verification.find_problems(path):
            return "refused"
        return "read" if content_of(path) == EXPECTED else "another"
    except MemoryError:  # which the examination makes a refusal
        return "refused"
    finally:
        signal.alarm(0)


def answer(seeds, path, writing):
    limit_resources(len(GOLDEN), SECONDS * len(seeds))
    for seed in seeds:
        os.write(writing, examine(seed, path)[:4].encode())


def run(seeds, path):
    """Counts for these seeds; one whose process dies counts as died, and the others go on in a new process."""
    counts = dict.fromkeys(("refused", "read", "another", "died"), 0)
    died = []
    while seeds:
        reading, writing = os.pipe()
        pid = forked(lambda seeds=seeds, writing=writing: answer(seeds, path, writing))
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            answers = pipe.read().decode()
        _, status = os.waitpid(pid, 0)
        names = {name[:4]: name for name in counts}
        for start in range(0, len(answers), 4):
            counts[names[answers[start : start + 4]]] += 1
        seeds = seeds[len(answers) // 4 :]
        assert status != FAILED << 8, f"seed {seeds[0]}: an exception that is no CacheError"
        if status:
            counts["died"] += 1
            died.append(f"seed {seeds[0]}: status {status}")
            seeds = seeds[1:]
    return counts, died


if __name__ == "__main__":
    cases, first = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "mutated.h5"
        place.write_bytes(GOLDEN)
        EXPECTED = content_of(place)
        counts, died = run(list(range(first, first + cases)), place)
    json.dump({**counts, "deaths": died, "blocks": len(BLOCKS)}, sys.stdout)

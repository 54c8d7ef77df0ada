"""The quantised network of an int8 command, made before anything is timed."""

from pathlib import Path

from measure import run_command, tell, tfl_command

INT8 = "int8"


def flags_of_dtype(dtype: str, common: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Return the flags of `tfl precompute` for an arithmetic; a quantised network is made in `folder` first.

    Args:
      common: flags of dataset, backbone and training split; of that split the calibration images are.
    """
    flags = ("--compute-dtype", dtype)
    if dtype != INT8:
        return flags
    tell("quantising the network")
    run_command(tfl_command("precompute", *flags, *common, "--allow-missing-classes", "--cache-dir", folder))
    (network,) = folder.glob("*.int8.zip")
    return (*flags, "--quantized-network", str(network))

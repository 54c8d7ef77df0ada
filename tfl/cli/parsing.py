"""Arguments to a command, ready to run. Flags and their help come from the commands' dataclasses."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import OmitArgPrefixes
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from tfl.artefacts.formats import FORMATS, list_quantizations
from tfl.cli.commands import COMMANDS, Command, export, train
from tfl.cli.messages import escape_usage
from tfl.errors import SpecError
from tfl.files import paths
from tfl.heads import RECIPES

TYPES = ConstructorRegistry()  # how arguments become values, where tyro's way is not tfl's


def parse_command(arguments: Sequence[str]) -> Command:
    """Return the command that some arguments ask for, with its values.

    Raises:
      SpecError: an argument that no file and no option can have, or a value that a spec refuses.
      SystemExit: arguments that cannot be parsed, or `--help`.
    """
    for argument in arguments:
        if "\0" in argument:
            raise SpecError(f"an argument has a NUL character, which no name can have: {argument}")
    commands = {**COMMANDS, "train": train.build_command(_parse_recipe(arguments))}
    with escape_usage():
        command: Command = tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="tfl",
            description="Transfer learning with cached features: pay for a pretrained backbone once.",
            args=arguments,
            config=(OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            registry=TYPES,
        )
    return command


def _parse_recipe(arguments: Sequence[str]) -> str | None:
    """Return the value of `--recipe`, on which the other flags of `tfl train` depend; None without one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe")
    try:
        known, _ = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError:  # no value follows: the parser of all flags says so
        return None
    return known.recipe if isinstance(known.recipe, str) else None


@TYPES.primitive_rule
def _path_rule(asked: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Read every path of every command by `parse_path`."""
    if asked.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda arguments: paths.parse_path(arguments[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


@TYPES.primitive_rule
def _kind_rule(asked: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[str] | None:
    """Offer the recipes, formats and quantizations that are registered now."""
    choices: dict[Any, list[str]] = {
        train.RecipeName: list(RECIPES),
        export.FormatName: list(FORMATS),
        export.QuantizationName: list_quantizations(),
    }
    kind = asked.type
    if kind not in choices:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(choices[kind]) + "}",
        instance_from_str=lambda arguments: kind(arguments[0]),
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda name: [name],
        choices=tuple(choices[kind]),
    )

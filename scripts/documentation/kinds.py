"""Tables of kinds, made from their records in the code: recipes, formats, dataset sources."""

import html
from collections.abc import Callable

from documentation.blocks import format_table


def tabulate_recipes() -> str:
    """Every recipe by the word that `--recipe` takes."""
    from tfl.heads import RECIPES

    rows = [[f"`{name}`", recipe.summary, recipe.choice] for name, recipe in RECIPES.items()]
    return format_table(["`--recipe`", "fits", "chosen on validation rows"], rows, align_right=3)


def tabulate_formats() -> str:
    """Every format by the word that `--format` takes."""
    from tfl.artefacts.formats import FORMATS

    rows = []
    for name, each in FORMATS.items():
        install = f"`pip install '.[{each.extra}]'`" if each.extra else ""
        quantizations = ", ".join(f"`{way.name}`" for way in each.quantizations if way.name != "none")
        rows.append([f"`{name}`", each.summary, install, quantizations, "yes" if each.takes_empty_batch else "no"])
    header = ["`--format`", "is", "needs", "`--quantize`", "takes an empty batch"]
    return format_table(header, rows, align_right=5)


def tabulate_safety() -> str:
    """Of every format, whether opening it can run code."""
    from tfl.artefacts.formats import FORMATS

    rows = [[f"`{name}`", each.safety] for name, each in FORMATS.items()]
    return format_table(["`--format`", "can opening it run code?"], rows, align_right=2)


def tabulate_datasets() -> str:
    """Every dataset source by its prefix."""
    from tfl.datasets import SOURCES

    rows = [[f"`{each.prefix}`", html.escape(each.noun).replace("*", r"\*")] for each in SOURCES.values()]
    return format_table(["prefix", "what stands behind it"], rows, align_right=2)


KINDS: dict[str, Callable[[], str]] = {
    "recipes": tabulate_recipes,
    "formats": tabulate_formats,
    "safety": tabulate_safety,
    "datasets": tabulate_datasets,
}


def make_kinds_block(name: str) -> str:
    """Return the table of a kind.

    Raises:
      ValueError: there is no such table.
    """
    if name not in KINDS:
        raise ValueError(f"no table of kinds {name!r}; known are {', '.join(KINDS)}")
    return KINDS[name]()

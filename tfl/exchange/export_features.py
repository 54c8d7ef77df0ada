"""Export of features: the rows of a cache, in a file that other programs read."""

from pathlib import Path

from tfl.cache import Cache, open_cache
from tfl.errors import CacheError, SpecError
from tfl.exchange import require_format
from tfl.exchange.cached import CachedTable
from tfl.files.paths import expand_user
from tfl.files.scratch import scratch_folder
from tfl.specs import Role, View


def export_features(
    cache_path: Path | str,
    out: Path | str,
    run: Path | str | None = None,
    roles: tuple[Role, ...] = (),
    views: tuple[View, ...] = ("original",),
    overwrite: bool = False,
) -> Path:
    """Write the rows of a cache into a Parquet or an .npz file, block by block.

    Columns: `id`, `role`, `label` (int64), `class_name`, and `features`, `(d,)` in the dtype of the
    cache; `features_<view>` for each view but `original`. With a run also `logits` and
    `probabilities`, float32 `(c,)`, as `evaluate` measures them; they are of the mean of the run's
    views, and of its classes. Rows are in the cache's order, role after role.

    Args:
      out: ends in `.parquet` or `.npz`. It has its name once it is complete.
      run: a run that was trained on this cache.
      roles: all of the cache's if none is named.
      overwrite: replace `out` if it is there.

    Returns:
      `out`.

    Raises:
      SpecError: `out` has another ending, or is there already.
      CacheError: see `open_cache`; or the cache has no such role or view.
      RunError: see `open_run`; or the run was trained on another cache.
      ExtraError: pyarrow is not installed.
    """
    out = expand_user(out)
    kind = require_format(out)
    kind.require()
    _require_writable(out, overwrite)
    cache = open_cache(cache_path)
    table = CachedTable(cache, _choose_roles(cache, roles), _choose_views(cache, views))
    if run is not None:
        from tfl.exchange.answers import open_answers

        table = CachedTable(cache, table.roles, table.views, open_answers(expand_user(run), cache))
    with scratch_folder(out.resolve().parent) as scratch:
        unfinished = scratch / out.name
        kind.save_table(table, unfinished)
        _require_writable(out, overwrite)  # another program may have made it meanwhile
        unfinished.replace(out)
    return out


def _require_writable(out: Path, overwrite: bool) -> None:
    if not out.resolve().parent.is_dir():
        raise SpecError(f"there is no folder {out.resolve().parent} to write {out.name} into")
    if out.is_dir():
        raise SpecError(f"{out} is a folder; expected the name of a file")
    if out.exists() and not overwrite:
        raise SpecError(f"{out} exists already; choose another name, or replace it: --overwrite")


def _choose_roles(cache: Cache, roles: tuple[Role, ...]) -> tuple[Role, ...]:
    for role in roles:
        if role not in cache.num_rows:
            raise CacheError(f"{cache.path} has no {role} rows; it has {', '.join(cache.num_rows)}")
    return tuple(role for role in cache.num_rows if role in roles or not roles)


def _choose_views(cache: Cache, views: tuple[View, ...]) -> tuple[View, ...]:
    for view in views:
        if view not in cache.views:
            raise CacheError(f"{cache.path} has no view {view}; it has {', '.join(cache.views)}")
    return tuple(view for view in cache.views if view in views)

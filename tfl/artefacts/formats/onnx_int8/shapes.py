"""Operations that move values, in ONNX."""

from typing import Any

import numpy as np

from tfl.artefacts.formats.onnx_int8.translation import Translation, Translator, refuse, to_same

FARTHEST = np.iinfo(np.int64).max  # the end of an axis, in a Slice


def translate_transpose(node: Any, into: Translation) -> str:
    """Translate to Transpose."""
    values, order = node.input_values()
    return into.add("Transpose", into.use(values), perm=into.read(order).tolist())


def to_same_with_integers(operation: str) -> Translator:
    """Translate an operation of values and constant integers, such as axes."""

    def translate(node: Any, into: Translation) -> str:
        values, integers = node.input_values()
        return into.add(operation, into.use(values), into.store(into.read(integers).reshape(-1), np.int64))

    return translate


def translate_reshape(node: Any, into: Translation) -> str:
    """Translate to Reshape."""
    values, shape = node.input_values()
    sizes = into.read(shape)
    if not node.get_attributes()["special_zero"] and not np.all(sizes):
        raise refuse(f"{node.get_friendly_name()} has an empty axis")
    return into.add("Reshape", into.use(values), into.store(sizes, np.int64))


def translate_concat(node: Any, into: Translation) -> str:
    """Translate to Concat."""
    axis = node.get_attributes()["axis"]
    return to_same("Concat", axis=axis)(node, into)


def translate_pad(node: Any, into: Translation) -> str:
    """Translate to Pad with zeros."""
    values, begin, end, *fill = node.input_values()
    mode = node.get_attributes()["pad_mode"]
    has_zeros = mode == "constant" and not any(np.any(into.read(value)) for value in fill)
    if not has_zeros:
        raise refuse(f"{node.get_friendly_name()} pads with other values than 0")
    pads = np.concatenate([into.read(begin), into.read(end)])
    return into.add("Pad", into.use(values), into.store(pads, np.int64))


def translate_strided_slice(node: Any, into: Translation) -> str:
    """Cut with Slice; axes of which one place is taken go."""
    values, *ends = node.input_values()
    begin, end, step = (into.read(each).tolist() for each in ends)
    masks = node.get_attributes()
    if any(masks["new_axis_mask"]):
        raise refuse(f"{node.get_friendly_name()} adds an axis")
    axes = _find_sliced_axes(len(begin), masks["ellipsis_mask"], len(values.get_partial_shape()))
    cuts, gone = [], []
    for place, axis in axes.items():
        cut = _cut(begin[place], end[place], step[place], masks, place)
        cuts.append((*cut, axis))
        gone += [axis] * _is_set(masks["shrink_axis_mask"], place)
    starts, stops, steps, cut_axes = np.transpose(cuts)
    inputs = [into.store(each, np.int64) for each in (starts, stops, cut_axes, steps)]
    sliced = into.add("Slice", into.use(values), *inputs)
    return into.add("Squeeze", sliced, into.store(gone, np.int64)) if gone else sliced


def _is_set(mask: list[int], place: int) -> bool:
    return place < len(mask) and bool(mask[place])


def _find_sliced_axes(num_places: int, ellipsis_mask: list[int], num_axes: int) -> dict[int, int]:
    """Return the axis of each place of a slice but the ellipsis, which stands for those that are not named."""
    axes = {}
    axis = 0
    for place in range(num_places):
        if _is_set(ellipsis_mask, place):
            axis += num_axes - num_places + 1
            continue
        axes[place] = axis
        axis += 1
    return axes


def _cut(begin: int, end: int, step: int, masks: dict[str, list[int]], place: int) -> tuple[int, int, int]:
    """Return where a slice starts and stops, and its step."""
    if _is_set(masks["shrink_axis_mask"], place):
        return begin, begin + 1 if begin != -1 else FARTHEST, 1
    first, last = (0, FARTHEST) if step > 0 else (FARTHEST, -FARTHEST)
    start = first if _is_set(masks["begin_mask"], place) else begin
    stop = last if _is_set(masks["end_mask"], place) else end
    return start, stop, step

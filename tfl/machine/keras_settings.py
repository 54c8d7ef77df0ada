"""Keras' global configuration: fixed while tfl builds and computes, and put back afterwards."""

import contextlib
from collections.abc import Iterator

import keras

EPSILON = 1e-7  # Keras' own default


@contextlib.contextmanager
def pin_keras_settings(compute_dtype: str = "float32") -> Iterator[None]:
    """Fix all of Keras' global configuration that a number can depend on, and put it back at the end.

    Otherwise a user's `keras.json`, a program's dtype policy, or KERAS_MAX_EPOCHS would change the content
    of caches and heads. It can decorate a function too: `@pin_keras_settings()`.

    Args:
      compute_dtype: arithmetic of layers built inside; their variables are float32.
    """
    config = keras.config
    policy = compute_dtype if compute_dtype == "float32" else f"mixed_{compute_dtype}"
    # Each setter, with the value to put back and the value to fix.
    settings = (
        (config.set_floatx, config.floatx(), "float32"),
        (config.set_epsilon, config.epsilon(), EPSILON),
        (config.set_image_data_format, config.image_data_format(), "channels_last"),
        (config.set_max_epochs, config.max_epochs(), None),
        (config.set_max_steps_per_epoch, config.max_steps_per_epoch(), None),
        (config.set_dtype_policy, config.dtype_policy(), policy),
    )
    try:
        for setter, _, fixed in settings:
            setter(fixed)
        yield
    finally:
        for setter, before, _ in settings:
            setter(before)

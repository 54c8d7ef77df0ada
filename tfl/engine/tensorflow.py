"""TensorFlow as an engine: variables frozen to constants, on a GPU compiled by XLA."""

from typing import Any

import keras
from keras import ops

from tfl.engine.devices import has_accelerator
from tfl.engine.record import Compiled, Engine, Shape


def trace(model: keras.Model, shape: Shape) -> Any:
    """Return the model as a TensorFlow function of one tensor."""
    import tensorflow as tf

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def forward(batch: Any) -> Any:
        return model(batch, training=False)

    return forward.get_concrete_function(tf.TensorSpec(shape, model.inputs[0].dtype))


def trace_with_constants(model: keras.Model, shape: Shape) -> Any:
    """Return the model as a TensorFlow function whose weights are constants from the beginning.

    OpenVINO, which converts such a function, looks for every variable at every node.
    """
    import tensorflow as tf

    trainable = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    frozen = [ops.convert_to_numpy(variable) for variable in model.non_trainable_variables]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def forward(batch: Any) -> Any:
        constants = [[tf.constant(array) for array in arrays] for arrays in (trainable, frozen)]
        return model.stateless_call(*constants, batch, training=False)[0]

    return forward.get_concrete_function(tf.TensorSpec(shape, model.inputs[0].dtype))


def compile_model(model: keras.Model, shape: Shape, compute_dtype: str) -> Compiled:
    """Compile a forward pass whose BatchNorm and biases the graph optimiser folds (1.1x to 1.3x).

    XLA is left out where sizes are open: it would compile for each of them.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(trace(model, shape))
    is_compiled = has_accelerator() and None not in shape

    # Called itself, the frozen function would write each batch into an error that TensorFlow then discards.
    @tf.function(autograph=False, jit_compile=is_compiled)  # type: ignore[untyped-decorator]
    def forward(batch: Any) -> Any:
        return frozen(batch)[0]

    run = forward.get_concrete_function(tf.TensorSpec(shape, model.inputs[0].dtype))
    return lambda batch: run(tf.convert_to_tensor(batch))


TENSORFLOW = Engine("tensorflow", compile_model, is_backend=True)

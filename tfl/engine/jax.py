"""JAX as an engine: one program on all local devices."""

from typing import Any

import keras

from tfl.backbones.folding import fold_batch_norm
from tfl.engine.devices import keep_jax_programs
from tfl.engine.record import Compiled, Engine, Shape


def prepare(network: keras.Model, compute_dtype: str) -> keras.Model:
    """Fold BatchNormalization into convolutions, which JAX does not do itself."""
    return fold_batch_norm(network)


def compile_model(model: keras.Model, shape: Shape, compute_dtype: str) -> Compiled:
    """Compile a forward pass on all local devices: they divide the rows of a batch if it is divisible."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    keep_jax_programs()
    mesh = jax.make_mesh((jax.local_device_count(),), ("devices",), devices=jax.local_devices())
    on_all, by_rows = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("devices"))
    trainable = jax.device_put([variable.value for variable in model.trainable_variables], on_all)
    frozen = jax.device_put([variable.value for variable in model.non_trainable_variables], on_all)
    forward = jax.jit(lambda t, f, batch: model.stateless_call(t, f, batch, training=False)[0])

    def run(batch: Any) -> Any:
        is_divisible = len(batch) % mesh.size == 0
        return forward(trainable, frozen, jax.device_put(batch, by_rows if is_divisible else on_all))

    return run


JAX = Engine("jax", compile_model, prepare, is_backend=True)

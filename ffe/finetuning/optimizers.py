"""The optimizers, as Keras has them; Adam takes the short way where Keras runs on TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ffe.specs import Optimizer

if TYPE_CHECKING:
    import keras


def make_optimizer(name: Optimizer, learning_rate: float, weight_decay: float = 0.0) -> keras.optimizers.Optimizer:
    """Return an optimizer; weights shrink by ``weight_decay`` times the learning rate in a step, biases and norms do not."""
    import keras

    options: dict[str, Any] = {"learning_rate": learning_rate, "weight_decay": weight_decay or None}
    adam = _adam_in_one_pass if keras.config.backend() == "tensorflow" else lambda: keras.optimizers.Adam
    optimizer = keras.optimizers.RMSprop(**options) if name == "rmsprop" else adam()(**options)
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _adam_in_one_pass() -> type[keras.optimizers.Adam]:
    """Return Keras's Adam with TensorFlow's own kernel: Keras's takes ten passes, for block5 of VGG19 as long as all else."""
    import keras
    import tensorflow as tf

    class Adam(keras.optimizers.Adam):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            ops = keras.ops
            step = ops.cast(self.iterations + 1, variable.dtype)
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                beta1_power=ops.power(ops.cast(self.beta_1, variable.dtype), step),
                beta2_power=ops.power(ops.cast(self.beta_2, variable.dtype), step),
                lr=ops.cast(learning_rate, variable.dtype),
                beta1=ops.cast(self.beta_1, variable.dtype),
                beta2=ops.cast(self.beta_2, variable.dtype),
                epsilon=ops.cast(self.epsilon, variable.dtype),
                grad=gradient,
            )

    return Adam

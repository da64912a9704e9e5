"""The steps of several devices together, through `tf.distribute`.

Importing this module imports TensorFlow; where something else trains, nothing does.
"""

import keras
import tensorflow as tf
from keras import layers


class Replicas:
    """Trains a network on all devices of a distribution: what `network.fit` does on one.

    Each step, every device takes its share of the batch. The network's objective is divided by
    their number (see `TwoPartObjective.parts`) and gradients are summed over them, so that the step
    is that of the whole batch on one device, but for rounding.

    Args:
        network: a compiled `TwoPartObjective`, made within the strategy's scope.
        distribution: a `Distribution`, of whose devices each can have an equal share of a batch.
    """

    def __init__(self, network, distribution):
        self.network = network
        self.distribution = distribution
        self._step = tf.function(self._step_of_all)

    def fit(self, batches, epoch, callbacks):
        """Train on batches, and call callbacks as `network.fit` does.

        Args:
            batches: data set of the batches of all devices together, the same on every worker.
            epoch: number of the epoch, for the callbacks.
            callbacks: list of Keras callbacks.
        """
        self.network.stop_training = False
        callbacks = keras.callbacks.CallbackList(callbacks, model=self.network)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(epoch)
        logs = None
        for step, (x, y) in enumerate(batches):
            callbacks.on_train_batch_begin(step)
            cross_entropy, l2 = self._step(self._shares(x), self._shares(y)).numpy()
            logs = {"objective": cross_entropy + l2, "cross_entropy": cross_entropy, "l2": l2}
            callbacks.on_train_batch_end(step, logs)
            if self.network.stop_training:
                break
        callbacks.on_epoch_end(epoch, logs)
        callbacks.on_train_end(logs)

    def _shares(self, batch):
        """The rows of a batch that each of this worker's devices takes."""
        rows = len(batch) // self.distribution.replicas

        def share(context):
            first = context.replica_id_in_sync_group * rows
            return batch[first : first + rows]

        return self.distribution.strategy.experimental_distribute_values_from_function(share)

    def _step_of_all(self, x, y):
        strategy = self.distribution.strategy
        parts = strategy.run(self._step_of_one, (x, y))
        return strategy.experimental_local_results(parts)[0]

    def _step_of_one(self, x, y):
        network = self.network
        with tf.GradientTape() as tape:
            parts = network.parts(y, network(x, training=True))
            objective = tf.add_n(parts)
        variables = network.trainable_variables
        network.optimizer.apply(tape.gradient(objective, variables), variables)
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.stack(parts))


class GlobalBatchDropout(layers.Dropout):
    """Dropout whose masks are those that the batch of all devices would have on one.

    Stock dropout draws the same mask on each device.
    """

    def call(self, inputs, training=False):
        if not training:
            return inputs
        rows = inputs.shape[0]
        context = tf.distribute.get_replica_context()
        ones = tf.ones((rows * context.num_replicas_in_sync, *inputs.shape[1:]), inputs.dtype)
        factors = super().call(ones, training=True)  # 0, or what the kept units are multiplied by
        first = context.replica_id_in_sync_group * rows
        return inputs * factors[first : first + rows]

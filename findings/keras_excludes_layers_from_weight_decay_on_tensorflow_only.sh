#!/usr/bin/env bash
# Keras 3.15.1: `exclude_from_weight_decay(var_names=…)` looks for a layer's name on TensorFlow only.
#
# Expected: `optimizer.exclude_from_weight_decay(var_names=["norm/"])`, or the name of a layer, leaves
#   that layer's variables undecayed on every backend.
# Seen: the pattern is compared with `variable.name`. On TensorFlow that is the name of a tf.Variable,
#   which holds the layer's ("dense/kernel"); on JAX and PyTorch it is "kernel" alone, so nothing is
#   excluded, without a word. Variables themselves (`var_list=layer.variables`) work everywhere
#   (on PyTorch unless they are all there are: then an empty list of tensors is a RuntimeError).
#
# Output seen:
#   tensorflow: by name excluded, by variable excluded
#   jax: by name decayed, by variable excluded
#   torch: by name decayed, by variable excluded
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 tensorflow==2.21.0 jax==0.10.2 \
    jaxlib==0.10.2 torch==2.13.0
cat >"$folder/run.py" <<'PYTHON'
import keras
import numpy as np


def outcome(by_name):
    layers = keras.layers.Dense(2, name="norm"), keras.layers.Dense(2, name="other")
    model = keras.Sequential([keras.Input((3,)), *layers])
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    variables = model.trainable_variables
    named = {"var_names": ["norm/"]} if by_name else {"var_list": layers[0].variables}
    optimizer.exclude_from_weight_decay(**named)
    before = model.get_weights()
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables])
    return "excluded" if np.array_equal(before[0], model.get_weights()[0]) else "decayed"


print(f"{keras.backend.backend()}: by name {outcome(True)}, by variable {outcome(False)}")
PYTHON
cd "$folder"
for backend in tensorflow jax torch; do
    KERAS_BACKEND=$backend "$folder/venv/bin/python" run.py 2>/dev/null
done | tee seen
diff seen - <<'SEEN'
tensorflow: by name excluded, by variable excluded
jax: by name decayed, by variable excluded
torch: by name decayed, by variable excluded
SEEN

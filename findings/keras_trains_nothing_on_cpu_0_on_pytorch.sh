#!/usr/bin/env bash
# Keras 3.15.1 on PyTorch 2.13.0: within `keras.device("cpu:0")` nothing trains.
#
# Expected: "cpu:0" names the processor, as on TensorFlow and JAX, and as "gpu:0" names a GPU.
# Seen: a variable is `torch.nn.Parameter(…).to("cpu:0")`, and PyTorch, for which "cpu" and "cpu:0"
#   are different devices, makes a copy, which is no parameter and gets no gradient: `fit` says
#   "No gradients provided for any variable". Layers with a random generator's state fail when they
#   are made, because integers take no gradient.
# For whoever chooses the processor: `keras.device("cpu")`.
#
# Output seen:
#   cpu: Parameter, fit moved the kernel, Dropout is made
#   cpu:0: Tensor, ValueError: No gradients provided for any variable.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 torch==2.13.0
cat >"$folder/run.py" <<'PYTHON'
import keras
import numpy as np


def outcome():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()[0]
    try:
        model.fit(np.ones((4, 2)), np.full((4, 1), 9.0), verbose=0)
        moved = "moved" if np.any(model.get_weights()[0] != before) else "did not move"
        keras.layers.Dropout(0.5, seed=0)
        return f"fit {moved} the kernel, Dropout is made"
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


for name in ("cpu", "cpu:0"):
    with keras.device(name):
        kind = type(keras.Variable(np.ones(2)).value).__name__
        print(f"{name}: {kind}, {outcome()}")
PYTHON
cd "$folder"
KERAS_BACKEND=torch "$folder/venv/bin/python" run.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
cpu: Parameter, fit moved the kernel, Dropout is made
cpu:0: Tensor, ValueError: No gradients provided for any variable.
SEEN

#!/usr/bin/env bash
# Keras 3.15.1: a symbolic tensor times a number counts as sparse, and a layer on it may fail.
#
# Expected: `keras.Input((3, 4)) * 0.5` is dense, as the input is, and as it is divided by 2.
# Seen: of a product, Keras calls the result sparse if either factor is, and a number, which has no
#   attribute `sparse`, counts as one that is; so does what `keras.ops.ones(())` returns. On TensorFlow
#   the shape of a custom layer's output is found by tracing its `call` with such a sparse tensor: a
#   Dense inside it takes two axes then and no more, and the functional model cannot be built. A Dense
#   on the same tensor, whose shape Keras knows without tracing, can.
# For whoever scales a tensor within a graph: divide, or put `keras.layers.Rescaling(0.5)` there.
#
# Output seen:
#   sparse: x False, x * 0.5 True, 0.5 * x True, x * ones True, x / 2 False, x + 1 False, Rescaling False
#   Dense in a layer: x (None, 3, 2), x * 0.5 ValueError, x / 2 (None, 3, 2), Rescaling (None, 3, 2)
#   Dense alone, on x * 0.5: (None, 3, 2)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 tensorflow==2.21.0
cat >"$folder/run.py" <<'PYTHON'
import keras


class Within(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


def outcome(x):
    try:
        return Within()(x).shape
    except ValueError:
        return "ValueError"


x = keras.Input((3, 4))
tensors = {
    "x": x,
    "x * 0.5": x * 0.5,
    "0.5 * x": 0.5 * x,
    "x * ones": x * keras.ops.ones(()),
    "x / 2": x / 2,
    "x + 1": x + 1,
    "Rescaling": keras.layers.Rescaling(0.5)(x),
}
print("sparse:", ", ".join(f"{name} {bool(y.sparse)}" for name, y in tensors.items()))
tried = ("x", "x * 0.5", "x / 2", "Rescaling")
print("Dense in a layer:", ", ".join(f"{name} {outcome(tensors[name])}" for name in tried))
print("Dense alone, on x * 0.5:", keras.layers.Dense(2)(tensors["x * 0.5"]).shape)
PYTHON
cd "$folder"
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES=
KERAS_BACKEND=tensorflow "$folder/venv/bin/python" run.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
sparse: x False, x * 0.5 True, 0.5 * x True, x * ones True, x / 2 False, x + 1 False, Rescaling False
Dense in a layer: x (None, 3, 2), x * 0.5 ValueError, x / 2 (None, 3, 2), Rescaling (None, 3, 2)
Dense alone, on x * 0.5: (None, 3, 2)
SEEN

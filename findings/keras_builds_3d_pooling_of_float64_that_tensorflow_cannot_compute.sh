#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: pooling over three axes in float64 is built, and fails when called.
#
# Expected: what a model's symbolic call announces can be computed, and pooling takes float64 whatever
#   the number of its axes and whether it averages or takes the largest.
# Seen: TensorFlow's MaxPool3D does not take double, and its AvgPool3D has no kernel of it on the
#   processor; over two axes both have, and on JAX all of them. Keras works shapes out without asking, so
#   that the model is made without an error, and the first call is an InvalidArgumentError or a
#   NotFoundError.
# For whoever checks numbers in float64 (`keras.config.set_floatx`, `dtype="float64"`): give these layers
#   `dtype="float32"`; what they return is then rounded.
#
# Output seen:
#   tensorflow MaxPooling2D float64
#   tensorflow MaxPooling3D InvalidArgumentError
#   tensorflow AveragePooling3D NotFoundError
#   jax MaxPooling2D float64
#   jax MaxPooling3D float64
#   jax AveragePooling3D float64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 jax==0.10.2 tensorflow==2.21.0
cat >"$folder/run.py" <<'PYTHON'
import keras
import numpy as np


def outcome(name, axes):
    x = keras.Input((2,) * axes + (1,), dtype="float64")
    model = keras.Model(x, getattr(keras.layers, name)(2, dtype="float64")(x))
    try:
        return str(keras.backend.standardize_dtype(model(np.ones((1, *x.shape[1:]))).dtype))
    except Exception as error:
        return type(error).__name__


for name, axes in (("MaxPooling2D", 2), ("MaxPooling3D", 3), ("AveragePooling3D", 3)):
    print(keras.backend.backend(), name, outcome(name, axes))
PYTHON
cd "$folder"
export TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES= JAX_ENABLE_X64=1
for backend in tensorflow jax; do
    KERAS_BACKEND=$backend "$folder/venv/bin/python" run.py 2>/dev/null
done | tee seen
diff seen - <<'SEEN'
tensorflow MaxPooling2D float64
tensorflow MaxPooling3D InvalidArgumentError
tensorflow AveragePooling3D NotFoundError
jax MaxPooling2D float64
jax MaxPooling3D float64
jax AveragePooling3D float64
SEEN

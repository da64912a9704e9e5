#!/usr/bin/env bash
# Keras 3.15.1 on PyTorch 2.13.0 and JAX 0.10.2: operations on float64 compute in float32.
#
# Expected: an operation of `keras.ops` on float64 tensors returns float64, as on TensorFlow; on JAX
#   where jax_enable_x64 is set.
# Seen: on PyTorch `ops.matmul`, `ops.maximum`, `ops.norm`, `ops.cumsum` and forty more return
#   float32, without a word; the product is wrong by 1e-8. On JAX `ops.norm` and `ops.tanh` do,
#   `ops.matmul` does not. Python's operators on the tensors (`a @ b`) keep float64 on both.
# For whoever computes in float64: look at the dtype of what comes out, or use operators.
#
# Output seen:
#   torch: matmul float32 (off by more than 1e-9), maximum float32, norm float32, tanh float64, @ float64
#   jax: matmul float64 (exact), maximum float64, norm float32, tanh float32, @ float64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 jax==0.10.2 jaxlib==0.10.2 torch==2.13.0
cat >"$folder/run.py" <<'PYTHON'
import keras
import numpy as np
from keras import ops

array = np.random.default_rng(0).normal(size=(20, 20))
tensor = ops.convert_to_tensor(array)


def dtype(result):
    return keras.backend.standardize_dtype(result.dtype)


product = ops.matmul(tensor, tensor)
off = np.abs(ops.convert_to_numpy(product) - array @ array).max() > 1e-9
print(
    f"{keras.backend.backend()}: matmul {dtype(product)} "
    f"({'off by more than 1e-9' if off else 'exact'}), "
    f"maximum {dtype(ops.maximum(tensor, 0 * tensor))}, norm {dtype(ops.norm(tensor))}, "
    f"tanh {dtype(ops.tanh(tensor))}, @ {dtype(tensor @ tensor)}"
)
PYTHON
cd "$folder"
for backend in torch jax; do
    JAX_ENABLE_X64=1 KERAS_BACKEND=$backend "$folder/venv/bin/python" run.py 2>/dev/null
done | tee seen
diff seen - <<'SEEN'
torch: matmul float32 (off by more than 1e-9), maximum float32, norm float32, tanh float64, @ float64
jax: matmul float64 (exact), maximum float64, norm float32, tanh float32, @ float64
SEEN

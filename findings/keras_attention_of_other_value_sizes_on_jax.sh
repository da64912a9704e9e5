#!/usr/bin/env bash
# Keras 3.15.1 on JAX 0.10.2: MultiHeadAttention fails where values have another size than keys.
#
# Expected: `MultiHeadAttention(num_heads, key_dim, value_dim=other)` computes the same on every
#   backend, as it does on TensorFlow and PyTorch.
# Seen: on JAX it raises TypeError ("cannot reshape array"), since jax.nn.dot_product_attention wants
#   values of the keys' size; `flash_attention=False` does not help. With
#   `return_attention_scores=True` it works, which takes the way of einsums.
# For whoever needs it on JAX: ask for the scores, and drop them.
#
# Output seen:
#   value_dim=3: works; with scores: works
#   value_dim=5: TypeError; with scores: works
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 jax==0.10.2 jaxlib==0.10.2
cat >"$folder/run.py" <<'PYTHON'
import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")


def outcome(value_dim, **options):
    layer = keras.layers.MultiHeadAttention(2, 3, value_dim=value_dim, flash_attention=False)
    try:
        layer(x, x, **options)
    except Exception as error:
        return type(error).__name__
    return "works"


for value_dim in (3, 5):
    scores = outcome(value_dim, return_attention_scores=True)
    print(f"value_dim={value_dim}: {outcome(value_dim)}; with scores: {scores}")
PYTHON
cd "$folder"
KERAS_BACKEND=jax "$folder/venv/bin/python" run.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
value_dim=3: works; with scores: works
value_dim=5: TypeError; with scores: works
SEEN

#!/usr/bin/env bash
# Keras 3.15.1: the paths of variables in models within models change when the model is loaded.
#
# Expected: `variable.path` says where a variable is, for good: patterns of paths choose layouts
#   (`keras.distribution.LayoutMap`), exclusions from weight decay, depths of a rule, learning rates.
# Seen: a model within a model gives its layers' variables its own name as a prefix when it was built
#   by being called, and not when it was built before; a loaded model has other prefixes than the
#   one that was saved. A pattern such as `^encoder/` finds nothing in the loaded model, without a
#   word.
# For whoever goes by paths: decide once, and save what was decided, by position.
#
# Output seen:
#   before: encoder/first/kernel, head/kernel
#   loaded: first/kernel, head/kernel
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 jax==0.10.2 jaxlib==0.10.2
cat >"$folder/run.py" <<'PYTHON'
import keras
from keras import layers

encoder = keras.Sequential([layers.Dense(3, use_bias=False, name="first")], name="encoder")
x = keras.Input((4,))
model = keras.Model(x, layers.Dense(2, use_bias=False, name="head")(encoder(x)))
model.save("model.keras")
loaded = keras.models.load_model("model.keras")
for when, each in (("before", model), ("loaded", loaded)):
    print(f"{when}: {', '.join(variable.path for variable in each.weights)}")
PYTHON
cd "$folder"
KERAS_BACKEND=jax "$folder/venv/bin/python" run.py | tee seen
diff seen - <<'SEEN'
before: encoder/first/kernel, head/kernel
loaded: first/kernel, head/kernel
SEEN

#!/usr/bin/env bash
# TensorFlow 2.21.0, Keras 3.15.1: checkpoints do not hold layers that a model keeps in a list.
#
# Expected: tf.train.Checkpoint(model=…) holds all weights of a Keras model, and
#   restore(…).assert_consumed() says so if something is missing.
# Seen: what stands in an attribute of its own is saved, what stands in a list is not, be it layers or
#   variables. Restored into another model it stays random there; assert_consumed() passes, since it
#   asks what of the file was used and not what of the model was found.
# For whoever keeps layers or variables in lists: give each an attribute too, or save with Keras's
#   save_weights. The factors of factored layers have attributes.
#
# Output seen:
#   in an attribute: same after restoring
#   in a list: other after restoring
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorflow==2.21.0 keras==3.15.1
cat >"$folder/run.py" <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf


class Alone(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


class Listed(keras.Model):
    def __init__(self):
        super().__init__()
        self.steps = [keras.layers.Dense(3)]

    def call(self, x):
        return self.steps[0](x)


x = np.ones((2, 4), "float32")
for where, kind in (("an attribute", Alone), ("a list", Listed)):
    model, other = kind(), kind()
    model(x), other(x)
    path = tf.train.Checkpoint(model=model).save(kind.__name__)
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    same = np.array_equal(model(x), other(x))
    print(f"in {where}: {'same' if same else 'other'} after restoring")
PYTHON
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" run.py 2>log | tee seen
diff seen - <<'SEEN'
in an attribute: same after restoring
in a list: other after restoring
SEEN

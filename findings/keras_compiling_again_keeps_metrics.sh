#!/usr/bin/env bash
# Keras 3.15.1: `compile` without metrics, on a model that was compiled with some, keeps those.
#
# Expected: `compile(optimizer, loss)` configures the model anew: metrics that are not given are gone,
#   as the loss is replaced. Models that come compiled, as KerasHub's tasks do, are trained on other
#   targets so.
# Seen: the old metrics stay, and are computed from targets that they were not made for, with another
#   loss too: here an accuracy of classes on a regression's. `metrics=None` and
#   `weighted_metrics=None` keep them; an empty list removes them.
#
# Output seen:
#   compiled again without metrics: loss, sparse_categorical_accuracy
#   with metrics=None: loss, sparse_categorical_accuracy
#   with metrics=[]: loss
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 jax==0.10.2 jaxlib==0.10.2
cat >"$folder/run.py" <<'PYTHON'
import keras
import numpy as np

x, y = np.ones((4, 3), "float32"), np.zeros((4, 1), "float32")


def kept(**options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    classes = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", classes, metrics=["sparse_categorical_accuracy"])
    model.compile("sgd", "mse", **options)
    return ", ".join(model.train_on_batch(x, y, return_dict=True))


print(f"compiled again without metrics: {kept()}")
print(f"with metrics=None: {kept(metrics=None)}")
print(f"with metrics=[]: {kept(metrics=[])}")
PYTHON
cd "$folder"
KERAS_BACKEND=jax "$folder/venv/bin/python" run.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
compiled again without metrics: loss, sparse_categorical_accuracy
with metrics=None: loss, sparse_categorical_accuracy
with metrics=[]: loss
SEEN

#!/usr/bin/env bash
# Keras 3.15.1: `keras.optimizers.Lamb` is not found by its name, and `deserialize` returns a string.
#
# Expected: `keras.optimizers.get` knows each optimizer of `keras.optimizers` by its name, as it does
#   "sgd", "muon" or "schedulefreeadamw"; `deserialize(serialize(optimizer))` is an optimizer.
# Seen: Lamb is missing from the table of names that both read. `get("lamb")`, and so `compile("lamb")`,
#   is a ValueError; `deserialize` of a Lamb's configuration gives back its class's name, a string,
#   without an error. A saved model is loaded right, because that does not go by this table.
# For whoever sweeps over optimizers by name, or copies one by its configuration: give an object, and
#   copy it by `type(optimizer).from_config(optimizer.get_config())`.
#
# Output seen:
#   by name: Adam adam, Lion lion, Lamb ValueError, Muon muon, SGD sgd
#   there and back: Adam Adam, Lion Lion, Lamb str 'Lamb', Muon Muon, SGD SGD
#   loaded with a model: Lamb
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras==3.15.1 numpy==2.4.6 jax==0.10.2
cat >"$folder/run.py" <<'PYTHON'
import keras

NAMES = ("Adam", "Lion", "Lamb", "Muon", "SGD")


def by_name(name):
    try:
        return keras.optimizers.get(name.lower()).name
    except ValueError:
        return "ValueError"


def there_and_back(name):
    made = getattr(keras.optimizers, name)()
    found = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    kind = type(found).__name__
    return f"str {found!r}" if kind == "str" else kind


for what, seen in (("by name", by_name), ("there and back", there_and_back)):
    print(f"{what}:", ", ".join(f"{name} {seen(name)}" for name in NAMES))
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.Lamb(), "mse")
model.save("model.keras")
print("loaded with a model:", type(keras.models.load_model("model.keras").optimizer).__name__)
PYTHON
cd "$folder"
KERAS_BACKEND=jax "$folder/venv/bin/python" run.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
by name: Adam adam, Lion lion, Lamb ValueError, Muon muon, SGD sgd
there and back: Adam Adam, Lion Lion, Lamb str 'Lamb', Muon Muon, SGD SGD
loaded with a model: Lamb
SEEN

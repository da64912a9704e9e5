#!/usr/bin/env bash
# KerasHub 0.32.0: decoder layers that cannot be made from their own configurations.
#
# Expected: `type(layer).from_config(layer.get_config())` makes a layer again, as Keras asks of every
#   layer, `keras.models.clone_model` relies on, and tools that copy, merge or convert models do.
# Seen: for the decoder layers of Llama, Qwen3 and GPT-NeoX it raises. Models of them can still
#   be saved and loaded, since a backbone's configuration is the arguments of its constructor, from
#   which it makes its layers itself: the layers' own configurations are never read.
# For whoever copies models: copy a model by its own class where there is one, and fill in the
#   weights; go layer by layer only where there is not.
#
# Output seen:
#   LlamaTransformerDecoder: AttributeError; its model is loaded the same: True
#   Qwen3TransformerDecoder: TypeError; its model is loaded the same: True
#   GPTNeoXDecoder: TypeError; its model is loaded the same: True
#   TransformerDecoder: made; its model is loaded the same: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras-hub==0.32.0 keras==3.15.1 tensorflow==2.21.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import keras
import keras_hub
import numpy as np

sizes = {"vocabulary_size": 10, "num_layers": 1, "hidden_dim": 8, "intermediate_dim": 16}
grouped = {"num_query_heads": 2, "num_key_value_heads": 1}
models = keras_hub.models
backbones = [
    models.LlamaBackbone(**sizes, **grouped),
    models.Qwen3Backbone(**sizes, **grouped, head_dim=4),
    models.GPTNeoXBackbone(**sizes, num_heads=1),
    models.GPT2Backbone(**sizes, num_heads=2, max_sequence_length=8),
]
x = {"token_ids": np.ones((1, 4), "int32"), "padding_mask": np.ones((1, 4), "int32")}
for backbone in backbones:
    decoder = next(layer for layer in backbone.layers if "Decoder" in type(layer).__name__)
    try:
        type(decoder).from_config(decoder.get_config())
        outcome = "made"
    except Exception as error:
        outcome = type(error).__name__
    backbone.save("model.keras")
    difference = keras.models.load_model("model.keras")(x) - backbone(x)
    same = float(abs(np.asarray(difference)).max()) < 1e-5
    print(f"{type(decoder).__name__}: {outcome}; its model is loaded the same: {same}")
PYTHON
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" run.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
LlamaTransformerDecoder: AttributeError; its model is loaded the same: True
Qwen3TransformerDecoder: TypeError; its model is loaded the same: True
GPTNeoXDecoder: TypeError; its model is loaded the same: True
TransformerDecoder: made; its model is loaded the same: True
SEEN

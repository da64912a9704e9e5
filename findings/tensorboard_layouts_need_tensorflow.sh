#!/usr/bin/env bash
# TensorBoard 2.21.0: two of its functions for writers without TensorFlow import TensorFlow.
#
# Expected: what returns a protobuf (`…_pb`, `pb`) works where TensorFlow is not installed, as for
#   scalars, histograms and texts; TensorBoard is documented to run without it.
# Seen: `custom_scalar.summary.pb` (the layout of the dashboard "Custom scalars") and the import of
#   `hparams.api`, which the documentation names, raise ModuleNotFoundError. `hparams.summary_v2`
#   has the same functions and works; of a layout one can build the summary by hand.
#
# Output seen:
#   scalar_pb: works
#   text_pb: works
#   hparams.summary_v2.hparams_pb: works
#   hparams.api: ModuleNotFoundError
#   custom_scalar.summary.pb: ModuleNotFoundError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tensorboard==2.21.0 numpy==2.4.6 'setuptools<81'
cat >"$folder/run.py" <<'PYTHON'
def scalar():
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb

    scalar_pb("loss", 1.0)


def text():
    from tensorboard.plugins.text.summary_v2 import text_pb

    text_pb("note", "words")


def hparams():
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    hparams_pb({"rate": 0.1})


def hparams_api():
    from tensorboard.plugins.hparams import api

    api.hparams_pb({"rate": 0.1})


def layout():
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

    summary.pb(layout_pb2.Layout(category=[layout_pb2.Category(title="all")]))


for name, call in {
    "scalar_pb": scalar,
    "text_pb": text,
    "hparams.summary_v2.hparams_pb": hparams,
    "hparams.api": hparams_api,
    "custom_scalar.summary.pb": layout,
}.items():
    try:
        call()
    except Exception as error:
        print(f"{name}: {type(error).__name__}")
    else:
        print(f"{name}: works")
PYTHON
cd "$folder"
"$folder/venv/bin/python" run.py 2>/dev/null | tee seen
diff seen - <<'SEEN'
scalar_pb: works
text_pb: works
hparams.summary_v2.hparams_pb: works
hparams.api: ModuleNotFoundError
custom_scalar.summary.pb: ModuleNotFoundError
SEEN

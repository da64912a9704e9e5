"""The models that `zoo.py` converts: Keras's applications and KerasHub's models, made small.

Each entry makes a model with random weights. Nothing is downloaded.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable

import keras

CLASSES = 4
IMAGE = 32
LARGER = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}  # the smallest they take


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: of its class or function.
        library: "Keras" or "KerasHub".
        make: function without arguments that returns the model.
        length: size of the axes of its inputs that the model leaves open, but for the batch's.
    """

    name: str
    library: str
    make: Callable[[], keras.Model]
    length: int = 8


def entries():
    """All models whose library is installed, by name."""
    found = [*_applications(), *(_hub_models() if importlib.util.find_spec("keras_hub") else ())]
    return {entry.name: entry for entry in found}


def _applications():
    """What `keras.applications` holds, with logits as outputs."""
    for name in dir(keras.applications):
        if name[0].isupper():
            size = LARGER.get(name, IMAGE)
            make = functools.partial(
                getattr(keras.applications, name),
                weights=None,
                input_shape=(size, size, 3),
                classes=CLASSES,
                classifier_activation=None,
            )
            yield Entry(name, "Keras", make)


# Arguments of the backbones, as small as they allow ----------------------------------------------

SHAPE = {"image_shape": (IMAGE, IMAGE, 3)}
WORDS = {"vocabulary_size": 40, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
HEADS = WORDS | {"num_heads": 2}
GROUPED = WORDS | {"num_query_heads": 4, "num_key_value_heads": 2}
EXPERTS = GROUPED | {"num_experts": 3, "top_k": 2}
T5_SIDES = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {
        "hidden_dim": 16,
        "intermediate_dim": 24,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "layer_types": ["sliding_attention", "full_attention"],
    }.items()
}
PATCHES = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
SMALL_MIT = {
    "num_layers": 2,
    "hidden_dims": [8, 16],
    "layerwise_depths": [1, 1],
    "layerwise_num_heads": [1, 2],
    "layerwise_sr_ratios": [2, 1],
    "layerwise_patch_sizes": [3, 3],
    "layerwise_strides": [4, 2],
    "max_drop_path_rate": 0.1,
} | SHAPE
SMALL_RESNET = {
    "input_conv_filters": [8],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 64],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
    "block_type": "bottleneck_block",
} | SHAPE
BACKBONES = {
    "Albert": HEADS | {"embedding_dim": 8},
    "Bart": HEADS,
    "Bert": HEADS,
    "Bloom": HEADS,
    "DebertaV3": HEADS | {"bucket_size": 4, "max_sequence_length": 16},
    "DistilBert": HEADS,
    "Electra": {"vocab_size": 40, "embedding_dim": 8}
    | {name: value for name, value in HEADS.items() if name != "vocabulary_size"},
    "ESM2": HEADS,
    "FNet": WORDS,
    "Falcon": WORDS | {"num_attention_heads": 2},
    "GPT2": HEADS,
    "GPTNeoX": HEADS,
    "Gemma": GROUPED | {"head_dim": 4},
    "Gemma3": GROUPED | {"head_dim": 4, "image_size": 16},
    "GptOss": EXPERTS,
    "Llama": GROUPED,
    "Llama3": GROUPED,
    "Mistral": GROUPED,
    "Mixtral": EXPERTS,
    "OPT": HEADS,
    "PaliGemma": GROUPED
    | {"head_dim": 4, "image_size": 16, "vit_patch_size": 8, "vit_num_heads": 2}
    | {"vit_hidden_dim": 8, "vit_num_layers": 2},
    "Phi3": GROUPED,
    "Qwen": GROUPED,
    "Qwen3": GROUPED | {"head_dim": 4},
    "QwenMoe": EXPERTS | {"moe_intermediate_dim": 8, "shared_expert_intermediate_dim": 8},
    "Roberta": HEADS,
    "RoformerV2": HEADS | {"head_size": 8},
    "T5": HEADS,
    "T5Gemma": {"vocabulary_size": 40, "sliding_window": 4} | T5_SIDES,
    "Whisper": HEADS | {"num_mels": 4, "max_encoder_sequence_length": 64},
    "XLMRoberta": HEADS,
    "XLNet": HEADS,
    "CSPNet": {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stackwise_depth": [1, 2],
        "stackwise_strides": [1, 2],
        "stackwise_num_filters": [8, 16],
        "block_type": "dark_block",
        "stage_type": "dark",
    }
    | SHAPE,
    "DeiT": PATCHES | {"intermediate_dim": 24} | SHAPE,
    "DenseNet": {"stackwise_num_repeats": [1, 2], "growth_rate": 4} | SHAPE,
    "DINOV2": PATCHES
    | {"intermediate_dim": 24, "position_embedding_shape": SHAPE["image_shape"]}
    | SHAPE,
    "EfficientNet": {
        "stackwise_kernel_sizes": [3, 5],
        "stackwise_num_repeats": [1, 2],
        "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16],
        "stackwise_expansion_ratios": [1, 4],
        "stackwise_squeeze_and_excite_ratios": [0.0, 0.25],
        "stackwise_strides": [1, 2],
        "stackwise_block_types": ["fused", "unfused"],
        "stackwise_width_coefficients": [1.0, 1.0],
        "stackwise_depth_coefficients": [1.0, 1.0],
        "input_shape": SHAPE["image_shape"],
        "num_features": 16,
    },
    "HGNetV2": {
        "depths": [1, 1],
        "embedding_size": 8,
        "hidden_sizes": [16, 16],
        "stem_channels": [3, 8, 8],
        "hidden_act": "relu",
        "use_learnable_affine_block": True,
        "stackwise_stage_filters": [(8, 8, 16, 1, 1, 3), (16, 8, 16, 1, 1, 3)],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, True],
    }
    | SHAPE,
    "MiT": SMALL_MIT,
    "MobileNet": {
        "stackwise_expansion": [[16], [24, 24]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [16, 16]],
        "stackwise_kernel_size": [[3], [5, 5]],
        "stackwise_num_strides": [[2], [2, 1]],
        "stackwise_se_ratio": [[None], [0.25, 0.25]],
        "stackwise_activation": [["relu"], ["hard_swish", "hard_swish"]],
        "stackwise_padding": [[1], [2, 2]],
        "output_num_filters": 32,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "last_layer_filter": 16,
        "squeeze_and_excite": 0.5,
    }
    | SHAPE,
    "ResNet": SMALL_RESNET,
    "SwinTransformer": {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
    | SHAPE,
    "VGG": {"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [8, 16]} | SHAPE,
    "ViT": PATCHES | {"mlp_dim": 24} | SHAPE,
    "Xception": {"stackwise_conv_filters": [[8, 8], [16, 16]], "stackwise_pooling": [True, False]}
    | SHAPE,
}


def backbone(name, **changes):
    """A backbone of KerasHub with the arguments above."""
    import keras_hub

    return getattr(keras_hub.models, f"{name}Backbone")(**BACKBONES[name] | changes)


def _task(name, kind, **arguments):
    """A task of KerasHub on a backbone, without the preprocessor, which is no part of the graph."""
    import keras_hub

    made = getattr(keras_hub.models, name + kind)
    return made(backbone=backbone(name), preprocessor=None, **arguments)


CLASSIFIER = {"num_classes": CLASSES}
TASKS = {
    "TextClassifier": (
        CLASSIFIER,
        ["Albert", "Bert", "DebertaV3", "FNet", "Roberta", "XLMRoberta"],
    ),
    "MaskedLM": ({}, ["Albert", "Bert", "DistilBert", "RoformerV2"]),
    "CausalLM": ({}, ["GPT2", "Gemma", "Llama", "Mixtral", "OPT", "Phi3", "Qwen"]),
    "Seq2SeqLM": ({}, ["Bart", "T5"]),
    "ImageClassifier": (CLASSIFIER, ["EfficientNet", "MobileNet", "ResNet", "ViT"]),
}


def _hub_models():
    for name in BACKBONES:
        yield Entry(f"{name}Backbone", "KerasHub", functools.partial(backbone, name))
    for make in (_clip, _segment_anything, _seg_former, _deep_lab, _retina_net):
        yield make()
    for kind, (arguments, names) in TASKS.items():
        for name in names:
            make = functools.partial(_task, name, kind, **arguments)
            yield Entry(name + kind, "KerasHub", make)


def _hub_entry(name, **options):
    """Decorator of a function that makes a model: one that makes its entry."""
    return lambda make: lambda: Entry(name, "KerasHub", make, **options)


@_hub_entry("CLIPBackbone")
def _clip():
    import keras_hub

    sizes = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 24}
    return keras_hub.models.CLIPBackbone(
        keras_hub.models.CLIPVisionEncoder(patch_size=8, **sizes, **SHAPE),
        keras_hub.models.CLIPTextEncoder(
            vocabulary_size=40, embedding_dim=16, max_sequence_length=8, **sizes
        ),
        projection_dim=8,
    )


@_hub_entry("SAMBackbone", length=IMAGE // 2)
def _segment_anything():
    import keras_hub

    embedded = IMAGE // 8
    encoder = keras_hub.models.ViTDetBackbone(
        hidden_size=16,
        num_layers=2,
        intermediate_dim=24,
        num_heads=2,
        global_attention_layer_indices=[1],
        patch_size=8,
        num_output_channels=8,
        window_size=2,
        **SHAPE,
    )
    prompts = keras_hub.layers.SAMPromptEncoder(
        hidden_size=8,
        image_embedding_size=(embedded, embedded),
        input_image_size=(IMAGE, IMAGE),
        mask_in_channels=8,
    )
    decoder = keras_hub.layers.SAMMaskDecoder(
        num_layers=2,
        hidden_size=8,
        intermediate_dim=24,
        num_heads=2,
        embedding_dim=8,
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=8,
    )
    return keras_hub.models.SAMBackbone(encoder, prompts, decoder)


@_hub_entry("SegFormerImageSegmenter")
def _seg_former():
    import keras_hub

    mixed = backbone("MiT")
    base = keras_hub.models.SegFormerBackbone(image_encoder=mixed, projection_filters=8)
    return keras_hub.models.SegFormerImageSegmenter(backbone=base, num_classes=CLASSES)


@_hub_entry("DeepLabV3Backbone")
def _deep_lab():
    import keras_hub

    return keras_hub.models.DeepLabV3Backbone(
        image_encoder=backbone("ResNet"),
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P3",
        upsampling_size=2,
        dilation_rates=[2, 3],
        projection_filters=8,
        **SHAPE,
    )


@_hub_entry("RetinaNetBackbone")
def _retina_net():
    import keras_hub

    blocks = {
        "stackwise_num_filters": [64, 64, 64],
        "stackwise_num_blocks": [1, 1, 1],
        "stackwise_num_strides": [1, 2, 2],
    }
    return keras_hub.models.RetinaNetBackbone(
        image_encoder=backbone("ResNet", **blocks), min_level=3, max_level=4, use_p5=False, **SHAPE
    )

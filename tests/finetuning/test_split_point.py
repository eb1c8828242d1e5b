"""Which layers learn, and where a backbone is cut: on the networks themselves, with random weights."""

from __future__ import annotations

import math
from functools import cache

import keras
import numpy as np
import pytest

from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.errors import BackboneError, SpecError
from ffe.finetuning.graph import tensor_of
from ffe.finetuning.head_layers import WarmStart
from ffe.finetuning.joined_model import JoinedModel, features_above
from ffe.finetuning.split_point import find_cut
from ffe.finetuning.unfreeze import check_growing, count_unfrozen, unfreeze_layers
from ffe.heads.transform import FeatureMap

SIZE = 40


@cache
def backbone(name: str) -> keras.Model:
    spec, weights = make_spec(name, SIZE, "random")
    return build(spec, weights)


def run(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Run a model once; to trace it first takes longer."""
    return np.asarray(model(x, training=False))


def linear_head(model: keras.Model, classes: int = 3) -> WarmStart:
    layout = FeatureLayout.of_shape(model.output_shape[1:])
    kernel = np.random.default_rng(0).normal(size=(layout.channels, classes)).astype(np.float32)
    return WarmStart(
        FeatureMap({"pooling": "avg", "scaling": "sqrt_l2"}, layout), [(kernel, np.ones(classes, np.float32))], {}, 0.2
    )


@pytest.mark.parametrize(
    ("name", "wanted", "layer"),
    [
        ("vgg19", "block5", "block4_pool"),
        ("mobilenet_0.25", "6", "conv_pw_12_relu"),
        ("mobilenet_0.25", "19", "conv_pw_10_relu"),
        ("mobilenetv2_0.35", "block_15", "block_14_add"),
        pytest.param(
            "resnet50", "conv5_block3_2_conv", "conv5_block2_out", marks=pytest.mark.slow
        ),  # beside a skip: the cut goes below the block
        pytest.param("efficientnetb0", "block7a", "block6d_add", marks=pytest.mark.slow),
        pytest.param("densenet121", "6", "conv5_block15_concat", marks=pytest.mark.slow),
    ],
)
def test_lower_and_upper_part_are_the_whole(name: str, wanted: str, layer: str) -> None:
    """As they are cut, and as the upper part is made quick to train: the same logits within 1e-5 of the largest."""
    model = backbone(name)
    learning = unfreeze_layers(model, count_unfrozen(model, wanted, name))
    cut = find_cut(model, learning)
    assert (cut.place, cut.layer) == ("inside", layer)
    network = JoinedModel(model, linear_head(model))
    images = np.random.default_rng(1).uniform(-1, 1, (3, SIZE, SIZE, 3)).astype(np.float32)
    whole = run(keras.Model(model.input, network._logits), images)
    middle = run(keras.Model(model.input, tensor_of(model, layer)), images)
    assert middle.shape[1:] == cut.shape
    upper = network.above(layer)
    np.testing.assert_allclose(run(upper, middle), whole, rtol=0, atol=1e-5 * np.abs(whole).max())
    features = run(model, images).reshape(3, -1)
    above = features_above(model, layer)
    assert above is not None
    np.testing.assert_allclose(run(above, middle), features, rtol=0, atol=1e-5 * np.abs(features).max())
    learnt = {variable.path for layer_ in learning for variable in layer_.trainable_variables}
    assert {variable.path for variable in upper.trainable_variables} == learnt | {"head0/kernel", "head0/bias"}
    below = keras.Model(model.input, tensor_of(model, layer))
    assert not any(layer_ in learning for layer_ in below.layers)


@pytest.mark.parametrize(("block", "article", "layers"), [("top_conv", 6, 3), ("block7a", 19, 16), ("block6a", 78, 75)])
def test_counts_of_the_article(block: str, article: int, layers: int) -> None:
    """It counts a pooling, a dropout and the output too, which are no layers of the backbone."""
    assert count_unfrozen(backbone("efficientnetb0"), block, "efficientnetb0") == layers == article - 3


def test_what_can_be_asked_for() -> None:
    model = backbone("mobilenetv2_0.35")
    names = [layer.name for layer in model.layers]
    assert count_unfrozen(model, "0", "m") == 0
    assert count_unfrozen(model, "all", "m") == len(names)
    assert names[-count_unfrozen(model, "block_1", "m")] == "block_1_expand"  # not block_10, nor block_16
    assert names[-count_unfrozen(model, "block_10", "m")] == "block_10_expand"
    assert names[-count_unfrozen(model, "block_16_project", "m")] == "block_16_project"


def test_what_cannot_be_asked_for() -> None:
    model = backbone("mobilenet_0.25")
    with pytest.raises(BackboneError) as raised:
        count_unfrozen(model, "100", "mobilenet_0.25")
    assert str(raised.value) == (
        "The backbone 'mobilenet_0.25' has 86 layers, so 100 of them cannot be unfrozen; give at most 86, or 'all'."
    )
    with pytest.raises(BackboneError) as raised:
        count_unfrozen(model, "conv_dw_14", "mobilenet_0.25")
    assert str(raised.value) == (
        "The backbone 'mobilenet_0.25' has no layer or block 'conv_dw_14'; its last layers are "
        "conv_pw_12_bn, conv_pw_12_relu, conv_dw_13, conv_dw_13_bn, conv_dw_13_relu, conv_pw_13, conv_pw_13_bn, conv_pw_13_relu. "
        "Did you mean 'conv_dw_4'?"
    )
    for wanted in ("-3", "1.5"):
        with pytest.raises(BackboneError) as raised:
            count_unfrozen(model, wanted, "mobilenet_0.25")
        assert str(raised.value) == (
            f"{wanted} layers of the backbone 'mobilenet_0.25' cannot be unfrozen; "
            "give a whole number from 0 (the head alone) to 86, or 'all'."
        )
    with pytest.raises(BackboneError, match="no layer or block 'top'; "):
        count_unfrozen(model, "top", "mobilenet_0.25")


def test_stages_do_not_shrink() -> None:
    check_growing(["6", "6", "all"], [6, 6, 86])
    with pytest.raises(SpecError) as raised:
        check_growing(["block5", "6", "3"], [5, 6, 3])
    assert str(raised.value) == (
        "Stage 3 unfreezes 3 layers, fewer than the 6 of the stage before it, but what has learnt stays unfrozen; "
        "write --unfreeze 3,block5,6."
    )


def test_batch_norms_stay_frozen_unless_asked_for() -> None:
    model = backbone("mobilenet_0.25")
    frozen = unfreeze_layers(model, 6)
    assert [layer.name for layer in frozen] == ["conv_dw_13", "conv_pw_13"]
    free = unfreeze_layers(model, 6, batchnorm=True)
    assert [layer.name for layer in free] == ["conv_dw_13", "conv_dw_13_bn", "conv_pw_13", "conv_pw_13_bn"]
    assert unfreeze_layers(model, 0) == []
    assert not any(layer.trainable for layer in model.layers)


def test_cuts_at_the_ends() -> None:
    model = backbone("mobilenet_0.25")
    assert find_cut(model, unfreeze_layers(model, 0)).place == "output"
    assert find_cut(model, unfreeze_layers(model, 1)).place == "output"  # a ReLU has nothing to learn
    everything = find_cut(model, unfreeze_layers(model, 86))
    assert (everything.place, everything.layer, everything.shape) == ("input", "", (SIZE, SIZE, 3))
    assert math.prod(find_cut(model, unfreeze_layers(model, 6)).shape) == 256


@pytest.mark.slow
def test_names_that_keras_counts_up_are_taken_from_files_alone() -> None:
    """Xception's sums are called add_1, add_2, or add_13 where another model was built before."""
    model = backbone_of_size("xception", 71)
    learning = unfreeze_layers(model, count_unfrozen(model, "block14", "xception"))
    assert find_cut(model, learning, from_file=True).layer.startswith("add")
    assert find_cut(model, learning).layer == "block1_conv2_act"


def backbone_of_size(name: str, size: int) -> keras.Model:
    spec, weights = make_spec(name, size, "random")
    return build(spec, weights)

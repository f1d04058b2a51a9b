"""The exact words for every kind of mistake in a config file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from cnnforge.blocks import BLOCKS
from cnnforge.config import explain, read_model, validate_model
from cnnforge.errors import ConfigErrors
from cnnforge.optim import AnyOptimizer

TYPES = ", ".join(BLOCKS)
WITH_ENDING = [name for name, block in BLOCKS.items() if "activation" in block.model_fields]
NET = "name: net\ninput: [8, 8, 4]\nlayers:\n"


def errors(text: str) -> list[str]:
    try:
        validate_model(read_model(text))
    except ConfigErrors as found:
        return [str(error) for error in found.errors]
    return []


SOFTMAX = "name: net\ninput: [8, 8, 1]\nlayers: {f: {type: fc, units: 2, activation: softmax}}\n"


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            "  c1: {type: conv, filters: 2, kernel: 9}\n",
            "c1: a 9x9 window does not fit a 8x8 input\n  where: <text>:4:3 (layers.c1), input (8, 8, 4)\n"
            "  why:   8 + 2*0 < 9\n  fix:   kernel <= 8, or padding: same, or one pool fewer before it",
        ),
        (
            "  c1: {type: conv, filterz: 2, kernel: 3}\n",
            "c1: unknown key 'filterz'\n  where: <text>:4:20 (layers.c1.filterz)\n"
            "  why:   conv knows type, filters, kernel, stride, padding, dilation, groups, flip, bias, activation, "
            "init, "
            "bias_init, after, input, trainable\n  fix:   did you mean 'filters'?",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, units: 3}\n",
            "c1: unknown key 'units'\n  where: <text>:4:43 (layers.c1.units)\n"
            "  why:   conv knows type, filters, kernel, stride, padding, dilation, groups, flip, bias, activation, "
            "init, "
            "bias_init, after, input, trainable\n  fix:   'units' belongs to fc",
        ),
        (
            "  c1: {type: conv, kernel: 3}\n",
            "c1: 'filters' is missing\n  where: <text>:4:3 (layers.c1.filters)\n  why:   conv needs it\n"
            "  fix:   add 'filters:', a whole number above 0",
        ),
        (
            "  c1: {type: conw, filters: 2, kernel: 3}\n",
            "c1: unknown type 'conw'\n  where: <text>:4:8 (layers.c1.type)\n"
            f"  why:   it is one of {TYPES}\n"
            "  fix:   did you mean 'conv'?",
        ),
        (
            "  c1: {filters: 2, kernel: 3}\n",
            "c1: 'type' is missing\n  where: <text>:4:3 (layers.c1)\n"
            f"  why:   it is one of {TYPES}\n"
            "  fix:   type: conv",
        ),
        (
            "  c1: {type: 3}\n",
            "c1: type cannot be 3\n  where: <text>:4:8 (layers.c1.type)\n"
            f"  why:   it is one of {TYPES}\n"
            "  fix:   type: conv",
        ),
        (
            "  c1: conv\n",
            "c1 cannot be 'conv'\n  where: <text>:4:3 (layers.c1)\n"
            f"  why:   c1 is a mapping with a 'type', one of {TYPES}\n"
            "  fix:   {type: conv, …}",
        ),
        (
            "  c1: {type: conv, filters: '6', kernel: 3}\n",
            "c1: filters cannot be '6'\n  where: <text>:4:20 (layers.c1.filters)\n"
            "  why:   text is not a whole number above 0\n  fix:   without quotes: 6",
        ),
        (
            "  c1: {type: conv, filters: 1e1, kernel: 3}\n",
            "c1: filters cannot be 10.0\n  where: <text>:4:20 (layers.c1.filters)\n"
            "  why:   a number with a point is not a whole number above 0\n  fix:   10",
        ),
        (
            "  c1: {type: conv, filters: true, kernel: 3}\n",
            "c1: filters cannot be true\n  where: <text>:4:20 (layers.c1.filters)\n"
            "  why:   a truth value is not a whole number above 0\n  fix:   a whole number above 0",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: many}\n",
            "c1: kernel cannot be 'many'\n  where: <text>:4:32 (layers.c1.kernel)\n"
            "  why:   text is not a whole number above 0, or a list of 2 such\n"
            "  fix:   a whole number above 0, or a list of 2 such",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: [3]}\n",
            "c1: kernel cannot be [3]\n  where: <text>:4:32 (layers.c1.kernel)\n  why:   it has 1 value\n"
            "  fix:   a whole number above 0, or a list of 2 such",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: [3, 0]}\n",
            "c1: kernel[1] cannot be 0\n  where: <text>:4:32 (layers.c1.kernel)\n  why:   0 is not above 0\n"
            "  fix:   a whole number above 0, or a list of 2 such",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, padding: sane}\n",
            "c1: padding cannot be 'sane'\n  where: <text>:4:43 (layers.c1.padding)\n"
            "  why:   it is one of valid, same, or a whole number of 0 or more, or a list of 4 such\n"
            "  fix:   did you mean 'same'?",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, padding: -1}\n",
            "c1: padding cannot be -1\n  where: <text>:4:43 (layers.c1.padding)\n  why:   -1 is below 0\n"
            "  fix:   one of valid, same, or a whole number of 0 or more, or a list of 4 such; 'valid' where it is "
            "left out",
        ),
        (
            "  a: {type: activation, activation: relu}\n",
            "a: unknown key 'activation'\n  where: <text>:4:25 (layers.a.activation)\n"
            "  why:   activation knows type, function, alpha, approximate, after, input, trainable\n"
            f"  fix:   'activation' belongs to {', '.join(WITH_ENDING)}",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, bias: 1}\n",
            "c1: bias cannot be 1\n  where: <text>:4:43 (layers.c1.bias)\n"
            "  why:   a whole number is not true or false\n  fix:   true",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, activation: relo}\n",
            "c1: activation cannot be 'relo'\n  where: <text>:4:43 (layers.c1.activation)\n"
            "  why:   it is one of relu, relu6, leaky_relu, elu, selu, gelu, silu, hard_swish, softplus, sigmoid, "
            "hard_sigmoid, tanh, softmax, none\n"
            "  fix:   did you mean 'relu'?",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, activation: prelu}\n",
            "c1: activation cannot be 'prelu'\n  where: <text>:4:43 (layers.c1.activation)\n"
            "  why:   it is one of relu, relu6, leaky_relu, elu, selu, gelu, silu, hard_swish, softplus, sigmoid, "
            "hard_sigmoid, tanh, softmax, none\n"
            "  fix:   did you mean 'relu'?",
        ),
        (
            "  c1: {type: conv, filters: null, kernel: 3}\n",
            "c1: filters may be null only with groups: depthwise\n  where: <text>:4:20 (layers.c1.filters)\n"
            "  why:   these keys do not go together\n  fix:   change or remove filters",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, init: {filter: sobell}}\n",
            "c1: init.filter cannot be 'sobell'\n  where: <text>:4:50 (layers.c1.init.filter)\n"
            "  why:   it is one of vertical, horizontal, sobel_vertical, sobel_horizontal, scharr_vertical, "
            "scharr_horizontal, or a list of such\n"
            "  fix:   did you mean 'sobel_vertical'?",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, init: hee}\n",
            "c1.init: unknown type 'hee'\n  where: <text>:4:43 (layers.c1.init)\n"
            "  why:   it is one of he, he_uniform, glorot, glorot_normal, pytorch, zeros, ones, constant, filter\n"
            "  fix:   did you mean 'he'?",
        ),
        (
            "  c1: {type: conv, filters: 2, kernel: 3, init: {constant: big}}\n",
            "c1: init.constant cannot be 'big'\n  where: <text>:4:50 (layers.c1.init.constant)\n"
            "  why:   text is not a number\n  fix:   a number",
        ),
        (
            "  d: {type: dropout, rate: 1}\n",
            "d: rate cannot be 1\n  where: <text>:4:22 (layers.d.rate)\n  why:   1 is not below 1\n"
            "  fix:   a number from 0 to below 1; 0.5 where it is left out",
        ),
        (
            "  c1: {type: conv, filters: 6, kernel: 3, groups: 3}\n",
            "c1: 4 input channels cannot be divided into 3 groups\n  where: <text>:4:3 (layers.c1), input (8, 8, 4)\n"
            "  why:   4 % 3 = 1, must be 0\n  fix:   groups: 2, or input channels a multiple of 3",
        ),
        (
            "  f: {type: fc, units: 3}\n  c1: {type: conv, filters: 6, kernel: 3}\n",
            "c1: conv needs a (height, width, channels) input\n  where: <text>:5:3 (layers.c1), input (3)\n"
            "  why:   fc and flatten give a vector without height and width\n"
            "  fix:   move this conv before the first fc or flatten",
        ),
        (
            "  a: {type: activation, function: relu, alpha: 0.1}\n",
            "a: alpha belongs to leaky_relu, elu, prelu, not to relu\n  where: <text>:4:41 (layers.a.alpha)\n"
            "  why:   these keys do not go together\n  fix:   change or remove alpha",
        ),
        (
            "  9conv: {type: fc, units: 3}\n",
            "'9conv' is not a name\n  where: <text>:4:3 (layers.9conv)\n"
            "  why:   names are letters, digits, _ and -, and do not begin with a digit or -\n  fix:   _9conv",
        ),
        (
            "  f: {type: fc, units: 1, activation: softmax}\n",
            "f: softmax over one unit is always 1\n  where: <text>:4:3 (layers.f)\n"
            "  why:   the output has shape (1,)\n  fix:   activation: sigmoid for one unit, or one unit per class",
        ),
    ],
)
def test_one_layer(layers: str, message: str) -> None:
    assert errors(NET + layers) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: net\ninput: [8, 8, 4]\nlayers: {}\n",
            "the model has no layers\n  where: <text>:3:1 (layers)\n  why:   a network needs at least one layer\n"
            "  fix:   add a conv or fc under layers:",
        ),
        (
            "name: net\ninput: [8, 8, 4]\nlayers:\n",
            "the model has no layers\n  where: <text>:3:1 (layers)\n  why:   a network needs at least one layer\n"
            "  fix:   add a conv or fc under layers:",
        ),
        (
            "name: net\ninput: [8, 8, 4]\nlayers: [conv, fc]\n",
            "model: layers cannot be ['conv', 'fc']\n  where: <text>:3:1 (layers)\n"
            "  why:   a list is not a mapping of names to layers\n  fix:   a mapping of names to layers",
        ),
        (
            "name: net\ninput: [8, 8]\nlayers: {f: {type: fc, units: 2}}\n",
            "model: input cannot be [8, 8]\n  where: <text>:2:1 (input)\n  why:   it has 2 values\n"
            "  fix:   a list of 3 whole numbers above 0",
        ),
        (
            "name: my net\ninput: [8, 8, 1]\nlayers: {f: {type: fc, units: 2}}\n",
            "model: name cannot be 'my net'\n  where: <text>:1:1 (name)\n"
            "  why:   names are letters, digits, _ and -, and do not begin with a digit or -\n  fix:   my_net",
        ),
        (
            "name: net\nlayers: {f: {type: fc, units: 2}}\n",
            "model: 'input' is missing\n  where: <text> (input)\n  why:   model needs it\n"
            "  fix:   add 'input:', a list of 3 whole numbers above 0",
        ),
        (
            "name: net\ninput: [8, 8, 1]\nlayers: {f: {type: fc, units: 2}}\nloss: msee\n",
            "model.loss: unknown type 'msee'\n  where: <text>:4:1 (loss)\n"
            "  why:   it is one of softmax_cross_entropy, sigmoid_cross_entropy, mse\n  fix:   did you mean 'mse'?",
        ),
        (
            f"{SOFTMAX}loss: {{type: softmax_cross_entropy, class_weights: [1, 2, 3]}}\n",
            "f: 3 class weights for 2 classes\n  where: <text>:3:10 (layers.f)\n"
            "  why:   the output has shape (2,), and each class takes one weight\n"
            "  fix:   class_weights: a list of 2 numbers, or balanced",
        ),
        (
            f"{SOFTMAX}loss: {{type: softmax_cross_entropy, class_weights: [0, 0]}}\n",
            "f: all class weights are 0\n  where: <text>:3:10 (layers.f)\n"
            "  why:   the loss would be divided by the sum of the weights\n"
            "  fix:   class_weights: at least one number above 0, or balanced",
        ),
        (
            f"{SOFTMAX}loss: {{type: softmax_cross_entropy, class_weights: 3}}\n",
            "model: loss.class_weights cannot be 3\n  where: <text>:4:37 (loss.class_weights)\n"
            "  why:   it is one of balanced, or a list of numbers of 0 or more\n"
            "  fix:   one of balanced, or a list of numbers of 0 or more",
        ),
        (
            f"{SOFTMAX}loss: {{type: softmax_cross_entropy, label_smoothing: 1}}\n",
            "model: loss.label_smoothing cannot be 1\n  where: <text>:4:37 (loss.label_smoothing)\n"
            "  why:   1 is not below 1\n  fix:   a number from 0 to below 1; 0.0 where it is left out",
        ),
        (
            f"{SOFTMAX}loss: {{type: softmax_cross_entropy, pos_weight: 2}}\n",
            "model.loss: unknown key 'pos_weight'\n  where: <text>:4:37 (loss.pos_weight)\n"
            "  why:   softmax_cross_entropy knows type, label_smoothing, class_weights\n"
            "  fix:   'pos_weight' belongs to sigmoid_cross_entropy",
        ),
    ],
)
def test_the_model_itself(text: str, message: str) -> None:
    assert errors(text) == [message]


def test_numbers_as_people_write_them() -> None:
    assert errors(NET + "  d: {type: batch_norm, epsilon: 1e-3}\n  e: {type: batch_norm, epsilon: '1e-3'}\n") == []


def test_the_run(mistakes: Callable[..., list[str]]) -> None:
    assert mistakes("optimizer.lr=-1") == [
        "optimizer: lr cannot be -1\n  where: <override 'optimizer.lr=-1'> (optimizer.lr)\n  why:   -1 is not above 0\n"
        "  fix:   a number above 0; 0.001 where it is left out"
    ]
    assert mistakes("optimizer.lrr=1") == [
        "optimizer: unknown key 'lrr'\n  where: <override 'optimizer.lrr=1'> (optimizer.lrr)\n"
        "  why:   adam knows type, lr, weight_decay, decay, clip, groups, betas, epsilon\n  fix:   did you mean 'lr'?"
    ]
    assert mistakes("lr=1") == [
        "unknown key 'lr'\n  where: <override 'lr=1'> (lr)\n"
        "  why:   the config knows model, data, augment, init_from, optimizer, schedule, trainer, tracking, run, seed\n"
        "  fix:   did you mean 'optimizer.lr'?"
    ]
    assert mistakes("modle=lenet") == [
        "unknown key 'modle'\n  where: <override 'modle=lenet'> (modle)\n"
        "  why:   the config knows model, data, augment, init_from, optimizer, schedule, trainer, tracking, run, seed\n"
        "  fix:   did you mean 'model'?"
    ]
    assert mistakes("optimizer.nesterov=true") == [
        "optimizer: unknown key 'nesterov'\n  where: <override 'optimizer.nesterov=true'> (optimizer.nesterov)\n"
        "  why:   adam knows type, lr, weight_decay, decay, clip, groups, betas, epsilon\n"
        "  fix:   'nesterov' belongs to sgd, muon"
    ]
    assert mistakes("trainer.epochs=on", "data.resize=nearst", "seed=1.0") == [
        "data: resize cannot be 'nearst'\n  where: <override 'data.resize=nearst'> (data.resize)\n"
        "  why:   it is one of bilinear, nearest, pad, refuse\n  fix:   did you mean 'nearest'?",
        "trainer: epochs cannot be 'on'\n  where: <override 'trainer.epochs=on'> (trainer.epochs)\n"
        "  why:   text is not a whole number above 0\n  fix:   a whole number above 0; 10 where it is left out",
        "seed cannot be 1.0\n  where: <override 'seed=1.0'> (seed)\n"
        "  why:   a number with a point is not a whole number of 0 or more\n  fix:   1",
    ]


def test_a_layer_of_a_file_that_an_override_broke(mistakes: Callable[..., list[str]]) -> None:
    assert mistakes("model.layers.conv1.kernel=40") == [
        "conv1: a 40x40 window does not fit a 32x32 input\n  where: configs/model/lenet.yaml:6:3 with "
        "<override 'model.layers.conv1.kernel=40'> (model.layers.conv1), input (32, 32, 3)\n  why:   32 + 2*0 < 40\n"
        "  fix:   kernel <= 32, or padding: same, or one pool fewer before it"
    ]


def test_three_mistakes_in_one_file(write: Callable[[str, str], Path], mistakes: Callable[..., list[str]]) -> None:
    text = "name: bad\ninput: [8, 8, 1]\nlayers:\n  c1: {type: conv, filters: 2, kernel: 9}\n"
    text += "  c1: {type: conv, filters: 2, kernel: 3, strid: 2}\n  f: {type: fc, units: ten}\n"
    write("model/bad.yaml", text)
    assert mistakes("model=bad") == [
        "'c1' is given twice\n  where: configs/model/bad.yaml:5:3 (model.layers.c1)\n"
        "  why:   it already stands in line 4\n"
        "  fix:   remove or rename one of them",
        "f: units cannot be 'ten'\n  where: configs/model/bad.yaml:6:17 (model.layers.f.units)\n"
        "  why:   text is not a whole number above 0\n  fix:   a whole number above 0",
    ]
    write("model/bad.yaml", text.replace("  c1: {type: conv, filters: 2, kernel: 9}\n", ""))
    found = mistakes("model=bad", "optimizer.lr=0")
    assert [line.split("\n")[0] for line in found] == [
        "c1: unknown key 'strid'",
        "f: units cannot be 'ten'",
        "optimizer: lr cannot be 0",
    ]


def test_parts_given_from_python() -> None:
    """What ``Model.fit(optimizer=…)`` reports."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(AnyOptimizer).validate_python({"type": "adam", "lr": -1, "beta": 2})
    found = explain(caught.value, {"optimizer": {"type": "adam", "lr": -1, "beta": 2}}, ("optimizer",))
    assert [str(error) for error in found] == [
        "optimizer: lr cannot be -1\n  where: optimizer.lr\n  why:   -1 is not above 0\n"
        "  fix:   a number above 0; 0.001 where it is left out",
        "optimizer: unknown key 'beta'\n  where: optimizer.beta\n"
        "  why:   adam knows type, lr, weight_decay, decay, clip, groups, betas, epsilon\n"
        "  fix:   did you mean 'betas'?",
    ]

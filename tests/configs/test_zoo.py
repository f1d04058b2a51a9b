"""The networks in configs/model: the published sizes, short files, and one step of those that are small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnforge import Model
from cnnforge.blocks.dropout import DropPath
from cnnforge.config import read_model, validate_model
from cnnforge.spec import ModelSpec

MODELS = Path(__file__).parents[2] / "configs" / "model"

#: Parameters and multiply-accumulates (convolutions and linear layers, one picture) as published or as torchvision
#: counts them: running statistics are no parameters, biases cost nothing.
PUBLISHED = {
    "lenet5": (61_706, 416_520),
    "alexnet": (61_100_840, 714_188_480),
    "vgg11": (132_863_336, 7_609_090_048),
    "vgg11_bn": (132_868_840, 7_609_090_048),
    "vgg16": (138_357_544, 15_470_264_320),
    "vgg16_bn": (138_365_992, 15_470_264_320),
    "vgg19": (143_667_240, 19_632_062_464),
    "vgg19_bn": (143_678_248, 19_632_062_464),
    "network_in_network": (966_986, 222_486_528),
    "googlenet": (6_624_904, 1_498_376_192),
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet101": (44_549_160, 7_801_405_440),
    "resnet20": (269_722, 40_551_040),
    "resnet20_b": (272_474, 40_813_184),
    "resnet32": (464_154, 68_862_592),
    "resnet56": (853_018, 125_485_696),
    "squeezenet1_0": (1_248_424, 818_924_576),
    "squeezenet1_1": (1_235_496, 349_151_936),
    "mobilenet_v1": (4_231_976, 568_740_352),
    "mobilenet_v2": (3_504_872, 300_774_272),
    "densenet121": (7_978_856, 2_834_161_664),
    "shufflenet_v1": (1_865_728, 137_460_672),
    "efficientnet_b0": (5_288_548, 385_814_752),
    "fast_cifar": (6_573_120, 379_261_952),
}
#: Simplified, a course's or our own: no publication says them.
OTHERS = {
    "cifar_resnet9": (1_834_896, 75_942_400),
    "lenet": (62_006, 651_720),
    "lenet1": (3_246, 136_320),
    "lenet4": (51_050, 287_600),
    "simple_convnet": (44_950, 2_814_230),
    "cat_detector": (1_649, 1_179_904),
    "edge_detector": (9, 144),
    "edge_learner": (9, 324),
    "small_mnist": (90_042, 13_350_672),
}
SIZES = PUBLISHED | OTHERS
#: Lines of a file; the others may have 45.
LONGEST = {"resnet50": 30, "densenet121": 40}


def model(name: str) -> ModelSpec:
    return validate_model(read_model(MODELS / f"{name}.yaml"))


def test_every_model_is_held_here() -> None:
    assert sorted(SIZES) == sorted(file.stem for file in MODELS.glob("*.yaml"))


@pytest.mark.parametrize("name", SIZES)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    spec = model(name)
    assert spec.name == name
    assert (sum(row.param_count for row in spec.table), sum(row.macs for row in spec.table)) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_the_file_is_short_and_says_its_size(name: str) -> None:
    text = (MODELS / f"{name}.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("# yaml-language-server:")]
    assert len(lines) <= LONGEST.get(name, 45)
    assert max(map(len, lines)) <= 120
    if name in PUBLISHED:
        assert f"{SIZES[name][0]:,} parameters" in lines[0]


@pytest.mark.parametrize("name", [name for name in SIZES if name.startswith(("resnet", "vgg", "alex"))])
def test_its_name_counts_its_layers(name: str) -> None:
    """Layers with weights, the shortcuts' 1x1 convolutions not counted, as the papers do."""
    layers = [row for row in model(name).table if row.macs and not row.name.endswith("shortcut")]
    digits = "".join(c for c in name.split("_")[0] if c.isdigit())
    assert len(layers) == (int(digits) if digits else 8)


def test_deeper_blocks_of_efficientnet_are_left_out_more_often() -> None:
    """Block i of 16, counted from 0, with 0.2 * i / 16, as in torchvision; a stage's first block has no shortcut."""
    rates = [row.block.rate for row in model("efficientnet_b0").table if isinstance(row.block, DropPath)]
    assert rates == pytest.approx([0.2 * i / 16 for i in (2, 4, 6, 7, 9, 10, 12, 13, 14)])


SMALL = ["lenet1", "lenet4", "network_in_network", "resnet20", "resnet20_b", "resnet32", "fast_cifar", "cifar_resnet9"]


def one_step(spec: ModelSpec) -> None:
    """Forward, backward and update on two pictures: every weight moves, and the loss is a number."""
    net = Model(spec, backend="numpy")
    before = {name: w.copy() for name, w in net.params.items()}
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *spec.input), dtype=np.float32)
    (epoch,) = net.fit(x, np.array([0, 1]), batch_size=2)
    assert np.isfinite(epoch["train_loss"])
    assert [name for name, w in net.params.items() if np.array_equal(w, before[name])] == []
    assert np.isfinite(net.predict(x)).all()


@pytest.mark.parametrize("name", SMALL)
def test_a_small_net_takes_one_step(name: str) -> None:
    one_step(model(name))


LARGE = ["resnet18", "squeezenet1_1", "mobilenet_v2", "shufflenet_v1", "efficientnet_b0"]
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("googlenet", "densenet121")]


@pytest.mark.parametrize("name", [*LARGE, *LONG])
def test_a_large_net_takes_one_step_on_small_pictures(name: str) -> None:
    one_step(model(name).model_copy(update={"input": (64, 64, 3)}))

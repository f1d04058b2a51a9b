"""The page of the zoo is made from the files, and receptive fields are the published ones."""

from pathlib import Path

import pytest

from cnnforge.report.zoo import page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "zoo.md"


def test_the_committed_page_is_the_generated_one():
    assert PAGE.read_text("utf-8") == page(ROOT / "configs" / "model"), "make docs writes it anew"


@pytest.mark.parametrize(
    ("name", "size"),
    [("alexnet", 195), ("vgg16", 212), ("mobilenet_v1", 315), ("resnet50", 427), ("densenet121", 2071)],
)
def test_receptive_fields_are_the_published_ones(name, size):
    """Araujo et al., Distill 2019; ResNet-50 and DenseNet-121 as torchvision builds them."""
    (line,) = (line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| [{name}]"))
    assert f"| {size}x{size} |" in line


def test_a_network_without_a_paper_and_one_with_gates(tmp_path):
    (tmp_path / "mine10.yaml").write_text(
        "# Mine.\nname: mine10\ninput: [4, 4, 1]\nlayers:\n  a: {type: fc, units: 2}\n"
    )
    gated = """# Gated (Hu et al., CVPR 2018).
name: mine9
input: [4, 4, 2]
layers:
  conv: {type: conv, filters: 2, kernel: 3, padding: same}
  pool: {type: global_pool}
  gate: {type: merge, inputs: [conv, pool], mode: multiply}
  output: {type: fc, units: 2}
"""
    (tmp_path / "mine9.yaml").write_text(gated)
    with_gates, without = page(tmp_path).splitlines()[-2:]
    assert with_gates.endswith("| 4x4x2 | 104 | 640 | 2 | all | Hu et al., CVPR 2018 |")
    assert without.endswith("| 4x4x1 | 34 | 32 | 1 | 1x1 |  |")

"""What can be built and trained, and is hardly what was meant: a rule each, and a warning where one is broken.

A warning that is wrong costs more trust than one that is missing, so every rule keeps to what it can be sure of, and to
blocks that it knows. A rule's name is that of its function, with dashes; its docstring is what docs/lint.md says of it:
`python -m cnnforge.report.rules` prints that table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cnnforge.errors import ConfigWarning
from cnnforge.spec.lint.functions import (
    activation_before_output,
    bias_before_norm,
    dropout_before_norm,
    linear_network,
    linear_pair,
    softmax_inside,
    softmax_twice,
)
from cnnforge.spec.lint.net import Finding, Net
from cnnforge.spec.lint.sizes import dropped_pixels, even_kernel_same, heavy_layer, small_receptive_field
from cnnforge.spec.lint.training import batch_of_one, class_count, nothing_to_learn, schedule_beyond_run
from cnnforge.spec.lint.unused import dead_branch, unused_parameter, unused_template
from cnnforge.spec.run import RunSpec

_RULES: tuple[Callable[[Net], Iterator[Finding]], ...] = (
    linear_network, linear_pair, bias_before_norm, dropout_before_norm, batch_of_one,
    softmax_twice, softmax_inside, activation_before_output, class_count,
    dropped_pixels, even_kernel_same, small_receptive_field, heavy_layer,
    dead_branch, unused_template, unused_parameter, nothing_to_learn, schedule_beyond_run,
)  # fmt: skip

#: Every rule by its name.
RULES = {rule.__name__.replace("_", "-"): rule for rule in _RULES}


def lint(run: RunSpec, written: Mapping[str, Any] | None = None) -> list[ConfigWarning]:
    """What is hardly meant in a run that has no mistakes, rule by rule.

    written: the model as it was written; without it, nothing is said of templates
    """
    net = Net(run, written or {})
    return [
        ConfigWarning(f.what, rule=name, path=f.path, why=f.why, fix=f.fix)
        for name, rule in RULES.items()
        for f in rule(net)
    ]

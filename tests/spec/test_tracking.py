"""``tracking:`` where something in it contradicts the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from cnnforge.config import compose, validate
from cnnforge.errors import ConfigError, ConfigErrors
from cnnforge.train.folds import cross_validate


def test_what_is_registered_has_to_be_logged() -> None:
    with pytest.raises(ConfigErrors) as caught:
        validate(compose(["tracking.register_as=digits", "tracking.log_model=false"]))
    assert str(caught.value) == (
        "tracking: register_as digits, and no model is logged\n"
        "  where: <override 'tracking.register_as=digits'> (tracking.register_as)\n"
        "  why:   what is registered is the model that was logged\n"
        "  fix:   log_model: true, or no register_as"
    )
    assert validate(compose(["tracking.register_as=digits", "tracking.enabled=false"])).tracking.register_as == "digits"


def test_folds_have_no_one_model(tmp_path: Path) -> None:
    spec = validate(compose(["data.folds=3", "tracking.register_as=digits", f"run.dir={tmp_path}/runs"]))
    with pytest.raises(ConfigError) as caught:
        cross_validate(spec, cast("Any", None))
    assert str(caught.value) == (
        "register_as: digits, and 3 folds have a model each\n  where: tracking.register_as\n"
        "  why:   one model can be registered\n  fix:   data.fold=1, or no register_as"
    )
    assert not (tmp_path / "runs").exists()

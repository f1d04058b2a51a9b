"""Descriptions and params as MLflow's pages get them."""

from __future__ import annotations

from typing import Any

from cnnforge.tracking.entries import COLUMNS, note, said_params


def test_links_to_files_of_the_run_lead_to_its_artifacts() -> None:
    text = "![a](plots/a b.png) ![b](plots/b.png) [c](https://x/y) [d](/z) [e](#f) `runs:/RUN_ID/model`"
    assert note(text, "12ab") == (
        "![a](plots/a b.png) ![b](get-artifact?run_uuid=12ab&path=plots/b.png) [c](https://x/y) [d](/z) [e](#f) "
        "`runs:/12ab/model`"
    )


def test_params_that_need_no_column_stay_in_the_journal() -> None:
    record: dict[str, Any] = {"values": {"a": "1", "b": "2"}}
    assert dict(said_params(record)) == record["values"]
    assert dict(said_params({**record, "unsaid": ["b", 3]})) == {"a": "1"}
    assert dict(said_params({**record, "unsaid": "ab"})) == record["values"]


def test_columns_are_named_as_the_pages_name_them() -> None:
    assert all(name.partition(".")[0] in ("attributes", "metrics", "params", "tags") for name in COLUMNS)
    assert all(name.count("`") == 2 and name.endswith("`") for name in COLUMNS)

"""Run folders and small files."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from cnnforge.errors import ConfigError
from cnnforge.train.folder import new_folder, point_latest, write_json


def test_names_are_made_unique(tmp_path):
    assert [new_folder(tmp_path / "runs", "a").name for _ in range(3)] == ["a", "a-2", "a-3"]


def test_two_at_once_never_share_a_folder(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path, "a"), range(40)))
    assert len(set(folders)) == 40


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError) as error:
        new_folder(tmp_path / "runs", "a")
    assert "cannot make a run folder in" in str(error.value)
    assert "fix:   run.dir=ANOTHER_FOLDER" in str(error.value)


def test_latest_points_at_the_newest(tmp_path):
    for _ in range(2):
        point_latest(new_folder(tmp_path, "a"))
    assert str((tmp_path / "latest").readlink()) == "a-2"


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "r.json", {"loss": float("nan"), "all": [float("inf"), 1.5]})
    assert json.loads((tmp_path / "r.json").read_text()) == {"loss": None, "all": [None, 1.5]}
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]

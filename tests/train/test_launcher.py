"""A process knows by its environment whether it is one of several."""

import pytest

from cnnforge.cli.main import main
from cnnforge.train.launcher import Launch, launched


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        ({"PMI_RANK": "1", "PMI_SIZE": "4"}, Launch(1, 4)),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, Launch(2, 3)),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "2"}, Launch(0, 2)),
        ({"PMIX_RANK": "0"}, Launch(0, None)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, None),
    ],
)
def test_launchers_are_known_by_what_they_leave(variables, found):
    assert launched(variables) == found


def test_other_commands_are_of_one_process(monkeypatch, capsys):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(["check", "model=net"]) == 2
    assert "cnnforge check is the work of one process" in capsys.readouterr().err
    monkeypatch.setenv("PMI_RANK", "1")
    with pytest.raises(SystemExit) as end:
        main(["check", "model=net"])
    assert end.value.code == 2
    assert capsys.readouterr().err == ""

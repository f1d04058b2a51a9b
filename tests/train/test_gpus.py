"""`mpiexec -n N cnnforge train … trainer.backend=cupy`: real processes and MPI, on GPUs that are not there.

Each has memory of its own and a stream that works as late as it may; they talk by NCCL's calls, over a library that
stands for it (``tests/backends/cupy/nccl.cpp``). What the ranks compute is tested in ``test_ranks`` too.
"""

import json
from pathlib import Path

import pytest

from tests.train import test_distributed
from tests.train.test_distributed import WORDS, alone, assert_same, ended, started, with_mpi

here = test_distributed.here
ROOT = Path(__file__).parents[2]
SYNCHRONISED = ["model=normed", "trainer.sync_batch_norm=true", "trainer.report=false"]
pytestmark = [with_mpi]


def on_gpus(size, *words, others=None, **variables):
    words = ("train", *WORDS, *words, "trainer.backend=cupy") if words[0] != "resume" else words
    program = ("-m", "tests.emulated")
    return started(size, *words, program=program, others=others, PYTHONPATH=str(ROOT), **variables)


def test_several_gpus_train_what_one_processor_does():
    words = [*SYNCHRONISED, "trainer.max_steps=12", "trainer.ema={decay: 0.8}"]
    whole, _ = alone(*words, "run.name=whole")
    code, out, err = ended(on_gpus(2, *words, "run.name=shared"), 120)
    assert (code, err) == (0, "")
    assert "2 processes, each with its part of every batch" in out
    assert_same(whole, Path("runs/shared"), 1e-9)
    plan = json.loads(Path("runs/shared/plan.json").read_text())
    assert (plan["ranks"], plan["backend"]) == (2, "cupy")


@pytest.mark.slow
def test_another_number_of_gpus_goes_on():
    """The last batch of an epoch has one sample: of three GPUs two have none."""
    words = [*SYNCHRONISED, "trainer.batch_size=14", "trainer.accumulate=2"]
    whole, _ = alone(*words, "trainer.max_steps=20", "run.name=whole")
    code, _, err = ended(on_gpus(2, *words, "trainer.max_steps=14", "run.name=part"), 120)
    assert (code, err) == (0, "")
    code, out, err = ended(on_gpus(3, "resume", "part", "trainer.max_steps=20", "--changed"), 120)
    assert (code, err) == (0, "")
    assert "resumed at step 14" in out
    assert_same(whole, Path("runs/part"), 1e-8)


BEGIN = "import sys\nfrom tests.emulated import Emulator, emulate\nfrom cnnforge.cli.main import main\nemulate()\n"
END = "\nsys.exit(main(sys.argv[1:]))"
SILENT = """
import time
gather, count = Emulator.gather, [0]
def late(self, rows):
    count[0] += 1
    time.sleep(count[0] > 8 and 1000)
    gather(self, rows)
Emulator.gather = late
"""


@pytest.mark.slow
def test_a_gpu_that_others_wait_for_in_vain_ends_the_job():
    """They wait within NCCL, on the device: what is noticed is that the loss does not come."""
    process = on_gpus(2, *SYNCHRONISED, others=BEGIN + SILENT + END, CNNFORGE_MPI_TIMEOUT="3")
    code, _, err = ended(process, 60)
    assert code == 1
    assert "process 0 of 2 has waited 3 s for the others" in err


BROKEN = """
from cnnforge.backends.cupy.failures import failed
get, count = Emulator.get, [0]
def ill(self, array):
    count[0] += 1
    if count[0] == 9:
        raise failed("A card (device 1)", RuntimeError("cudaErrorIllegalAddress: an illegal memory access"))
    return get(self, array)
Emulator.get = ill
"""


@pytest.mark.slow
def test_a_gpu_that_fails_alone_ends_the_job_in_its_words():
    process = on_gpus(2, *SYNCHRONISED, "run.name=a", others=BEGIN + BROKEN + END)
    code, _, err = ended(process, 60)
    assert code == 2
    assert "process 1 of 2 failed, which ends the others\nthe GPU stopped in the middle of its work" in err
    assert "why:   cudaErrorIllegalAddress: an illegal memory access" in err


def test_one_device_is_no_device_of_several():
    code, _, err = ended(on_gpus(2, *SYNCHRONISED, "trainer.device=1"), 60)
    assert code == 2
    assert err.strip() == (
        "2 processes train, and trainer.device=1 is one GPU\n  where: trainer.device\n"
        "  why:   each process of a host takes the GPU of its own number there\n"
        "  fix:   leave it out; CUDA_VISIBLE_DEVICES says which GPUs there are, and in which order"
    )

"""Which CPU kernels are made for."""

import pytest

from cnnforge.backends.numba import cpu


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    for known in (cpu.target, cpu.features):
        known.cache_clear()
    yield
    monkeypatch.undo()
    for known in (cpu.target, cpu.features):
        known.cache_clear()


def test_it_is_this_one(monkeypatch):
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    name, features = cpu.target()
    assert (name, features) == (cpu.binding.get_host_cpu_name(), cpu.binding.get_host_cpu_features().flatten())
    assert cpu.features() == {feature for feature, there in cpu.binding.get_host_cpu_features().items() if there}


def test_numbas_variables_name_another(monkeypatch):
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert cpu.target() == ("generic", "")
    cpu.target.cache_clear()
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx2,-avx512f")
    assert cpu.target() == ("generic", "+avx2,-avx512f")
    assert cpu.features() == {"avx2"}

"""``cnnforge serve``: what it says before it serves."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

from cnnforge.cli.main import main
from cnnforge.errors import ConfigError
from cnnforge.serve import server
from cnnforge.serve.limits import allowed_hosts, is_loopback


def test_without_its_libraries(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("cnnforge.cli.serve.find_spec", lambda name: None if name == "fastapi" else found(name))
    assert main(["serve", "latest"]) == 2
    assert capsys.readouterr().err == (
        "cnnforge serve needs fastapi\n  where: cnnforge serve\n  why:   not installed here\n"
        "  fix:   pip install 'cnnforge[serve]'\n"
    )


@pytest.mark.parametrize(
    ("flag", "value", "least"), [("--max-bytes", "0", 1), ("--max-batch", "-3", 1), ("--wait-ms", "-1", 0),
                                 ("--wait-ms", "nan", 0)]
)  # fmt: skip
def test_numbers(flag: str, value: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "latest", flag, value]) == 2
    assert capsys.readouterr().err == (
        f"{flag} cannot be {value}\n  where: cnnforge serve {flag}\n  why:   it is at least {least}\n"
        f"  fix:   leave {flag} out for its default\n"
    )


def test_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "nobody", "--dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("nobody: no such run\n")


def test_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        first = busy.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            server.listen("127.0.0.1", first)
        assert str(caught.value) == (
            f"port {first} is in use or not permitted\n  where: cnnforge serve --port {first}\n"
            "  why:   Address already in use\n  fix:   another --port, or none for the first free one"
        )
        monkeypatch.setattr(server, "FIRST_PORT", first)
        with server.listen("127.0.0.1", None) as next_one:
            assert first < next_one.getsockname()[1] < first + server.PORTS
        monkeypatch.setattr(server, "PORTS", 1)
        with pytest.raises(ConfigError, match=f"port {first} is in use"):
            server.listen("127.0.0.1", None)
    with pytest.raises(ConfigError, match="port 99999 does not exist"):
        server.listen("127.0.0.1", 99999)
    with pytest.raises(ConfigError, match=r"cannot listen on 203\.0\.113\.7"):
        server.listen("203.0.113.7", 0)


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """asyncio sets TCP_NODELAY on connections of a listener only where it knows that it is one of TCP."""
    with server.listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_who_may_ask() -> None:
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "127.9.9.9", "0.0.0.0", "example.org")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip
    assert allowed_hosts("0.0.0.0", []) is None
    local = {"localhost", "127.0.0.1", "::1"}
    assert allowed_hosts("127.0.0.1", []) == local
    assert allowed_hosts("127.0.0.1", ["Digits.example"]) == local | {"digits.example"}
    assert allowed_hosts("0.0.0.0", ["digits.example"]) == local | {"0.0.0.0", "digits.example"}

"""``mlflow models serve`` on the model that a run has logged: a real server, a real batch of pictures as JSON."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

import cnnforge

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def posted(port: int, body: dict) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def wait_until_up(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, server.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_run_is_served(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "CNNFORGE_"))}
    small = ["model=lenet1", "trainer.epochs=1", "data.limit=200", "trainer.backend=numpy"]
    subprocess.run([sys.executable, "-m", "cnnforge", "train", *small], cwd=tmp_path, env=kept, check=True, timeout=180)
    # On a busy machine the model may still be on its way.
    subprocess.run([sys.executable, "-m", "cnnforge", "sync"], cwd=tmp_path, env=kept, check=True, timeout=180)
    run_id = json.loads((tmp_path / "runs/latest/result.json").read_text())["mlflow_run_id"]
    port = free_port()
    path = os.pathsep.join([os.path.dirname(sys.executable), kept["PATH"]])
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"runs:/{run_id}/model", "--env-manager", "local",
         "--host", "127.0.0.1", "--port", str(port)],
        cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=kept | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/runs/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true",
                    "PATH": path},
    )  # fmt: skip
    try:
        wait_until_up(port, server)
        x = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(np.float32)
        expected = cnnforge.Model.load(tmp_path / "runs/latest").predict(x)
        for key in ("inputs", "instances"):
            answer = posted(port, {key: x.tolist()})
            np.testing.assert_allclose(answer["predictions"], expected, atol=1e-6)
        with pytest.raises(urllib.error.HTTPError) as caught:
            posted(port, {"inputs": x[:, :5].tolist()})
        assert 400 <= caught.value.code < 600
        assert "it takes (N, 28, 28, 1)" in caught.value.read().decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=30)

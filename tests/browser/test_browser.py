"""Exported models in onnxruntime-web, in a headless browser: a page explains with no server.

Needs Chromium, and onnxruntime-web: npm install --prefix tests/browser
"""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

import numpy as np
import pytest
from models import ROOT

import onnxvis

HERE = Path(__file__).parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}
METHODS = {"gradcam": 1e-4, "guided_backprop": 1e-4, "lrp": 1e-3}

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.skipif(
        not (HERE / "node_modules" / "onnxruntime-web").is_dir(),
        reason="needs onnxruntime-web: npm install --prefix tests/browser",
    ),
]


class Server(ThreadingHTTPServer):
    """Serves the page, its libraries, the models and a job; puts what is posted into ``answers``."""

    def __init__(self, models: Path, job: dict) -> None:
        self.answers: Queue = Queue()
        self.job = json.dumps(job).encode()
        self.folders = {
            "models": models,
            "docs": ROOT / "docs" / "browser",
            "node_modules": HERE / "node_modules",
        }
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        first, _, rest = self.path.split("?")[0].lstrip("/").rpartition("/")
        top, _, inner = first.partition("/")
        path = self.server.folders.get(top, HERE) / inner / rest
        content = (
            self.server.job if self.path == "/job.json" else path.read_bytes() if path.is_file() else None
        )
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", TYPES.get(path.suffix, "application/octet-stream"))
        self.end_headers()
        self.wfile.write(content or b"")

    def do_POST(self):
        self.server.answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


def in_browser(models, job, profile):
    """What the page answers."""
    server = Server(models, job)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/compare.html"
    # No sandbox: it needs a user of one's own, which containers do not have; the page is ours.
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={profile}",
    ]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = subprocess.Popen([CHROMIUM, *options, url], **silent)
    try:
        return server.answers.get(timeout=90)
    except Empty:
        pytest.fail("the browser did not answer within 90 s")
    finally:
        browser.terminate()
        browser.wait(20)
        server.shutdown()
        server.server_close()


def test_a_page_explains_without_a_server(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    model = onnxvis.load("zoo:shapes")
    for method in METHODS:
        model.export(
            models / f"{method}.onnx", method, target_input=True, pictures="NHWC", normalize=True,
            outputs=["explanation", "heatmap", "unit"],
        )  # fmt: skip
    photo = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    job = {"rgba": rgba.ravel().tolist(), "width": 70, "height": 90, "target": 3}
    answers = in_browser(
        models, {**job, "models": [f"{name}.onnx" for name in METHODS]}, tmp_path / "profile"
    )
    assert "error" not in answers, answers["error"]
    runtime = model.engine.runtime
    for method, tolerance in METHODS.items():
        answered = answers[f"{method}.onnx"]
        session = runtime.session((models / f"{method}.onnx").read_bytes())
        names = [entry.name for entry in session.get_outputs()]
        wanted = session.run(names, {"pictures": photo[None], "target": np.array([3])})
        for name, expected in zip(names, wanted, strict=True):
            found = np.array(answered[name]["data"]).reshape(answered[name]["dims"])
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max(), (method, name)
        assert answered["unit"]["data"] == [3]
        assert 100 < answered["opacity"] <= 200  # of 255; 200 where the map is 1

"""The zoo: the manifest, the shipped models, and fetching over HTTP from a server of our own."""

from __future__ import annotations

import hashlib
import http.server
import json
import logging
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
import onnxruntime
import pooch
import pytest
from PIL import Image
from test_zoo_pictures import load_pictures

from onnxvis import zoo
from onnxvis.errors import DownloadError, UnknownNameError

PAYLOAD = bytes(range(256)) * 200
SHIPPED = ("shapes", "digits")
ENTRY = """
[fetched.{name}]
url = "{url}"
mirrors = [{mirrors}]
sha256 = "{sha256}"
size = {size}
licence = "MIT"
preprocess = "imagenet"
labels = "imagenet"
opset = 12
summary = "a model"
source = "a test"
"""


class Server:
    """Serves ``files`` (path → bytes) and counts the requests; ``cut`` breaks every answer off half-way."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path)
        body = self.files.get(request.path)
        if body is None:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if self.cut else body)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()


@pytest.fixture
def server():
    server = Server()
    server.files["/net.onnx"] = PAYLOAD
    yield server
    server.stop()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("ONNXVIS_CACHE", str(folder))
    return folder


@pytest.fixture
def manifest(tmp_path, server):
    """A manifest with the models good, gone (404) and mirrored (404 first, then good)."""
    sha256 = hashlib.sha256(PAYLOAD).hexdigest()
    good, gone = f"{server.url}/net.onnx", f"{server.url}/gone.onnx"
    rows = [("good", good, ""), ("gone", gone, ""), ("mirrored", gone, f'"{good}"')]
    path = tmp_path / "manifest.toml"
    path.write_text(
        "".join(
            ENTRY.format(name=name, url=url, mirrors=mirrors, sha256=sha256, size=len(PAYLOAD))
            for name, url, mirrors in rows
        )
    )
    return path


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# Fetching --------------------------------------------------------------------------------------------


def test_a_model_is_fetched_into_the_cache_once(server, cache, manifest):
    path = zoo.get("good", manifest=manifest)
    assert path == cache / "net.onnx"
    assert path.read_bytes() == PAYLOAD
    assert zoo.get("good", manifest=manifest) == path
    assert server.requests == ["/net.onnx"]
    assert contents(cache) == ["net.onnx"]


def test_a_cached_model_needs_no_server(server, cache, manifest):
    zoo.get("good", manifest=manifest)
    server.stop()
    assert zoo.get("good", manifest=manifest).read_bytes() == PAYLOAD


def test_a_cached_file_that_is_wrong_is_fetched_again(server, cache, manifest):
    cache.mkdir()
    (cache / "net.onnx").write_bytes(b"something else")
    assert zoo.get("good", manifest=manifest).read_bytes() == PAYLOAD
    assert server.requests == ["/net.onnx"]


def check_failure(error: DownloadError, *parts: str) -> None:
    message = str(error)
    assert "\n" not in message
    for part in (*parts, "again"):
        assert part in message


def test_a_corrupt_download_leaves_nothing_behind(server, cache, manifest):
    server.files["/net.onnx"] = PAYLOAD[:-1] + b"!"
    with pytest.raises(DownloadError) as caught:
        zoo.get("good", manifest=manifest)
    check_failure(caught.value, "'good'", f"{server.url}/net.onnx", "wrong SHA-256", str(cache / "net.onnx"))
    assert contents(cache) == []


def test_a_broken_off_download_leaves_nothing_behind(server, cache, manifest):
    server.cut = True
    with pytest.raises(DownloadError) as caught:
        zoo.get("good", manifest=manifest)
    check_failure(caught.value, "'good'", "broke")
    assert contents(cache) == []
    server.cut = False
    assert zoo.get("good", manifest=manifest).read_bytes() == PAYLOAD


def test_a_missing_file_is_a_download_error(server, cache, manifest):
    with pytest.raises(DownloadError) as caught:
        zoo.get("gone", manifest=manifest)
    check_failure(caught.value, "'gone'", "404")
    assert contents(cache) == []


def test_offline_and_not_cached_is_a_download_error(server, cache, manifest):
    server.stop()
    with pytest.raises(DownloadError) as caught:
        zoo.get("good", manifest=manifest)
    check_failure(caught.value, "no connection")
    assert contents(cache) == []


def test_a_cache_that_cannot_be_written_is_a_download_error(server, cache, manifest):
    cache.write_text("a file where the folder should be")
    with pytest.raises(DownloadError):
        zoo.get("good", manifest=manifest)


def test_mirrors_are_tried_in_turn(server, cache, manifest):
    assert zoo.get("mirrored", manifest=manifest).read_bytes() == PAYLOAD
    assert server.requests == ["/gone.onnx", "/net.onnx"]


def test_fetching_says_nothing(server, cache, manifest, capfd, caplog, monkeypatch):
    monkeypatch.setattr(pooch.get_logger(), "handlers", [caplog.handler])
    monkeypatch.setattr(pooch.get_logger(), "level", logging.INFO)
    zoo.get("good", manifest=manifest)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert pooch.get_logger().level == logging.INFO


def test_progress_draws_a_bar_where_asked_for(server, cache, manifest, capfd):
    zoo.get("good", manifest=manifest)
    assert "100%" not in capfd.readouterr().err
    (cache / "net.onnx").unlink()
    zoo.get("good", progress=True, manifest=manifest)
    assert "100%" in capfd.readouterr().err


def test_an_unknown_name_lists_the_known_ones(cache, manifest):
    with pytest.raises(UnknownNameError, match=r"no zoo model 'goood'; did you mean 'good'\?.*mirrored"):
        zoo.get("goood", manifest=manifest)


def test_locate_takes_paths_and_names(server, cache, manifest):
    assert zoo.locate("some/net.onnx") == Path("some/net.onnx")
    assert zoo.locate(Path("zoo:good")) == Path("zoo:good")
    assert zoo.locate("zoo:good", manifest=manifest) == cache / "net.onnx"
    assert zoo.locate("zoo:shapes").name == "shapes.onnx"
    with pytest.raises(UnknownNameError):
        zoo.locate("zoo:", manifest=manifest)


def test_the_cache_lies_in_the_users_cache_folder_by_default(monkeypatch):
    monkeypatch.delenv("ONNXVIS_CACHE", raising=False)
    assert zoo.cache_folder().name == "onnxvis"
    assert zoo.cache_folder().is_absolute()


# The manifest ----------------------------------------------------------------------------------------


def test_the_manifest_lists_the_shipped_models_first():
    names = list(zoo.models())
    assert tuple(names[:2]) == SHIPPED
    assert [name for name, model in zoo.models().items() if model.shipped] == list(SHIPPED)


@pytest.mark.parametrize("model", zoo.models().values(), ids=lambda model: model.name)
def test_every_entry_is_complete(model):
    assert re.fullmatch(r"[a-z0-9.\-]+", model.name)
    assert model.summary and model.licence and model.source
    assert 7 <= model.opset <= 25
    assert model.size > 0
    assert model.shipped == (not model.urls)


@pytest.mark.parametrize(
    "model", [model for model in zoo.models().values() if not model.shipped], ids=lambda model: model.name
)
def test_every_fetched_entry_can_be_verified(model):
    assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
    for url in model.urls:
        assert urlsplit(url).scheme == "https"
        assert url.endswith(".onnx")
    assert model.preprocess in ("imagenet", "caffe") or set(model.preprocess) >= PREPROCESS_KEYS
    assert model.labels == "imagenet" or len(model.labels) == 10


def test_no_two_fetched_models_share_a_file():
    fetched = [model for model in zoo.models().values() if not model.shipped]
    assert len(fetched) >= 10
    assert len({model.sha256 for model in fetched}) == len(fetched)
    assert len({model.urls[0].rpartition("/")[2] for model in fetched}) == len(fetched)


# The shipped models ----------------------------------------------------------------------------------

PREPROCESS_KEYS = {"size", "resize", "color", "range", "mean", "std", "layout"}


class Shipped:
    """A shipped model in onnxruntime; pictures are prepared by what its metadata says."""

    def __init__(self, name: str) -> None:
        self.entry = zoo.models()[name]
        self.proto = onnx.load(zoo.get(name))
        properties = {entry.key: entry.value for entry in self.proto.metadata_props}
        self.preprocess = json.loads(properties["onnxvis.preprocess"])
        self.labels = json.loads(properties["onnxvis.labels"])
        self.session = onnxruntime.InferenceSession(
            self.proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def answer(self, images: np.ndarray) -> np.ndarray:
        """Logits [N, classes] for uint8 [N, H, W] or [N, H, W, 3]."""
        low, high = self.preprocess["range"]
        scaled = images.astype(np.float32) / 255 * (high - low) + low
        scaled = scaled.reshape(*images.shape[:3], -1)
        normalized = (scaled - self.preprocess["mean"]) / self.preprocess["std"]
        batch = normalized.transpose(0, 3, 1, 2).astype(np.float32)
        return self.session.run(["logits"], {"image": batch})[0]

    def read(self, path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert(self.preprocess["color"]))


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request) -> Shipped:
    return Shipped(request.param)


def test_shipped_files_are_small(shipped):
    limit = {"shapes": 2_000_000, "digits": 300_000}[shipped.entry.name]
    assert shipped.entry.size == shipped.entry.path.stat().st_size < limit


def test_shipped_models_say_what_they_are(shipped):
    onnx.checker.check_model(shipped.proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in shipped.proto.opset_import] == [("", 17)]
    assert shipped.entry.opset == 17
    assert shipped.proto.producer_name and shipped.proto.producer_version
    assert "BSD-3-Clause" in shipped.proto.doc_string
    assert len(shipped.labels) == len(set(shipped.labels)) == 10


def test_shipped_models_carry_the_agreed_preprocessing(shipped):
    settings = shipped.preprocess
    assert set(settings) == PREPROCESS_KEYS | {"resize_to"}
    channels = {"RGB": 3, "L": 1}[settings["color"]]
    assert len(settings["mean"]) == len(settings["std"]) == channels
    assert (settings["resize"], settings["resize_to"], settings["layout"]) == ("stretch", None, "NCHW")
    (model_input,) = shipped.session.get_inputs()
    assert model_input.shape == ["batch", channels, *settings["size"]]


def test_the_batch_axis_is_free(shipped):
    size, channels = shipped.preprocess["size"], len(shipped.preprocess["mean"])
    for count in (1, 3):
        assert shipped.answer(np.zeros((count, *size, channels), np.uint8)).shape == (count, 10)


def test_operators_are_those_meant(shipped):
    operators = {node.op_type for node in shipped.proto.graph.node}
    expected = {
        "shapes": {"Conv", "Relu", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"},
        "digits": {"Conv", "Relu", "MaxPool", "Flatten", "Gemm"},
    }[shipped.entry.name]
    assert operators - {"BatchNormalization"} == expected


def test_every_sample_is_classified_right(shipped):
    samples = shipped.entry.samples
    assert len(samples) >= 10
    assert {path.stem for path in samples} == set(shipped.labels)
    answers = shipped.answer(np.stack([shipped.read(path) for path in samples])).argmax(axis=1)
    assert [shipped.labels[answer] for answer in answers] == [path.stem for path in samples]


def test_masks_belong_to_the_samples():
    shapes = Shipped("shapes")
    assert [mask.name for mask in shapes.entry.masks] == [sample.name for sample in shapes.entry.samples]
    for sample_path, mask_path in zip(shapes.entry.samples, shapes.entry.masks, strict=True):
        with Image.open(mask_path) as image:
            mask = np.asarray(image)
        assert mask.shape == shapes.read(sample_path).shape[:2]
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        assert 60 < (mask > 0).sum() < 900


def test_the_samples_are_what_the_generator_draws():
    """pictures.py has not changed since the model was trained (seed: SAMPLE_SEED in shapes/train.py)."""
    shapes, pictures = Shipped("shapes"), load_pictures()
    images, labels, masks = pictures.generate(len(pictures.CLASSES), seed=2000)
    samples = {path.stem: path for path in shapes.entry.samples}
    for image, label, mask in zip(images, labels, masks, strict=True):
        path = samples[pictures.CLASSES[label]]
        np.testing.assert_array_equal(shapes.read(path), image)
        with Image.open(path.parents[1] / "masks" / path.name) as drawn:
            np.testing.assert_array_equal(np.asarray(drawn) > 0, mask)


def test_the_shapes_model_is_accurate_on_fresh_pictures():
    shapes, pictures = Shipped("shapes"), load_pictures()
    assert tuple(shapes.labels) == pictures.CLASSES
    images, labels, _ = pictures.generate(500, seed=4711)
    assert (shapes.answer(images).argmax(axis=1) == labels).mean() > 0.97


def test_the_shapes_model_looks_at_the_target():
    """A grey box over the target takes its score away; the same box elsewhere takes less."""
    shapes, pictures = Shipped("shapes"), load_pictures()
    images, labels, masks = pictures.generate(100, seed=4712)
    boxes = np.stack([bounding_box(mask) for mask in masks])
    elsewhere = np.roll(boxes, 32, axis=2) & ~boxes

    def score(covered: np.ndarray) -> np.ndarray:
        shown = np.where(covered[..., None], np.uint8(127), images)
        return shapes.answer(shown)[np.arange(len(images)), labels]

    whole = score(np.zeros_like(boxes))
    assert (whole > 0).mean() > 0.95
    assert (score(boxes) < 0).mean() > 0.95
    assert (score(elsewhere) > score(boxes)).mean() > 0.95


def bounding_box(mask: np.ndarray) -> np.ndarray:
    return mask.any(axis=1)[:, None] & mask.any(axis=0)

"""The model zoo: small models that ship with onnxvis, and well-known ones that are fetched on demand.

What there is stands in ``model_zoo/manifest.toml``.  Fetched models are verified by SHA-256 and kept
in the user's cache folder, or in ``$ONNXVIS_CACHE`` where that is set.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DownloadError, UnknownNameError
from .resources import resource

__all__ = ["PREFIX", "ZooModel", "cache_folder", "find", "get", "locate", "models"]

PREFIX = "zoo:"
"""What a model of the zoo is called by where a path may be given: ``zoo:shapes``."""

_TIMEOUT = 30.0  # seconds without an answer from the server


@dataclass(frozen=True)
class ZooModel:
    """What the manifest says about one model.

    ``preprocess``: the name of a preset, the settings themselves, or None where the model file
    carries them (metadata ``onnxvis.preprocess``).  ``labels``: likewise, the name of a list or the
    class names.  ``size``: bytes.  ``urls``: where to fetch it, in this order; empty for a shipped
    model, whose file is ``path``.
    """

    name: str
    summary: str
    licence: str
    source: str
    opset: int
    size: int
    preprocess: str | Mapping[str, Any] | None = None
    labels: str | tuple[str, ...] | None = None
    sha256: str | None = None
    urls: tuple[str, ...] = ()
    path: Path | None = None
    samples: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()

    @property
    def shipped(self) -> bool:
        """Whether the model file comes with onnxvis."""
        return self.path is not None


def models(*, manifest: Path | None = None) -> dict[str, ZooModel]:
    """All models of the zoo by name, the shipped ones first; ``manifest`` replaces onnxvis' own."""
    manifest = manifest or resource("model_zoo", "manifest.toml")
    tables = tomllib.loads(manifest.read_text(encoding="utf-8"))
    shipped = [_shipped(name, entry, manifest.parent) for name, entry in tables.get("shipped", {}).items()]
    fetched = [_fetched(name, entry) for name, entry in tables.get("fetched", {}).items()]
    return {model.name: model for model in [*shipped, *fetched]}


def find(name: str, *, manifest: Path | None = None) -> ZooModel:
    """What the manifest says about the model called ``name``; UnknownNameError where there is none."""
    known = models(manifest=manifest)
    if name not in known:
        raise UnknownNameError("zoo model", name, known)
    return known[name]


def get(name: str, *, progress: bool = False, manifest: Path | None = None) -> Path:
    """Path of the model file called ``name``; fetched first where it is neither shipped nor cached.

    ``progress`` draws a bar while fetching.  Raises UnknownNameError, and DownloadError where the
    file cannot be fetched or is not what the manifest says; then nothing is left in the cache.
    """
    model = find(name, manifest=manifest)
    return model.path if model.path is not None else _fetch(model, progress)


def locate(model: str | Path, *, progress: bool = False, manifest: Path | None = None) -> Path:
    """The path that ``model`` stands for: itself, or that of a model of the zoo (``"zoo:shapes"``)."""
    if isinstance(model, str) and model.startswith(PREFIX):
        return get(model.removeprefix(PREFIX), progress=progress, manifest=manifest)
    return Path(model)


def cache_folder() -> Path:
    """Where fetched models are kept: ``$ONNXVIS_CACHE``, or the user's cache folder."""
    import pooch

    return Path(os.environ.get("ONNXVIS_CACHE") or pooch.os_cache("onnxvis"))


def _shipped(name: str, entry: Mapping[str, Any], folder: Path) -> ZooModel:
    path = folder / entry["file"]
    return ZooModel(
        name=name,
        summary=entry["summary"],
        licence=entry["licence"],
        source=entry["source"],
        opset=entry["opset"],
        size=path.stat().st_size,
        path=path,
        samples=_pictures(folder, entry.get("samples")),
        masks=_pictures(folder, entry.get("masks")),
    )


def _pictures(folder: Path, name: str | None) -> tuple[Path, ...]:
    return tuple(sorted((folder / name).glob("*.png"))) if name else ()


def _fetched(name: str, entry: Mapping[str, Any]) -> ZooModel:
    labels = entry["labels"]
    return ZooModel(
        name=name,
        summary=entry["summary"],
        licence=entry["licence"],
        source=entry["source"],
        opset=entry["opset"],
        size=entry["size"],
        preprocess=entry["preprocess"],
        labels=labels if isinstance(labels, str) else tuple(labels),
        sha256=entry["sha256"],
        urls=(entry["url"], *entry.get("mirrors", ())),
    )


def _fetch(model: ZooModel, progress: bool) -> Path:
    """The cached file, fetched from the first address that gives what the manifest says."""
    failures = []
    for url in model.urls:
        try:
            return _retrieve(model, url, progress)
        except (OSError, ValueError) as error:  # OSError: network, server, disk; ValueError: wrong hash
            failures.append(f"{url}: {_reason(error)}")
    raise DownloadError(
        f"zoo model {model.name!r} cannot be fetched ({'; '.join(failures)}). Check the connection and try "
        f"again, or put a good copy at {cache_folder() / _file_name(model.urls[0])}."
    )


def _retrieve(model: ZooModel, url: str, progress: bool) -> Path:
    import pooch

    # A file that is already there is kept where its hash is right, and fetched again where it is not.
    # pooch writes to a temporary file and moves it into place only after the hash was verified.
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{model.sha256}",
                fname=_file_name(model.urls[0]),
                path=cache_folder(),
                downloader=pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT),
            )
        )
    finally:
        logger.setLevel(level)


def _file_name(url: str) -> str:
    return url.rpartition("/")[2]


def _reason(error: Exception) -> str:
    """Why fetching failed, in a few words on one line."""
    import requests

    match error:
        case requests.HTTPError(response=requests.Response(status_code=code, reason=reason)):
            return f"the server answered {code} {reason}"
        case requests.Timeout():
            return f"no answer within {_TIMEOUT:.0f} s"
        case requests.exceptions.ChunkedEncodingError():
            return "the connection broke while downloading"
        case requests.ConnectionError():
            return "no connection"
        case ValueError():
            return "what came is not the file that the manifest describes (wrong SHA-256)"
        case _:
            return str(error).partition("\n")[0]

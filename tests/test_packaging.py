"""What the wheel holds."""

import importlib.util
import subprocess
import sys
import zipfile

import pytest
from models import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling, which builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "-w", str(folder), *options]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_it_holds_the_package_and_what_ships_with_it(wheel):
    names = set(wheel.namelist())
    for folder in ("kernels", "model_zoo", "onnxvis"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                inside = path.relative_to(ROOT / folder if folder == "onnxvis" else ROOT)
                assert f"onnxvis/{inside.as_posix()}" in names
    assert "onnxvis/py.typed" in names and "onnxvis/model_zoo/shapes/shapes.onnx" in names


def test_it_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top.split("-")[0] for top in tops} == {"onnxvis"} and len(tops) == 2
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_its_metadata_name_the_program_and_the_extras(wheel):
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert "onnxvis = onnxvis.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "Requires-Dist: onnxruntime>=1.20; extra == 'cpu'" in metadata
    assert not [
        line
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: onnxruntime") and "extra" not in line
    ]

"""The examples of docs/extending.md run, and a plugin package is installed and used."""

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys

import models
import numpy as np
import onnx
import pytest

import onnxvis
from onnxvis.cli import main
from onnxvis.errors import MissingRuleError, ModelError, UsageError
from onnxvis.rules import registry

PAGE = (models.ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python(?: needs=(\S+))?\n(.*?)```", PAGE, re.DOTALL)


def at_hand(need):
    if "/" in need:
        return (models.SHARED / need).exists()
    return not need or importlib.util.find_spec(need) is not None


def check(block, printed):
    """What each print shows is what its comment says, "…" standing for anything."""
    lines = printed.splitlines()
    shown = re.findall(r"print\(.*#\s*(.+)", block)
    if "for " in block:  # one comment for every round
        shown = shown * len(lines)
    assert len(lines) == len(shown)
    for line, pattern in zip(lines, shown, strict=True):
        assert re.fullmatch(re.escape(pattern).replace("…", ".+?"), " ".join(line.split())), (line, pattern)


def test_the_examples_run_one_after_the_other(monkeypatch):
    if models.SHARED.exists():
        monkeypatch.chdir(models.SHARED)
    names = {"__name__": "extending"}
    with registry.scoped():
        for number, (need, block) in enumerate(BLOCKS):
            if at_hand(need):
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(block, f"docs/extending.md, example {number}", "exec"), names)
                check(block, printed.getvalue())


@pytest.mark.parametrize("need", [need for need, _ in BLOCKS if need])
def test_what_examples_need_is_at_hand(need):
    if not at_hand(need):
        pytest.skip(f"the example that needs {need} was left out")


# ---- a plugin ------------------------------------------------------------------------------------


def test_a_plugin_is_installed_and_used(tmp_path):
    pytest.importorskip("hatchling")
    source, target = tmp_path / "source", tmp_path / "target"
    plugin = models.ROOT / "tests" / "plugin"
    for path in plugin.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = source / path.relative_to(plugin)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, capture_output=True)
    program = """
import numpy as np, onnx, onnxvis
net = onnx.parser.parse_model('''<ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
    net (float[1, 2] x) => (float[1, 2] y) { y = com.acme.Swirl (x) }''')
swirl = '''<domain: "com.acme", opset_import: ["": 17]> Swirl (x) => (y) { s = Sin (x)  y = Add (x, s) }'''
model = onnxvis.load(net, functions=[swirl], threads=1)
print(model.vjp(np.zeros((1, 2), np.float32), {"y": np.ones((1, 2), np.float32)})["x"].tolist())
"""
    paths = os.pathsep.join([str(target), str(models.ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[[2.0, 2.0]]", done.stderr


# ---- definitions of operators --------------------------------------------------------------------

NET = """
    <ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
    net (float[N, 3] x) => (float[N, 2] y)
    <float[3, 2] v = {1.0, -2.0, 0.5, 1.0, 2.0, -1.0}>
    { w = com.acme.Twice (v)  h = com.acme.Twice (x)  y = MatMul (h, w) }
"""
TWICE = """
    <domain: "com.acme", opset_import: ["": 17]>
    Twice (x) => (y) { y = Add (x, x) }
"""


def net():
    return onnx.parser.parse_model(NET)


@pytest.mark.parametrize("form", [str, onnx.parser.parse_function], ids=["text", "proto"])
def test_a_defined_operator_runs_and_stays_a_node(form):
    model = onnxvis.load(net(), functions=[form(TWICE)], threads=1)
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(model.run(x)["y"], [[14, -8]])
    assert [node.kind for node in model.graph.nodes] == ["com.acme::Twice", "MatMul"]
    np.testing.assert_array_equal(model.activations(x, ["h"])["h"], [[2, 2, 2]])


def test_what_is_defined_on_constants_is_a_constant():
    model = onnxvis.load(net(), functions=[TWICE], threads=1)
    np.testing.assert_array_equal(model.graph.constant("w"), [[2, -4], [1, 2], [4, -2]])


def test_a_defined_operator_without_a_rule_is_named():
    model = onnxvis.load(net(), functions=[TWICE], threads=1)
    with pytest.raises(MissingRuleError, match=r"com\.acme::Twice.*domain='com\.acme'"):
        model.explain(np.ones((1, 3), np.float32), "gradient")


def test_a_text_that_is_no_function_is_refused():
    with pytest.raises(UsageError, match=r"a function is an onnx\.FunctionProto or its text"):
        onnxvis.load(net(), functions=["Twice (x) => {"])


def test_a_function_of_another_opset_is_refused():
    with pytest.raises(ModelError, match=r"com\.acme::Twice.*opset that the model imports \(17"):
        onnxvis.load(net(), functions=[TWICE.replace("17", "13")])


# ---- libraries of operators ----------------------------------------------------------------------


def test_a_library_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no library of operators"):
        onnxvis.load(models.small_cnn(), custom_ops=[tmp_path / "libacme.so"])


def test_a_file_that_is_no_library_is_refused(tmp_path, capsys):
    library, model = tmp_path / "libacme.so", tmp_path / "net.onnx"
    library.write_bytes(b"no library")
    onnx.save(models.small_cnn(), model)
    with pytest.raises(UsageError, match="is not a library of operators that onnxruntime"):
        onnxvis.load(model, custom_ops=[library])
    from click.testing import CliRunner

    result = CliRunner().invoke(main, ["info", str(model), "--custom-ops", str(library)])
    assert result.exit_code == 2
    assert "is not a library of operators" in result.output

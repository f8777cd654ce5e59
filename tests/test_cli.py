"""The command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from models import ROOT, small_cnn
from PIL import Image

import onnxvis
from onnxvis import errors, zoo
from onnxvis.cli import main
from onnxvis.target import unit_index

SAMPLES = {path.stem: str(path) for path in zoo.find("shapes").samples}
STAR, HEART = SAMPLES["star"], SAMPLES["heart"]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def commands(group=main, path=()):
    """Every command by its words, groups included."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- every command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "command"), [pytest.param(*c, id="-".join(c[0])) for c in commands()])
def test_every_command_has_help_with_an_example_and_is_documented(words, command):
    shown = run(*words, "--help").stdout
    assert f"onnxvis {' '.join(words)}" in shown.split("Example", 1)[1]
    assert all(getattr(option, "help", None) for option in command.params if isinstance(option, click.Option))
    assert f"onnxvis {' '.join(words)}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_without_a_command_the_help_is_shown():
    assert "Commands:" in run().stdout
    assert "Commands:" in run("zoo", code=2).stderr
    assert "..." not in run().stdout.split("Commands:")[1]


def test_exit_codes_are_in_the_help():
    shown = run("--help").stdout
    for code in {cls.exit_code for cls in vars(errors).values() if hasattr(cls, "exit_code")}:
        assert f"\n    {code} " in shown


# ---- info, methods, rules, zoo -------------------------------------------------------------------


def test_info_shows_what_the_model_is():
    shown = run("info", "zoo:shapes").stdout
    for part in ("image: float32[batch×3×64×64]", "logits", "conv1", "from: metadata", "circle, square"):
        assert part in shown


def test_info_as_json():
    found = json.loads(run("info", "zoo:shapes", "--json").stdout)
    assert found["inputs"] == [{"name": "image", "shape": ["batch", 3, 64, 64], "dtype": "float32"}]
    assert found["preprocess"]["size"] == [64, 64] and found["preprocess_source"] == "metadata"
    assert len(found["labels"]) == 10 and found["layers"][0]["operator"] == "Conv"


def test_methods_lists_every_method_and_setting():
    listed = json.loads(run("methods", "--json").stdout)
    assert {entry["name"]: set(entry["settings"]) for entry in listed} == {
        name: set(info.settings) for name, info in onnxvis.methods().items()
    }
    table = run("methods").stdout
    for info in onnxvis.methods().values():
        assert info.name in table and info.summary in table and info.category in table


def test_rules_of_a_model_say_what_is_missing(here):
    model = small_cnn()
    model.graph.node[2].op_type = "Exp"
    onnx.save(model, "exp.onnx")
    found = json.loads(run("rules", "exp.onnx", "--json").stdout)
    rows = {row["operator"]: row for row in found["operators"]}
    assert rows["Conv"]["nodes"] == 2
    assert rows["Exp"]["gradient"] == "own" and rows["Exp"]["zplus"] == "–"
    assert rows["Exp"]["guided_backprop"] == "gradient"
    assert found["missing"]["gradient"] == [] and "Exp" in found["missing"]["lrp, composite epsilon"]
    assert "gradient: complete" in run("rules", "exp.onnx").stdout


def test_rules_without_a_model_cover_the_registry():
    from onnxvis.rules import registry

    found = json.loads(run("rules", "--json").stdout)["operators"]
    assert len(found) == len(registry.operators()) and set(registry.methods) < set(found[0])
    assert "Conv" in run("rules").stdout


def test_rules_say_why_operators_stop_the_way_back_or_are_refused(here):
    from onnxvis.rules import registry

    found = json.loads(run("rules", "--json").stdout)
    assert sum(map(len, found["stops"].values())) == len(registry.stops)
    assert sum(map(len, found["refused"].values())) == len(registry.refusals)
    assert "refused: GRU, LSTM, RNN\n  it is recurrent" in run("rules").stdout
    model = small_cnn()
    model.graph.node[2].op_type = "Floor"
    onnx.save(model, "floor.onnx")
    found = json.loads(run("rules", "floor.onnx", "--json").stdout)
    assert found["stops"] == {"it is piecewise constant": ["Floor"]} and found["refused"] == {}
    assert "stop: Floor\n  it is piecewise constant" in run("rules", "floor.onnx").stdout


def test_zoo():
    assert all(name in run("zoo", "list").stdout for name in zoo.models())
    assert Path(run("zoo", "get", "shapes").stdout.strip()) == zoo.find("shapes").path


# ---- explain -------------------------------------------------------------------------------------


def test_explain_writes_beside_and_says_where(here):
    result = run("explain", "zoo:shapes", STAR)
    picture, name, score, file = result.stdout.rstrip("\n").split("\t")
    assert (picture, name, file) == (STAR, "star", "star.guided_backprop.png")
    assert float(score) > 1 and result.stderr == ""
    expected = onnxvis.load("zoo:shapes").explain(STAR).picture()
    np.testing.assert_array_equal(pixels(file), np.asarray(expected))


def test_names_never_collide(here):
    (here / "a").mkdir()
    (here / "b").mkdir()
    for folder in "ab":
        shutil.copy(STAR, f"{folder}/Same.png")
    run("explain", "zoo:shapes", "a/Same.png", "b/Same.png", STAR, "-m", "gradient", "-o", "out")
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == ["Same-2.gradient.png", "Same.gradient.png", "star.gradient.png"]


def test_a_grid_of_pictures_and_methods(here):
    result = run("explain", "zoo:shapes", STAR, HEART, "-m", "gradcam,lrp", "-m", "gradient", "-o", "g.png")
    assert [line.split("\t")[3] for line in result.stdout.splitlines()] == ["g.png", "g.png"]
    height, width, _ = pixels("g.png").shape
    assert width > 4 * 160 and height > 2 * 160
    assert [path.name for path in here.iterdir()] == ["g.png"]


def test_several_methods_of_one_picture_are_one_file(here):
    run("explain", "zoo:shapes", STAR, "-m", "gradcam,lrp")
    assert [path.name for path in here.iterdir()] == ["star.methods.png"]


def test_layer_belongs_to_the_setting_or_else_to_the_target(here):
    unit = run("explain", "zoo:shapes", STAR, "-m", "gradient", "-l", "conv5", "-t", "3").stdout
    model = onnxvis.load("zoo:shapes")
    assert unit.split("\t")[1] == "unit 3"
    expected = model.explain(STAR, "gradient", onnxvis.Target("conv5", 3)).score[0]
    assert float(unit.split("\t")[2]) == pytest.approx(expected, rel=1e-3)
    run("explain", "zoo:shapes", STAR, "-m", "gradcam", "-l", "conv5", "-t", "star", "-o", "cam.png")
    expected = model.explain(STAR, "gradcam", 3, layer="conv5").picture()
    np.testing.assert_array_equal(pixels("cam.png"), np.asarray(expected))


def test_settings_are_python_literals_or_text(here):
    arguments = ["-m", "occlusion", "-s", "size=16, 16", "--set", "stride=16", "--set", "fill=mean"]
    run("explain", "zoo:shapes", STAR, *arguments, "-o", "o.png")
    expected = onnxvis.load("zoo:shapes").explain(STAR, "occlusion", size=(16, 16), stride=16, fill="mean")
    np.testing.assert_array_equal(pixels("o.png"), np.asarray(expected.picture()))


def test_a_composite_in_a_file(here):
    file, arguments = Path("mine.toml"), ["explain", "zoo:shapes", STAR, "-m", "lrp", "-o", "o.png"]
    rows = "[[rows]]\nlayer='dense'\nrule='epsilon'\n[[rows]]\nposition='first'\nrule="
    file.write_text(f"{rows}'flatt'")
    failed = run(*arguments, "--set", "composite=mine.toml", code=2)
    assert "row 2 of composite file 'mine.toml': no rule or method 'flatt'" in failed.stderr
    file.write_text(f"{rows}'flat'\n[[rows]]\nlayer='convolution'\nrule='zplus'")
    run(*arguments, "--set", "composite=mine.toml")
    expected = onnxvis.load("zoo:shapes").explain(STAR, "lrp", composite="epsilon_plus_flat")
    np.testing.assert_array_equal(pixels("o.png"), np.asarray(expected.picture()))


def test_an_array_is_explained_too(here):
    model = onnxvis.load("zoo:shapes")
    np.save("x.npy", model.preprocess.apply(STAR).array)
    assert run("explain", "zoo:shapes", "x.npy").stdout.split("\t")[1] == "star"


def test_the_default_preprocess_is_stated_on_stderr(here):
    onnx.save(small_cnn(), "net.onnx")
    result = run("explain", "net.onnx", STAR)
    assert "preset 'unit'" in result.stderr and "preset" not in result.stdout
    assert run("explain", "net.onnx", STAR, "--preprocess", "raw").stderr == ""


def test_labels_name_the_answer_and_the_target(here):
    onnx.save(small_cnn(), "net.onnx")
    Path("names.txt").write_text("ant\nbee\ncat, tabby\ndog\n")
    arguments = ("explain", "net.onnx", STAR, "--preprocess", "unit", "--labels", "names.txt", "-t")
    assert run(*arguments, "CAT").stdout.split("\t")[1] == "cat"
    assert "Known: ant, bee" in run(*arguments, "bea", code=2).stderr


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 1), ("-1", -1), ("Star", 1), ("tench", 2), ("Tench, x", 2)]
)
def test_a_target_by_index_or_name(text, expected):
    assert unit_index(text, ["circle", "star", "tench, x", "crane", "crane"]) == expected


def test_a_name_of_two_classes_is_refused():
    with pytest.raises(errors.UsageError, match="names 2 classes"):
        unit_index("crane", ["crane", "crane"])
    with pytest.raises(errors.UsageError, match="--labels"):
        unit_index("crane", [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explain", "zoo:shapes"], "Missing argument"),
        (["explain", "zoo:shapes", STAR, "--bogus"], "No such option"),
        (["explain", "zoo:shapes", STAR, "-s", "size"], "is not NAME=VALUE"),
        (["explain", "zoo:shapes", STAR, "--position", "here"], "neither 'max', 'region' nor indices"),
        (["explain", "zoo:shapes", STAR, "-m", ","], "names no method"),
        (["reconstruct", "zoo:shapes", "--size", "3"], "is not HEIGHT,WIDTH"),
        (["bogus"], "No such command"),
        (["--bogus"], "No such option"),
    ],
)
def test_wrong_usage_is_one_line(arguments, says):
    stderr = run(*arguments, code=2).stderr
    assert says in stderr and "--help" in stderr and stderr.count("\n") == 1


# ---- reconstruct and demo ------------------------------------------------------------------------


def test_reconstruct(here):
    made = run("reconstruct", "zoo:shapes", "-t", "star", "-s", "steps=2").stdout.rstrip().split("\t")
    assert made[:2] == ["activation_maximization", "star"]
    assert pixels("shapes.star.activation_maximization.png").shape == (64, 64, 3)
    run("reconstruct", "zoo:shapes", STAR, "-m", "inversion", "-l", "conv1", "-s", "steps=2", "-o", "i.png")
    assert pixels("i.png").shape == (64, 64, 3)


def test_demo_draws_two_figures(here, monkeypatch):
    from onnxvis.cli import demo

    find = zoo.find

    def few(name, **options):
        model = find(name, **options)
        return replace(model, samples=tuple(path for path in model.samples if path.stem in ("star", "3")))

    monkeypatch.setattr(zoo, "find", few)
    monkeypatch.setattr(demo, "INVERTED", ("star",))
    monkeypatch.setattr(demo, "RECONSTRUCTION", {"steps": 2, "progress": False})
    files = run("demo", "-o", "out").stdout.split()
    assert files == [str(Path("out", "explanations.png")), str(Path("out", "reconstructions.png"))]
    assert all(min(pixels(file).shape[:2]) > 200 for file in files)


# ---- as a program --------------------------------------------------------------------------------


def program(*arguments, **options):
    command = [sys.executable, "-m", "onnxvis", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_results_and_errors_as_a_program(tmp_path):
    good = program("zoo", "get", "shapes")
    assert (good.returncode, good.stderr) == (0, "") and good.stdout.strip().endswith("shapes.onnx")
    bad = program("info", "none.onnx", cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (3, "") and bad.stderr.count("\n") == 1


def test_a_traceback_only_where_it_is_asked_for(tmp_path):
    for shown in (
        program("--traceback", "info", "none.onnx", cwd=tmp_path),
        program("info", "none.onnx", cwd=tmp_path, env={**os.environ, "ONNXVIS_TRACEBACK": "1"}),
    ):
        assert "Traceback" in shown.stderr and "ModelError" in shown.stderr


def test_a_bug_is_called_one(monkeypatch):
    def fail(*_, **__):
        raise KeyError("surprise\nin two lines")

    monkeypatch.setattr(onnxvis, "load", fail)
    stderr = run("info", "zoo:shapes", code=70).stderr
    assert "unexpected KeyError" in stderr and "--traceback" in stderr and stderr.count("\n") == 1


def test_interrupted(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(onnxvis, "load", interrupt)
    assert "Traceback" not in run("info", "zoo:shapes", code=130).output


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupted_by_a_signal(tmp_path):
    arguments = ["reconstruct", "zoo:shapes", "-s", "steps=1000000", "-o", str(tmp_path / "x.png")]
    # A test run in the background ignores the signal, and its children would inherit that.
    with subprocess.Popen(
        [sys.executable, "-m", "onnxvis", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        try:
            stderr = process.communicate(timeout=30)[1]
        finally:
            process.kill()
    assert process.returncode == 130 and "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_without_onnxruntime_the_command_to_run_is_named(tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('onnxruntime', name='onnxruntime')")
    found = program("info", "zoo:shapes", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert found.returncode == 3 and "run: pip install 'onnxvis[cpu]'" in found.stderr
    assert found.stderr.count("\n") == 1


HEAVY = ("numpy", "onnx", "PIL", "onnxruntime", "scipy", "tqdm", "pooch", "cmap")


@pytest.mark.parametrize(
    "code", ["import onnxvis", "from onnxvis.cli import main; main(['--help'], standalone_mode=False)"]
)
def test_opening_is_cheap(code):
    check = f"import sys; {code}; print([name for name in {HEAVY} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"

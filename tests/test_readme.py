"""The README's examples run; its tables and the page of operators are up to date."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from models import ROOT

import onnxvis
from onnxvis.cli import demo, main
from onnxvis.rules import registry

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith("onnxvis ")
]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder that holds what the examples read, as the root of a clone does."""
    (tmp_path / "model_zoo").symlink_to(ROOT / "model_zoo", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_examples(number, clone, capsys):
    with registry.scoped():
        exec(compile(blocks("python")[number], f"README example {number}", "exec"), {"__name__": "readme"})
    expected = re.findall(r"print\(.*#\s*(.+)", blocks("python")[number])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(expected)
    for line, shown in zip(printed, expected, strict=True):
        assert re.fullmatch(re.escape(shown).replace("…", ".+?"), line), (line, shown)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_command_line_examples(arguments, clone, monkeypatch):
    monkeypatch.setattr(demo, "RECONSTRUCTION", {"steps": 1, "progress": False})
    expanded = [
        str(name) for word in arguments for name in (sorted(Path().glob(word)) if "*" in word else [word])
    ]
    before = set(clone.iterdir())
    result = CliRunner().invoke(main, expanded)
    assert result.exit_code == 0, result.output
    assert result.stdout
    if "-o" in arguments:
        assert set(clone.iterdir()) - before == {clone / arguments[arguments.index("-o") + 1]}


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_methods_is_what_onnxvis_offers(generate):
    (table,) = generate.TABLE.findall(README)
    assert table == generate.methods_table(), "run python docs/generate.py"


def test_the_page_of_operators_is_what_the_registry_holds(generate):
    assert generate.OPERATORS.read_text(encoding="utf-8") == generate.operators_page(), (
        "run python docs/generate.py --text"
    )


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_every_public_name_is_documented():
    section = README.split("## Names")[1].split("##")[0]
    assert set(re.findall(r"`(\w+)`", section)) == set(onnxvis.__all__)


def test_exit_codes_are_documented():
    for cls in vars(onnxvis.errors).values():
        if hasattr(cls, "exit_code"):
            assert f" {cls.exit_code} " in README.split("Exit codes:")[1]

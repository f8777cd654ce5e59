"""Whatever is wrong: one line that says what and what to do, the right exit code, nothing half-written."""

import pytest
from bad_input import MISTAKES, prepare
from click.testing import CliRunner

from onnxvis.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_on_the_command_line(mistake, folder):
    before = listing(folder)
    result = CliRunner().invoke(main, mistake.arguments)
    assert result.exit_code == mistake.error.exit_code
    assert result.stderr.startswith("onnxvis: error: ") and result.stderr.count("\n") == 1, result.stderr
    assert mistake.says in result.stderr
    assert result.stdout == ""
    assert listing(folder) == before


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_in_python(mistake, folder):
    before = listing(folder)
    with pytest.raises(mistake.error) as caught:
        mistake.call()
    assert type(caught.value) is mistake.error
    assert mistake.says in str(caught.value) and "\n" not in str(caught.value)
    assert listing(folder) == before

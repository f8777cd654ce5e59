"""The tree in the docstring is the tree of the classes."""

import re

import pytest

from onnxvis import errors
from onnxvis.errors import OnnxvisError, UnknownNameError


def drawn():
    """{class: (its parent, its exit code)} as the docstring draws them."""
    found, path = {}, {}
    for line in errors.__doc__.splitlines():
        entry = re.fullmatch(r"    ((?:[│├└─ ]{4})*)(\w+)(?: +(.*?))?(?: +exit code (\d))?", line)
        if not entry or not entry[2].endswith("Error"):
            continue
        depth = len(entry[1]) // 4
        path[depth] = entry[2]
        code = int(entry[4]) if entry[4] else found.get(path.get(depth - 1), (None, None))[1]
        found[entry[2]] = (path.get(depth - 1), code)
    return found


def test_the_drawn_tree_is_the_real_one():
    real = {
        name: (cls.__mro__[1].__name__ if cls is not OnnxvisError else None, cls.exit_code)
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, OnnxvisError)
    }
    shown = drawn()
    assert {name: parent for name, (parent, _) in shown.items()} == {n: p for n, (p, _) in real.items()}
    assert all(code in (None, real[name][1]) for name, (_, code) in shown.items())
    assert shown["TargetError"][1] == 2 and shown["ImageError"][1] == 3


def test_all_lists_every_error():
    assert set(errors.__all__) == set(drawn())


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (["alpha", "beta"], "no thing 'alpa'; did you mean 'alpha'? Known: alpha, beta. Look."),
        (["gamma"], "no thing 'alpa'; known: gamma. Look."),
        ([], "no thing 'alpa' Look."),
    ],
)
def test_unknown_names_list_the_closest_first(known, message):
    assert str(UnknownNameError("thing", "alpa", known, "Look.")) == message


def test_long_lists_are_cut():
    assert "… (50 in all)" in str(UnknownNameError("thing", "x", map(str, range(50))))

import json

import pytest

from onnxvis.errors import UsageError
from onnxvis.images import read_labels

NAMES = ["tench, Tinca tinca", "goldfish", "great white shark"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.txt", "\n".join(NAMES)),
        ("windows.txt", "\ufeff" + "\r\n".join(NAMES) + "\r\n\r\n"),
        ("synset.txt", "".join(f"n0144076{i} {name}\n" for i, name in enumerate(NAMES))),
        ("python.txt", "{" + ",\n ".join(f"{i}: {name!r}" for i, name in enumerate(NAMES)) + "}"),
        ("list.txt", repr(NAMES)),
        ("list.json", json.dumps(NAMES)),
        ("dict.json", json.dumps(dict(enumerate(NAMES)))),
        ("shuffled.json", json.dumps({2: NAMES[2], 0: NAMES[0], 1: NAMES[1]})),
        ("indices.json", json.dumps({name: i for i, name in enumerate(NAMES)})),
        ("keras.json", json.dumps({i: ["n01440764", name] for i, name in enumerate(NAMES)})),
        ("config.json", json.dumps({"model_type": "resnet", "id2label": dict(enumerate(NAMES))})),
    ],
)
def test_formats(name, text, tmp_path):
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert read_labels(path) == read_labels(str(path)) == NAMES


def test_a_wordnet_id_that_only_some_lines_have_belongs_to_the_name(tmp_path):
    path = tmp_path / "mixed.txt"
    path.write_text("n01440764 tench\nbackground\n")
    assert read_labels(path) == ["n01440764 tench", "background"]


def test_lines_that_look_like_a_list_but_are_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("[background]\ncat\n\ndog\n")
    assert read_labels(path) == ["[background]", "cat", "", "dog"]


def test_a_class_without_a_name_is_its_number(tmp_path):
    path = tmp_path / "gap.json"
    path.write_text('{"0": "cat", "2": "dog"}')
    assert read_labels(path) == ["cat", "1", "dog"]


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("empty.txt", "\n", "empty"),
        ("empty.json", "[]", "list"),
        ("none.json", "{}", "class numbers"),
        ("broken.json", '["a"', "neither JSON"),
        ("number.json", "3", "list"),
        ("nested.json", '[{"a": 1}]', "name of a class"),
        ("keys.json", '{"a": "b"}', "not class numbers"),
        ("huge.json", '{"99999999999": "b"}', "class numbers"),
        ("negative.json", '{"-1": "b"}', "class numbers"),
        ("config.json", '{"id2label": 3}', "not class numbers"),
        ("deep.json", "[" * 100_000, "neither JSON"),
    ],
)
def test_files_that_do_not_do(name, text, word, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=word) as caught:
        read_labels(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_labels(tmp_path / "absent.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_labels(tmp_path / "binary.txt")

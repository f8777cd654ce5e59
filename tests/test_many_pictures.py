"""Many pictures: the same as one by one, in order, few at a time, at the same time."""

import gc
import threading
import weakref

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from models import build, normal, small_cnn
from onnx import helper
from PIL import Image

import onnxvis
from onnxvis.cases import Cases
from onnxvis.cli import main
from onnxvis.errors import ImageError, InputError, TargetError, UnknownNameError, UsageError
from onnxvis.explanation import Explanation
from onnxvis.overlap import overlapped

X = normal(7, 3, 12, 12, seed=5)
SAMPLES = [X[i : i + 1] for i in range(len(X))]
TIME = 30  # seconds after which a thread that should have come has not


@pytest.fixture(scope="module")
def model():
    return onnxvis.load(small_cnn(), threads=1, preprocess="unit")


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "A.JPG", "c.webp"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def _same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.score, other.score, rtol=1e-4)
        np.testing.assert_array_equal(one.inputs, other.inputs)
        assert one.target == other.target
        assert one.input_shape == other.input_shape and one.settings == other.settings
        assert one.caption() == other.caption()


# ---- the same as one by one ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 20])
@pytest.mark.parametrize("method", ["guided_backprop", "gradcam", "lrp", "occlusion"])
def test_the_same_as_one_by_one(model, method, size):
    settings = {"occlusion": {"size": 6, "stride": 3, "fill": "random"}, "gradcam": {"layer": "relu1"}}
    given = settings.get(method, {})
    found = list(model.explain_each(iter(SAMPLES), method, batch_size=size, **given))
    _same(found, [model.explain(x, method, **given) for x in SAMPLES])


@pytest.mark.parametrize(
    "target",
    [
        2,
        onnxvis.Target("conv2", 3, position="max"),
        onnxvis.Target("conv2", position=(1, 1)),
        {"conv1": onnxvis.Target(unit=2), "conv2": onnxvis.Target(unit=1)},
        {0: 1.0, 3: -0.5},
        # what sees the axis of the samples, and so is never run in batches
        onnxvis.Target("conv2", index=np.s_[0, 2]),
        onnxvis.Target("conv2", 1, position=np.eye(6, dtype=bool)),
        lambda outputs: {"probabilities": outputs["probabilities"]},
    ],
    ids=["index", "max", "place", "sum", "weights", "numpy index", "mask", "function"],
)
def test_every_kind_of_target(model, target):
    found = list(model.explain_each(SAMPLES, "gradient", target, batch_size=3))
    for one, x in zip(found, SAMPLES, strict=True):
        np.testing.assert_allclose(
            one.values, model.explain(x, "gradient", target).values, rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("size", [1, 3])
def test_a_target_for_each(model, size):
    units = [3, 1, 0, 2, 2, 1, 3]
    expected = [model.explain(x, "gradient", unit) for x, unit in zip(SAMPLES, units, strict=True)]
    _same(list(model.explain_each(SAMPLES, "gradient", units, batch_size=size)), expected)
    kinds = [1, onnxvis.Target("conv2", 3), {"conv1": 2}, 0, 1, 2, 3]
    found = model.explain_each(SAMPLES, "gradient", kinds, batch_size=size)
    for one, x, kind in zip(found, SAMPLES, kinds, strict=True):
        expected_values = model.explain(x, "gradient", kind).values
        np.testing.assert_allclose(one.values, expected_values, rtol=1e-4, atol=1e-6)


def test_a_target_for_each_and_another_number_of_pictures(model):
    for targets in ([1, 2], list(range(4)) * 2):
        with pytest.raises(TargetError, match=r"2 targets and more|8 targets and only 7"):
            list(model.explain_each(SAMPLES, "gradient", targets, batch_size=2))


def test_batches_keep_to_one_length(model):
    before = len(model.engine._joint)
    found = model.explain_each(SAMPLES, "deconvnet", 1, batch_size=3)
    assert all(e.values.base is None for e in found)
    lengths = [dict(key[0])["x"][0] for key in list(model.engine._joint)[before:]]
    assert lengths == [3]  # seven samples: 3, 3, and one that is filled up


def test_a_model_that_takes_a_fixed_number():
    model = onnxvis.load(small_cnn(samples=3), threads=1)
    free = onnxvis.load(small_cnn(), threads=1)
    found = list(model.explain_each(SAMPLES, "gradient"))
    expected = [free.explain(x, "gradient") for x in SAMPLES]
    _same(found, expected)
    _same(list(model.explain_each(SAMPLES[:2], "gradient")), expected[:2])


def test_neighbours_of_other_sizes_are_not_mixed():
    weights = {"w": normal(4, 3, 3, 3), "m": normal(4, 5)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    net = build(nodes, {"x": ["N", 3, "H", "W"]}, {"y": ["N", 5]}, weights)
    model = onnxvis.load(net, threads=1)
    samples = [normal(1, 3, side, 9, seed=i) for i, side in enumerate([8, 8, 8, 10, 8, 10, 10])]
    found = list(model.explain_each(samples, "gradient", batch_size=2))
    _same(found, [model.explain(x, "gradient") for x in samples])


def test_a_batch_that_sets_the_range_of_its_numbers_is_not_made(tmp_path):
    pytest.importorskip("onnxruntime.quantization")
    from onnxruntime.quantization import quantize_dynamic

    onnx.save(small_cnn(), tmp_path / "plain.onnx")
    quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "dynamic.onnx")
    model = onnxvis.load(tmp_path / "dynamic.onnx", threads=1)
    samples = [x * 4.0**i for i, x in enumerate(SAMPLES[:4])]
    found = list(model.explain_each(samples, "gradient", 1, batch_size=4))
    expected = [model.explain(x, "gradient", 1) for x in samples]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.score, other.score)


def test_half_precision():
    weights = {"w": normal(4, 3, 3, 3).astype(np.float16)}
    net = build([helper.make_node("Conv", ["x", "w"], ["y"])], {}, {}, weights)
    for kind, name, shape in (
        (net.graph.input, "x", ["N", 3, 6, 6]),
        (net.graph.output, "y", ["N", 4, 4, 4]),
    ):
        kind.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, shape))
    model = onnxvis.load(net, threads=1)
    samples = [normal(1, 3, 6, 6, seed=i).astype(np.float16) for i in range(3)]
    found = list(model.explain_each(samples, "gradient", 2, batch_size=2))
    _same(found, [model.explain(x, "gradient", 2) for x in samples])


def test_one_sample_of_several(model):
    together = model.explain(X, "gradient")
    assert together.sample(-1).unit_name() == together.unit_name(6)
    np.testing.assert_array_equal(together.sample(-1).values, together.values[6:])
    with pytest.raises(IndexError):
        together.sample(7)


# ---- pictures, and what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2])
def test_pictures_and_the_one_that_cannot_be_read(model, photos, size):
    files = [photos / "b.png", photos / "A.JPG", photos / "c.webp", photos / "notes.txt", photos / "b.png"]
    run = model.explain_each(files, "gradient", batch_size=size)
    found = [next(run) for _ in range(3)]
    _same(found, [model.explain(file, "gradient") for file in files[:3]])
    assert found[0].photo().size == (30, 20)
    with pytest.raises(ImageError, match="notes"):
        next(run)
    assert list(run) == []


def test_an_error_of_the_iterable_comes_after_what_it_gave(model):
    def given():
        yield from SAMPLES[:2]
        raise OSError("the camera is gone")

    run = model.explain_each(given(), "gradient", batch_size=4)
    assert len([next(run), next(run)]) == 2
    with pytest.raises(OSError, match="camera"):
        next(run)


def test_little_is_read_ahead_and_nothing_is_left_running(model):
    drawn = []

    def given():
        for i in range(10**9):
            drawn.append(i)
            yield SAMPLES[i % 7]

    for size in (1, 3):
        drawn.clear()
        run = model.explain_each(given(), "gradient", batch_size=size)
        assert not drawn
        for done in range(1, 8):
            next(run)
            assert len(drawn) <= done + 3 * size + 1
        run.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnxvis")]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"pictures": "photo.jpg"}, UsageError, "takes many pictures"),
        ({"pictures": SAMPLES, "batch_size": 0}, UsageError, "batch_size is a positive whole number"),
        ({"pictures": SAMPLES, "method": "magic"}, UnknownNameError, "no method 'magic'"),
        ({"pictures": SAMPLES, "steps": 3}, UnknownNameError, "steps"),
        ({"pictures": SAMPLES, "target": "no such"}, (TargetError, UnknownNameError), "no such"),
    ],
)
def test_wrong_arguments_raise_at_once(model, arguments, error, says):
    with pytest.raises(error, match=says):
        model.explain_each(**arguments)


def test_a_picture_is_one_sample(model):
    with pytest.raises(InputError, match="holds 7 samples"):
        next(model.explain_each([X]))


# ---- at the same time ------------------------------------------------------------------------------


def test_a_thread_works_while_the_caller_does():
    """Deadlocks (and then fails) where a result is made only once it is asked for."""
    begun = [threading.Event() for _ in range(5)]

    def work(i):
        begun[i].set()
        return i, threading.current_thread() is threading.main_thread()

    found = []
    for i, in_caller in overlapped(work, range(5), ahead=2):
        assert not in_caller
        assert i == 4 or begun[i + 1].wait(TIME)
        found.append(i)
    assert found == [0, 1, 2, 3, 4]


def test_order_is_kept_by_several_threads():
    second = threading.Event()

    def work(i):
        if i == 0:
            assert second.wait(TIME)  # the later one ends first
        else:
            second.set()
        return i

    assert list(overlapped(work, range(6), ahead=3, workers=2)) == list(range(6))


def test_after_an_error_nothing_more_is_done():
    done = []

    def work(i):
        if i == 2:
            raise ValueError("two")
        done.append(i)
        return i

    run = overlapped(work, range(100), ahead=3)
    assert [next(run), next(run)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(run)
    assert len(done) <= 6


# ---- on the command line ---------------------------------------------------------------------------


def explained(folder, to, *options):
    """What ``onnxvis explain`` of a folder answers."""
    onnx.save(small_cnn(), to / "net.onnx")
    arguments = ["explain", str(to / "net.onnx"), str(folder), "--preprocess", "unit", "-m", "gradient"]
    return CliRunner().invoke(main, [*arguments, "-o", str(to / "out"), *options])


def test_a_folder_of_pictures(photos, tmp_path):
    result = explained(photos, tmp_path)
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(photos / name) for name in ("A.JPG", "b.png", "c.webp")]
    model = onnxvis.load(tmp_path / "net.onnx", preprocess="unit")
    for picture, name, score, file in rows:
        expected = model.explain(picture, "gradient")
        assert name == expected.unit_name() and score == f"{expected.score[0]:.4g}"
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(expected.picture()))


def test_a_folder_without_pictures(tmp_path):
    onnx.save(small_cnn(), tmp_path / "net.onnx")
    result = CliRunner().invoke(main, ["explain", str(tmp_path / "net.onnx"), str(tmp_path)])
    assert result.exit_code == 3 and "there are no pictures in the folder" in result.stderr


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        (["--threads", "1"], [1, 1, 1]),
        (["--threads", "2"], [2, 2]),
        (["--threads", "1", "--batch-size", "2"], [2, 2]),
        (["--threads", "2", "--batch-size", "1"], [1, 1, 1]),
    ],
)
def test_how_many_pictures_of_a_folder_run_together(photos, tmp_path, monkeypatch, options, batches):
    """Three pictures: what is less than a batch is filled up."""
    run, found = Cases.explanation, []

    def watched(self, info, name, settings, singly, batch, wanted):
        found.append(batch.samples)
        return run(self, info, name, settings, singly, batch, wanted)

    monkeypatch.setattr(Cases, "explanation", watched)
    result = explained(photos, tmp_path, *options)
    assert result.exit_code == 0, result.output
    assert found == batches and len(result.stdout.splitlines()) == 3


@pytest.mark.parametrize("size", ["0", "-1", "two"])
def test_no_batch(photos, tmp_path, size):
    result = explained(photos, tmp_path, "--batch-size", size)
    assert result.exit_code == 2 and "Invalid value for '--batch-size'" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [1, 8])
def test_few_of_many_pictures_are_in_memory(tmp_path, monkeypatch, size):
    """Of 200 explanations a batch lives at a time, besides those that are waiting to be drawn."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (200, 4, 4, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    make, alive, most = Explanation.__init__, {}, 0

    def watched(self, *arguments, **fields):
        nonlocal most
        make(self, *arguments, **fields)
        key = object()  # one that no other gets, as an id may be
        alive[key] = weakref.ref(self, lambda _: alive.pop(key))
        most = max(most, len(alive))

    monkeypatch.setattr(Explanation, "__init__", watched)
    result = explained(folder, tmp_path, "--batch-size", str(size))
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 200
    assert 1 <= most <= size + 8, most
    gc.collect()
    assert not alive

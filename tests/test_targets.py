"""Targets that are not classes: each kind against the slope of what it says it is, through onnxruntime."""

import numpy as np
import pytest
from models import build, normal, run_plain, shared
from onnx import helper

import onnxvis
from onnxvis import Target
from onnxvis.errors import TargetError, UnknownNameError, UnsupportedError

node = helper.make_node
X = normal(3, 3, 8, 8, seed=4)
MASK = np.zeros((8, 8), bool)
MASK[2:5, 1:7] = True
SEED = normal(3, 5, 8, 8, seed=9)


def heads(samples="N"):
    """A smooth net, so that differences are exact: for segmentation, boxes, landmarks and labels.

    maps N×5×8×8, boxes N×16×6 (of 4×4 positions, units last), points N×4; label is their ArgMax.
    """
    weights = {
        "w1": normal(6, 3, 3, 3, scale=0.3), "w2": normal(5, 6, 1, 1, scale=0.5),
        "w3": normal(6, 6, 2, 2, scale=0.3), "w4": normal(6, 4, scale=0.5),
        "boxed": np.array([0, 6, 16], np.int64),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="trunk", pads=[1, 1, 1, 1]),
        node("Tanh", ["c1"], ["h"], name="tanh"),
        node("Conv", ["h", "w2"], ["maps"], name="segment"),
        node("Conv", ["h", "w3"], ["c3"], name="detect", strides=[2, 2]),
        node("Reshape", ["c3", "boxed"], ["r3"], name="reshape"),
        node("Transpose", ["r3"], ["boxes"], name="transpose", perm=[0, 2, 1]),
        node("GlobalAveragePool", ["h"], ["g"], name="pool"),
        node("Flatten", ["g"], ["f"], name="flatten"),
        node("MatMul", ["f", "w4"], ["points"], name="points_layer"),
        node("ArgMax", ["points"], ["label"], name="argmax", axis=1, keepdims=0),
        node("Cast", ["label"], ["chosen"], name="cast", to=1),
    ]
    shapes = {
        "maps": [samples, 5, 8, 8], "boxes": [samples, 16, 6], "points": [samples, 4],
        "label": [samples], "chosen": [samples],
    }  # fmt: skip
    model = build(nodes, {"x": [samples, 3, 8, 8]}, shapes, weights)
    model.graph.output[3].type.tensor_type.elem_type = 7
    return model


MODEL = heads()


@pytest.fixture(scope="module", params=["compiled", "host"])
def net(request):
    return onnxvis.load(MODEL, threads=1, executor=request.param)


def outputs(x):
    """The model's outputs by onnxruntime alone."""
    names = [entry.name for entry in MODEL.graph.output]
    found = zip(names, run_plain(MODEL, {"x": x.astype(np.float32)}), strict=True)
    return {name: array.astype(np.float64) for name, array in found}


def region(unit):
    return outputs(X)["maps"].argmax(axis=1) == unit


def best(column):
    return outputs(X)["boxes"][:, :, column].argmax(axis=1)


def objective(found):
    """Half the distance of the points from 0.3, and twice the first map."""
    seeds = {"points": found["points"] - 0.3, "maps": np.zeros_like(found["maps"])}
    seeds["maps"][:, 0] = 2
    return seeds


# Each kind of target, and the number for each sample that it stands for, of the outputs.
POINTS, RANGE = outputs(X)["points"], np.arange(3)
KINDS = {
    "a unit": ({"points": 2}, lambda y: y["points"][:, 2]),
    "a unit by Target": (Target("points", 2), lambda y: y["points"][:, 2]),
    "the strongest unit": (Target("points"), lambda y: y["points"][RANGE, POINTS.argmax(axis=1)]),
    "units with weights": (
        {"points": {0: 1.0, 3: -0.5}}, lambda y: y["points"][:, 0] - 0.5 * y["points"][:, 3]),
    "one unit a sample": ({"points": [3, 0, 1]}, lambda y: y["points"][RANGE, [3, 0, 1]]),
    "an array of units": ({"points": np.array([3, 0, 1])}, lambda y: y["points"][RANGE, [3, 0, 1]]),
    "a column of all boxes": ({"boxes": 4}, lambda y: y["boxes"][:, :, 4].sum(axis=1)),
    "a box's column": (Target("boxes", 4, 7), lambda y: y["boxes"][:, 7, 4]),
    "a box's column by index": (Target("boxes", index=np.s_[:, 7, 4]), lambda y: y["boxes"][:, 7, 4]),
    "a box by index": (Target("boxes", index=np.s_[:, 7]), lambda y: y["boxes"][:, 7].sum(axis=1)),
    "the mean by index": (
        Target("boxes", index=np.s_[..., 2:4], reduce="mean"),
        lambda y: y["boxes"][:, :, 2:4].mean(axis=(1, 2))),
    "the best box of a class": (Target("boxes", 5, "max"), lambda y: y["boxes"][RANGE, best(5), 5]),
    "another axis": (Target("boxes", 7, 4, axis=1), lambda y: y["boxes"][:, 7, 4]),
    "a position": (Target("maps", 1, (2, 6)), lambda y: y["maps"][:, 1, 2, 6]),
    "a mask": (Target("maps", 1, MASK), lambda y: y["maps"][:, 1][:, MASK].sum(axis=1)),
    "a mask's mean": (
        Target("maps", 1, MASK, reduce="mean"), lambda y: y["maps"][:, 1][:, MASK].mean(axis=1)),
    "a mask a sample": (
        Target("maps", 1, np.stack([MASK, ~MASK, MASK.T])),
        lambda y: (y["maps"][:, 1] * np.stack([MASK, ~MASK, MASK.T])).sum(axis=(1, 2))),
    "a mask of weights": (
        Target("maps", 1, MASK * np.float32(0.25)), lambda y: y["maps"][:, 1][:, MASK].sum(axis=1) / 4),
    "a region": (
        Target("maps", 2, "region"), lambda y: (y["maps"][:, 2] * region(2)).sum(axis=(1, 2))),
    "a region's mean": (
        Target("maps", 2, "region", reduce="mean"),
        lambda y: (y["maps"][:, 2] * region(2)).sum(axis=(1, 2)) / region(2).sum(axis=(1, 2))),
    "several outputs": (
        {"points": {1: 2.0}, "boxes": Target(unit=3, position=5)},
        lambda y: 2 * y["points"][:, 1] + y["boxes"][:, 5, 3]),
    "a seed": ({"maps": SEED}, lambda y: (y["maps"] * SEED).sum(axis=(1, 2, 3))),
    "a seed for all samples": (
        {"maps": SEED[0]}, lambda y: (y["maps"] * SEED[0]).sum(axis=(1, 2, 3))),
    "seeds": (
        {"maps": SEED, "points": np.ones(4)},
        lambda y: (y["maps"] * SEED).sum(axis=(1, 2, 3)) + y["points"].sum(axis=1)),
    "a function of a tensor": (
        {"points": lambda y: y}, lambda y: (y["points"] * POINTS).sum(axis=1)),
    "a function of the outputs": (
        objective,
        lambda y: (y["points"] * (POINTS - 0.3)).sum(axis=1) + 2 * y["maps"][:, 0].sum(axis=(1, 2))),
    "a target a sample": (
        [Target("points", 1), {"maps": {0: 1.0}, "points": 2}, Target("boxes", index=np.s_[0, 3, 1])],
        lambda y: np.array(
            [y["points"][0, 1], y["maps"][1, 0].sum() + y["points"][1, 2], y["boxes"][2, 3, 1]])),
    "a text": ("boxes[:, 7, 4]", lambda y: y["boxes"][:, 7, 4]),
    "a text for a unit": ("points:2", lambda y: y["points"][:, 2]),
    "an inner layer": (Target("detect", 2, (0, 1)), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind, (_, meaning) in KINDS.items() if meaning])
def test_score_and_slope(net, kind):
    """The score is what the target stands for; its gradient the slope of that, by central differences."""
    target, meaning = KINDS[kind]
    e = net.explain(X, "gradient", target)
    np.testing.assert_allclose(e.score, meaning(outputs(X)), rtol=1e-4, atol=1e-5)
    rng, step = np.random.default_rng(0), 2e-2
    for _ in range(3):
        v = rng.standard_normal(X.shape).astype(np.float32)
        near, far = (meaning(outputs(X + s * v)) - meaning(outputs(X - s * v)) for s in (step, 2 * step))
        slope = (8 * near - far) / (12 * step)
        expected = (e.values * v).reshape(3, -1).sum(axis=1)
        np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-3 * np.linalg.norm(e.values))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["gradient", "lrp", "gradcam", "occlusion"])
def test_the_target_of_an_explanation_makes_it_again(net, kind, method):
    settings = {"layer": "h"} if method == "gradcam" else {"size": 4} if method == "occlusion" else {}
    first = net.explain(X, method, KINDS[kind][0], **settings)
    again = net.explain(X, method, first.target, **settings)
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.score, again.score)
    assert again.target == first.target
    assert again.caption(1) == first.caption(1)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_that_run_one_by_one_are_explained_alike(kind):
    """A model of one sample at a time, and all at once: masks, seeds and lists go to their samples."""
    free, fixed = (onnxvis.load(heads(n), threads=1) for n in ("N", 1))
    together, apart = (model.explain(X, "gradient", KINDS[kind][0]) for model in (free, fixed))
    np.testing.assert_allclose(apart.values, together.values, atol=1e-5)
    np.testing.assert_allclose(apart.score, together.score, atol=1e-4)
    assert apart.target == together.target


@pytest.mark.parametrize("method", ["gradient", "lrp", "gradcam", "occlusion"])
def test_one_target_each_equals_single_explanations(net, method):
    targets = [Target("points", 1), {"maps": {0: 1.0, 3: -1.0}, "points": 2}, Target("boxes", 4, "max")]
    settings = {"layer": "h"} if method == "gradcam" else {"size": 4} if method == "occlusion" else {}
    batch = net.explain(X, method, targets, **settings)
    for i, target in enumerate(targets):
        single = net.explain(X[i : i + 1], method, target, **settings)
        np.testing.assert_allclose(batch.values[i : i + 1], single.values, atol=1e-5)
        np.testing.assert_allclose(batch.score[i], single.score[0], rtol=1e-5)


@pytest.mark.parametrize(
    "kind", ["units with weights", "a region", "several outputs", "a seed", "a target a sample"]
)
def test_occlusion_is_the_loss_of_the_score(net, kind):
    """A box over the whole input: everything is lost but what the net says of nothing."""
    target, meaning = KINDS[kind]
    e = net.explain(X, "occlusion", target, size=8, stride=8)
    lost = meaning(outputs(X)) - meaning(outputs(np.zeros_like(X)))
    np.testing.assert_allclose(e.values[:, 0, 0, 0], lost, rtol=1e-4, atol=1e-4)


def test_relevance_of_several_outputs_is_the_sum(net):
    """LRP is linear in its seed, which is the logit of each unit times its weight."""
    parts = {"points": {1: 2.0}, "boxes": Target(unit=3, position=5)}
    both = net.explain(X, "lrp", parts)
    y = net.activations(X, ["points", "boxes"])
    logits = {name: np.zeros_like(array) for name, array in y.items()}
    logits["points"][:, 1] = 2 * y["points"][:, 1]
    logits["boxes"][:, 5, 3] = y["boxes"][:, 5, 3]
    np.testing.assert_allclose(both.values, net.vjp(X, logits, "epsilon_plus")["x"], atol=1e-4)
    first, second = (net.explain(X, "lrp", {name: target}) for name, target in parts.items())
    np.testing.assert_allclose(both.values, first.values + second.values, atol=1e-4)
    report = net.conservation(X, parts)
    assert report.seed == pytest.approx(both.score.sum(), rel=1e-4)
    assert report.error < 1e-3 * abs(report.seed)


@pytest.mark.parametrize(
    "target", [{"points": {0: 1.0, 2: -1.0}}, objective, Target("boxes", index=np.s_[:, 3, 2])]
)
def test_activation_maximization_raises_the_score(net, target):
    found = net.reconstruct(target=target, steps=30, jitter=0, lp_weight=0, tv_weight=0, progress=False)
    assert found.loss[-1] < found.loss[0] - 0.1


def test_a_function_is_asked_anew_at_every_step(net):
    seen = []

    def watched(found):
        seen.append(found["points"].copy())
        return {"points": np.ones_like(found["points"])}

    net.reconstruct(target=watched, steps=3, progress=False)
    assert len({array.tobytes() for array in seen}) >= 3


# ---- which output is meant -----------------------------------------------------------------------


def test_without_a_plain_answer_the_outputs_are_listed(net):
    message = r"several outputs.*maps: float32\[3×5×8×8\], boxes: .*target=\{'maps': unit\}.*--target"
    for target in (None, 1, [0, 1, 2], {0: 1.0}):
        with pytest.raises(TargetError, match=message):
            net.explain(X, "gradient", target)


def _two_outputs(*nodes, outputs, labels=()):
    first = [
        node("Conv", ["x", "w"], ["c"]),
        node("GlobalAveragePool", ["c"], ["g"]),
        node("Flatten", ["g"], ["f"]),
    ]
    weights = {"w": normal(4, 3, 3, 3), "v": normal(4, 2), "u": normal(4, 3)}
    model = build([*first, *nodes], {"x": ["N", 3, 8, 8]}, outputs, weights)
    return onnxvis.load(model, threads=1, labels=labels)


@pytest.mark.parametrize(
    ("nodes", "outputs", "expected"),
    [
        ([node("MatMul", ["f", "v"], ["y"])], ["c", "y"], "y"),  # features, and what follows from them
        ([node("MatMul", ["f", "v"], ["z"]), node("Softmax", ["z"], ["y"])], ["z", "y"], "z"),
        (
            [
                node("MatMul", ["f", "u"], ["b"]),
                node("MatMul", ["f", "v"], ["z"]),
                node("Softmax", ["z"], ["y"]),
            ],
            ["b", "y"],
            "z",
        ),
    ],
    ids=["features", "logits and probabilities", "numbers and probabilities"],
)
def test_the_answer_among_several_outputs(nodes, outputs, expected):
    e = _two_outputs(*nodes, outputs=outputs).explain(X, "gradient")
    assert e.target.layer == expected


def test_labels_name_the_units_of_the_scores_alone():
    nodes = [node("MatMul", ["f", "v"], ["z"]), node("Softmax", ["z"], ["y"])]
    model = _two_outputs(*nodes, outputs=["c", "y"], labels=["cat, felis", "dog"])
    named = model.explain(X, "gradient", ["dog", "cat", {"dog": 1.0, "cat": -1.0}])
    assert [named.unit_name(i) for i in range(3)] == ["dog", "cat", "1 dog + -1 cat"]
    np.testing.assert_array_equal(named.values[:2], model.explain(X, "gradient", [1, 0, 0]).values[:2])
    assert model.explain(X, "gradient", {"y": "dog"}).unit_name() == "dog"
    assert model.explain(X, "gradient", {"c": 1}).unit_name() == "unit 1"
    with pytest.raises(UnknownNameError, match="did you mean 'dog'"):
        model.explain(X, "gradient", "dogg")
    with pytest.raises(TargetError, match="names of the units are not known"):
        model.explain(X, "gradient", Target("c", "dog"))


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"points": 4}, "'points' has no unit 4: it has 4, from 0 to 3"),
        ({"boxes": 6}, r"has no unit 6: it has 6, from 0 to 5 \(shape 3×16×6\)"),
        ({"points": {0: 1.0, 9: 1.0}}, "no unit 9"),
        ({"points": {0: "much"}}, "weight of unit 0 is a number"),
        ({"points": [0, 1]}, "2 units were given for 3 samples; give one each"),
        ([Target("points", 1)], "1 target was given for 3 samples"),
        ([Target("points", [0, 1, 2])] * 3, "3 units were given for 1 sample"),
        (Target("boxes", index=np.s_[:, 16, 0]), "index does not fit 'boxes' of shape 3×16×6"),
        (Target("boxes", index=np.s_[0, 3, 0]), "chooses among samples, and 3 were given"),
        (Target("boxes", index=np.s_[:, 4:4]), "chooses nothing"),
        ("boxes[a, 2]", "not an index expression"),
        ("boxes[:,99,2]", "does not fit"),
        (Target("maps", 0, MASK[:4]), "shape of its maps, 8×8"),
        (Target("maps", 0, np.zeros((8, 8), bool)), "empty"),
        (Target("maps", 0, 1.5), "a tuple of 2 indices, 'max', 'region', a boolean mask of shape 8×8"),
        (Target("points", 0, (1,)), "tuple of 0"),
        (Target("maps", axis=0), "axis 0 of 'maps' is that of the samples"),
        (Target("maps", axis=4), "no axis 4"),
        ({"maps": SEED[:2]}, r"shape 2×5×8×8, the tensor 3×5×8×8 \(5×8×8 for each sample\)"),
        ({"maps": SEED * np.nan}, "finite"),
        ({"label": 0}, "'label' holds int64, and a target is made of real numbers.*points: float32"),
        ({"chosen": 0}, "'chosen' does not depend on 'x'.*ArgMax"),
        ({}, "a dict as target"),
        ({"points": 1.5}, "None, a unit's index"),
        ({"points": Target("maps")}, "names another layer"),
        (lambda y: y["points"], "with several outputs"),
        (lambda y: {"x": 0}, "a seed for 'x', but was called with maps"),
        (lambda y: {"points": np.ones(4)}, r"real numbers of shape \(3, 4\)"),
        (lambda y: {}, "no seeds"),
        (object(), "a target is None"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(net, target, message):
    with pytest.raises(TargetError, match=message):
        net.explain(X, "gradient", target)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unit": 1, "index": 2}, "either unit or position or index"),
        ({"index": 1, "seed": SEED}, "either index or seed"),
        ({"reduce": "max"}, "'sum' or 'mean'"),
        ({"seed": SEED, "reduce": "mean"}, "scale it"),
        ({"layer": 3}, "name of a layer"),
    ],
)
def test_targets_that_contradict_themselves(fields, message):
    with pytest.raises(TargetError, match=message):
        Target(**fields)


def test_an_unknown_output_is_named(net):
    for target in ({"box": 1}, "box[:,1]", "box:1", Target("box")):
        with pytest.raises(UnknownNameError, match="did you mean 'boxes'"):
            net.explain(X, "gradient", target)


def test_a_region_that_is_nowhere(net):
    absent = next(unit for unit in range(5) if not region(unit).any(axis=(1, 2)).all())
    with pytest.raises(TargetError, match=f"unit {absent} of 'maps' has no region in sample"):
        net.explain(X, "gradient", Target("maps", absent, "region"))


def test_cam_explains_classes_only(net):
    weighted = net.explain(X, "cam", {"points": {0: 1.0, 3: -0.5}})
    dense, maps = normal(6, 4, scale=0.5), net.activations(X, ["h"])["h"]  # w4, and what it weights
    expected = np.einsum("c,nchw->nhw", dense[:, 0] - 0.5 * dense[:, 3], maps)
    np.testing.assert_allclose(weighted.values[:, 0], expected, atol=1e-5)
    with pytest.raises(UnsupportedError, match=r"'cam' explains the classes of one dense layer.*gradcam"):
        net.explain(X, "cam", {"points": 0, "boxes": 1})
    with pytest.raises(UnsupportedError, match="'cam' needs global average pooling"):
        net.explain(X, "cam", {"boxes": 1})


def test_inversion_needs_one_layer(net):
    with pytest.raises(TargetError, match="in one tensor, not in points, maps"):
        net.reconstruct("inversion", x=X, target={"points": 0, "maps": 1})


def test_gradcam_looks_where_all_heads_still_are_one(net):
    assert net.explain(X, "gradcam", {"points": 0, "boxes": 1}).layer == "h"


# ---- vjp -----------------------------------------------------------------------------------------


def test_vjp_takes_composites_by_name(net):
    seeds = {"points": normal(3, 4, seed=1)}
    named = net.vjp(X, seeds, "epsilon_plus", epsilon=1e-3)["x"]
    table = onnxvis.Composite([({"layer": "convolution"}, "zplus"), ({"layer": "dense"}, "epsilon")])
    np.testing.assert_allclose(named, net.vjp(X, seeds, table, epsilon=1e-3)["x"], atol=1e-6)
    e = net.explain(X, "lrp", {"points": net.activations(X, ["points"])["points"]}, seed="one", epsilon=1e-3)
    seeds = {"points": net.activations(X, ["points"])["points"]}
    np.testing.assert_allclose(e.values, net.vjp(X, seeds, "epsilon_plus", epsilon=1e-3)["x"], atol=1e-6)


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ("gradient", {"epsilon": 1}, r"no setting of gradient 'epsilon'; known: \(none\)"),
        ("zplus", {"epsilonn": 1}, "did you mean 'epsilon'"),
        ("epsilon_plus", {"gamma": 1}, "no setting of composite epsilon_plus 'gamma'"),
        ("epsilon_minus", {}, "no rule, method or composite 'epsilon_minus'; did you mean"),
    ],
)
def test_vjp_knows_its_settings(net, method, settings, says):
    with pytest.raises(UnknownNameError, match=says):
        net.vjp(X, {"points": normal(3, 4)}, method, **settings)


# ---- real models ---------------------------------------------------------------------------------


def load(name, **options):
    return onnxvis.load(shared("models", f"{name}.onnx"), threads=1, **options)


FACES = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}  # (x - 127) / 128


@pytest.mark.parametrize("method", ["gradient", "lrp"])
def test_the_score_of_a_face_lies_on_the_face(method):
    """Ultraface on a photo of many people: the heat is where the one is that is asked for.

    That is, within twice its box (under a hundredth of the photo) 20 times as much as on average.
    """
    model, photo = load("ultraface_rfb_320", preprocess=FACES), shared("images", "faces_1.jpg")
    found = model.run(photo)
    box = int(found["scores"][0, :, 1].argmax())
    e = model.explain(photo, method, Target(unit=1, position="max"))
    logits = model.activations(photo, ["459"])["459"]
    assert e.score[0] == logits[0, :, 1].max()
    heat = np.abs(e.heatmap()[0])
    left, top, right, bottom = found["boxes"][0, box] * [320, 240, 320, 240]
    wide, high = (right - left) / 2, (bottom - top) / 2
    inside = np.s_[max(0, int(top - high)) : int(bottom + high), max(0, int(left - wide)) : int(right + wide)]
    assert heat[inside].mean() > 20 * heat.mean()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("ultraface_rfb_320", "boxes[0,522,0]"),
        (
            "ultraface_rfb_320",
            {"boxes": Target(unit=3, position=17, axis=2), "459": Target(unit=1, position=17)},
        ),
        ("yolox_nano", Target("output", {4: 1.0, 21: 2.0}, 700)),
        ("paddle_picodet_s_320", Target("transpose_14.tmp_0", 16, "max")),
        ("lite_pfld_106", {144: 1.0, 145: -1.0}),
        ("handcursor_hand_landmark", {"Identity": [3], "Identity_1": 0}),
        ("node_editor_deeplab_v3_nhwc", Target(unit=0, position=(100, 30))),
        ("node_editor_deeplab_v3_nhwc", Target(unit=0, position=np.eye(257) > 0, reduce="mean")),
        ("onnxjs_teams_matting", "mask[:,0,20:40,20:40]"),
    ],
)
def test_the_gradient_of_a_real_target_is_its_slope(name, target):
    """Central differences through onnxruntime, along the gradient's signs, where it is steepest."""
    model = load(name)
    spec = model.inputs[0]
    shape = [n if isinstance(n, int) else 64 if i > 1 else 1 for i, n in enumerate(spec.shape)]
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    e = model.explain(x, "gradient", target)
    direction, step = np.sign(e.values), 1e-4 * np.ones((), np.float32)
    up, down = (model.explain(x + s * step * direction, "gradient", e.target).score[0] for s in (1, -1))
    measured = (float(up) - float(down)) / (2 * step)
    np.testing.assert_allclose(measured, np.abs(e.values).sum(dtype=np.float64), rtol=0.1)


def test_a_region_of_a_segmentation():
    """DeepLab finds the dog: its region is where the class map says so, and its mean score is explained."""
    model, photo = load("node_editor_deeplab_v3_nhwc", preprocess="tf"), shared("images", "hub_dog.jpg")
    maps = model.run(photo)["ResizeBilinear_3"][0]
    dog = maps.argmax(axis=-1) == 12
    assert dog.mean() > 0.2
    region = model.explain(photo, "gradient", Target(unit=12, position="region", reduce="mean"))
    mask = model.explain(photo, "gradient", Target(unit=12, position=dog, reduce="mean"))
    np.testing.assert_array_equal(region.values, mask.values)
    assert region.score[0] == pytest.approx(maps[..., 12][dog].mean(), rel=1e-4)


def test_detectors_have_their_units_last():
    for name, tensor in (("yolox_nano", "output"), ("ultraface_rfb_320", "459")):
        model = load(name)
        x = np.zeros([int(n) for n in model.inputs[0].shape], np.float32)
        with pytest.raises(TargetError, match=r"no unit 99: it has \d+, from 0 to (84|1) "):
            model.explain(x, "gradient", {tensor: 99})


@pytest.mark.parametrize("axis", [True, [1], 1.0, "1"])
def test_what_is_no_axis_is_said_each_time(axis):
    """Also after one that is equal to it."""
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model, x = onnxvis.load(build(nodes, {"x": [1, 6]}, ["y"]), threads=1), np.ones((1, 6), np.float32)
    for good in (1, np.int64(1)):
        model.explain(x, "gradient", Target(unit=5, axis=good))
        with pytest.raises(TargetError, match="no axis"):
            model.explain(x, "gradient", Target(unit=5, axis=axis))


def test_a_target_is_looked_for_again_in_another_shape():
    """Where there may be fewer units."""
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = onnxvis.load(build(nodes, {"x": [1, "n"]}, ["y"]), threads=1)
    for _ in range(2):
        assert model.explain(np.ones((1, 6), np.float32), "gradient", 5).values.tolist() == [
            [0, 0, 0, 0, 0, 1]
        ]
        with pytest.raises(TargetError, match="no unit 5: it has 4"):
            model.explain(np.ones((1, 4), np.float32), "gradient", 5)
    assert model.explain(np.ones((1, 4), np.float32), "gradient", -1).values.tolist() == [[0, 0, 0, 1]]

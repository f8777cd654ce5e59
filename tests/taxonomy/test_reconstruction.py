"""Input reconstruction: the priors, the descent, and what is found in the shipped model."""

import numpy as np
import pytest

import onnxvis
from onnxvis import zoo
from onnxvis.errors import UsageError
from onnxvis.images import read_image
from onnxvis.taxonomy.input_reconstruction.descent import Canvas, Prior, descend

SAMPLES = zoo.find("shapes").samples
STAR = next(path for path in SAMPLES if path.stem == "star")


@pytest.fixture(scope="module")
def model():
    return onnxvis.load("zoo:shapes")


def canvas(shape=(2, 3, 7, 6), spatial=(2, 3)):
    channels = next(i for i in range(4) if i not in (0, *spatial))
    low, high = np.array([-2.0, -1.0, 0.0]), np.array([2.0, 3.0, 1.0])
    sides = [1] * 4
    sides[channels] = 3
    return Canvas(shape, np.dtype(np.float64), low.reshape(sides), high.reshape(sides), spatial)


CANVASES = {"NCHW": canvas(), "NHWC": canvas((2, 7, 6, 3), (1, 2))}


# ---- priors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 0.01), (0.3, 0.02)])
def test_the_priors_gradient_is_the_slope_of_its_loss(canvas, weights):
    random = np.random.default_rng(0)
    prior = Prior(canvas, 6.0, *weights)
    x, direction = canvas.noise(random, 0.5), random.standard_normal(canvas.shape)
    eps = 1e-5
    slope = (prior(x + eps * direction)[0] - prior(x - eps * direction)[0]) / (2 * eps)
    assert (prior(x)[1] * direction).sum() == pytest.approx(slope, rel=1e-6)


def test_the_priors_loss_is_the_formula():
    """FeatureVis' λ_p·Σ|v|^p / pixels and λ_TV·Σ(∇v)² / (pixels·0.01²), on a ramp along the rows."""
    made = canvas((1, 3, 5, 4))
    v = np.broadcast_to(np.arange(5.0)[:, None] / 10, (1, 3, 5, 4))
    x = made.middle + v * made.reach
    pixels, steps = 20, 3 * 4 * 4
    assert Prior(made, 6.0, 2.0, 0.0)(x)[0] == pytest.approx(2 * (v**6).sum() / pixels)
    assert Prior(made, 6.0, 0.0, 0.5)(x)[0] == pytest.approx(0.5 * steps * 0.1**2 / (pixels * 0.01**2))


# ---- descent -------------------------------------------------------------------------------------


def test_smoothing_divides_each_wave_by_its_frequency():
    made = canvas((1, 3, 8, 8))
    wave = np.cos(2 * np.pi * 2 * np.arange(8) / 8) * np.ones((1, 3, 8, 1))  # frequency 2/8
    np.testing.assert_allclose(made.smoothed(wave, 2.0), wave * 4**2, atol=1e-12)
    np.testing.assert_allclose(made.smoothed(np.ones((1, 3, 8, 8)), 1.0), 8, atol=1e-12)
    assert made.smoothed(wave, 0.0) is wave


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_smoothing_leads_downhill_still(canvas):
    a, b = np.random.default_rng(0).standard_normal((2, *canvas.shape))
    assert (a * canvas.smoothed(a, 2.0)).sum() > 0
    assert (a * canvas.smoothed(b, 2.0)).sum() == pytest.approx((b * canvas.smoothed(a, 2.0)).sum())


def test_descent_finds_the_minimum_within_the_limits():
    made = canvas((1, 3, 4, 4))
    goal = np.full(made.shape, 0.9)
    goal[:, 2] = 5.0  # out of reach: the limit is 1

    def bowl(x):
        return float(((x - goal) ** 2).sum()), 2 * (x - goal)

    found = descend(
        made.noise(np.random.default_rng(0), 0.1), [bowl], made, steps=300, learning_rate=0.1,
        momentum=0.9, smoothness=0.0, label="bowl", progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(found.values, np.minimum(goal, made.high), atol=0.01)
    assert len(found.loss) == 301 and found.loss[-1] == pytest.approx(min(found.loss), rel=1e-3)


# ---- activation maximization -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def exciting(model):
    return model.reconstruct("activation_maximization", target=3, progress=False)


def test_it_excites_the_unit_far_more_than_any_sample(model, exciting):
    logits = model.run(list(SAMPLES))["logits"]
    found = model.run(exciting.values)["logits"][0]
    assert found[3] > 5 * logits.max() and found.argmax() == 3


def test_the_loss_falls_from_nothing_to_most_of_the_score(model, exciting):
    score = model.run(exciting.values)["logits"][0, 3]
    assert exciting.loss[0] > 0 and exciting.loss[-1] < -0.5 * score
    assert len(exciting.loss) == exciting.settings["steps"] + 1


def test_a_picture_within_the_limits_comes_out(model, exciting):
    low, high = (bound.reshape(1, 3, 1, 1) for bound in model.preprocess.bounds())
    assert (exciting.values >= low - 1e-6).all() and (exciting.values <= high + 1e-6).all()
    assert exciting.values.dtype == np.float32
    assert exciting.image().size == (64, 64)


def test_the_seed_reproduces_the_picture(model):
    first, again, other = (
        model.reconstruct("activation_maximization", target=3, steps=5, progress=False, random_state=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.values, again.values)
    assert first.loss == again.loss
    assert np.abs(first.values - other.values).max() > 0.01


def test_a_unit_of_an_inner_layer_at_a_position(model):
    """Only the unit's receptive field is drawn upon; the priors leave the rest grey."""
    target = onnxvis.Target("conv3", unit=4, position=(16, 16))
    made = model.reconstruct(
        "activation_maximization", target=target, noise=0.0, jitter=0, smoothness=0.0, tv_weight=0.0,
        progress=False,
    )  # fmt: skip
    values = model.activations(made.values, ["conv3"])["conv3"][0, 4]
    photos = model.activations(list(SAMPLES), ["conv3"])["conv3"][:, 4]
    assert values[16, 16] > 2 * photos.max()
    grey = made.values == made.values[0, :, :1, :1]
    assert grey[..., :20, :].all() and not grey[..., 28:36, 28:36].all()


def test_no_progress_is_written_unless_asked_for(model, capsys):
    settings = {"target": 0, "steps": 2}
    model.reconstruct("activation_maximization", progress=None, **settings)
    assert capsys.readouterr() == ("", "")
    model.reconstruct("activation_maximization", progress=True, **settings)
    captured = capsys.readouterr()
    assert captured.out == "" and "activation maximization" in captured.err


# ---- inversion -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "factor", "likeness"), [("conv1", 20, 0.95), ("conv2", 10, 0.8)])
def test_an_early_layer_still_knows_the_photo(model, layer, factor, likeness):
    made = model.reconstruct("inversion", x=STAR, layer=layer, progress=False)
    assert made.loss[0] > factor * made.loss[-1]
    photo, image = (np.asarray(read_image(picture), float).ravel() for picture in (STAR, made.image()))
    assert np.corrcoef(photo, image)[0, 1] > likeness


def test_a_late_layer_sees_what_was_found_as_the_photo(model):
    made = model.reconstruct("inversion", x=STAR, layer="gemm1", progress=False)
    assert made.loss[0] > 20 * made.loss[-1]
    assert model.run(made.values)["logits"].argmax() == model.run(STAR)["logits"].argmax()


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "steps must be"),
        ({"steps": 1.5}, "steps of activation_maximization is a whole number"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"momentum": 1}, "momentum"),
        ({"jitter": -1}, "jitter must be"),
        ({"step": 3}, "did you mean 'steps'"),
    ],
)
def test_wrong_settings(model, settings, says):
    with pytest.raises(UsageError, match=says):
        model.reconstruct("activation_maximization", target=0, **settings)

import numpy as np
import pytest
from PIL import Image

from onnxvis.errors import InputError
from onnxvis.images import labelled_grid
from onnxvis.images.grid import fit_picture

RED, GREEN, BLUE = (Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue"))
COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}


def area(figure, colour):
    """Where a pure colour lies: (left, top, right, bottom), and whether it fills that rectangle."""
    hit = (np.asarray(figure) == COLOURS[colour]).all(axis=-1)
    rows, columns = np.flatnonzero(hit.any(axis=1)), np.flatnonzero(hit.any(axis=0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert hit[box[1] : box[3], box[0] : box[2]].all()
    return box


def ink(figure):
    return (np.asarray(figure.convert("L")) < 250).sum()


def test_cells_lie_in_rows_and_columns():
    figure = labelled_grid([[RED, GREEN], [BLUE, None]], ["a", "b"], ["1", "2"], title="T", cell_size=100)
    red, green, blue = (area(figure, colour) for colour in COLOURS)
    for left, top, right, bottom in (red, green, blue):
        assert (right - left, bottom - top) == (100, 100)
    assert red[1] == green[1]
    assert red[0] == blue[0]
    assert green[0] > red[2]
    assert blue[1] > red[3]
    assert blue[1] - red[3] == green[0] - red[2]  # one gap, both ways


def test_white_ground_and_mode():
    figure = labelled_grid([[RED]], [], [])
    assert figure.mode == "RGB"
    corners = [figure.getpixel((x, y)) for x in (0, figure.width - 1) for y in (0, figure.height - 1)]
    assert corners == [(255, 255, 255)] * 4


def test_pictures_of_unlike_proportions_share_a_grid():
    wide, high = Image.new("RGB", (300, 100), "red"), Image.new("RGB", (100, 300), "lime")
    figure = labelled_grid([[wide, high]], ["w", "h"], [""], cell_size=120)
    left, top, right, bottom = area(figure, "red")
    assert (right - left, bottom - top) == (120, 40)
    left, top, right, bottom = area(figure, "lime")
    assert (right - left, bottom - top) == (40, 120)


def test_default_cell_size_is_readable():
    for side, expected in ((8, 160), (224, 224), (2000, 320)):
        figure = labelled_grid([[Image.new("RGB", (side, side), "red")]], [], [])
        assert area(figure, "red")[2] - area(figure, "red")[0] == expected


def test_long_labels_and_captions_touch_neither_pictures_nor_each_other():
    cells = [[RED, GREEN, BLUE]] * 3
    long = "a_name/of_a_layer.that/does not_end " * 12
    figure = labelled_grid(cells, [long] * 3, [long] * 3, title=long, cell_size=64, captions=[[long] * 3] * 3)
    plain = labelled_grid(cells, [], [], cell_size=64)
    assert figure.width <= 3 * (plain.width)
    for colour in COLOURS:  # every picture is whole: no ink lies upon it
        hit = (np.asarray(figure) == COLOURS[colour]).all(axis=-1)
        assert hit.sum() == 3 * 64 * 64
    dark = np.asarray(figure.convert("L")) < 200
    left, _, right, _ = area(figure.crop((0, 0, figure.width, area_of_first_row(figure))), "lime")
    gaps = dark[:, [left - 2, right + 1]]  # between columns: no text crosses over, below the title
    assert not gaps[area_of_first_row(figure) - 64 :].any()


def area_of_first_row(figure):
    """The bottom of the first row of pictures."""
    green = (np.asarray(figure) == COLOURS["lime"]).all(axis=-1).any(axis=1)
    start = int(np.flatnonzero(green)[0])
    return start + int(np.argmin(green[start:]))


def test_every_kind_of_text_is_drawn():
    bare = ink(labelled_grid([[RED]], [], []))
    for words in (
        {"column_labels": ["cat"], "row_labels": []},
        {"column_labels": [], "row_labels": ["cat"]},
        {"column_labels": [], "row_labels": [], "title": "cat"},
        {"column_labels": [], "row_labels": [], "captions": [["cat"]]},
    ):
        assert ink(labelled_grid([[RED]], **words)) > bare + 20
    assert ink(labelled_grid([[RED]], [""], [""], captions=[[None]])) == bare


def test_a_tall_label_makes_room_for_itself():
    thin = Image.new("RGB", (400, 10), "red")
    label = "one two three four five six seven eight nine ten eleven twelve"
    cells = [[thin], [thin]]
    apart = labelled_grid(cells, [], [label, label])
    assert apart.height > labelled_grid(cells, [], ["", ""]).height + 40


def test_a_row_label_stands_at_the_middle_of_its_picture():
    figure = labelled_grid([[RED]], [], ["HHH"], cell_size=120)
    left, top, _, bottom = area(figure, "red")
    rows = np.flatnonzero((np.asarray(figure.convert("L"))[:, :left] < 200).any(axis=1))
    assert rows.mean() == pytest.approx((top + bottom) / 2, abs=4)


def test_captions_stand_below_their_pictures():
    figure = labelled_grid([[RED]], [], [], cell_size=120, captions=[["gyp"]])
    _, _, _, bottom = area(figure, "red")
    rows = np.flatnonzero((np.asarray(figure.convert("L")) < 200).any(axis=1))
    assert rows[-1] > bottom + 8
    assert not (np.asarray(figure.convert("L"))[bottom : bottom + 3] < 200).any()


def test_tiny_pictures_keep_square_pixels():
    board = (np.indices((28, 28)).sum(axis=0) % 2 * 255).astype(np.uint8)
    enlarged = np.asarray(fit_picture(Image.fromarray(board), 168))[..., 0]
    np.testing.assert_array_equal(enlarged, np.kron(board, np.ones((6, 6), np.uint8)))


def test_tiny_pictures_have_pixels_of_one_size_whatever_the_cell():
    for x in range(28):
        dot = np.zeros((28, 28), np.uint8)
        dot[14, x] = 255
        area = np.asarray(fit_picture(Image.fromarray(dot), 160))[..., 0].sum() / 255
        assert area == pytest.approx((160 / 28) ** 2, rel=0.01)


def test_larger_pictures_are_smoothed():
    step = np.zeros((64, 64), np.uint8)
    step[:, 32:] = 255
    assert len(np.unique(np.asarray(fit_picture(Image.fromarray(step), 160)))) > 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([], [], []), "at least one picture"),
        (([[None]], [], []), "at least one picture"),
        (([[RED, RED], [RED]], [], []), "equally long"),
        (([[RED]], ["a", "b"], []), "2 column label"),
        (([[RED]], [], ["a", "b"]), "2 row label"),
        (([[RED]], [], [], None, 3), "cell_size"),
        (([[RED]], [], [], None, None, [["a", "b"]]), "captions"),
    ],
)
def test_lengths_that_do_not_agree(arguments, word):
    with pytest.raises(InputError, match=word):
        labelled_grid(*arguments)

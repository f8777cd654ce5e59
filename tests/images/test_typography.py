import pytest
from PIL import ImageFont

from onnxvis.images.typography import set_text

LONG = "features/stage_4/bottleneck_12/conv2d_3x3_relu the last layer that is still spatial"


def width(text, size):
    return ImageFont.load_default(size=size).getlength(text)


@pytest.mark.parametrize("limit", [30, 80, 150, 400])
@pytest.mark.parametrize("most_lines", [1, 2, 4])
def test_no_line_is_wider_or_more_than_allowed(limit, most_lines):
    text = set_text(LONG, limit, 14, most_lines)
    assert len(text.lines) <= most_lines
    assert text.width <= limit
    assert all(width(line, 14) <= limit for line in text.lines)


def test_what_fits_is_kept_whole():
    assert set_text("great white shark", 1000, 12).lines == ("great white shark",)
    assert " ".join(set_text("great white shark", 60, 12, 9).lines) == "great white shark"
    assert "".join(set_text("stage_4/bottleneck", 50, 12, 9).lines) == "stage_4/bottleneck"


def test_what_is_left_out_is_marked():
    assert set_text(LONG, 100, 14, 1).lines[0].endswith("…")
    assert "…" not in "".join(set_text(LONG, 100, 14, 99).lines)


def test_names_break_after_a_joint():
    assert set_text("bottleneck_convolution", 100, 14, 3).lines[0] == "bottleneck_"


def test_letters_that_the_font_lacks_are_spelled_out():
    assert set_text("σ = 3 – 4, R⁺ × é, 中", 1000, 12).lines == ("sigma = 3 - 4, R+ x e, ?",)


def test_empty_text_takes_no_room():
    text = set_text("", 100, 12)
    assert (text.lines, text.height, text.width) == ((), 0, 0)

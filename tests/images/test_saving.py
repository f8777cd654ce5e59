import os

import numpy as np
import pytest
from PIL import Image

from onnxvis.errors import ImageError, OutputError
from onnxvis.images import save_image
from onnxvis.images.saving import SUFFIXES

PICTURE = np.tile(np.arange(0, 240, 10, np.uint8)[:, None, None], (1, 24, 3))


def refusal(image, path):
    with pytest.raises(OutputError) as caught:
        save_image(image, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG"])
def test_the_suffix_gives_the_format(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    assert save_image(PICTURE, path) == path
    with Image.open(path) as image:
        assert image.format == SUFFIXES[suffix.lower()][0]
        assert abs(np.asarray(image).astype(int) - PICTURE).max() <= 8
    assert list(tmp_path.iterdir()) == [path]


def test_any_picture_fits_any_format(tmp_path):
    save_image(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), tmp_path / "clear.jpg")
    assert Image.open(tmp_path / "clear.jpg").getpixel((4, 4)) == (255, 255, 255)


def test_a_new_file_has_the_usual_permissions_and_an_old_one_keeps_its_own(tmp_path):
    (tmp_path / "usual").touch()
    path = tmp_path / "new.png"
    save_image(PICTURE, path)
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    path.chmod(0o640)
    save_image(PICTURE, str(path))
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    save_image(PICTURE, path)
    before = path.read_bytes()

    def half(self, file, **options):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    assert "No space left" in refusal(PICTURE[::-1], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_suffix_missing_folder_and_folder(tmp_path):
    assert ".png" in refusal(PICTURE, tmp_path / "picture.pdf")
    assert "suffix" in refusal(PICTURE, tmp_path / "picture")
    assert "no folder" in refusal(PICTURE, tmp_path / "absent" / "picture.png")
    (tmp_path / "folder.png").mkdir()
    assert "folder" in refusal(PICTURE, tmp_path / "folder.png")
    (tmp_path / "file").touch()
    refusal(PICTURE, tmp_path / "file" / "picture.png")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert "permission denied" in refusal(PICTURE, tmp_path / "picture.png")
    finally:
        tmp_path.chmod(0o700)


def test_what_is_no_picture_writes_nothing(tmp_path):
    with pytest.raises(ImageError):
        save_image(np.zeros((4, 4, 7), np.uint8), tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())

import subprocess
import sys

import onnxvis.images


def test_importing_loads_neither_pillow_nor_cmap():
    code = "import sys, onnxvis.images; print(*{'PIL', 'cmap', 'scipy', 'matplotlib'} & set(sys.modules))"
    path = [entry for entry in sys.path if entry]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == ""


def test_all_names_exist_once():
    names = onnxvis.images.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(onnxvis.images, name) for name in names)

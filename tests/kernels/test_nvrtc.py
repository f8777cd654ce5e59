"""Every kernel compiles for every GPU that it is meant for: NVRTC needs no GPU."""

import pytest

from onnxvis.ops.device.sources import FOLDER, KERNELS, NUMBERS, expressions, options, source
from onnxvis.resources import resource

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
FILES = sorted({kernel.file for kernel in KERNELS.values()})


@pytest.fixture(scope="module")
def core():
    core = pytest.importorskip("cuda.core", reason="needs cuda-core, which compiles for GPUs (extra 'nvrtc')")
    try:
        core.Program("", "c++", core.ProgramOptions(arch="sm_80")).compile("cubin")
    except Exception as error:
        pytest.skip(f"needs NVRTC, which cuda-core does not find here: {error}")
    return core


def test_every_source_is_used():
    """A .cu file that nothing launches would look tested and not be."""
    assert sorted(path.name for path in resource(FOLDER).glob("*.cu")) == FILES


@pytest.mark.parametrize("file", FILES)
def test_a_header_says_what_a_reader_needs(file):
    head = source(file).partition("#include")[0]
    for word in ("Grid", "Layout", "Bounds", "Reference"):
        assert f"// {word} " in head


def test_the_page_says_of_every_kernel_where_it_ran():
    page = (resource(FOLDER).parent / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert not [name for name in KERNELS if f"| `{name}` |" not in page]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_compiles_to_a_cubin(core, file, architecture):
    names = [name for dtype in NUMBERS for name in expressions(file, dtype)]
    folders = [option.removeprefix("-I") for option in options() if option.startswith("-I")]
    assert "-std=c++17" in options()
    settings = core.ProgramOptions(std="c++17", arch=architecture, include_path=folders)
    found = core.Program(source(file), "c++", settings).compile("cubin", name_expressions=names)
    assert found.code[:4] == b"\x7fELF" and len(found.code) > 1000
    assert {*found.symbol_mapping} == {*names}
    for symbol in found.symbol_mapping.values():
        assert symbol in found.code

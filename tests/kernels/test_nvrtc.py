"""Every kernel compiles for every GPU that it is meant for: NVRTC needs no GPU."""

import re

import pytest

from onnxvis.ops.device.sources import FOLDER, KERNELS, NUMBERS, expression, expressions, options, source
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


def intermediate_code(nvrtc, file, name):
    """PTX of one kernel; through NVRTC itself, since cuda-core asks a driver before it gives any."""

    def done(result, *values):
        assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS
        return values[0] if values else None

    program = done(*nvrtc.nvrtcCreateProgram(source(file).encode(), file.encode(), 0, [], []))
    done(*nvrtc.nvrtcAddNameExpression(program, name.encode()))
    told = [option.encode() for option in (*options(), "-arch=sm_90")]
    done(*nvrtc.nvrtcCompileProgram(program, len(told), told))
    code = bytearray(done(*nvrtc.nvrtcGetPTXSize(program)))
    done(*nvrtc.nvrtcGetPTX(program, code))
    return code.decode()


INPUTS = {
    "between": 2, "GRADIENT": 2, "GUIDED": 2, "quotient": 2, "proportions": 4, "multiply_back": 4,
    "int": 4, "long long": 4,
}  # fmt: skip
KERNELS_BY_NUMBER = [
    "rectify", "between", "split", "stabilize", "quotient", "proportions", "multiply_back",
    "multiply_stacked",
]  # fmt: skip


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("kernel", KERNELS_BY_NUMBER)
def test_numbers_move_16_bytes_at_a_time(core, kernel, dtype):
    """All loads come before the first store: else each would wait for the one before."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    for variant in KERNELS[kernel].variants or ("",):
        code = intermediate_code(nvrtc, KERNELS[kernel].file, expression(kernel, dtype, variant))
        moves = re.findall(r"\b(ld|st)\.global\.v(\d)\.[bfu](\d+)", code)
        assert moves and all(int(count) * int(bits) == 128 for _, count, bits in moves)
        kinds = [kind for kind, _, _ in moves]
        loads, stores = INPUTS.get(variant, INPUTS.get(kernel, 1)), 1 + (kernel in ("split", "proportions"))
        assert kinds == ["ld"] * loads + ["st"] * stores


# How often a thread loads and stores, for sides of the kernel, strides, and columns of inputs.
TILES = {
    "window_sum_fixed": {"3, 2": (27, 4), "2, 2": (16, 4), "3, 1": (30, 8)},
    "window_spread_fixed": {
        "3, 2, 1": (6, 4), "3, 2, 2": (6, 4), "2, 2, 1": (2, 4), "2, 2, 2": (4, 4), "3, 1, 1": (30, 8),
    },
    "max_first_fixed": {"3, 2": (27, 4), "2, 2": (16, 4), "3, 1": (30, 8)},
    "max_route_fixed": {
        "3, 2, 1": (12, 4), "3, 2, 2": (12, 4), "2, 2, 1": (4, 4), "2, 2, 2": (8, 4), "3, 1, 1": (60, 8),
    },
}  # fmt: skip


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("kernel", TILES)
def test_a_tile_is_loaded_as_a_whole(core, kernel, dtype):
    """Before the first store, and into registers."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    assert {*KERNELS[kernel].variants} == {*TILES[kernel]}
    for variant, (loads, stores) in TILES[kernel].items():
        code = intermediate_code(nvrtc, KERNELS[kernel].file, expression(kernel, dtype, variant))
        kinds = re.findall(r"\b(ld|st)\.global\.", code)
        assert kinds == ["ld"] * loads + ["st"] * stores
        assert ".local" not in code


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_compiles_to_a_cubin(core, file, architecture):
    names = [name for dtype in NUMBERS for name in expressions(file, dtype)]
    assert options() == ("-std=c++17",)
    # One of them with all that the compiler can do, which takes ten times as long.
    quick = {} if architecture == "sm_90" else {"ofast_compile": "max"}
    settings = core.ProgramOptions(std="c++17", arch=architecture, **quick)
    found = core.Program(source(file), "c++", settings).compile("cubin", name_expressions=names)
    assert found.code[:4] == b"\x7fELF" and len(found.code) > 1000
    assert {*found.symbol_mapping} == {*names}
    for symbol in found.symbol_mapping.values():
        assert symbol in found.code

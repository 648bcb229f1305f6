"""The text of tensors: known texts, the options, and what must not be touched."""
import gc

import numpy as np
import pytest

import tritium
from tritium.tensor.graph import wrap
from tritium.tensor.printing import array_text, get_printoptions, printoptions, set_printoptions, with_suffixes

pytestmark = pytest.mark.cpu_only(reason="the text of CPU tensors")

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("array, text", [
    (np.float32([1, 2.5, -3]), "[ 1.0000,  2.5000, -3.0000]"),
    (np.float32([1, 2, 30]), "[ 1.,  2., 30.]"),
    (np.float32([0, -0.0]), "[0., -0.]"),
    (np.float32([1e-5, 1]), "[1.0000e-05, 1.0000e+00]"),
    (np.float32([1e-5, 0]), "[1.0000e-05, 0.0000e+00]"),
    (np.float32([1.5, 1501]), "[1.5000e+00, 1.5010e+03]"),
    (np.float32([1.5, 1499]), "[   1.5000, 1499.0000]"),
    (np.float32([1, 2e8]), "[1.0000e+00, 2.0000e+08]"),
    (np.float32([1, NAN, INF]), "[1., nan, inf]"),
    (np.float32([0.5, NAN, -INF]), "[0.5000,    nan,   -inf]"),
    (np.float32([NAN, 0, INF]), "[nan, 0., inf]"),
    (np.array([1, -20]), "[  1, -20]"),
    (np.array([True, False]), "[ True, False]"),
    (np.array([True, True]), "[True, True]"),
    (np.complex64([1 + 2j, 0.5 - 1j]), "[1.0000+2.j, 0.5000-1.j]"),
    (np.complex64([complex(NAN, -0.0)]), "[nan-0.j]"),
    (np.float16([0.1, 65504]), "[9.9976e-02, 6.5504e+04]"),
    (np.float32(3), "3."),
    (np.float64(0.1), "0.1000"),
    (np.zeros((0, 3)), "[]"),
])
def test_elements(array, text):
    assert array_text(np.asarray(array)) == text


def test_bfloat16_prints_its_exact_values():
    x = tritium.tensor([0.1, 3.0], dtype=tritium.bfloat16)
    assert repr(x) == "tensor([0.1001, 3.0000], dtype=tritium.bfloat16)"


def test_lines_wrap_and_blocks_are_set_apart():
    assert repr(tritium.arange(30)) == (
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])")
    assert repr(tritium.zeros(2, 1, 2)) == "tensor([[[0., 0.]],\n\n        [[0., 0.]]])"
    assert repr(tritium.zeros(1, 2, 1, 1)) == "tensor([[[[0.]],\n\n         [[0.]]]])"


def test_summary_shows_the_edges():
    assert repr(tritium.arange(1000)).count("...") == 0
    assert repr(tritium.arange(1001)) == "tensor([   0,    1,    2,  ...,  998,  999, 1000])"
    x = tritium.arange(8 * 200).reshape(8, 200)
    assert repr(x) == (
        "tensor([[   0,    1,    2,  ...,  197,  198,  199],\n"
        "        [ 200,  201,  202,  ...,  397,  398,  399],\n"
        "        [ 400,  401,  402,  ...,  597,  598,  599],\n"
        "        ...,\n"
        "        [1000, 1001, 1002,  ..., 1197, 1198, 1199],\n"
        "        [1200, 1201, 1202,  ..., 1397, 1398, 1399],\n"
        "        [1400, 1401, 1402,  ..., 1597, 1598, 1599]])")


def test_a_huge_tensor_is_touched_at_its_edges_only():
    array = np.broadcast_to(np.float32(1.5), (10**7, 10**7, 5))  # 2 PB, were it there
    assert array_text(array).count("1.5000") == 6 * 6 * 5


@pytest.mark.parametrize("make, text", [
    (lambda: tritium.tensor([]), "tensor([])"),
    (lambda: tritium.zeros(0, 3), "tensor([], size=(0, 3))"),
    (lambda: tritium.tensor([], dtype=tritium.int64), "tensor([], dtype=tritium.int64)"),
    (lambda: tritium.zeros(2, 0, dtype=tritium.bool), "tensor([], size=(2, 0), dtype=tritium.bool)"),
    (lambda: tritium.tensor(3), "tensor(3)"),
    (lambda: tritium.tensor([1, 2], dtype=tritium.int32), "tensor([1, 2], dtype=tritium.int32)"),
    (lambda: tritium.tensor([1.0], dtype=tritium.float64), "tensor([1.], dtype=tritium.float64)"),
    (lambda: tritium.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
    (lambda: tritium.tensor([1.0], requires_grad=True) + 1, "tensor([2.], grad_fn=<AddBackward0>)"),
    (lambda: tritium.tensor(1j), "tensor(0.+1.j)"),
])
def test_suffixes(make, text):
    assert repr(make()) == str(make()) == text


def test_suffix_starts_a_line_where_it_does_in_pytorch():
    text = with_suffixes("tensor([" + "0" * 50 + "]", ["dtype=tritium.int32"], 7)
    assert text.count("\n") == 0  # "torch." would just fit in 80 columns, and so it counts
    text = with_suffixes("tensor([" + "0" * 51 + "]", ["dtype=tritium.int32"], 7)
    assert text.endswith("],\n       dtype=tritium.int32)")


def test_default_dtype_decides_the_suffix():
    tritium.set_default_dtype(tritium.float64)
    try:
        assert repr(tritium.ones(1)) == "tensor([1.], dtype=tritium.float64)".replace(", dtype=tritium.float64", "")
        assert repr(tritium.ones(1, dtype=tritium.float32)) == "tensor([1.], dtype=tritium.float32)"
    finally:
        tritium.set_default_dtype(tritium.float32)


def test_subclasses_name_themselves():
    class Marked(tritium.Tensor):
        pass

    x = Marked([1.0, 2.0])
    assert repr(x) == "Marked([1., 2.])"
    from tritium.tensor.parameter import Parameter

    assert repr(Parameter(tritium.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"


def test_format():
    x = tritium.tensor(3.14159)
    assert f"{x:.2f}" == "3.14"
    assert f"{x}" == str(x.item())
    assert f"{tritium.tensor([1.0])}" == "tensor([1.])"
    with pytest.raises(TypeError, match="unsupported format string passed to Tensor.__format__"):
        f"{tritium.tensor([1.0]):.2f}"


def test_options():
    x = wrap(np.float32([0.123456, 2]))
    before = get_printoptions()
    with printoptions(precision=2):
        assert repr(x) == "tensor([0.12, 2.00])"
        with printoptions(sci_mode=True):
            assert repr(x) == "tensor([1.23e-01, 2.00e+00])"
        assert repr(x) == "tensor([0.12, 2.00])"
    with printoptions(profile="short", threshold=5):
        assert repr(tritium.arange(6)) == "tensor([0, 1,  ..., 4, 5])"
    with printoptions(profile="full"):
        assert repr(tritium.arange(1500)).count("...") == 0
    with printoptions(edgeitems=0, threshold=1):
        assert repr(tritium.ones(2, 2)) == "tensor([...], size=(2, 2))"
    with printoptions(linewidth=20):
        assert repr(tritium.arange(6)) == "tensor([0, 1, 2, 3,\n        4, 5])"
    try:
        set_printoptions(precision=1)
        assert repr(x) == "tensor([0.1, 2.0])"
    finally:
        set_printoptions(**before)
    assert get_printoptions() == before


def test_an_error_inside_the_context_sets_the_options_back():
    before = get_printoptions()
    with pytest.raises(KeyError), printoptions(precision=9):
        raise KeyError
    assert get_printoptions() == before


def test_printing_leaves_nothing_for_the_garbage_collector():
    x = tritium.zeros(2, 3, 4)
    repr(x)
    gc.collect()
    gc.disable()
    try:
        repr(x)
        assert gc.collect() == 0
    finally:
        gc.enable()

"""What is no tensor is refused by name."""
import pytest

import tritium


@pytest.mark.parametrize("call, text", [
    (lambda: tritium.amax([1, 2]), r"amax\(\): argument 'input' \(position 1\) must be Tensor, not list"),
    (lambda: tritium.flatten(None), r"flatten\(\): argument 'input' \(position 1\) must be Tensor, not NoneType"),
    (lambda: tritium.sum("a"), r"sum\(\): argument 'input' \(position 1\) must be Tensor, not str"),
    (lambda: tritium.exp(1.0), r"exp\(\): argument 'input' \(position 1\) must be Tensor, not float"),
])
def test_no_tensor(call, text) -> None:
    with pytest.raises(TypeError, match=text):
        call()


@pytest.mark.cpu_only(reason="there is a device")
def test_questions_about_accelerators_and_scripting() -> None:
    assert not tritium.accelerator.is_available()
    assert tritium.accelerator.current_accelerator() is None
    assert not tritium.jit.is_scripting()
    with pytest.raises(NotImplementedError):
        tritium.jit.script(lambda x: x)

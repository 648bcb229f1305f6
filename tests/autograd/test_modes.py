"""Grad modes: contexts and decorators, nested, on generators, after exceptions, per thread."""
import threading

import pytest

import tritium as torch


def recorded():
    return (torch.ones(1, requires_grad=True) * 2).requires_grad


def test_contexts_nest():
    states = []
    with torch.no_grad():
        states.append(recorded())
        with torch.enable_grad():
            states.append(recorded())
            with torch.set_grad_enabled(False):
                states.append(recorded())
        states.append(recorded())
    assert states == [False, True, False, False] and recorded()


def test_exceptions_restore_the_mode():
    for context in (torch.no_grad, lambda: torch.set_grad_enabled(False), torch.inference_mode):
        with pytest.raises(KeyError), context():
            raise KeyError
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_decorators():
    @torch.no_grad()
    def a():
        return recorded()

    @torch.no_grad
    def b():
        return recorded()

    @torch.enable_grad()
    def c():
        return recorded()

    @torch.set_grad_enabled(False)
    def d(depth=2):
        return [recorded()] + (d(depth - 1) if depth else [])

    assert not a() and not b() and d() == [False] * 3 and recorded() and a.__name__ == "a"
    with torch.no_grad():
        assert c()


def test_generators_do_not_leak_their_mode():
    closed = []

    @torch.no_grad()
    def numbers():
        try:
            got = yield torch.is_grad_enabled()
            try:
                yield got
            except KeyError:
                yield torch.is_grad_enabled()
            return "end"
        finally:
            closed.append(torch.is_grad_enabled())

    g = numbers()
    assert next(g) is False and torch.is_grad_enabled()
    assert g.send("sent") == "sent" and torch.is_grad_enabled()
    assert g.throw(KeyError()) is False and torch.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        next(g)
    assert stop.value.value == "end" and closed == [False]
    g = numbers()
    next(g)
    g.close()
    assert closed == [False, False] and torch.is_grad_enabled()


def test_set_grad_enabled_acts_at_once():
    torch.set_grad_enabled(False)
    try:
        assert not recorded()
    finally:
        torch.set_grad_enabled(True)
    with pytest.raises(TypeError, match="must be bool, not int"):
        torch.set_grad_enabled(3)


def test_modes_belong_to_a_thread():
    seen = []
    with torch.no_grad():
        thread = threading.Thread(target=lambda: seen.append(recorded()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_inference_mode():
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled() and not recorded()
        with torch.enable_grad():
            assert torch.is_grad_enabled() and not recorded()
        with torch.inference_mode(False):
            assert recorded()
    assert not torch.is_inference_mode_enabled() and recorded()


def test_parameters_may_be_changed_without_grad_mode():
    p = torch.nn.Parameter(torch.ones(2))
    with torch.no_grad():
        p.mul_(3)
        p[0] = 1
        p -= 0.5
    assert p.tolist() == [0.5, 2.5] and p.is_leaf and p._version == 3

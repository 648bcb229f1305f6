"""The engine: accumulation, errors, ``autograd.grad``, higher derivatives, hooks, long chains, threads."""
import gc
import threading
import weakref

import pytest

import tritium as torch
from tritium.autograd import grad

D = torch.float64


def leaf(*values):
    return torch.tensor(values, dtype=D, requires_grad=True)


# --- backward ---------------------------------------------------------------------------------

def test_gradients_are_added_up():
    x, w = leaf(1, 2), leaf(3, 4)
    (x * w).sum().backward()
    (x * x + w).sum().backward()
    assert x.grad.tolist() == [5, 8] and w.grad.tolist() == [2, 3]


def test_a_tensor_used_many_times():
    x = leaf(2.0)
    y = x * x
    (y * y + y + x).sum().backward()
    assert x.grad.tolist() == [4 * 8 + 2 * 2 + 1]


def test_second_backward():
    x = leaf(1, 2)
    y = x.exp().sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == pytest.approx((2 * x.detach().exp()).tolist())
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    z = (x + 1).sum()  # nothing was saved, so nothing was freed
    z.backward()
    z.backward()


@pytest.mark.parametrize("call, message", [
    (lambda x: (x * 2).backward(), "grad can be implicitly created only for scalar outputs"),
    (lambda x: (x * 2).backward(torch.ones(3, dtype=D)), "Mismatch in shape: grad_output"),
    (lambda x: x.detach().sum().backward(), "element 0 of tensors does not require grad and does not have a grad_fn"),
    (lambda x: x.sum().backward(inputs=[]), "cannot be empty"),
    (lambda x: grad(x.sum(), leaf(1.0)),
     "The differentiated Tensor at index 0 appears to not have been used in the graph"),
    (lambda x: grad(x.sum(), torch.ones(1)), "One of the differentiated Tensors does not require grad"),
    (lambda x: setattr(x * 2, "requires_grad", False), "you can only change requires_grad flags of leaf variables"),
    (lambda x: x.add_(1), "a leaf Variable that requires grad is being used in an in-place operation"),
    (lambda x: x[0].add_(1), "a view of a leaf Variable that requires grad is being used in an in-place operation"),
    (lambda x: x.numpy(), r"Can't call numpy\(\) on Tensor that requires grad"),
    (lambda x: (x * 2)[:1].detach_(), "Can't detach views in-place"),
    (lambda x: setattr(x, "grad", torch.ones(3, dtype=D)), "attempting to assign a gradient of size"),
    (lambda x: setattr(x, "grad", torch.ones(2)), "attempting to assign a gradient with dtype"),
])
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=message):
        call(leaf(1, 2))


def test_inputs():
    x, w = leaf(1, 2), leaf(3, 4)
    y = x * 2
    (y * w).sum().backward(inputs=[x, y])
    assert x.grad.tolist() == [6, 8] and y.grad.tolist() == [3, 4] and w.grad is None


def test_grad():
    x, w = leaf(1, 2), leaf(3, 4)
    y = x * w
    gx, gy = grad((y * y).sum(), [x, y])
    assert gx.tolist() == [18, 64] and gy.tolist() == [6, 16] and x.grad is None
    (g,) = grad([x * w, x], x, [torch.ones(2, dtype=D), torch.ones(2, dtype=D)])
    assert g.tolist() == [4, 5]
    assert grad(x.sum(), [x, w], allow_unused=True)[1] is None
    assert grad(x.sum(), [x, w], materialize_grads=True)[1].tolist() == [0, 0]
    with pytest.raises(ValueError, match="allow_unused"):
        grad(x.sum(), [x], allow_unused=False, materialize_grads=True)


def test_higher_derivatives():
    x = leaf(2.0, 3.0)
    y = (x ** 4).sum()
    expected = [32, 108], [48, 108], [48, 72], [24, 24], [0, 0]
    for values in expected:
        (y,) = grad(y.sum(), x, create_graph=True)
        assert y.tolist() == values


def test_create_graph_leaves_a_gradient_with_a_history():
    x = leaf(2.0)
    with pytest.warns(UserWarning, match="reference cycle"):
        (x ** 3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    g, x.grad = x.grad, None
    g.sum().backward()
    assert x.grad.tolist() == [12]


def test_a_gradient_takes_the_dtype_of_its_leaf():
    x, w = torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.float16, requires_grad=True)
    (x.double() * w.double() * 3).sum().backward()
    assert x.grad.dtype is torch.float32 and w.grad.dtype is torch.float16


# --- versions ---------------------------------------------------------------------------------

@pytest.mark.parametrize("change", [
    lambda y: y.add_(1), lambda y: y[0].mul_(2), lambda y: y.t().zero_(), lambda y: y.detach().add_(1),
    lambda y: y.view(-1)[1:].fill_(0), lambda y: y.__setitem__(0, 1.0), lambda y: torch.no_grad()(y.add_)(1),
])
def test_changes_of_saved_tensors_are_noticed(change):
    x, w = leaf(1, 2), leaf(3, 4)
    y = x * 1
    z = y * w
    change(y)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation: \[torch.(cuda.)?DoubleTensor \[2\]\].* is at version 1; "
                                           "expected version 0 instead"):
        z.sum().backward()


def test_data_escapes_the_version_count():
    x, w = leaf(1, 2), leaf(3, 4)
    y = x * 1
    z = y * w
    y.data.add_(1)
    z.sum().backward()
    assert w.grad.tolist() == [2, 3] and y._version == 0


def test_in_place_changes_are_recorded():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * 1
    y.mul_(w)
    y.add_(x)
    y[0] *= 2
    y.pow_(2)
    y.sum().backward()
    assert x.grad.tolist() == [2 * 8 * 2 * 4, 2 * 10 * 5] and w.grad.tolist() == [2 * 8 * 2 * 1, 2 * 10 * 2]


# --- hooks ------------------------------------------------------------------------------------

def test_tensor_hooks():
    x = leaf(1, 2)
    y = x * 2
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    handle = y.register_hook(lambda g: g * 10)
    y.retain_grad()  # sees what all hooks made of it
    y.register_hook(lambda g: g + 1)
    x.register_hook(lambda g: g / 2)
    y.sum().backward()
    assert seen == [[1, 1]] and y.grad.tolist() == [11, 11] and x.grad.tolist() == [11, 11]
    handle.remove()
    handle.remove()
    with x.register_hook(lambda g: g * 0):
        (x * 3).sum().backward()
    assert x.grad.tolist() == [11, 11]


def test_leaf_hooks_see_the_sum():
    x = leaf(1, 2)
    seen, after = [], []
    x.register_hook(lambda g: seen.append(g.tolist()))
    x.register_post_accumulate_grad_hook(lambda t: after.append(t.grad.tolist()))
    (x * 2 + x * 3).sum().backward()
    (x * 2).sum().backward()
    assert seen == [[5, 5], [2, 2]] and after == [[5, 5], [7, 7]]
    assert grad((x * 4 + x).sum(), x)[0].tolist() == [5, 5] and seen[-1] == [5, 5] and len(after) == 2


def test_a_post_accumulate_hook_may_free_the_gradient():
    x = leaf(1, 2)

    def step(t):
        with torch.no_grad():
            t.sub_(t.grad)
        t.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * 2).sum().backward()
    assert x.grad is None and x.tolist() == [-1, 0]


def test_node_hooks():
    x = leaf(1, 2)
    y = x * 2
    y.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 3, *inputs[1:]))
    y.grad_fn.register_prehook(lambda outputs: (outputs[0] + 1,))
    y.sum().backward()
    assert x.grad.tolist() == [12, 12]


@pytest.mark.parametrize("hook, error", [(lambda g: 1, TypeError), (lambda g: g[:1], RuntimeError),
                                         (lambda g: g.float(), RuntimeError)])
def test_hooks_must_return_a_gradient(hook, error):
    for make in (lambda x: x, lambda x: x * 2):
        x = leaf(1, 2)
        y = make(x)
        y.register_hook(hook)
        with pytest.raises(error):
            y.sum().backward()


def test_hooks_cannot_be_registered_everywhere():
    for register in (torch.ones(1).register_hook, torch.ones(1).register_post_accumulate_grad_hook,
                     (leaf(1.0) * 2).register_post_accumulate_grad_hook):
        with pytest.raises(RuntimeError):
            register(lambda g: g)
    with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"):
        torch.ones(1).retain_grad()


def test_an_error_in_a_hook_leaves_the_mode_alone():
    x = leaf(1.0)

    def hook(g):
        raise KeyError

    x.register_hook(hook)
    with pytest.raises(KeyError):
        x.sum().backward()
    assert torch.is_grad_enabled()


# --- the graph ----------------------------------------------------------------------------------

def test_nodes():
    x = leaf(1, 2)
    y = (x * 2).exp()
    assert y.grad_fn.name() == "ExpBackward0" and repr(y.grad_fn).startswith("<ExpBackward0 object at 0x")
    (multiply, number), = y.grad_fn.next_functions
    assert multiply.name() == "MulBackward0" and number == 0
    (accumulate, _), nothing = multiply.next_functions
    assert accumulate.variable is x and nothing == (None, 0)
    a, b = x.unbind()
    assert a.grad_fn is b.grad_fn and (a.output_nr, b.output_nr) == (0, 1)


def test_a_long_chain():
    for step in (lambda y: y * 1.0, lambda y: y.view(2), lambda y: y.add_(1.0)):
        x = leaf(1, 2)
        y = x * 1
        for _ in range(100_000):
            y = step(y)
        first = weakref.ref(y.grad_fn)
        y.sum().backward()
        assert x.grad.tolist() == [1, 1]
        del y
        assert first() is None


def test_a_wide_graph():
    x = leaf(1, 2)
    total = sum([x * float(i) for i in range(1000)])
    total.sum().backward()
    assert x.grad.tolist() == [499500, 499500]


def test_saved_memory_is_freed_by_backward():
    x = torch.ones(1000, requires_grad=True)
    y = x.exp()
    saved = weakref.ref(y._a)
    z = y.sum()
    del y
    assert saved() is not None
    gc.collect()
    z.backward()
    assert saved() is None and z.grad_fn is not None


def test_backward_in_threads():
    results = []

    def work(scale):
        x = leaf(1, 2)
        for _ in range(50):
            (x * x * scale).sum().backward()
        results.append((scale, x.grad.tolist()))

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(results) == [(float(i), [100.0 * i, 200.0 * i]) for i in range(4)]


def test_backward_inside_backward():
    class Inner(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                y = x.detach().requires_grad_()
                (y ** 3).sum().backward()
            return g * y.grad

    x = leaf(2.0)
    Inner.apply(x).sum().backward()
    assert x.grad.tolist() == [12]

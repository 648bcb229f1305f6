"""Module: registration, attributes, iteration, modes, state dicts, hooks, pickling. Needs no PyTorch."""

import copy
import gc
import pickle
import warnings
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import tritium as torch
import tritium.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self, x):
        return self.second(self.first(x).relu()) * self.scale


# ------------------------------------------------------------------------------------------------- registration


def test_assignment_sorts_values_into_the_registries():
    net = Net()
    assert list(net._parameters) == []
    assert list(net._modules) == ["first", "second"]
    assert list(net._buffers) == ["scale", "scratch"]
    net.extra = torch.ones(3)
    assert "extra" in net.__dict__ and "extra" not in net._buffers
    net.gain = nn.Parameter(torch.ones(1))
    assert "gain" in net._parameters
    net.scale = torch.zeros(2)
    assert net._buffers["scale"].sum() == 0


def test_assigning_another_kind_moves_the_name():
    net = Net()
    net.thing = nn.Parameter(torch.ones(1))
    net.thing = None
    assert net._parameters["thing"] is None and net.thing is None
    del net.thing
    net.thing = nn.Linear(1, 1)
    assert "thing" in net._modules
    net.thing = nn.Parameter(torch.ones(1))
    assert "thing" not in net._modules and "thing" in net._parameters
    net.plain = 3
    net.plain = nn.Parameter(torch.ones(1))
    assert "plain" not in net.__dict__


def test_none_submodules_are_kept_and_skipped():
    net = Net()
    net.second = None
    assert [name for name, _ in net.named_children()] == ["first"]
    assert "(second): None" in repr(net)
    assert list(net.state_dict()) == ["scale", "first.weight", "first.bias"]


@pytest.mark.parametrize(
    ("action", "error", "text"),
    [
        (lambda m: m.register_buffer("a.b", None), KeyError, 'buffer name can\'t contain "."'),
        (lambda m: m.register_buffer("", None), KeyError, 'buffer name can\'t be empty string ""'),
        (lambda m: m.register_buffer("first", None), KeyError, "attribute 'first' already exists"),
        (lambda m: m.register_buffer(1, None), TypeError, "buffer name should be a string. Got int"),
        (
            lambda m: m.register_buffer("b", [1]),
            TypeError,
            "cannot assign 'list' object to buffer 'b' (torch Tensor or None required)",
        ),
        (lambda m: m.register_parameter("a.b", None), KeyError, 'parameter name can\'t contain "."'),
        (
            lambda m: m.register_parameter("p", torch.ones(1)),
            TypeError,
            "cannot assign 'torch.FloatTensor' object to parameter 'p' (torch.nn.Parameter or None required)",
        ),
        (lambda m: m.add_module("a.b", None), KeyError, 'module name can\'t contain ".", got: a.b'),
        (lambda m: m.add_module("m", 3), TypeError, "int is not a Module subclass"),
        (
            lambda m: setattr(m, "first", 3),
            TypeError,
            "cannot assign 'int' as child module 'first' (torch.nn.Module or None expected)",
        ),
        (
            lambda m: setattr(m, "scale", 3),
            TypeError,
            "cannot assign 'int' as buffer 'scale' (torch.nn.Buffer, torch.Tensor or None expected)",
        ),
        (
            lambda m: setattr(m.first, "weight", torch.ones(1)),
            TypeError,
            "cannot assign 'torch.FloatTensor' as parameter 'weight' (torch.nn.Parameter or None expected)",
        ),
        (lambda m: m.missing, AttributeError, "'Net' object has no attribute 'missing'"),
        (lambda m: m.get_submodule("first.nothing"), AttributeError, "Linear has no attribute `nothing`"),
        (lambda m: m.get_submodule("first.weight"), AttributeError, "`weight` is not an nn.Module"),
        (lambda m: m.get_parameter("scale"), AttributeError, "`scale` is not an nn.Parameter"),
        (lambda m: m.get_buffer("first.weight"), AttributeError, "`weight` is not a buffer"),
        (lambda m: m.train("yes"), ValueError, "training mode is expected to be boolean"),
        (lambda m: nn.Module()(1), NotImplementedError, 'Module [Module] is missing the required "forward" function'),
        (lambda m: nn.Module(1), TypeError, "Module.__init__() takes 1 positional argument but 2 were given"),
        (lambda m: nn.Module(a=1), TypeError, "Module.__init__() got an unexpected keyword argument 'a'"),
        (lambda m: m.set_submodule("", nn.ReLU()), ValueError, "Cannot set the submodule without a target name!"),
        (lambda m: m.to(torch.int64), TypeError, "only accepts floating point or complex dtypes"),
        (lambda m: m.share_memory(), NotImplementedError, "does not share tensors"),
        (lambda m: m.load_state_dict([1]), TypeError, "Expected state_dict to be dict-like, got <class 'list'>."),
    ],
)
def test_errors(action, error, text):
    with pytest.raises(error) as info:
        action(Net())
    assert text in str(info.value.args[0]).replace("torch.cuda.", "torch.")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda: nn.Parameter(torch.ones(1)), "cannot assign parameters before Module.__init__() call"),
        (lambda: nn.Linear(1, 1), "cannot assign module before Module.__init__() call"),
    ],
)
def test_assignment_before_init(value, text):
    class Early(nn.Module):
        def __init__(self):
            self.x = value()

    with pytest.raises(AttributeError, match=text.replace("(", r"\(").replace(")", r"\)")):
        Early()


def test_computed_tensor_is_no_parameter():
    class Half(nn.Parameter):
        pass

    net = Net()
    param = nn.Parameter(torch.ones(2))
    computed = param * 2
    computed._is_param = True
    with pytest.raises(ValueError, match="Cannot assign non-leaf Tensor to parameter 'p'"):
        net.register_parameter("p", computed)


def test_buffer_class_registers_itself():
    net = Net()
    net.kept = nn.Buffer(torch.ones(1))
    net.lost = nn.Buffer(torch.ones(1), persistent=False)
    assert "kept" in net.state_dict() and "lost" not in net.state_dict()
    assert {"kept", "lost"} <= {name for name, _ in net.named_buffers()}


def test_delattr_and_dir():
    net = Net()
    assert {"first", "scale", "training"} <= set(dir(net))
    del net.first, net.scale
    assert not hasattr(net, "first") and not hasattr(net, "scale")
    with pytest.raises(AttributeError):
        del net.first


def test_paths():
    net = nn.Sequential(OrderedDict(body=Net(), head=nn.Linear(2, 1)))
    assert net.get_submodule("") is net
    assert net.get_submodule("body.first") is net.body.first
    assert net.get_parameter("body.first.weight") is net.body.first.weight
    assert net.get_buffer("body.scale") is net.body.scale
    net.set_submodule("body.first", nn.Identity())
    assert isinstance(net.body.first, nn.Identity)
    with pytest.raises(AttributeError, match="has no attribute `third`"):
        net.set_submodule("body.third", nn.Identity(), strict=True)
    net.set_submodule("body.third", nn.Identity())
    assert isinstance(net.body.third, nn.Identity)


# ---------------------------------------------------------------------------------------------------- iteration


def test_named_iteration_and_duplicates():
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert [n for n, _ in net.named_modules()] == ["", "0", "1"]
    assert [n for n, _ in net.named_modules(remove_duplicate=False)] == ["", "0", "1", "2"]
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    names = [n for n, _ in net.named_parameters(remove_duplicate=False)]
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [n for n, _ in net.named_parameters(prefix="p", recurse=True)] == ["p.0.weight", "p.0.bias"]
    assert list(net.state_dict()) == names
    assert len(list(net.children())) == 2 and len(list(net.modules())) == 3
    assert list(net.parameters(recurse=False)) == []


def test_tied_parameter_is_named_once():
    net = Net()
    net.second.weight = net.first.weight
    assert [n for n, _ in net.named_parameters()] == ["first.weight", "first.bias", "second.bias"]


# -------------------------------------------------------------------------------------------- modes, conversion


def test_modes_apply_and_requires_grad():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2)))
    assert net.eval() is net and not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    order = []
    net.apply(lambda m: order.append(type(m).__name__))
    assert order == ["Dropout", "BatchNorm2d", "Sequential", "Sequential"]
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_zero_grad():
    net = Net()
    net(torch.ones(1, 3)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_conversion_keeps_parameter_objects_and_converts_gradients():
    net = Net()
    net.register_buffer("steps", torch.tensor(3))
    params = list(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    assert net.double() is net
    assert all(a is b for a, b in zip(params, net.parameters(), strict=True))
    assert all(p.dtype is torch.float64 and p.grad.dtype is torch.float64 for p in params)
    assert net.scale.dtype is torch.float64 and net.steps.dtype is torch.int64
    assert net.to(torch.float32).first.weight.dtype is torch.float32
    assert net.to("cpu", torch.float64).first.weight.dtype is torch.float64
    assert net.to(torch.zeros(1, dtype=torch.float16)).first.weight.dtype is torch.float16
    assert net.bfloat16().first.weight.dtype is torch.bfloat16
    assert net.half().float().first.weight.dtype is torch.float32
    assert net.type(torch.float64).first.weight.dtype is torch.float64
    assert net.cpu() is net
    with pytest.raises(TypeError, match="invalid combination"):
        net.to(1, 2, 3, 4)


def test_to_memory_format():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert conv.bias.is_contiguous()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_cuda_is_refused_clearly_where_there_is_none():
    with pytest.raises(RuntimeError, match="Found no NVIDIA driver"):
        Net().to("cuda")
    with pytest.raises(RuntimeError, match="Found no NVIDIA driver"):
        Net().cuda()


# -------------------------------------------------------------------------------------------------- state dicts


def test_state_dict_order_metadata_and_sharing():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = net.state_dict()
    assert isinstance(state, OrderedDict)
    assert list(state) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
    ]  # fmt: skip
    assert state._metadata == {"": {"version": 1}, "0": {"version": 1}, "1": {"version": 2}}
    assert not state["0.weight"].requires_grad
    net[0].weight.data.fill_(7)
    assert (state["0.weight"] == 7).all()
    assert net.state_dict(keep_vars=True)["0.weight"] is net[0].weight
    assert list(net.state_dict(prefix="a."))[0] == "a.0.weight"


def test_load_round_trip_and_result():
    a, b = Net(), Net()
    result = b.load_state_dict(a.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    x = torch.ones(2, 3)
    assert (a(x) == b(x)).all()
    assert b.first.weight is not a.first.weight


def test_load_errors_name_everything():
    net = Net()
    state = net.state_dict()
    state["first.weight"] = torch.ones(9, 9)
    state["unknown"] = torch.ones(1)
    del state["second.bias"]
    with pytest.raises(RuntimeError) as info:
        net.load_state_dict(state)
    lines = str(info.value).split("\n\t")
    assert lines[0] == "Error(s) in loading state_dict for Net:"
    assert lines[1] == 'Missing key(s) in state_dict: "second.bias". '
    assert lines[2] == 'Unexpected key(s) in state_dict: "unknown". '
    assert lines[3].startswith("size mismatch for first.weight: copying a param with shape ")
    result = Net().load_state_dict({"unknown": torch.ones(1), **Net().state_dict()}, strict=False)
    assert result.unexpected_keys == ["unknown"] and result.missing_keys == []


def test_load_suggests_names():
    net = Net()
    prefixed = {"module." + key: value for key, value in net.state_dict().items()}
    with pytest.raises(RuntimeError, match='without their prefix "module."'):
        net.load_state_dict(prefixed)
    nn.modules.utils.consume_prefix_in_state_dict_if_present(prefixed, "module.")
    net.load_state_dict(prefixed)
    wrapped = nn.Sequential(OrderedDict(backbone=Net()))
    with pytest.raises(RuntimeError, match='with the prefix "backbone."'):
        wrapped.load_state_dict(net.state_dict())
    renamed = OrderedDict((k.replace("first", "fist"), v) for k, v in net.state_dict().items())
    with pytest.raises(RuntimeError, match='"first.weight" is nearest to "fist.weight"'):
        net.load_state_dict(renamed)


def test_load_copies_or_assigns():
    net = Net()
    new = {key: torch.ones_like(value) for key, value in net.state_dict().items()}
    weight = net.first.weight
    net.load_state_dict(new)
    assert net.first.weight is weight and (weight == 1).all()
    net.load_state_dict(new, assign=True)
    assert net.first.weight is not weight
    assert isinstance(net.first.weight, nn.Parameter) and net.first.weight.requires_grad
    assert net.first.weight.data_ptr() == new["first.weight"].data_ptr()


def test_load_bare_values_and_scalars():
    bn = nn.BatchNorm2d(2)
    state = bn.state_dict()
    state["num_batches_tracked"] = torch.tensor([5])
    bn.load_state_dict(state)
    assert bn.num_batches_tracked.item() == 5 and bn.num_batches_tracked.ndim == 0
    state["weight"] = [1.0, 2.0]
    with pytest.raises(RuntimeError, match="expected torch.Tensor or Tensor-like object from checkpoint"):
        bn.load_state_dict(state)


def test_batch_norm_without_count_in_old_checkpoints():
    bn = nn.BatchNorm2d(2)
    old = {key: value for key, value in bn.state_dict().items() if key != "num_batches_tracked"}
    bn.num_batches_tracked.fill_(4)
    bn.load_state_dict(old)
    assert bn.num_batches_tracked.item() == 4
    new = bn.state_dict()
    del new["num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        bn.load_state_dict(new)


def test_extra_state():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"n": 3}

        def set_extra_state(self, state):
            self.seen = state

    layer = Extra(1, 1)
    state = layer.state_dict()
    assert state["_extra_state"] == {"n": 3}
    layer.load_state_dict(state)
    assert layer.seen == {"n": 3}
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match='Missing key.s. in state_dict: "_extra_state"'):
        layer.load_state_dict(state)


def test_state_dict_hooks():
    net = Net()
    seen = []
    net.register_state_dict_pre_hook(lambda m, prefix, keep: seen.append("pre"))
    handle = net.register_state_dict_post_hook(lambda m, sd, prefix, meta: seen.append("post"))
    net.register_load_state_dict_pre_hook(lambda m, *args: seen.append(type(m).__name__))
    net._register_load_state_dict_pre_hook(lambda sd, *args: seen.append("dict"))
    net.register_load_state_dict_post_hook(lambda m, keys: seen.append(len(keys.missing_keys)))
    net.load_state_dict(net.state_dict())
    assert seen == ["pre", "post", "Net", "dict", 0]
    handle.remove()
    net.state_dict()
    assert seen[5:] == ["pre"]
    net._register_state_dict_hook(lambda m, sd, prefix, meta: {"replaced": 1})
    assert net.state_dict() == {"replaced": 1}
    net.register_load_state_dict_post_hook(lambda m, keys: 1)
    with pytest.raises(AssertionError, match="not expected to return"):
        net.load_state_dict({}, strict=False)


# -------------------------------------------------------------------------------------------------------- hooks


def test_forward_hooks_change_arguments_and_result():
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    plain = layer(x).detach()
    with layer.register_forward_pre_hook(lambda m, args: (args[0] * 0,)):
        assert (layer(x) == layer.bias).all()
    assert (layer(x) == plain).all()
    with layer.register_forward_hook(lambda m, args, out: out + 1):
        assert torch.allclose(layer(x), plain + 1)

    class Scaled(nn.Module):
        def forward(self, x, *, by=1):
            return x * by

    scaled = Scaled()
    scaled.register_forward_pre_hook(lambda m, args, kwargs: (args, {"by": 5}), with_kwargs=True)
    seen = {}
    scaled.register_forward_hook(lambda m, args, kwargs, out: seen.update(kwargs), with_kwargs=True)
    assert scaled(torch.ones(1), by=2).item() == 5 and seen == {"by": 5}
    scaled.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="forward pre-hook must return None or a tuple"):
        scaled(torch.ones(1))


def test_prepended_and_always_called_hooks():
    order = []
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda *a: order.append("a"))
    layer.register_forward_hook(lambda *a: order.append("b"), prepend=True)
    layer.register_forward_hook(lambda *a: order.append("c"), always_call=True)
    layer(torch.ones(1, 2))
    assert order == ["b", "a", "c"]
    with pytest.raises(RuntimeError):
        layer(torch.ones(1, 3))
    assert order == ["b", "a", "c", "c"]

    def broken(*args):
        raise ValueError("in hook")

    layer.register_forward_hook(broken, always_call=True)
    with pytest.warns(UserWarning, match="silenced as another error"), pytest.raises(RuntimeError):
        layer(torch.ones(1, 3))


def test_full_backward_hooks():
    layer = nn.Linear(2, 3)
    seen = []
    layer.register_full_backward_pre_hook(lambda m, grad_out: seen.append(grad_out[0].shape))
    handle = layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 10,))
    x = torch.ones(4, 2, requires_grad=True)
    layer(x).sum().backward()
    assert seen == [(4, 3)]
    expected = layer.weight.detach().sum(0) * 10
    assert torch.allclose(x.grad, expected.expand(4, 2))
    handle.remove()
    layer.register_full_backward_pre_hook(lambda m, go: (go[0] * 0,))
    x.grad = None
    layer(x).sum().backward()
    assert (x.grad == 0).all()


def test_full_backward_hook_without_input_gradients():
    layer = nn.Linear(2, 3)
    seen = []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].shape)))
    with pytest.warns(UserWarning, match="no inputs require gradients"):
        layer(torch.ones(1, 2)).sum().backward()
    assert seen == [((None,), (1, 3))]


def test_backward_hook_kinds_do_not_mix():
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda *a: None)
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks and full"):
        layer.register_backward_hook(lambda *a: None)


def test_backward_hook_with_inplace_relu_behind_it():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    plain = copy.deepcopy(net)
    seen = []
    net[0].register_full_backward_hook(lambda m, gi, go: seen.append(go[0]))
    x = torch.tensor([[1.0, -2.0]], requires_grad=True)
    y = torch.tensor([[1.0, -2.0]], requires_grad=True)
    net(x).sum().backward()
    plain(y).sum().backward()
    assert (x.grad == y.grad).all() and len(seen) == 1


def test_global_hooks():
    from tritium.nn.modules import module

    seen = []
    handles = [
        module.register_module_forward_pre_hook(lambda m, args: seen.append("pre")),
        module.register_module_forward_hook(lambda m, args, out: seen.append("post")),
        module.register_module_full_backward_hook(lambda m, gi, go: seen.append("back")),
    ]
    layer = nn.Linear(1, 1)
    layer.register_forward_hook(lambda *a: seen.append("own"))
    layer(torch.ones(1, 1, requires_grad=True)).sum().backward()
    for handle in handles:
        handle.remove()
    layer(torch.ones(1, 1))
    assert seen == ["pre", "post", "own", "back", "own"]


def test_hook_graph_is_freed_by_reference_counting():
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, gi, go: None)
    gc.disable()
    try:
        out = layer(torch.ones(1, 2, requires_grad=True)).sum()
        node = weakref.ref(out.grad_fn)
        del out
        assert node() is None
        alive = weakref.ref(layer)
        del layer
        assert alive() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------ copy, pickle, repr


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent_and_equal(duplicate):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.1)).eval()
    net.note = "kept"
    other = duplicate(net)
    x = torch.ones(2, 2)
    assert (net(x) == other(x)).all()
    assert other.note == "kept" and not other.training and not other[1].training
    other[0].weight.data.zero_()
    assert not (net[0].weight == 0).all()
    assert [n for n, _ in other.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert isinstance(other[0].weight, nn.Parameter)


def test_deepcopy_keeps_ties():
    net = Net()
    net.second.weight = net.first.weight
    other = copy.deepcopy(net)
    assert other.second.weight is other.first.weight and other.first.weight is not net.first.weight


def test_setstate_fills_in_what_old_pickles_lack():
    layer = nn.Linear(1, 1)
    state = layer.__getstate__()
    for name in ("_forward_hooks_with_kwargs", "_backward_pre_hooks", "_non_persistent_buffers_set"):
        del state[name]
    old = nn.Linear.__new__(nn.Linear)
    old.__setstate__(state)
    old(torch.ones(1, 1))


def test_repr():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(1, 2), nn.ReLU(inplace=True))

        def extra_repr(self):
            return "a=1\nb=2"

    assert repr(Block()) == (
        "Block(\n  a=1\n  b=2\n  (body): Sequential(\n    (0): Linear(in_features=1, out_features=2, bias=True)\n"
        "    (1): ReLU(inplace=True)\n  )\n)"
    )
    assert repr(nn.Module()) == "Module()"


def test_call_super_init():
    class Mixin:
        def __init__(self, value=0):
            self.value = value

    class Both(nn.Module, Mixin):
        call_super_init = True

    assert Both(value=3).value == 3


def test_legacy_positional_state_dict_warns():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = nn.Linear(1, 1).state_dict(OrderedDict(), "p.")
    assert list(state) == ["p.weight", "p.bias"] and caught[0].category is FutureWarning


@pytest.mark.cpu_only(reason="memory shared with NumPy")
def test_numpy_parameters_share_memory():
    layer = nn.Linear(1, 1, bias=False)
    array = layer.weight.detach().numpy()
    array[0, 0] = np.float32(2)
    assert layer(torch.ones(1, 1)).item() == 2

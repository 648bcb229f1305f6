"""Automatic differentiation against PyTorch: gradients, accumulation, nodes, hooks, errors."""
import pytest

torch = pytest.importorskip("torch")

SETUP = """
D = torch.float64
x = torch.arange(1.0, 7, dtype=D).view(2, 3).requires_grad_()
w = torch.tensor([0.5, -1.0, 2.0], dtype=D, requires_grad=True)
grad = torch.autograd.grad
def G(*ts):
    return [None if t.grad is None else t.grad.clone() for t in ts]
def names(f, depth=4):
    out = []
    while f is not None and depth:
        out.append(f.name())
        f = f.next_functions[0][0] if f.next_functions else None
        depth -= 1
    return out
"""

CASES = {
    "gradients": """
y = (x * w).sum(); y.backward(); G(x, w)
(x * w).backward()
x.detach().sum().backward()
torch.ones(2).sum().backward()
y = (x * w).sum(); y.backward(); y.backward()
y = (x + w).sum(); y.backward(); y.backward(); G(x, w)
y = (x * 2).sum(); y.backward(); y.backward(); G(x)
y = (x * x).sum(); y.backward(); (x * x).sum().backward(); G(x)
y = x.sum(); y.backward(); y.backward(); G(x)
y = x.exp(); y.sum().backward(); y.sum().backward()
z = x * 2; z.grad
w[:1].backward(); G(w)
w[:1].view(1, 1).backward(); G(w)
w[0].backward(); G(w)
a, b = x.unbind(); (a * 3).sum().backward(); G(x)
a, b = x.unbind(); (a * 3 + b).sum().backward(); G(x)
p, q = x.split([1, 2], 1); (q * 5).sum().backward(); G(x)
v, m = torch.std_mean(x, 1); (v * 2 + m).sum().backward(); G(x)
v, m = torch.var_mean(x, 1); m.sum().backward(); G(x)
lo, hi = x.aminmax(); (lo * 2 + hi * 3).backward(); G(x)
y = x * 1; z = y * w; y[0].add_(1); z.sum().backward()
y = x * 1; z = y * w; y.detach().add_(1); z.sum().backward()
y = x * 1; y.pow_(2); y.sum().backward()
y = x * 1; y.clamp_(2, 4); y.sum().backward()
y = x * 1; y[0].mul_(w); (y * 2).sum().backward(); [G(x, w), y]
y = x * 1; y[0, 1].mul_(3); (y * y).sum().backward(); [G(x, w), y]
y = x * 1; y.t()[0].mul_(5); y.sum().backward(); [G(x), y]
y = x * 1; y.view(-1)[2:4].mul_(5); y.sum().backward(); [G(x), y]
y = x * 1; y.diagonal().mul_(5); y.sum().backward(); [G(x), y]
x[0].add_(1)
x.t().add_(1)
x.detach().add_(1); [x, x._version]
y = x.expand(4, 2, 3); y.sum().backward(); G(x)
y = x[None].expand(4, 2, 3) * torch.ones(4, 2, 3, dtype=D); y.sum().backward(); G(x)
y = x[[0, 0, 1]]; y.sum().backward(); G(x)
y = x[:, [0, 0]] * torch.tensor([1.0, 10.0], dtype=D); y.sum().backward(); G(x)
y = x[[0, 0], [1, 1]]; (y * torch.tensor([1.0, 10.0], dtype=D)).sum().backward(); G(x)
y = x[x > 3]; (y * y).sum().backward(); G(x)
y = x[torch.tensor([[0, 1], [1, 1]]), :]; (y * y).sum().backward(); G(x)
y = w.half(); (y * y).sum().backward(); G(w)
(w * torch.tensor([1, 2, 3])).sum().backward(); G(w)
c = torch.ones(2, dtype=torch.complex64); c.sum()
x.mean().backward(); G(x)
x.sum(dim=0).mean().backward(); G(x)
x.var().backward(); G(x)
x.std(0).sum().backward(); G(x)
x.prod().backward(); G(x)
""",
    "backward": """
(x * w).backward(torch.ones(2, 3, dtype=D)); G(x, w)
(x * w).backward(torch.ones(2, 3)); G(x, w)
(x * w).backward(torch.ones(3, dtype=D))
(x * w).backward(torch.ones(2, 3, 1, dtype=D))
(x * w).backward(2.0)
(x * w).backward('a')
y = (x * w).sum(); y.backward(retain_graph=True); y.backward(); G(x, w)
y = x.exp().sum(); torch.autograd.backward(y); G(x)
torch.autograd.backward([x.sum(), (w * w).sum()]); G(x, w)
torch.autograd.backward([x * 2, w * w], [torch.ones(2, 3, dtype=D), torch.ones(3, dtype=D)]); G(x, w)
torch.autograd.backward(x.sum(), None); G(x)
torch.autograd.backward((x.sum(), x.sum())); G(x)
y = (x ** 3).sum(); y.backward(create_graph=True); g = x.grad.clone(); x.grad = None; g.sum().backward(); G(x)
y = (x ** 3).sum(); y.backward(create_graph=True); x.grad.sum().backward(); G(x)
y = (x * w).sum(); y.backward(inputs=[x]); G(x, w)
y = (x * w).sum(); y.backward(inputs=x); G(x, w)
y = (x * w).sum(); y.backward(inputs=[]); G(x, w)
z = x * 2; y = (z * w).sum(); y.backward(inputs=[z, w]); G(x, w)
x.grad is None
x.sum().backward(); x.grad.zero_(); x.grad
x.sum().backward(); g = x.grad; x.sum().backward(); x.grad is g
x.sum().backward(); x.grad = None; x.sum().backward(); x.grad
x.grad = torch.ones(2, 3, dtype=D); x.sum().backward(); x.grad
x.grad = torch.ones(3, dtype=D)
x.grad = 1.0
x.grad = x
del x.grad; x.grad
w.sum().backward(torch.tensor(3.0, dtype=D)); G(w)
w.sum().backward(torch.tensor([3.0], dtype=D)); G(w)
y = x.sum(); y.backward(create_graph=True, retain_graph=False); G(x)
""",
    "autograd.grad": """
grad((x * w).sum(), x)
grad((x * w).sum(), [x, w])
grad((x * w).sum(), (x,))
grad(x.sum(), w)
grad(x.sum(), [x, w], allow_unused=True)
grad(x.sum(), [x, w], materialize_grads=True)
grad(x.sum(), [x, w], allow_unused=False, materialize_grads=True)
grad(x.sum(), torch.ones(2))
grad(x * w, x)
grad(x * w, x, torch.ones(2, 3, dtype=D))
grad(x * w, x, [torch.ones(2, 3, dtype=D)])
grad([x * w, w], w, [torch.ones(2, 3, dtype=D), torch.ones(3, dtype=D)])
grad([x * w, w], w, [torch.ones(2, 3, dtype=D), None])
grad([(x * w).sum(), w.sum()], w)
grad([(x * w).sum(), w.sum()], w, [None, torch.tensor(2.0, dtype=D)])
y = x * w; grad((y * y).sum(), y)
y = x * w; z = y * y; grad(z.sum(), [y, x, z])
y = x * w; grad(y.sum(), [y, x])
y = x * w; grad(y, [y], torch.ones(2, 3, dtype=D))
grad(x, [x], torch.ones(2, 3, dtype=D))
g, = grad((x ** 3).sum(), x, create_graph=True); h, = grad(g.sum(), x, create_graph=True); [g, h, grad(h.sum(), x)]
g, = grad((x ** 3).sum(), x); g.requires_grad
y = (x * w).sum(); grad(y, x); grad(y, x)
y = (x * w).sum(); grad(y, x, retain_graph=True); grad(y, w)
""",
    "hooks": """
z = x * 2; z.retain_grad(); y = (z * w).sum(); y.backward(); [z.grad, x.grad]
z = x * 2; z.retain_grad(); z.retain_grad(); z.retains_grad
x.retain_grad(); x.retains_grad
torch.ones(2).retain_grad()
z = x * 2; z.retain_grad(); (z * w).sum().backward(); (z.detach() * w).sum().backward(); z.grad
z = x * 2; z.retain_grad(); y = z.sum(); y.backward(retain_graph=True); y.backward(); z.grad
h = []; x.register_hook(lambda g: h.append(g.clone())); (x * 2).sum().backward(); h
x.register_hook(lambda g: g * 2); x.register_hook(lambda g: g + 1); (x * 2).sum().backward(); G(x)
z = x * 2; z.register_hook(lambda g: g * 10); z.sum().backward(); G(x)
z = x * 2; hd = z.register_hook(lambda g: g * 10); hd.remove(); z.sum().backward(); G(x)
hd = x.register_hook(lambda g: g * 10); hd.remove(); hd.remove(); x.sum().backward(); G(x)
torch.ones(2).register_hook(lambda g: g)
x.register_hook(lambda g: 1); x.sum().backward()
x.register_hook(lambda g: g[:1]); x.sum().backward()
x.register_hook(lambda g: g.float()); x.sum().backward(); G(x)
z = x * 2; z.register_hook(lambda g: g.sum()); z.sum().backward(); G(x)
z = x * 2; z.retain_grad(); z.register_hook(lambda g: g + 1); z.sum().backward(); [z.grad, x.grad]
z = x * 2; z.retain_grad(); z.register_hook(lambda g: g * 10); z.sum().backward(); [z.grad, x.grad]
x.register_hook(lambda g: g * 2); grad(x.sum(), x)
z = x * 2; z.register_hook(lambda g: g * 2); grad(z.sum(), [z, x])
h = []; z = x * 2; z.register_hook(lambda g: h.append(1)); x.register_hook(h.append); (z + x).sum().backward(); h
h = []; x.register_hook(lambda g: h.append(g.clone())); (x * 2 + x * 3).sum().backward(); h
h = []; x.register_post_accumulate_grad_hook(lambda t: h.append(t.grad.clone())); (x * 2 + x * 3).sum().backward(); h
x.register_post_accumulate_grad_hook(lambda t: setattr(t, 'grad', None)); x.sum().backward(); x.grad
(x * 2).register_post_accumulate_grad_hook(lambda t: None)
torch.ones(2).register_post_accumulate_grad_hook(lambda t: None)
z = x * 2; z.grad_fn.register_hook(lambda gi, go: (gi[0] * 3,) + tuple(gi[1:])); z.sum().backward(); G(x)
z = x * 2; z.grad_fn.register_prehook(lambda go: (go[0] * 3,)); z.sum().backward(); G(x)
z = x * w; z.grad_fn.register_hook(lambda gi, go: (gi[0], None)); z.sum().backward(); G(x, w)
""",
    "leaves": """
y = x * 2; y.requires_grad = False
y = x * 2; y.requires_grad_(False)
y = x * 2; y.requires_grad = True; y.requires_grad
x.requires_grad = False; x.requires_grad
x.requires_grad_(False); (x * 2).requires_grad
torch.arange(3).requires_grad_()
torch.arange(3).requires_grad = True
torch.arange(3).requires_grad_(False).requires_grad
torch.ones(2, dtype=torch.bool).requires_grad_()
x.detach().requires_grad_().is_leaf
(x.is_leaf, (x * 2).is_leaf, x.detach().is_leaf, torch.ones(2).is_leaf)
v, i = x.max(1); v.sum().backward(); [G(x), i.requires_grad]
x.data = torch.zeros(2, 2, dtype=D); x
x.data = torch.zeros(2, 2); x
x.data = torch.zeros(2, dtype=torch.int64)
x.data = 3
y = x.detach(); y.requires_grad
torch.no_grad().__enter__(); r = (x * 2).requires_grad; torch.set_grad_enabled(True); r
y = w.long(); y.requires_grad
y = w > 0; y.requires_grad
torch.ones(3, requires_grad=True).sum().backward()
torch.zeros(3, dtype=D, requires_grad=True).prod().backward()
z = torch.tensor([0.0, 2.0, 3.0], dtype=D, requires_grad=True); z.prod().backward(); G(z)
z = torch.tensor([0.0, 0.0, 3.0], dtype=D, requires_grad=True); z.prod().backward(); G(z)
z = torch.tensor([[0.0, 2.0, 3.0], [1.0, 2.0, 3.0]], dtype=D, requires_grad=True); z.prod(1).sum().backward(); G(z)
z = torch.zeros(3, dtype=D, requires_grad=True); z.norm().backward(); G(z)
z = torch.zeros(3, dtype=D, requires_grad=True); z.norm(1).backward(); G(z)
z = torch.zeros(3, dtype=D, requires_grad=True); z.norm(3).backward(); G(z)
z = torch.zeros(3, dtype=D, requires_grad=True); z.std().backward(); G(z)
z = torch.ones(3, dtype=D, requires_grad=True); z.max().backward(); G(z)
z = torch.ones(2, 3, dtype=D, requires_grad=True); z.amax(1).sum().backward(); G(z)
z = torch.ones(2, 3, dtype=D, requires_grad=True); z.max(1)[0].sum().backward(); G(z)
z = torch.tensor(3.0, dtype=D, requires_grad=True); z.var().backward(); G(z)
z = torch.tensor([-1.0, 0.0, 1.0], dtype=D, requires_grad=True); z.abs().sum().backward(); G(z)
z = torch.tensor([0.0], dtype=D, requires_grad=True); z.sqrt().backward(); G(z)
z = torch.tensor([0.0, -1.0], dtype=D, requires_grad=True); (z ** 0.5).sum().backward(); G(z)
z = torch.tensor([0.0, 2.0], dtype=D, requires_grad=True); (z ** 0).sum().backward(); G(z)
z = torch.tensor([0.0, 2.0], dtype=D, requires_grad=True); (z ** z).sum().backward(); G(z)
z = torch.tensor([0.0, 2.0], dtype=D, requires_grad=True); (0 ** z).sum().backward(); G(z)
""",
    "nodes": """
x.grad_fn is None
(x + 1).grad_fn.name()
names((x * w).sum().grad_fn)
names(x.exp().log().mean().grad_fn)
names(x.view(3, 2).t().grad_fn)
names((x @ w).grad_fn)
names((x / 2 - 1).grad_fn)
names((2 / x).grad_fn)
names((2 - x).grad_fn)
names((x ** 2).grad_fn)
names((x ** w).grad_fn)
names((-x).grad_fn)
names(x.abs().grad_fn)
names(x.relu().grad_fn)
names(x.sigmoid().tanh().grad_fn)
names(x.float().grad_fn)
names(x.clone().grad_fn)
names(x.clamp(0, 1).grad_fn)
names(x.clamp(min=0).grad_fn)
names(x.sqrt().rsqrt().grad_fn)
[names(x.max().grad_fn), names(x.max(1)[0].grad_fn), names(x.sum(1).grad_fn)]
[names(x.mean(1).grad_fn), names(x.norm().grad_fn), names(x.std().grad_fn)]
[names(x.var().grad_fn), names(x.prod().grad_fn), names(x.prod(1).grad_fn)]
(names(torch.cat([x, x]).grad_fn), names(torch.stack([x, x]).grad_fn))
(names(x.expand(4, 2, 3).grad_fn), names(x.repeat(2, 1).grad_fn), names(x.unsqueeze(0).squeeze(0).grad_fn))
(names(x.to(torch.float32).grad_fn), names(x.contiguous().grad_fn), names(x.t().contiguous().grad_fn))
(names(torch.where(x > 2, x, w).grad_fn), names(x.masked_fill(x > 2, 0.0).grad_fn))
(names(torch.maximum(x, w).grad_fn), names(torch.minimum(x, w).grad_fn))
(names(x.cumsum(0).grad_fn), names(x.sort(1)[0].grad_fn), names(x.topk(2)[0].grad_fn))
[names(torch.softmax(x, 1).grad_fn), names(torch.log_softmax(x, 1).grad_fn), names(x.logsumexp(1).grad_fn)]
(names(x.add(w, alpha=2).grad_fn), names((x * 2).grad_fn), names(x.mul(w).div(w).grad_fn))
str(x.exp().grad_fn)[:12]
x.exp().grad_fn.next_functions[0][1]
type(x.exp().grad_fn.next_functions[0][0]).__name__
x.exp().grad_fn.next_functions[0][0].variable is x
(x * w).grad_fn.next_functions[1][0].variable is w
(x * torch.ones(3, dtype=D)).grad_fn.next_functions[1]
x.exp().grad_fn.next_functions[0][0].next_functions
a, b = x.unbind(); [a.output_nr, b.output_nr, a.grad_fn is b.grad_fn, b.grad_fn.name()]
""",
    "data": """
y = w.float(); (y * y).sum().backward(); G(w)
(w.float() * w.float()).sum().backward(); G(w)
(x * w.float()).sum().backward(); G(x, w)
z = torch.zeros(3, dtype=D, requires_grad=True); z.norm(float('inf')).backward(); G(z)
z = torch.tensor([1.0, float('nan'), 3.0], dtype=D, requires_grad=True); z.max().backward(); G(z)
z = torch.tensor([1.0, float('nan'), 3.0], dtype=D, requires_grad=True); z.nansum().backward(); G(z)
x.numpy()
x.detach().numpy().tolist()
x.tolist()
x[0, 0].item()
float(x[0, 0])
np.asarray(x)
np.array(x.detach()).tolist()
y = __import__('copy').deepcopy(x); [y.requires_grad, y.is_leaf, y]
x.sum().backward(); y = __import__('copy').deepcopy(x); [y.grad, y.grad is x.grad]
y = __import__('copy').copy(x); y is x
import pickle; y = pickle.loads(pickle.dumps(x)); [y, y.requires_grad]
import pickle; pickle.dumps(x * 2)[:0]
""",
}


@pytest.mark.parametrize("group", CASES)
def test_cases(same_lines, group):
    same_lines(CASES[group], SETUP)

"""interpolate, grid_sample and affine_grid against PyTorch: values, strides, node names, derivatives, errors, warnings."""

import pytest

pytest.importorskip("torch")

SETUP = """
import warnings
F, nn = torch.nn.functional, torch.nn
def data(*shape, dtype="float64", seed=0):
    a = np.random.default_rng(seed).standard_normal(shape)
    if dtype == "uint8":
        a = np.clip(128 + 60 * a, 0, 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(a)).to(getattr(torch, dtype))
def grads(y, *x):
    '''The output, the gradients, and the gradient of the sum of their squares with respect to the incoming one.'''
    dy = data(*y.shape, dtype=str(y.dtype).rpartition(".")[2], seed=9).requires_grad_()
    first = torch.autograd.grad(y, x, dy, create_graph=True)
    second, = torch.autograd.grad(sum((f * f).sum() for f in first), dy)
    return [y, *[f.detach().contiguous() for f in first], second.contiguous()]
def caught(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        y = call()
    return [y, [(w.category.__name__, str(w.message)) for w in found]]
"""
SHAPES = {1: "2, 3, 9", 2: "2, 3, 7, 9", 3: "2, 2, 4, 5, 6"}
SIZES = {1: ["size=5", "size=(14,)", "scale_factor=2", "scale_factor=1.7", "size=9", "size=1",
             "scale_factor=0.6, recompute_scale_factor=True"],
         2: ["size=5", "size=(14, 9)", "scale_factor=2", "scale_factor=(0.55, 1.7)", "size=(3, 18)", "size=(7, 9)",
             "size=2", "scale_factor=(1.05, 2.1)", "scale_factor=1.3, recompute_scale_factor=True", "scale_factor=3.6"],
         3: ["size=3", "size=(8, 2, 7)", "scale_factor=2", "scale_factor=(1.5, 0.5, 1.2)"]}  # fmt: skip
WAYS = [(1, "'nearest'"), (2, "'nearest'"), (3, "'nearest'"), (1, "'nearest-exact'"), (2, "'nearest-exact'"),
        (3, "'nearest-exact'"), (1, "'area'"), (2, "'area'"), (3, "'area'")]  # fmt: skip
WAYS += [(d, f"'{m}', align_corners={a}") for d, m in ((1, "linear"), (2, "bilinear"), (3, "trilinear"), (2, "bicubic"))
         for a in (False, True)]  # fmt: skip
WAYS += [(2, "'bilinear', antialias=True"), (2, "'bicubic', antialias=True"), (2, "'lanczos', antialias=True"),
         (2, "'bilinear', align_corners=True, antialias=True")]  # fmt: skip


def ordinary(size, way):
    """Whether PyTorch's forward and backward agree with one another: not where a factor does not change the size."""
    return not ("1.05" in size and ("antialias" in way or "'nearest'" in way))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_interpolate(same, way, dtype):
    dims, way = way
    for size in SIZES[dims]:
        code = f"F.interpolate(x, mode={way}, {size})"
        code = f"grads({code}, x)" if ordinary(size, way) else code
        same(f'x = data({SHAPES[dims]}, dtype="{dtype}").requires_grad_()\n{code}', SETUP)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("way", [w for w in WAYS if "antialias" not in w[1]], ids=str)
def test_16_bits(same, way, dtype):
    dims, way = way
    for size in SIZES[dims][:4]:
        same(f'F.interpolate(data({SHAPES[dims]}, dtype="{dtype}"), mode={way}, {size})', SETUP)


@pytest.mark.parametrize("way", [w for w in WAYS if "nearest" in w[1] or (w[0] == 2 and "area" not in w[1])], ids=str)
def test_bytes(same, way):
    dims, way = way
    for size in SIZES[dims]:
        for channels in (3, 5):
            shape = SHAPES[dims].replace("3", str(channels), 1)
            same(f'F.interpolate(data({shape}, dtype="uint8"), mode={way}, {size})', SETUP)


@pytest.mark.parametrize("layout", ["x.contiguous(memory_format=torch.channels_last)", "x.transpose(2, 3)",
                                    "x[:, 1:, ::2]", "x[:1].expand(2, -1, -1, -1)",
                                    "x.contiguous(memory_format=torch.channels_last)[:, :, 1:]",
                                    "F.conv2d(x, data(3, 4, 1, 1))"])  # fmt: skip
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area", "bicubic', antialias=True, mode='bicubic"])
def test_layouts(same, mode, layout):
    if mode == "area" and "1:]" in layout and "channels_last" in layout:
        pytest.skip("a matter of pooling")
    mode = mode.split("', ")[-1] if "antialias" in mode else f"mode='{mode}"
    same(f"""
x = data(2, 4, 6, 7).requires_grad_()
y = F.interpolate({layout}, size=(9, 5), {mode}')
[y, *grads(y, x)[1:]]
""", SETUP)  # fmt: skip


def test_volume_layouts(same):
    for mode in ("nearest", "trilinear"):
        same(f"""
x = data(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
grads(F.interpolate(x, size=(3, 9, 5), mode='{mode}'), x)
""", SETUP)  # fmt: skip


def test_nodes(same):
    ways = ", ".join(f"F.interpolate(x{d}, 2, mode={w})" for d, w in WAYS if "align_corners=True" not in w and
                     (d, w) not in ((1, "'area'"), (2, "'area'")))  # fmt: skip
    same(f"""
x1, x2, x3 = data({SHAPES[1]}).requires_grad_(), data({SHAPES[2]}).requires_grad_(), data({SHAPES[3]}).requires_grad_()
ys = [{ways}]
def second(y):
    leaf = y.grad_fn.next_functions[0][0].variable
    return type(torch.autograd.grad((y * y).sum(), leaf, create_graph=True)[0].grad_fn).__name__
[[y, second(y)] for y in ys]
""", SETUP, skip=["values"])  # fmt: skip


def test_old_names(same_lines):
    same_lines("""
caught(lambda: F.upsample(x, 3))
caught(lambda: F.upsample(x, scale_factor=2, mode='bilinear', align_corners=True))
caught(lambda: F.upsample_nearest(x, scale_factor=2))
caught(lambda: F.upsample_bilinear(x, (3, 9)))
""", SETUP + "\nx = data(2, 3, 4, 5)")


def test_modules(same_lines):
    same_lines("""
[repr(m) for m in ms]
[m(x) for m in ms]
[(m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor, m.name) for m in ms]
[(list(m.state_dict()), sorted(m.__dict__.keys() & {'size', 'scale_factor', 'mode', 'name'})) for m in ms]
[repr(nn.Upsample(4)), repr(nn.Upsample((3, 4), mode='bilinear'))]
""", SETUP + """
x = data(2, 3, 4, 5)
ms = [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=(2, 1.5), mode='bicubic', align_corners=True),
      nn.Upsample(7, mode='bilinear'), nn.UpsamplingNearest2d(scale_factor=2), nn.UpsamplingBilinear2d((3, 9)),
      nn.Upsample(scale_factor=1.5, mode='bilinear', recompute_scale_factor=True)]
""")


ERRORS = """F.interpolate(x, (0, 2)); F.interpolate(x, scale_factor=0.1); F.interpolate(x, scale_factor=-1.)
F.interpolate(x, 2.5); F.interpolate(x, (2, 3.)); F.interpolate(x, scale_factor=(1, 2, 3))
F.interpolate(x[:0], 2); F.interpolate(x[:, :0], 2); F.interpolate(x[:, :, :0], 2)
F.interpolate(x[:0], 2, mode='bilinear'); F.interpolate(x[:, :0], 2, mode='bilinear')
F.interpolate(x[:0], 2, mode='bicubic'); F.interpolate(x[:0], 2, mode='bicubic', antialias=True)
F.interpolate(x3[:0], 2); F.interpolate(x3[:, :0], 2); F.interpolate(x3[:, :, :0], 2); F.interpolate(x3, 0)
F.interpolate(x5, 0); F.interpolate(x5[:0], 2); F.interpolate(x5[:, :0], 2); F.interpolate(x5[:, :, :0], 2)
F.interpolate(x5[:0], 2, mode='trilinear'); F.interpolate(x3[:, :0], 2, mode='linear')
F.interpolate(x3, scale_factor=.01, mode='linear'); F.interpolate(x.long(), 2); F.interpolate(x.bool(), 2)
F.interpolate(x.long(), 2, mode='bilinear'); F.interpolate(x.long(), 2, mode='bicubic'); F.interpolate(x3.long(), 2)
F.interpolate(x.long(), 2, mode='nearest-exact')
F.interpolate(x3.long(), 2, mode='linear'); F.interpolate(x5.long(), 2); F.interpolate(x5.long(), 2, mode='trilinear')
F.interpolate(x.long(), 2, mode='bilinear', antialias=True); F.interpolate(x.long(), 2, mode='area')
F.interpolate(x5.long(), 2, mode='area'); F.interpolate(x3.byte(), 2, mode='linear')
F.interpolate(x5.byte(), 2, mode='trilinear'); F.interpolate(x.byte(), 2, mode='area')
F.interpolate(x5, (2, 0, 1), mode='area'); F.interpolate(x5[:, :, :0], 2, mode='area')
F.interpolate(x5[:0], 2, mode='area'); F.interpolate(x5, -1, mode='area'); F.interpolate(x, 2, mode='xx')
F.interpolate(x3, 2, mode='bilinear'); F.interpolate(x3, 2, mode='bicubic'); F.interpolate(x3, 2, mode='trilinear')
F.interpolate(x, 2, mode='linear'); F.interpolate(x, 2, mode='trilinear'); F.interpolate(x5, 2, mode='linear')
F.interpolate(x5, 2, mode='bilinear'); F.interpolate(x[None, None], 2); F.interpolate(x[0, 0], 2)
F.interpolate(x[0, 0], 2, mode='area'); F.interpolate(x, 2, align_corners=True); F.interpolate(x, 2, scale_factor=2)
F.interpolate(x); F.interpolate(x, 2, recompute_scale_factor=True); F.interpolate(x, 2, antialias=True)
F.interpolate(x, (2,), mode='bilinear'); F.interpolate(x, 'a'); F.interpolate(x, scale_factor='a')
F.interpolate(x, True); F.interpolate(x, (True, 2)); F.interpolate(x, 2, mode='lanczos'); F.interpolate(x, -1)
F.interpolate(x, 2, mode='lanczos', align_corners=True, antialias=True)
F.interpolate(x, (3, -1)); F.interpolate(x, scale_factor=float('nan')); F.interpolate(x, scale_factor=1e30)
F.interpolate(x, scale_factor=True); F.interpolate(x, torch.Size([2, 3])); F.interpolate(x, torch.tensor(3))
F.interpolate(x, (torch.tensor(3), 2)); F.interpolate(x, scale_factor=torch.tensor(2.))
F.interpolate(x, scale_factor=1e-9, recompute_scale_factor=True); F.interpolate(x, 2, mode='bilinear', align_corners=1)
F.interpolate(x5, scale_factor=(2, 1.5, 1), mode='area')
F.grid_sample(x[0], g); F.grid_sample(x, data(2, 2, 2, 3), align_corners=False); F.grid_sample(x, g[:1])
F.grid_sample(x, g.float()); F.grid_sample(x5, data(1, 2, 2, 2, 3), mode='bicubic'); F.grid_sample(x, g, mode='cubic')
F.grid_sample(x, g, padding_mode='wrap'); F.grid_sample(x[:, :, :0], g); F.grid_sample(x[:, :0], g)
F.grid_sample(x[:0], g[:0]); F.grid_sample(x, g[:, :0]); F.grid_sample(x.long(), g.long())
F.grid_sample(x5.long(), data(1, 2, 2, 2, 3).long()); F.grid_sample(1, g); F.grid_sample(x, 3)
F.grid_sample(x, g[0, 0]); F.grid_sample(x5, data(1, 2, 2, 3))
F.affine_grid(t, (2, 1, 3, 4, 5)); F.affine_grid(t, (3, 1, 3, 4)); F.affine_grid(t, (2, 1, 0, 4))
F.affine_grid(t, (2, 1, 1, 4), align_corners=True); F.affine_grid(t.long(), (2, 1, 1, 4)); F.affine_grid(t, (2, 3))
F.affine_grid(t, [2, 1, 3, -4], align_corners=True); F.affine_grid(t[0], (2, 1, 3, 4))"""


@pytest.mark.parametrize("code", [c.strip() for c in ERRORS.replace("\n", ";").split(";")])
def test_errors(same, code):
    same(code, SETUP + """
x, x3, x5, g, t = data(2, 3, 4, 5), data(3, 4, 5), data(1, 2, 3, 4, 5), data(2, 2, 2, 2), data(2, 2, 3)
""")


GRIDS = [(mode, padding) for mode in ("bilinear", "nearest", "bicubic") for padding in ("zeros", "border", "reflection")]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode,padding", GRIDS)
def test_grid_sample(same, mode, padding, dtype):
    for shape, places in (("2, 3, 5, 7", "2, 4, 6, 2"), ("2, 3, 1, 4", "2, 3, 2, 2"), ("1, 2, 4, 3, 5", "1, 2, 3, 4, 3")):
        if mode == "bicubic" and shape.count(",") == 4:
            continue
        for align in (False, True):
            same(f"""
x, g = data({shape}, dtype="{dtype}").requires_grad_(), data({places}, dtype="{dtype}", seed=1).requires_grad_()
y = F.grid_sample(x, g, "{mode}", "{padding}", {align})
dy = data(*y.shape, dtype="{dtype}", seed=2)
[y, *torch.autograd.grad(y, (x, g), dy)]
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("mode,padding", GRIDS)
def test_grid_sample_twice(same, mode, padding):
    for shape, places in (("2, 3, 5, 7", "2, 4, 6, 2"), ("1, 2, 4, 3, 5", "1, 2, 3, 4, 3")):
        if mode == "bicubic" and shape.count(",") == 4:
            continue
        same(f"""
x, g = data({shape}).requires_grad_(), data({places}, seed=1).requires_grad_()
y = F.grid_sample(x, g, "{mode}", "{padding}", False)
dy = data(*y.shape, seed=2).requires_grad_()
first = torch.autograd.grad(y, (x, g), dy, create_graph=True)
total = sum((f * f).sum() for f in first)
[f.detach() for f in first] + list(torch.autograd.grad(total, (x, g, dy)))
""", SETUP)  # fmt: skip


@pytest.mark.parametrize("code", [
    "caught(lambda: F.grid_sample(x, g))", "caught(lambda: F.affine_grid(t, (2, 3, 4, 5)))",
    "caught(lambda: F.affine_grid(t, (2, 3, 1, 5), align_corners=True))", "torch.grid_sampler(x, g, 0, 0, False)",
    "F.grid_sample(x.contiguous(memory_format=torch.channels_last), g.transpose(1, 2), align_corners=True)",
    "F.grid_sample(x.transpose(2, 3), g[:, ::2], 'bicubic', 'border', False)",
    "F.grid_sample(x[:1].expand(2, -1, -1, -1), g, 'nearest', 'border', False)",
    "F.grid_sample(x.requires_grad_(), g, align_corners=False)",
    "F.grid_sample(x, F.affine_grid(t, (2, 3, 6, 7), align_corners=False), align_corners=False)",
    "F.affine_grid(t, (2, 3, 4, 5), align_corners=True)", "F.affine_grid(t.float(), (2, 3, 4, 5), align_corners=False)",
    "F.affine_grid(data(2, 3, 4), (2, 3, 4, 5, 6), align_corners=False)",
    "F.affine_grid(data(2, 3, 4), torch.Size([2, 3, 2, 1, 6]), align_corners=True)",
    "F.affine_grid(t.to(torch.bfloat16), (2, 3, 4, 5), align_corners=False)",
    "grads(F.affine_grid(t.requires_grad_(), (2, 3, 4, 5), align_corners=False), t)",
    "torch.affine_grid_generator(t, (2, 1, 3, 4), True)",
])  # fmt: skip
def test_more(same, code):
    same(code, SETUP + "\nx, g, t = data(2, 3, 4, 5), data(2, 3, 6, 2, seed=1) / 2, data(2, 2, 3)")

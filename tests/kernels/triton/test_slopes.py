"""The derivatives of the elementary functions on the device, beside the NumPy side."""
import ml_dtypes
import numpy as np
import pytest

from tritium.kernels import reference

pytestmark = pytest.mark.cuda_only
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 3e-6, "float64": 1e-12}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("name", reference.slopes.slopes)
def test_slopes(name, dtype):
    from tritium.kernels.triton.memory import from_host, to_host
    from tritium.kernels.triton.slopes import slopes

    rng = np.random.default_rng(5)
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], dtype)
    for shape in ((37,), (5, 8), (0,), ()):
        s = rng.uniform(0.1, 0.9, shape).astype(dtype)
        if shape == (37,):
            s[:7] = special
        g = rng.standard_normal(shape).astype(dtype)
        there, slope = from_host(s), from_host(g)
        pairs = [(g, s, slope, there)]
        if len(shape) == 2:
            pairs += [(g.T, s.T, slope.T, there.T), (g[:, ::2], s[:, ::2], slope[:, ::2], there[:, ::2]),
                      (np.broadcast_to(g[:1], shape), s, slope[:1].look(slope.ptr, shape, (0, slope.strides[1])), there)]
        for a, b, c, d in pairs:
            want, got = reference.slopes.slopes[name](a, b), to_host(slopes[name](c, d))
            assert got.dtype == want.dtype and got.shape == want.shape
            np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), TOLERANCE[np.dtype(dtype).name],
                                       TOLERANCE[np.dtype(dtype).name])

"""The numbers of an update that are known on the device only: steps are counted there, and rates read there.

For each parameter, with its step count t in device memory, a kernel counts t up and makes the ten numbers that
``optimizer_kernels.update_counted`` takes, in float64: the same as ``optimizer.py`` makes on the host.

    Adam      lr / (1 - b1^t),  sqrt(1 - b2^t)
    NAdam     mu_t = b1 (1 - 0.96^(t d) / 2);  lr (1 - mu_t) / (1 - m_t),  lr mu_(t+1) / (1 - m_t mu_(t+1)),
              m_t = mu_1 ... mu_t: in device memory, too
    RAdam     the length of the average r_t = r - 2 t b2^t / (1 - b2^t), r = 2 / (1 - b2) - 1; where it is above 5 the
              factor sqrt((r_t - 4) (r_t - 2) r / ((r - 4) (r - 2) r_t))
    Adagrad   lr / (1 + (t - 1) d)
"""
from __future__ import annotations

from collections.abc import Iterator

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tritium.kernels.runtime.cases import Case
from tritium.kernels.runtime.launch import kernel

BLOCK = 128


# --- (t, lr, m, options) -> the ten numbers, and m; all are vectors, one element for each parameter ---

@triton.jit
def adam(t, lr, m, beta1, beta2, eps, decay, e, TYPE: tl.constexpr):
    rest1, rest2 = 1.0 - beta1, 1.0 - beta2
    return (-(lr / (1.0 - libdevice.pow(beta1, t))), rest1, beta2, rest2, eps, decay, 1.0 - lr * decay,
            tl.sqrt(1.0 - libdevice.pow(beta2, t)), e, e), m


@triton.jit
def nadam(t, lr, m, beta1, beta2, eps, decay, momentum_decay, TYPE: tl.constexpr):
    rest1, rest2 = 1.0 - beta1, 1.0 - beta2
    base = t - t + 0.96
    mu = beta1 * (1.0 - 0.5 * libdevice.pow(base, t * momentum_decay))
    later = beta1 * (1.0 - 0.5 * libdevice.pow(base, (t + 1.0) * momentum_decay))
    m = (m.to(TYPE) * mu.to(TYPE)).to(tl.float64)
    return (-(lr * (1.0 - mu) / (1.0 - m)), rest1, beta2, rest2, eps, decay, 1.0 - lr * decay,
            1.0 - libdevice.pow(beta2, t), -(lr * later / (1.0 - m * later)), eps), m


@triton.jit
def radam(t, lr, m, beta1, beta2, eps, decay, e, TYPE: tl.constexpr):
    rest1, rest2 = 1.0 - beta1, 1.0 - beta2
    longest = 2.0 / rest2 - 1.0
    power = libdevice.pow(beta2, t)
    correction2 = 1.0 - power
    length = longest - 2.0 * t * power / correction2
    factor = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
    rectified = tl.where(length > 5.0, tl.sqrt(tl.where(length > 5.0, factor, 1.0)), 0.0)
    return (lr, rest1, beta2, rest2, eps, decay, 1.0 - lr * decay, 1.0 - libdevice.pow(beta1, t), tl.sqrt(correction2),
            rectified), m


@triton.jit
def adamax(t, lr, m, beta1, beta2, eps, decay, e, TYPE: tl.constexpr):
    return (-(lr / (1.0 - libdevice.pow(beta1, t))), 1.0 - beta1, beta2, eps, decay, e, e, e, e, e), m


@triton.jit
def adagrad(t, lr, m, lr_decay, eps, decay, d, e, TYPE: tl.constexpr):
    return (-(lr / (1.0 + (t - 1.0) * lr_decay)), eps, decay, e, e, e, e, e, e, e), m


# --- the kernel ---

@kernel
def numbers(table, lr, found, out, tensors: "i64", row: "i64", rate: "fp64", a: "fp64", b: "fp64", c: "fp64", d: "fp64",
            e: "fp64", OP: tl.constexpr, PRODUCTS: tl.constexpr, RATED: tl.constexpr, CHECKED: tl.constexpr,
            TYPE: tl.constexpr, BLOCK: tl.constexpr):
    """Count up the steps whose addresses are in this row of the table, and write ten float64 numbers for each.

    PRODUCTS: the next row has the addresses of the products m; TYPE: the dtype of steps and products. RATED: the rate
    is in ``lr``. CHECKED: nothing counts where ``found`` is not 0."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < tensors
    if CHECKED:
        inside = inside & (tl.load(found) == 0)
    step = tl.load(table + row * tensors + i, mask=inside, other=0).to(tl.pointer_type(TYPE))
    t = tl.load(step, mask=inside, other=0.0) + 1
    tl.store(step, t, mask=inside)
    t = t.to(tl.float64)
    if RATED:
        rate = tl.load(lr).to(tl.float64)
    all = t - t
    m = all
    if PRODUCTS:
        product = tl.load(table + (row + 1) * tensors + i, mask=inside, other=0).to(tl.pointer_type(TYPE))
        m = tl.load(product, mask=inside, other=1.0).to(tl.float64)
    made, m = OP(t, all + rate, m, all + a, all + b, all + c, all + d, all + e, TYPE)
    if PRODUCTS:
        tl.store(product, m.to(TYPE), mask=inside)
    for k in tl.static_range(10):
        tl.store(out + i * 10 + k, made[k], mask=inside)


def cases() -> Iterator[Case]:
    """The shipped configurations."""
    for op, rated in ((adam, True), (adam, False), (nadam, True), (radam, True), (adamax, True), (adagrad, True)):
        yield Case(f"{op.__name__}{' rated' * rated}", numbers,
                   {"table": "*i64", "lr": "*fp32", "found": "*fp32", "out": "*fp64", "tensors": "i64", "row": "i64",
                    "rate": "fp64", **dict.fromkeys("abcde", "fp64")},
                   {"OP": op, "PRODUCTS": op is nadam, "RATED": rated, "CHECKED": rated, "TYPE": tl.float32,
                    "BLOCK": BLOCK}, ("table", "lr", "found", "out"), enable_fp_fusion=False)

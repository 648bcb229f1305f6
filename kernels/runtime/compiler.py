"""Triton as a compiler only: a kernel and its specialization in, machine code out.

``compile`` needs no GPU, no PyTorch and no C compiler, and works the same on Triton 3.6 to 3.9. What it made is kept on
disk, one file for each kernel, specialization and target, so that later processes do not compile: under
``$TRITIUM_CACHE_DIR`` or ``~/.cache/tritium/kernels``. Files that are damaged or foreign are ignored and written anew;
a folder that cannot be written to only costs time.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 2  # of the files, and of the parameters that compiled kernels take
_lock = threading.RLock()


@dataclass(frozen=True)
class Compiled:
    """Machine code and what a launch has to know about it. Sizes in bytes.

    ``parameters``: the names of the arguments that the code takes, in order; two addresses of scratch memory follow
    them. ``scratch``: global memory that each program of a launch needs, aligned to ``scratch_align``. ``text``: the
    assembly that it was made from, only of a fresh compilation."""

    image: bytes
    name: str
    parameters: tuple[str, ...]
    shared: int
    num_warps: int
    scratch: int = 0
    scratch_align: int = 1
    text: str = field(default="", repr=False)


def gpu_target(target: str) -> Any:
    """Triton's name for "sm_90" or "gfx942"."""
    from triton.backends.compiler import GPUTarget

    if target.startswith("sm_"):
        return GPUTarget("cuda", int(target[3:]), 32)
    return GPUTarget("hip", target, 64 if target.startswith("gfx9") else 32)


def key_of(jit: Any, types: dict[str, str], constants: dict[str, Any], aligned: tuple[str, ...],
           options: dict[str, Any], target: str) -> str:
    """What a compilation depends on, as a hash: the source of the kernel and of all it calls, its specialization, the
    target, and Triton's version and switches."""
    import triton
    from triton._C.libtriton import get_cache_invalidating_env_vars

    parts = [FORMAT, triton.__version__, jit.cache_key, sorted(types.items()), sorted(aligned), target,
             sorted((name, _text(value)) for name, value in constants.items()), sorted(options.items()),
             sorted(get_cache_invalidating_env_vars().items()), os.environ.get("TRITON_PTXAS_PATH")]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _text(value: Any) -> str:
    """A constant in words that are the same in every process."""
    if hasattr(value, "cache_key"):
        return str(value.cache_key)
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_text, value))})"
    return f"{type(value).__name__}:{value!r}" if isinstance(value, (bool, int, float, str)) else str(value)


def compile(jit: Any, types: dict[str, str], constants: dict[str, Any], aligned: tuple[str, ...] = (),
            options: dict[str, Any] | None = None, target: str = "sm_90") -> Compiled:
    """The machine code of a ``triton.jit`` function.

    ``types``: Triton's type of each argument that is known only at a launch ("*bf16", "i32"); ``constants``: the value
    of every other one; ``aligned``: arguments divisible by 16; ``options``: ``num_warps`` and the like; ``target``:
    "sm_90", "gfx942".
    Raises RuntimeError, with the kernel's name, where Triton refuses the kernel."""
    options = options or {}
    with _lock:
        key = key_of(jit, types, constants, aligned, options, target)
        found = _read(key)
        if found is None:
            found = fresh(jit, types, constants, aligned, options, target)
            _write(key, found)
        return found


def fresh(jit: Any, types: dict[str, str], constants: dict[str, Any], aligned: tuple[str, ...],
          options: dict[str, Any], target: str) -> Compiled:
    """``compile`` without our own files."""
    import triton
    from triton.compiler import ASTSource

    if options.get("num_ctas", 1) != 1:
        raise NotImplementedError(f"{jit.__name__}: clusters of thread blocks (num_ctas) can not be launched")
    names = list(jit.arg_names)
    signature = {name: types.get(name, "constexpr") for name in names}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    # said, not left to the default: the default differs between versions of Triton
    given = {"enable_fp_fusion": True, **options}
    machine = gpu_target(target)
    if machine.backend == "cuda":
        given["enable_reflect_ftz"] = False  # libdevice keeps subnormal numbers: log(1e-40) is not -inf

    def run() -> Any:
        return triton.compile(ASTSource(jit, signature, dict(constants), attributes), target=machine, options=given)

    with _lock, _quick_key():
        try:
            try:
                made = run()
            except OSError:  # Triton's own cache can not be written to
                with tempfile.TemporaryDirectory() as folder, triton.knobs.cache.scope():
                    triton.knobs.cache.dir = folder
                    made = run()
        except Exception as error:
            raise RuntimeError(f"kernel {jit.__name__} does not compile for {target}: {error}") from error
    about = made.metadata
    text = made.asm.get("ptx" if machine.backend == "cuda" else "amdgcn", "")
    parameters = tuple([name for name in names if name in types])
    _check_abi(jit.__name__, text, machine.backend, len(parameters))
    if getattr(about, "profile_scratch_size", 0):
        raise NotImplementedError(f"{jit.__name__}: instrumented kernels can not be launched")
    return Compiled(made.asm["cubin" if machine.backend == "cuda" else "hsaco"], about.name, parameters, about.shared,
                    about.num_warps, getattr(about, "global_scratch_size", 0) or 0,
                    getattr(about, "global_scratch_align", 1) or 1, text)


def _check_abi(name: str, text: str, backend: str, count: int) -> None:
    """A kernel takes its arguments in order and two addresses of scratch memory: a later Triton may think otherwise."""
    if not text:  # TRITON_STORE_BINARY_ONLY
        return
    if backend == "cuda":
        entry = re.search(r"\.entry\s+\w+\((.*?)\)", text, re.S)
        taken = entry[1].count(".param") if entry else -1
    else:
        listed = re.search(r"\.args:(.*?)\n\s+\.group_segment", text, re.S)
        taken = len(re.findall(r"\.value_kind:\s+(?!hidden)\S", listed[1])) if listed else -1
    if taken != count + 2:
        import triton

        raise RuntimeError(f"kernel {name} takes {taken} parameters where {count + 2} were expected: Triton "
                           f"{triton.__version__} passes parameters in a way that is not known here")


@contextlib.contextmanager
def _quick_key() -> Iterator[None]:
    """Triton's key of itself is a hash of its 500 MB library: a second in every process. A released version's name says
    as much."""
    import triton
    from triton.runtime import cache

    kept = getattr(cache, "triton_key", None)
    if kept is None or "+" in triton.__version__:
        yield
        return
    cache.triton_key = lambda: triton.__version__
    try:
        yield
    finally:
        cache.triton_key = kept


# --- files ---


def folder() -> Path | None:
    """Where compiled kernels are kept; None where there is no such place."""
    given = os.environ.get("TRITIUM_CACHE_DIR")
    if given:
        return Path(given)
    try:
        return Path.home() / ".cache" / "tritium" / "kernels"
    except RuntimeError:
        return None


def read_file(name: str) -> bytes | None:
    """A file of the cache, or None."""
    place = folder()
    try:
        return None if place is None else (place / name).read_bytes()
    except OSError:
        return None


def write_file(name: str, content: bytes) -> None:
    """Put a file into the cache, whole or not at all; nothing happens where that is not possible."""
    place = folder()
    if place is None:
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place, prefix=".")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, place / name)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _write(key: str, made: Compiled) -> None:
    about = {"key": key, "digest": hashlib.sha256(made.image).hexdigest(), "name": made.name,
             "parameters": made.parameters, "shared": made.shared, "num_warps": made.num_warps,
             "scratch": made.scratch, "scratch_align": made.scratch_align}
    write_file(f"{key}.kernel", json.dumps(about).encode() + b"\n" + made.image)


def _read(key: str) -> Compiled | None:
    content = read_file(f"{key}.kernel")
    if content is None:
        return None
    head, _, image = content.partition(b"\n")
    try:
        about = json.loads(head)
        if about.pop("key") != key or about.pop("digest") != hashlib.sha256(image).hexdigest():
            return None
        return Compiled(image, **{**about, "parameters": tuple(about["parameters"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None

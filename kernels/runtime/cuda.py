"""CUDA by NVIDIA's own packages: cuda-core holds contexts, pools and streams, cuda-bindings calls the driver.

Every other name of CUDA's stays in this file. Nothing is imported before a device is used.
"""
from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from typing import Any

from tritium.kernels.runtime.base import NO_DEVICE, NO_DRIVER, OutOfDeviceMemory, Properties

OLDEST = 12000  # the driver's version that kernels can be loaded with: 12.0
MODES = ("global", "thread_local", "relaxed")
ADVICE = ("\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might "
          "be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1")


def _driver() -> Any:
    """The driver's library, or None where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def count() -> int:
    """How many devices the driver names; 0 where there is no driver, or an old one. Imports no CUDA package."""
    library = _driver()
    if library is None:
        return 0
    found, version = ctypes.c_int(), ctypes.c_int()
    try:
        if library.cuInit(0) or library.cuDriverGetVersion(ctypes.byref(version)) or version.value < OLDEST:
            return 0
        return 0 if library.cuDeviceGetCount(ctypes.byref(found)) else found.value
    except AttributeError:
        return 0


def packages() -> tuple[Any, Any]:
    """``cuda.bindings.driver`` and ``cuda.core``.

    Where Python runs in the folder of this package, its file ``cuda.py`` stands in front of NVIDIA's package: it is set
    aside while that is imported. Raises ImportError, with what to install, where it is missing."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    shadow = os.path.join(here, "cuda.py")
    paths = sys.path[:]
    wrong = sys.modules.get("cuda")
    if wrong is not None and os.path.realpath(getattr(wrong, "__file__", None) or "") == os.path.realpath(shadow):
        del sys.modules["cuda"]
    else:
        wrong = None
    sys.path[:] = [p for p in paths if os.path.realpath(p or os.getcwd()) != os.path.realpath(here)]
    try:
        importlib.import_module("cuda.pathfinder")
        core = importlib.import_module("cuda.core")
        if not hasattr(core, "Device"):
            raise ImportError("cuda-core is older than 1.0")
        return importlib.import_module("cuda.bindings.driver"), core
    except ImportError as error:
        raise ImportError("the cuda device needs NVIDIA's packages: pip install 'cuda-core>=1.0' cuda-bindings "
                          f"({error})") from error
    finally:
        sys.path[:] = paths
        if wrong is not None:
            sys.modules["cuda"] = wrong


class Place(threading.local):
    """``device``: the one whose context is current on this thread; -1: none is."""

    device = -1


class CudaRuntime:
    """NVIDIA's GPUs.

    Raises RuntimeError, in PyTorch's words, where there is no driver, an old one, or no device."""

    name = "cuda"
    emulated = False
    target = "cuda"

    def __init__(self) -> None:
        library = _driver()
        if library is None:
            raise RuntimeError(NO_DRIVER)
        version = ctypes.c_int()
        library.cuDriverGetVersion(ctypes.byref(version))
        if version.value < OLDEST:
            raise RuntimeError(
                f"The NVIDIA driver on your system is too old (found version {version.value}). Please update your GPU "
                "driver by downloading and installing a new version from the URL: "
                "http://www.nvidia.com/Download/index.aspx")
        self.driver, self.core = packages()
        d = self.driver
        self.launch_kernel = d.cuLaunchKernel
        self._alloc, self._free, self._copy = d.cuMemAllocFromPoolAsync, d.cuMemFreeAsync, d.cuMemcpyAsync
        self._record, self._wait = d.cuEventRecord, d.cuStreamWaitEvent
        code = d.cuInit(0)[0]
        if int(code) == 100:
            raise RuntimeError(NO_DEVICE)
        self.check(code)
        self.devices = self._value(d.cuDeviceGetCount())
        if not self.devices:
            raise RuntimeError(NO_DEVICE)
        self.place = Place()
        self.lock = threading.RLock()
        self.pools: dict[int, int] = {}
        self.streams: dict[int, Any] = {}  # handle -> cuda-core's stream, which owns it
        self.where: dict[int, int] = {}  # handle -> device
        self.defaults: dict[int, int] = {}
        self.known: dict[int, Properties] = {}
        self.libraries: list[Any] = []

    # errors

    def check(self, code: Any) -> None:
        """Raises RuntimeError in words for a result that is not success, OutOfDeviceMemory for one that says so."""
        if code:
            words = self.driver.cuGetErrorString(code)[1]
            text = words.decode() if isinstance(words, bytes) else f"error {int(code)}"
            raise (OutOfDeviceMemory if int(code) == 2 else RuntimeError)(f"CUDA error: {text}{ADVICE}")

    def _value(self, result: tuple[Any, ...]) -> Any:
        self.check(result[0])
        return result[1]

    # devices

    def device_count(self) -> int:
        return self.devices

    def set_device(self, device: int) -> None:
        if self.place.device != device:
            self.core.Device(device).set_current()
            self.place.device = device

    def _enter(self, device: int) -> int:
        """Make a device current, and return the one that was."""
        before = self.place.device
        if before != device:
            self.set_device(device)
        return before

    def _leave(self, before: int) -> None:
        if before >= 0 and before != self.place.device:
            self.set_device(before)

    def _begin(self, stream: int = 0) -> None:
        """See to it that the thread has a context: a stream's own serves any other call too."""
        if self.place.device < 0:
            self.set_device(self.where.get(stream, 0))

    def properties(self, device: int) -> Properties:
        found = self.known.get(device)
        if found is None:
            d = self.driver
            handle = self._value(d.cuDeviceGet(device))
            name = self._value(d.cuDeviceGetName(256, handle)).split(b"\0")[0].decode()
            a = d.CUdevice_attribute
            asked = (a.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, a.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                     a.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, a.CU_DEVICE_ATTRIBUTE_WARP_SIZE,
                     a.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
                     a.CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR,
                     a.CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, a.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)
            major, minor, *rest = (self._value(d.cuDeviceGetAttribute(one, handle)) for one in asked)
            total = self._value(d.cuDeviceTotalMem(handle))
            found = self.known[device] = Properties(name, major, minor, total, *rest)
        return found

    # memory

    def pool(self, device: int) -> int:
        """The device's own memory pool, told to keep what it has."""
        found = self.pools.get(device)
        if found is None:
            d = self.driver
            asked = d.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
            if not self._value(d.cuDeviceGetAttribute(asked, self._value(d.cuDeviceGet(device)))):
                raise RuntimeError(f"GPU {device} ({self.properties(device).name}) has no memory pools")
            before = self._enter(device)
            try:
                found = int(self.core.Device(device).memory_resource.handle)
                self.check(d.cuMemPoolSetAttribute(
                    found, d.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, d.cuuint64_t(2**64 - 1))[0])
            finally:
                self._leave(before)
            self.pools[device] = found
        return found

    def alloc(self, nbytes: int, device: int, stream: int) -> int:
        before = self._enter(device)
        code, ptr = self._alloc(nbytes, self.pools.get(device) or self.pool(device), stream)
        if before != device:
            self._leave(before)
        if code:
            self.check(code)
        return int(ptr)

    def free(self, ptr: int, device: int, stream: int) -> None:
        before = self._enter(device)
        self._free(ptr, stream)  # an error here was there before: the next call that can raise tells
        if before != device:
            self._leave(before)

    def memory_info(self, device: int) -> tuple[int, int]:
        before = self._enter(device)
        try:
            code, free, total = self.driver.cuMemGetInfo()
            self.check(code)
        finally:
            self._leave(before)
        return free, total

    def _figure(self, device: int, name: str) -> int:
        attribute = getattr(self.driver.CUmemPool_attribute, "CU_MEMPOOL_ATTR_RESERVED_MEM_" + name)
        return int(self._value(self.driver.cuMemPoolGetAttribute(self.pool(device), attribute)))

    def reserved(self, device: int) -> tuple[int, int]:
        return self._figure(device, "CURRENT"), self._figure(device, "HIGH")

    def reset_peak(self, device: int) -> None:
        d = self.driver
        self.check(d.cuMemPoolSetAttribute(self.pool(device), d.CUmemPool_attribute.CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH,
                                           d.cuuint64_t(0))[0])

    def trim(self, device: int) -> None:
        self.check(self.driver.cuMemPoolTrimTo(self.pool(device), 0)[0])

    def host_alloc(self, nbytes: int) -> int:
        self._begin()
        return int(self._value(self.driver.cuMemHostAlloc(nbytes, self.driver.CU_MEMHOSTALLOC_PORTABLE)))

    def host_free(self, ptr: int) -> None:
        self._begin()
        self.check(self.driver.cuMemFreeHost(ptr)[0])

    def copy(self, dst: int, src: int, nbytes: int, stream: int) -> None:
        self._begin(stream)
        code, = self._copy(dst, src, nbytes, stream)
        if code:
            self.check(code)

    def memset(self, ptr: int, value: int, width: int, count: int, stream: int) -> None:
        self._begin(stream)
        d = self.driver
        call = d.cuMemsetD8Async if width == 1 else d.cuMemsetD16Async if width == 2 else d.cuMemsetD32Async
        self.check(call(ptr, value, count, stream)[0])

    # streams and events

    def default_stream(self, device: int) -> int:
        found = self.defaults.get(device)
        if found is None:
            with self.lock:
                found = self.defaults.get(device)
                if found is None:  # in order with the legacy stream, where other libraries work
                    found = self.defaults[device] = self._stream(device, 0, nonblocking=False)
        return found

    def stream_create(self, device: int, priority: int) -> int:
        return self._stream(device, priority, nonblocking=True)

    def _stream(self, device: int, priority: int, nonblocking: bool) -> int:
        before = self._enter(device)
        try:
            _, _, highest = self.driver.cuCtxGetStreamPriorityRange()
            stream = self.core.Device(device).create_stream(options=self.core.StreamOptions(
                nonblocking=nonblocking, priority=max(priority, highest)))
        finally:
            self._leave(before)
        handle = int(stream.handle)
        self.streams[handle], self.where[handle] = stream, device
        return handle

    def stream_device(self, stream: int, default: int) -> int:
        return self.where.get(stream, default)

    def stream_synchronize(self, stream: int) -> None:
        self._begin(stream)
        self.check(self.driver.cuStreamSynchronize(stream)[0])

    def stream_query(self, stream: int) -> bool:
        self._begin(stream)
        return self._ready(self.driver.cuStreamQuery(stream)[0])

    def _ready(self, code: Any) -> bool:
        if int(code) == 600:
            return False
        self.check(code)
        return True

    def stream_wait(self, stream: int, event: int) -> None:
        self._begin(stream)
        code, = self._wait(stream, event, 0)
        if code:
            self.check(code)

    def event_create(self, device: int, timing: bool, blocking: bool) -> int:
        flags = self.driver.CUevent_flags
        before = self._enter(device)
        try:
            return int(self._value(self.driver.cuEventCreate(
                (0 if timing else int(flags.CU_EVENT_DISABLE_TIMING))
                | (int(flags.CU_EVENT_BLOCKING_SYNC) if blocking else 0))))
        finally:
            self._leave(before)

    def event_destroy(self, event: int) -> None:
        self._begin()
        self.driver.cuEventDestroy(event)

    def event_record(self, event: int, stream: int) -> None:
        self._begin(stream)
        code, = self._record(event, stream)
        if code:
            self.check(code)

    def event_query(self, event: int) -> bool:
        self._begin()
        return self._ready(self.driver.cuEventQuery(event)[0])

    def event_synchronize(self, event: int) -> None:
        self._begin()
        self.check(self.driver.cuEventSynchronize(event)[0])

    def event_elapsed(self, start: int, end: int) -> float:
        self._begin()
        return float(self._value(self.driver.cuEventElapsedTime(start, end)))

    def synchronize(self, device: int) -> None:
        before = self._enter(device)
        try:
            self.check(self.driver.cuCtxSynchronize()[0])
        finally:
            self._leave(before)

    # kernels

    def load(self, image: bytes, name: str, shared: int) -> int:
        """A library's kernel serves as a function in every device's context.

        Raises RuntimeError where a device has less shared memory than is asked for."""
        d = self.driver
        device = max(self.place.device, 0)
        self._begin()
        limit = self.properties(device).max_shared_memory
        if shared > limit:
            raise RuntimeError(f"kernel {name} needs {shared} bytes of shared memory, but a block on GPU {device} "
                               f"({self.properties(device).name}) can have {limit}")
        library = self._value(d.cuLibraryLoadData(image, [], [], 0, [], [], 0))
        self.libraries.append(library)  # for the life of the process
        kernel = self._value(d.cuLibraryGetKernel(library, name.encode()))
        if shared > 48 << 10:
            attribute = d.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            for index in range(self.devices):
                if self.properties(index).max_shared_memory >= shared:
                    self.check(d.cuKernelSetAttribute(attribute, shared, kernel, self._value(d.cuDeviceGet(index)))[0])
        self._value(d.cuKernelGetFunction(kernel))  # loaded now, not at the first launch, which may be captured
        return int(kernel)

    # graphs

    def capture_begin(self, stream: int, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"capture_error_mode must be one of {', '.join(MODES)}, not {mode!r}")
        self._begin(stream)
        self.check(self.driver.cuStreamBeginCapture(stream, self.driver.CUstreamCaptureMode(MODES.index(mode)))[0])

    def capture_end(self, stream: int) -> int:
        d = self.driver
        graph = self._value(d.cuStreamEndCapture(stream))
        try:
            return int(self._value(d.cuGraphInstantiate(graph, 0)))
        finally:
            d.cuGraphDestroy(graph)

    def graph_launch(self, graph: int, stream: int) -> None:
        self._begin(stream)
        self.check(self.driver.cuGraphLaunch(graph, stream)[0])

    def graph_destroy(self, graph: int) -> None:
        self._begin()
        self.driver.cuGraphExecDestroy(graph)

/* A stand-in for libcuda.so.1 without a GPU: device memory is host memory, streams run at once, kernels do nothing.

   It is strict where the driver is: calls need a current context, an event and the stream it is recorded on belong to
   one device, a stream that is being captured gives no memory and cannot be waited for. Tests read the counters and the
   log below by ctypes. Types are the plain ones of the driver's binary interface: handles are pointers, results int. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK, INVALID = 1, NO_MEMORY = 2, BAD_DEVICE = 101, BAD_CONTEXT = 201, BAD_HANDLE = 400, NOT_FOUND = 500,
       NOT_READY = 600, CAPTURED = 900 };
typedef uint64_t ptr;
typedef struct { int device; } context;
typedef struct { ptr to, from; size_t bytes; } node;
typedef struct { node copies[64]; int count, launches; } graph;
typedef struct { int device, priority; graph *capture; } stream;
typedef struct { int device; double time; } event;

/* --- what tests read and set --- */
unsigned long in_allocs, in_frees, in_host_allocs, in_host_frees, in_copies, in_launches, in_loads, in_streams, in_events,
    in_waits, in_retains, in_graphs, in_graph_launches, in_captured, in_syncs, in_trims, in_used;
unsigned long in_limit = 80ul << 30;
int in_devices = 2, in_version = 13010, in_kernel_parameters, in_fail_next;
uint64_t in_parameters[64];
unsigned in_grid[3], in_block[3], in_shared;
void *in_stream;
typedef struct { char what[16]; uint64_t a, b; } entry;
entry in_log[4096];
int in_logged;
static void say(const char *what, uint64_t a, uint64_t b) {
    if (in_logged < 4096) { entry *e = &in_log[in_logged++]; strncpy(e->what, what, 15); e->a = a; e->b = b; }
}

static context contexts[8];
static __thread context *now, *pushed[16];
static __thread int depth;
#define NEED_CONTEXT if (!now) return BAD_CONTEXT
#define CONST(name, ...) int name(__VA_ARGS__) { return OK; }

/* --- devices and contexts --- */
int cuInit(unsigned flags) { return in_devices ? OK : 100; }
int cuDriverGetVersion(int *v) { *v = in_version; return OK; }
int cuDeviceGetCount(int *n) { *n = in_devices; return OK; }
int cuDeviceGet(int *d, int i) { if (i < 0 || i >= in_devices) return BAD_DEVICE; *d = i; return OK; }
int cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "Stand-in"); return OK; }
int cuDeviceGetUuid_v2(char *u, int d) { memset(u, d + 1, 16); return OK; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = in_limit; return OK; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { NEED_CONTEXT; *total = in_limit; *free = in_limit - in_used; return OK; }
int cuDeviceGetAttribute(int *p, int a, int d) {
    switch (a) {
    case 75: *p = 9; break;                  /* compute capability */
    case 76: *p = 0; break;
    case 8: *p = 49152; break;               /* shared memory of a block */
    case 97: *p = 232448; break;             /* ... when asked for */
    case 81: *p = 233472; break;             /* ... of a multiprocessor */
    case 16: *p = 132; break;                /* multiprocessors */
    case 10: *p = 32; break;                 /* warp */
    case 82: *p = 65536; break;              /* registers */
    case 39: *p = 2048; break;               /* threads of a multiprocessor */
    case 38: *p = 50 << 20; break;           /* L2 cache */
    default: *p = 1;
    }
    return OK;
}
int cuDevicePrimaryCtxRetain(void **c, int d) { in_retains++; contexts[d].device = d; *c = &contexts[d]; return OK; }
CONST(cuDevicePrimaryCtxRelease_v2, int d)
int cuCtxGetCurrent(void **c) { *c = now; return OK; }
int cuCtxSetCurrent(void *c) { now = c; return OK; }
int cuCtxPushCurrent_v2(void *c) { pushed[depth++] = now; now = c; return OK; }
int cuCtxPopCurrent_v2(void **c) { if (c) *c = now; now = pushed[--depth]; return OK; }
int cuCtxGetDevice(int *d) { NEED_CONTEXT; *d = now->device; return OK; }
int cuCtxGetStreamPriorityRange(int *least, int *most) { NEED_CONTEXT; *least = 0; *most = -5; return OK; }
int cuCtxSynchronize(void) { NEED_CONTEXT; in_syncs++; say("sync", now->device, 0); int r = in_fail_next; in_fail_next = 0; return r; }
int cuGetErrorName(int e, const char **s) { static char b[32]; snprintf(b, 32, "CUDA_ERROR_%d", e); *s = b; return OK; }
int cuGetErrorString(int e, const char **s) { *s = e == NO_MEMORY ? "out of memory" : e == 700 ?
    "an illegal memory access was encountered" : "some error"; return OK; }

/* --- memory --- */
static int allocate(ptr *p, size_t n) {
    char *q;
    if (in_used + n > in_limit) return NO_MEMORY;
    if (posix_memalign((void **)&q, 512, n + 512)) return NO_MEMORY;
    *(size_t *)q = n; *p = (ptr)(q + 512); in_used += n;
    return OK;
}
static void release(ptr p) { in_used -= *(size_t *)(p - 512); free((char *)p - 512); }
int cuMemAllocFromPoolAsync(ptr *p, size_t n, void *pool, stream *s) {
    NEED_CONTEXT; if (s->capture) return CAPTURED;
    int r = allocate(p, n); if (!r) { in_allocs++; say("alloc", *p, (ptr)s); } return r;
}
int cuMemFreeAsync(ptr p, stream *s) {
    NEED_CONTEXT; if (s->capture) { say("error", p, (ptr)s); return CAPTURED; }
    in_frees++; say("free", p, (ptr)s); release(p); return OK;
}
int cuMemHostAlloc(ptr *p, size_t n, unsigned flags) { NEED_CONTEXT; in_host_allocs++; in_limit += n; return allocate(p, n); }
int cuMemFreeHost(ptr p) { NEED_CONTEXT; in_host_frees++; in_limit -= *(size_t *)(p - 512); release(p); return OK; }
int cuMemcpyAsync(ptr to, ptr from, size_t n, stream *s) {
    NEED_CONTEXT; in_copies++; say("copy", to, (ptr)s);
    if (s->capture) s->capture->copies[s->capture->count++] = (node){to, from, n}; else memcpy((void *)to, (void *)from, n);
    return OK;
}
int cuMemsetD8Async(ptr p, unsigned char v, size_t n, void *s) { memset((void *)p, v, n); return OK; }
int cuMemsetD16Async(uint16_t *p, uint16_t v, size_t n, void *s) { while (n--) *p++ = v; return OK; }
int cuMemsetD32Async(uint32_t *p, uint32_t v, size_t n, void *s) { while (n--) *p++ = v; return OK; }
static char pools[8][16];
static uint64_t threshold;
int cuDeviceGetMemPool(void **p, int d) { *p = pools[d]; return OK; }
int cuDeviceGetDefaultMemPool(void **p, int d) { *p = pools[d]; return OK; }
int cuMemGetMemPool(void **p, int *location, int type) { *p = pools[location[1]]; return OK; }
int cuMemPoolSetAttribute(void *p, int a, uint64_t *v) { if (a == 4) threshold = *v; return OK; }
int cuMemPoolGetAttribute(void *p, int a, uint64_t *v) { if (a < 4) *(int *)v = 1; else *v = a == 4 ? threshold : in_used; return OK; }
int cuMemPoolTrimTo(void *p, size_t n) { in_trims++; return OK; }
CONST(cuMemPoolDestroy, void *p)
CONST(cuMemPoolSetAccess, void *p, void *d, size_t n)

/* --- streams and events --- */
int cuStreamCreateWithPriority(stream **s, unsigned flags, int priority) {
    NEED_CONTEXT; *s = calloc(1, sizeof **s); (*s)->device = now->device; (*s)->priority = priority; in_streams++; return OK;
}
int cuStreamCreate(stream **s, unsigned flags) { return cuStreamCreateWithPriority(s, flags, 0); }
int cuStreamDestroy_v2(stream *s) { in_streams--; free(s); return OK; }
int cuStreamSynchronize(stream *s) { NEED_CONTEXT; if (s->capture) return CAPTURED; in_syncs++; say("waited", (ptr)s, 0); return OK; }
int cuStreamQuery(stream *s) { NEED_CONTEXT; return s->capture ? CAPTURED : OK; }
int cuStreamGetCtx(stream *s, void **c) { *c = &contexts[s->device]; return OK; }
int cuStreamGetCtx_v2(stream *s, void **c, void **g) { *c = &contexts[s->device]; if (g) *g = 0; return OK; }
int cuStreamGetDevice(stream *s, int *d) { *d = s->device; return OK; }
int cuStreamGetFlags(stream *s, unsigned *f) { *f = 1; return OK; }
int cuStreamGetPriority(stream *s, int *p) { *p = s->priority; return OK; }
int cuStreamGetId(stream *s, uint64_t *i) { *i = (ptr)s; return OK; }
int cuStreamWaitEvent(stream *s, event *e, unsigned flags) { NEED_CONTEXT; in_waits++; say("wait", (ptr)s, (ptr)e); return OK; }
int cuEventCreate(event **e, unsigned flags) { NEED_CONTEXT; *e = calloc(1, sizeof **e); (*e)->device = now->device; in_events++; return OK; }
int cuEventDestroy_v2(event *e) { in_events--; free(e); return OK; }
int cuEventRecord(event *e, stream *s) {
    struct timespec t;
    NEED_CONTEXT; if (e->device != s->device) return BAD_HANDLE;
    clock_gettime(CLOCK_MONOTONIC, &t); e->time = 1e3 * t.tv_sec + 1e-6 * t.tv_nsec; say("record", (ptr)s, (ptr)e);
    return OK;
}
int cuEventRecordWithFlags(event *e, stream *s, unsigned flags) { return cuEventRecord(e, s); }
int cuEventSynchronize(event *e) { NEED_CONTEXT; in_syncs++; return OK; }
int cuEventQuery(event *e) { NEED_CONTEXT; return OK; }
int cuEventElapsedTime_v2(float *ms, event *a, event *b) { *ms = b->time - a->time; return OK; }
int cuEventElapsedTime(float *ms, event *a, event *b) { return cuEventElapsedTime_v2(ms, a, b); }

/* --- graphs: copies are kept and done at each launch, kernels are counted --- */
int cuStreamBeginCapture_v2(stream *s, int mode) { NEED_CONTEXT; if (s->capture) return INVALID; s->capture = calloc(1, sizeof(graph)); in_graphs++; return OK; }
int cuStreamEndCapture(stream *s, graph **g) { *g = s->capture; s->capture = 0; return *g ? OK : INVALID; }
int cuStreamIsCapturing(stream *s, int *status) { *status = s->capture != 0; return OK; }
int cuStreamGetCaptureInfo_v3(stream *s, int *status, uint64_t *id, void **g, void **d, void **e, size_t *n) {
    *status = s->capture != 0; if (id) *id = 1; if (g) *g = s->capture; if (n) *n = 0; return OK;
}
int cuStreamGetCaptureInfo_v2(stream *s, int *status, uint64_t *id, void **g, void **d, size_t *n) { return cuStreamGetCaptureInfo_v3(s, status, id, g, d, 0, n); }
int cuGraphDestroy(graph *g) { in_graphs--; free(g); return OK; }
int cuGraphInstantiateWithFlags(graph **x, graph *g, uint64_t flags) { *x = malloc(sizeof **x); **x = *g; in_graphs++; return OK; }
int cuGraphInstantiateWithParams(graph **x, graph *g, void *p) {  /* flags, stream, node, result */
    ((int *)p)[6] = 0; return cuGraphInstantiateWithFlags(x, g, 0);
}
int cuGraphExecDestroy(graph *x) { in_graphs--; free(x); return OK; }
int cuGraphLaunch(graph *x, stream *s) {
    NEED_CONTEXT; in_graph_launches++; in_launches += x->launches; say("graph", (ptr)x, (ptr)s);
    for (int i = 0; i < x->count; i++) memcpy((void *)x->copies[i].to, (void *)x->copies[i].from, x->copies[i].bytes);
    return OK;
}

/* --- kernels --- */
int cuLibraryLoadData(void **l, const void *image, void *a, void *b, unsigned n, void *c, void *d, unsigned m) { in_loads++; *l = malloc(8); return OK; }
int cuLibraryUnload(void *l) { in_loads--; free(l); return OK; }
int cuLibraryGetKernel(void **k, void *l, const char *name) { if (!strcmp(name, "missing")) return NOT_FOUND; *k = l; return OK; }
int cuKernelGetFunction(void **f, void *k) { NEED_CONTEXT; *f = k; return OK; }
int cuKernelSetAttribute(int a, int v, void *k, int d) { say("attribute", a, v); return OK; }
int cuModuleLoadData(void **m, const void *image) { NEED_CONTEXT; in_loads++; *m = malloc(8); return OK; }
int cuModuleUnload(void *m) { in_loads--; free(m); return OK; }
int cuModuleGetFunction(void **f, void *m, const char *name) { if (!strcmp(name, "missing")) return NOT_FOUND; *f = m; return OK; }
int cuFuncSetAttribute(void *f, int a, int v) { say("attribute", a, v); return OK; }
int cuFuncGetAttribute(int *v, int a, void *f) { *v = 0; return OK; }
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   stream *s, void **parameters, void **extra) {
    NEED_CONTEXT;
    if (s->capture) { in_captured++; s->capture->launches++; } else in_launches++;
    in_grid[0] = gx; in_grid[1] = gy; in_grid[2] = gz; in_block[0] = bx; in_block[1] = by; in_block[2] = bz;
    in_shared = shared; in_stream = s;
    for (int i = 0; i < in_kernel_parameters; i++) in_parameters[i] = *(uint64_t *)parameters[i];
    return OK;
}
int cuLaunchKernelEx(const unsigned *c, void *f, void **parameters, void **extra) {  /* grid, block, shared, stream, ... */
    return cuLaunchKernel(f, c[0], c[1], c[2], c[3], c[4], c[5], c[6], *(stream **)(c + 8), parameters, extra);
}

/* --- how the bindings find all of these --- */
static int find(const char *name, void **p) {
    static const char *versions[] = {"_v3", "_v2", ""};
    static void *self;
    Dl_info info;
    char full[96];
    if (!self && dladdr((void *)find, &info)) self = dlopen(info.dli_fname, RTLD_LAZY);
    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s%s", name, versions[i]);
        if ((*p = dlsym(self, full))) return OK;
    }
    if (getenv("STAND_IN_TRACE")) fprintf(stderr, "stand-in lacks %s\n", name);
    return NOT_FOUND;
}
int cuGetProcAddress_v2(const char *name, void **p, int version, uint64_t flags, int *status) {
    int r = find(name, p);
    if (status) *status = r ? 1 : 0;
    return r;
}
int cuGetProcAddress(const char *name, void **p, int version, uint64_t flags) { return find(name, p); }

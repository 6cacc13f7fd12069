// The CUDA runtime on the host: the functions that CuPy needs.  All others return "not supported" (stubs by install.py).
//
// Device memory is host memory that this file tracks.  Copies check that each pointer is on the side that the direction
// requires.  New memory is filled with 0xFF (NaN as floats, −1 as integers), and freed memory with 0xFE, so that a
// program that reads either shows wrong numbers.
#include <cuda_runtime.h>
#include <cuda_profiler_api.h>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

static std::map<char*, size_t> allocations;
static std::mutex mutex;
static size_t used;
static const size_t TOTAL = (size_t)8 << 30;
typedef cudaError_t E;

static bool is_on_device(const void* p, size_t n) {
    std::lock_guard<std::mutex> lock(mutex);
    auto next = allocations.upper_bound((char*)p);
    if (next == allocations.begin()) return false;
    auto [start, size] = *--next;
    return (char*)p >= start && (char*)p + n <= start + size;
}

static E refuse(const char* what) {
    fprintf(stderr, "emulated CUDA: %s\n", what);
    return cudaErrorInvalidValue;
}

extern "C" {
long minifcn_to_device, minifcn_to_host;  // numbers of copies so far; cuda_on_cpu.counters() reads them

E cudaMalloc(void** p, size_t n) {
    if (used + n > TOTAL || posix_memalign(p, 512, n ? n : 1)) return cudaErrorMemoryAllocation;
    memset(*p, 0xFF, n);
    std::lock_guard<std::mutex> lock(mutex);
    allocations[(char*)*p] = n;
    used += n;
    return cudaSuccess;
}
E cudaFree(void* p) {
    if (!p) return cudaSuccess;
    std::lock_guard<std::mutex> lock(mutex);
    auto found = allocations.find((char*)p);
    if (found == allocations.end()) return refuse("cudaFree of a pointer that was not allocated");
    memset(p, 0xFE, found->second);
    used -= found->second;
    allocations.erase(found);
    free(p);
    return cudaSuccess;
}
E cudaMallocAsync(void** p, size_t n, cudaStream_t) { return cudaMalloc(p, n); }
E cudaFreeAsync(void* p, cudaStream_t) { return cudaFree(p); }
E cudaHostAlloc(void** p, size_t n, unsigned) { return (*p = malloc(n ? n : 1)) ? cudaSuccess : cudaErrorMemoryAllocation; }
E cudaFreeHost(void* p) { return free(p), cudaSuccess; }
E cudaMemGetInfo(size_t* free, size_t* total) { return *total = TOTAL, *free = TOTAL - used, cudaSuccess; }

E cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind kind) {
    const bool to_device = is_on_device(to, n), from_device = is_on_device(from, n);
    if (n && kind == cudaMemcpyHostToDevice && (!to_device || from_device)) return refuse("a copy to the device must read host and write device memory");
    if (n && kind == cudaMemcpyDeviceToHost && (to_device || !from_device)) return refuse("a copy to the host must read device and write host memory");
    if (n && kind == cudaMemcpyDeviceToDevice && !(to_device && from_device)) return refuse("a copy on the device must read and write device memory");
    minifcn_to_device += kind == cudaMemcpyHostToDevice;
    minifcn_to_host += kind == cudaMemcpyDeviceToHost;
    memmove(to, from, n);
    return cudaSuccess;
}
E cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind kind, cudaStream_t) { return cudaMemcpy(to, from, n, kind); }
E cudaMemset(void* p, int value, size_t n) {
    if (n && !is_on_device(p, n)) return refuse("cudaMemset outside of device memory");
    memset(p, value, n);
    return cudaSuccess;
}
E cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t) { return cudaMemset(p, value, n); }
E cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
    const bool device = is_on_device(p, 0);
    memset(a, 0, sizeof *a);
    a->type = device ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    (device ? a->devicePointer : a->hostPointer) = (void*)p;
    return cudaSuccess;
}

E cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
E cudaSetDevice(int device) { return device ? cudaErrorInvalidDevice : cudaSuccess; }
E cudaGetDeviceCount(int* n) { return *n = 1, cudaSuccess; }
E cudaDeviceSynchronize() { return cudaSuccess; }
E cudaDriverGetVersion(int* version) { return *version = 13020, cudaSuccess; }
E cudaRuntimeGetVersion(int* version) { return *version = 13020, cudaSuccess; }
E cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(E e) {
    switch (e) {
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorNotSupported: return "cudaErrorNotSupported";
        default: return "cudaError";
    }
}
const char* cudaGetErrorString(E e) { return e == cudaErrorNotSupported ? "not emulated" : "emulated CUDA on the CPU"; }
E cudaGetDeviceProperties(cudaDeviceProp* p, int) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "CPU (emulated CUDA)");
    p->totalGlobalMem = TOTAL;
    p->sharedMemPerBlock = 49152, p->regsPerBlock = 65536, p->warpSize = 32, p->maxThreadsPerBlock = 1024;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->major = 8, p->minor = 0, p->multiProcessorCount = 2, p->concurrentKernels = 1;
    p->maxThreadsPerMultiProcessor = 2048, p->sharedMemPerMultiprocessor = 167936, p->regsPerMultiprocessor = 65536;
    return cudaSuccess;
}
E cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = 8; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
        case cudaDevAttrWarpSize: *value = 32; break;
        case cudaDevAttrMultiProcessorCount: *value = 2; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
        case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
        case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: *value = 65535; break;
        default: *value = 0;
    }
    return cudaSuccess;
}
E cudaDeviceGetPCIBusId(char* text, int n, int) { return snprintf(text, n, "0000:00:00.0"), cudaSuccess; }
E cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }

// Every call is synchronous.  A stream is therefore only a number, and an event only a time.
static long streams = 0x1000;
E cudaStreamCreate(cudaStream_t* s) { return *s = (cudaStream_t)streams++, cudaSuccess; }
E cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) { return cudaStreamCreate(s); }
E cudaStreamCreateWithPriority(cudaStream_t* s, unsigned, int) { return cudaStreamCreate(s); }
E cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
E cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
E cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
E cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
E cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* s) { return *s = cudaStreamCaptureStatusNone, cudaSuccess; }
E cudaStreamGetFlags(cudaStream_t, unsigned* flags) { return *flags = 0, cudaSuccess; }
E cudaStreamGetPriority(cudaStream_t, int* priority) { return *priority = 0, cudaSuccess; }
E cudaEventCreate(cudaEvent_t* e) { return *e = (cudaEvent_t) new double(0), cudaSuccess; }
E cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { return cudaEventCreate(e); }
E cudaEventDestroy(cudaEvent_t e) { return delete (double*)e, cudaSuccess; }
E cudaEventRecord(cudaEvent_t e, cudaStream_t) {
    using namespace std::chrono;
    *(double*)e = duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
    return cudaSuccess;
}
E cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
E cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
E cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) { return *ms = *(double*)b - *(double*)a, cudaSuccess; }
E cudaProfilerStart() { return cudaSuccess; }
E cudaProfilerStop() { return cudaSuccess; }
}

// The CUDA driver on the host: the functions that CuPy calls.  A compiled module is a shared library made by compiler.py,
// and a launch calls its cuda_launch, which comes from cuda.h.
#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

enum Result { SUCCESS = 0, INVALID_VALUE = 1, INVALID_IMAGE = 200, FILE_NOT_FOUND = 301, NOT_FOUND = 500, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801 };
typedef void (*Kernel)(void**);
typedef const char* (*Launch)(Kernel, void**, const unsigned*, const unsigned*, unsigned, unsigned);
struct Module { void* library; };
struct Function { Kernel kernel; Launch launch; std::string name; };

static Result load(Module** m, const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return fprintf(stderr, "emulated CUDA: %s\n", dlerror()), INVALID_IMAGE;
    *m = new Module{library};
    return SUCCESS;
}

extern "C" {
long minifcn_launches;  // number of launched kernels so far; cuda_on_cpu.counters() reads it
int minifcn_order = getenv("MINIFCN_CUDA_ORDER") ? atoi(getenv("MINIFCN_CUDA_ORDER")) : 0;  // order of blocks and threads

Result cuGetErrorName(int e, const char** name) {
    *name = e == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : e == NOT_FOUND ? "CUDA_ERROR_NOT_FOUND"
          : e == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" : "CUDA_ERROR_NOT_SUPPORTED";
    return SUCCESS;
}
Result cuGetErrorString(int, const char** text) { return *text = "emulated CUDA on the CPU", SUCCESS; }
Result cuInit(unsigned) { return SUCCESS; }
Result cuCtxGetCurrent(void** context) { return *context = (void*)1, SUCCESS; }
Result cuCtxSetCurrent(void*) { return SUCCESS; }
Result cuCtxGetDevice(int* device) { return *device = 0, SUCCESS; }
Result cuStreamGetCtx(void*, void** context) { return *context = (void*)1, SUCCESS; }

Result cuModuleLoad(Module** m, const char* path) { return load(m, path); }
Result cuModuleLoadData(Module** m, void* image) {
    auto header = (Elf64_Ehdr*)image;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG)) return INVALID_IMAGE;
    const size_t size = header->e_shoff + (size_t)header->e_shentsize * header->e_shnum;  // section headers end an ELF file
    std::string path = (std::filesystem::temp_directory_path() / "minifcn-cuda-XXXXXX").string();
    const int file = mkstemp(path.data());
    const bool written = file >= 0 && write(file, image, size) == (ssize_t)size;
    close(file);
    const Result result = written ? load(m, path.c_str()) : INVALID_IMAGE;
    unlink(path.c_str());
    return result;
}
Result cuModuleUnload(Module*) { return SUCCESS; }
Result cuModuleGetFunction(Function** f, Module* m, const char* name) {
    auto kernel = (Kernel)dlsym(m->library, (std::string("cuda_") + name).c_str());
    if (!kernel) return NOT_FOUND;
    *f = new Function{kernel, (Launch)dlsym(m->library, "cuda_launch"), name};
    return SUCCESS;
}
Result cuModuleGetGlobal_v2(void** p, size_t* size, Module* m, const char* name) {
    if (size) *size = 0;
    return (*p = dlsym(m->library, name)) ? SUCCESS : NOT_FOUND;
}

Result cuLaunchKernel(Function* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void*, void** arguments, void**) {
    const bool fits = gx && gy && gz && gx <= 2147483647u && gy <= 65535 && gz <= 65535 && bx && by && bz && bz <= 64 &&
                      (size_t)bx * by * bz <= 1024 && shared <= 49152;
    if (!fits) return INVALID_VALUE;
    static const char* trace = getenv("MINIFCN_CUDA_TRACE");
    if (trace) fprintf(stderr, "%s<<<(%u, %u, %u), (%u, %u, %u)>>>\n", f->name.c_str(), gx, gy, gz, bx, by, bz);
    ++minifcn_launches;
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    const char* error = f->launch(f->kernel, arguments, grid, block, shared, minifcn_order);
    if (error) return fprintf(stderr, "emulated CUDA: %s: %s\n", f->name.c_str(), error), LAUNCH_FAILED;
    return SUCCESS;
}
Result cuLaunchCooperativeKernel(Function*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**) {
    return NOT_SUPPORTED;
}
Result cuFuncGetAttribute(int* value, int attribute, Function*) { return *value = attribute == 0 ? 1024 : 0, SUCCESS; }
Result cuFuncSetAttribute(Function*, int, int) { return SUCCESS; }
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, Function*, int threads, size_t) { return *n = 2048 / (threads ? threads : 1), SUCCESS; }
Result cuOccupancyMaxPotentialBlockSize(int* grid, int* block, Function*, void*, size_t, int) { return *grid = 2, *block = 256, SUCCESS; }
}

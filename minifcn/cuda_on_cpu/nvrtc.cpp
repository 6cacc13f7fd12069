// NVRTC, NVIDIA's run-time compiler: the functions that CuPy calls.  A program is compiled by running compiler.py, and the
// result is a shared library of the host.
#include <sys/wait.h>
#include <unistd.h>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

struct Program {
    std::string source, log, binary;
    std::vector<std::string> names;              // instances of templates that CuPy needs
    std::map<std::string, std::string> lowered;  // their names in the library
};
static std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

extern "C" {
const char* nvrtcGetErrorString(int e) { return e == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 2, 0; }
int nvrtcGetNumSupportedArchs(int* n) { return *n = 1, 0; }
int nvrtcGetSupportedArchs(int* archs) { return *archs = 80, 0; }
int nvrtcCreateProgram(Program** p, const char* source, const char*, int, const char**, const char**) { return *p = new Program{source}, 0; }
int nvrtcDestroyProgram(Program** p) { return delete *p, *p = nullptr, 0; }
int nvrtcAddNameExpression(Program* p, const char* name) { return p->names.push_back(name), 0; }

int nvrtcCompileProgram(Program* p, int n, const char** options) {
    if (p->source.empty()) return p->binary = "// compiled by g++\n", 0;  // CuPy identifies the compiler by this output
    std::string path = (std::filesystem::temp_directory_path() / "minifcn-cuda-XXXXXX").string();
    const char *python = getenv("MINIFCN_CUDA_PYTHON"), *compiler = getenv("MINIFCN_CUDA_COMPILER");
    if (!mkdtemp(path.data()) || !python || !compiler) return p->log = "run this with: python -m minifcn.cuda_on_cpu run", 6;
    const std::filesystem::path folder = path;
    std::ofstream(folder / "kernel.cu") << p->source;
    {
        std::ofstream names(folder / "names");
        for (auto& name : p->names) names << name << "\n";
    }
    std::vector<const char*> command{python, "-S", compiler, path.c_str()};
    command.insert(command.end(), options, options + n);
    command.push_back(nullptr);
    const pid_t child = fork();
    if (!child) {
        unsetenv("LD_PRELOAD");
        execv(command[0], (char**)command.data());
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    p->log = read(folder / "log");
    p->binary = read(folder / "kernel.so");
    for (size_t i = 0; i < p->names.size(); ++i) p->lowered[p->names[i]] = "expression_" + std::to_string(i);
    std::filesystem::remove_all(folder);
    return status == 0 && !p->binary.empty() ? 0 : 6;
}
int nvrtcGetPTXSize(Program* p, size_t* n) { return *n = p->binary.size() + 1, 0; }
int nvrtcGetPTX(Program* p, char* to) { return memcpy(to, p->binary.c_str(), p->binary.size() + 1), 0; }
int nvrtcGetCUBINSize(Program* p, size_t* n) { return nvrtcGetPTXSize(p, n); }
int nvrtcGetCUBIN(Program* p, char* to) { return nvrtcGetPTX(p, to); }
int nvrtcGetProgramLogSize(Program* p, size_t* n) { return *n = p->log.size() + 1, 0; }
int nvrtcGetProgramLog(Program* p, char* to) { return memcpy(to, p->log.c_str(), p->log.size() + 1), 0; }
int nvrtcGetLoweredName(Program* p, const char* name, const char** lowered) { return *lowered = p->lowered[name].c_str(), 0; }
}

// cuRAND's host interface on the CPU: the same distributions as on a GPU, but other numbers.
#include <random>

struct Generator { std::mt19937_64 engine; };
template <class T, class Distribution>
static int fill(Generator* g, T* p, size_t n, Distribution distribution) {
    for (size_t i = 0; i < n; ++i) p[i] = distribution(g->engine);
    return 0;
}

extern "C" {
int curandCreateGenerator(Generator** g, int) { return *g = new Generator, 0; }
int curandDestroyGenerator(Generator* g) { return delete g, 0; }
int curandGetVersion(int* version) { return *version = 10400, 0; }
int curandSetStream(Generator*, void*) { return 0; }
int curandSetPseudoRandomGeneratorSeed(Generator* g, unsigned long long seed) { return g->engine.seed(seed), 0; }
int curandSetGeneratorOffset(Generator* g, unsigned long long) { return 0; }
int curandSetGeneratorOrdering(Generator* g, int) { return 0; }
int curandGenerate(Generator* g, unsigned* p, size_t n) { return fill(g, p, n, std::uniform_int_distribution<unsigned>()); }
int curandGenerateLongLong(Generator* g, unsigned long long* p, size_t n) {
    return fill(g, p, n, std::uniform_int_distribution<unsigned long long>(0, ~0ull));
}
int curandGenerateUniform(Generator* g, float* p, size_t n) {  // in (0, 1], as in cuRAND
    std::uniform_real_distribution<float> d(0, 1);
    return fill(g, p, n, [&](auto& engine) { return 1 - d(engine); });
}
int curandGenerateUniformDouble(Generator* g, double* p, size_t n) {
    std::uniform_real_distribution<double> d(0, 1);
    return fill(g, p, n, [&](auto& engine) { return 1 - d(engine); });
}
int curandGenerateNormal(Generator* g, float* p, size_t n, float mean, float deviation) {
    return n % 2 ? 105 : fill(g, p, n, std::normal_distribution<float>(mean, deviation));  // 105: n is odd
}
int curandGenerateNormalDouble(Generator* g, double* p, size_t n, double mean, double deviation) {
    return n % 2 ? 105 : fill(g, p, n, std::normal_distribution<double>(mean, deviation));
}
int curandGenerateLogNormal(Generator* g, float* p, size_t n, float mean, float deviation) {
    return fill(g, p, n, std::lognormal_distribution<float>(mean, deviation));
}
int curandGenerateLogNormalDouble(Generator* g, double* p, size_t n, double mean, double deviation) {
    return fill(g, p, n, std::lognormal_distribution<double>(mean, deviation));
}
int curandGeneratePoisson(Generator* g, unsigned* p, size_t n, double lambda) {
    return fill(g, p, n, std::poisson_distribution<unsigned>(lambda));
}
}

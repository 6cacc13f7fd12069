// The matrix products of cuBLAS that CuPy calls, on the host: column-major, with cuBLAS's checks of leading dimensions.
#include <complex>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

enum Status { OK = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { FLOAT = 0, DOUBLE = 1, HALF = 2, COMPLEX = 4, DOUBLE_COMPLEX = 5 };
typedef void* Handle;

static bool misfit(int ta, int tb, int m, int n, int k, int lda, int ldb, int ldc) {
    return lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || lda < 1 || ldb < 1;
}

// C = alpha op(A) op(B) + beta C, accumulated in type Sum, one column of C at a time, so that the compiler can vectorise.
template <class T, class Sum>
static void gemm(int ta, int tb, int m, int n, int k, Sum alpha, const T* A, int lda, const T* B, int ldb, Sum beta, T* C, int ldc) {
    std::vector<T> copy;
    if (ta) {  // copy op(A) to column-major order
        copy.resize((size_t)m * k);
        for (int i = 0; i < m; ++i)
            for (int l = 0; l < k; ++l) copy[i + (size_t)l * m] = A[l + (size_t)i * lda];
        A = copy.data(), lda = m;
    }
    std::vector<Sum> column(m);
    for (int j = 0; j < n; ++j) {
        column.assign(m, Sum(0));
        for (int l = 0; l < k; ++l) {
            const Sum b = (Sum)B[tb ? j + (size_t)l * ldb : l + (size_t)j * ldb];
            const T* a = A + (size_t)l * lda;
            for (int i = 0; i < m; ++i) column[i] += (Sum)a[i] * b;
        }
        T* c = C + (size_t)j * ldc;
        for (int i = 0; i < m; ++i) c[i] = (T)(beta == Sum(0) ? alpha * column[i] : alpha * column[i] + beta * (Sum)c[i]);
    }
}

extern "C" {
long minifcn_products;  // number of matrix products so far; cuda_on_cpu.counters() reads it

static void count(const char* name, int ta, int tb, int m, int n, int k) {
    static const char* trace = getenv("MINIFCN_CUDA_TRACE");
    ++minifcn_products;
    if (trace) fprintf(stderr, "%s %c%c m=%d n=%d k=%d\n", name, ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k);
}

Status cublasCreate_v2(Handle* h) { return *h = (Handle)1, OK; }
Status cublasDestroy_v2(Handle) { return OK; }
Status cublasSetStream_v2(Handle, void*) { return OK; }
Status cublasGetStream_v2(Handle, void** stream) { return *stream = nullptr, OK; }
Status cublasGetVersion_v2(Handle, int* version) { return *version = 130200, OK; }
static int pointer_mode;
Status cublasSetPointerMode_v2(Handle, int mode) { return pointer_mode = mode, OK; }
Status cublasGetPointerMode_v2(Handle, int* mode) { return *mode = pointer_mode, OK; }
Status cublasSetMathMode(Handle, int) { return OK; }
Status cublasGetMathMode(Handle, int* mode) { return *mode = 0, OK; }

#define PRODUCTS(P, T) \
    Status cublas##P##gemm_v2(Handle, int ta, int tb, int m, int n, int k, const T* alpha, const T* A, int lda, \
                              const T* B, int ldb, const T* beta, T* C, int ldc) { \
        count(#P "gemm", ta, tb, m, n, k); \
        if (misfit(ta, tb, m, n, k, lda, ldb, ldc)) return INVALID_VALUE; \
        return gemm<T, T>(ta, tb, m, n, k, *alpha, A, lda, B, ldb, *beta, C, ldc), OK; \
    } \
    Status cublas##P##gemmBatched(Handle, int ta, int tb, int m, int n, int k, const T* alpha, const T* const A[], int lda, \
                                  const T* const B[], int ldb, const T* beta, T* const C[], int ldc, int batch) { \
        count(#P "gemmBatched", ta, tb, m, n, k); \
        if (misfit(ta, tb, m, n, k, lda, ldb, ldc)) return INVALID_VALUE; \
        for (int i = 0; i < batch; ++i) gemm<T, T>(ta, tb, m, n, k, *alpha, A[i], lda, B[i], ldb, *beta, C[i], ldc); \
        return OK; \
    } \
    Status cublas##P##dot_v2(Handle, int n, const T* x, int step_x, const T* y, int step_y, T* result) { \
        T sum = 0; \
        for (int i = 0; i < n; ++i) sum += x[(size_t)i * step_x] * y[(size_t)i * step_y]; \
        return *result = sum, OK; \
    }
PRODUCTS(S, float)
PRODUCTS(D, double)

Status cublasGemmEx(Handle, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int a_type, int lda,
                    const void* B, int b_type, int ldb, const void* beta, void* C, int c_type, int ldc, int, int) {
    count("GemmEx", ta, tb, m, n, k);
    if (a_type != b_type || a_type != c_type) return NOT_SUPPORTED;
    if (misfit(ta, tb, m, n, k, lda, ldb, ldc)) return INVALID_VALUE;
#define CASE(type, T, Sum) \
    case type: gemm<T, Sum>(ta, tb, m, n, k, *(Sum*)alpha, (const T*)A, lda, (const T*)B, ldb, *(Sum*)beta, (T*)C, ldc); return OK;
    switch (a_type) {
        CASE(FLOAT, float, float)
        CASE(DOUBLE, double, double)
        CASE(HALF, _Float16, float)
        CASE(COMPLEX, std::complex<float>, std::complex<float>)
        CASE(DOUBLE_COMPLEX, std::complex<double>, std::complex<double>)
        default: return NOT_SUPPORTED;
    }
}
Status cublasGemmStridedBatchedEx(Handle h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int a_type,
                                  int lda, long long a_step, const void* B, int b_type, int ldb, long long b_step,
                                  const void* beta, void* C, int c_type, int ldc, long long c_step, int batch, int, int) {
    const int size = a_type == DOUBLE_COMPLEX ? 16 : a_type == DOUBLE || a_type == COMPLEX ? 8 : a_type == FLOAT ? 4 : 2;
    for (int i = 0; i < batch; ++i) {
        const Status status = cublasGemmEx(h, ta, tb, m, n, k, alpha, (char*)A + i * a_step * size, a_type, lda,
            (char*)B + i * b_step * size, b_type, ldb, beta, (char*)C + i * c_step * size, c_type, ldc, 0, 0);
        if (status) return status;
    }
    return OK;
}
}

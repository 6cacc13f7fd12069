// The common beginning of all kernels; launch.py puts it before each .cu file.
//
// MF_REAL is float or double.  MF_INDEX counts elements: int if it is large enough, else long long.  Division of ints is
// five times as fast, and these kernels mostly divide: to find an element's indices from its thread's number.
//
// EACH is the head of a loop in which the threads of the grid share the elements 0 ... n - 1.

#define EACH(i, n)                                                        \
    MF_INDEX i = blockIdx.x * (MF_INDEX)blockDim.x + threadIdx.x; i < n;  \
    i += (MF_INDEX)gridDim.x * blockDim.x

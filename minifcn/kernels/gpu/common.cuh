// The common beginning of all kernels; launch.py puts it before each .cu file.
//
// MF_REAL is float or double.  MF_INDEX counts elements: int if it is large enough, else long long.  Division of ints is
// five times as fast, and these kernels mostly divide: to find an element's indices from its thread's number.
//
// EACH is the head of a loop in which the threads of the grid share the elements 0 ... n - 1.

#define EACH(i, n)                                                        \
    MF_INDEX i = blockIdx.x * (MF_INDEX)blockDim.x + threadIdx.x; i < n;  \
    i += (MF_INDEX)gridDim.x * blockDim.x

// The sum of `value` over the threads of a block, returned to all of them.  The order of additions is fixed: in each step
// the upper half of the partial sums is added to the lower half.
__device__ MF_REAL block_sum(MF_REAL value) {
    __shared__ MF_REAL part[MF_BLOCK];
    __syncthreads();  // all threads have read the result of the previous call
    part[threadIdx.x] = value;
    __syncthreads();
    for (int half = MF_BLOCK / 2; half; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    return part[0];
}

// The common beginning of every kernel of this folder; launch.py puts it before each .cu file.
//
// MF_REAL is float or double.  MF_INDEX counts elements: int if their number fits, else long long.  int divides five times
// as fast, and these kernels spend much of their time on divisions that turn a thread's number into an element's indices.
//
// for (EACH(i, n)) runs over the elements i < n of this thread; the threads of the grid share the elements.

#define EACH(i, n)                                                        \
    MF_INDEX i = blockIdx.x * (MF_INDEX)blockDim.x + threadIdx.x; i < n;  \
    i += (MF_INDEX)gridDim.x * blockDim.x

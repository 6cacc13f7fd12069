// What every kernel of this folder begins with; launch.py puts it before each .cu file.
//
// MF_REAL is float or double.  MF_INDEX counts elements: int where all fit, which divides five times as fast, else long
// long.  Divisions are what these kernels mostly do: they turn a thread's number into the place of an element.

#define EACH(i, n)                                                        \
    MF_INDEX i = blockIdx.x * (MF_INDEX)blockDim.x + threadIdx.x; i < n;  \
    i += (MF_INDEX)gridDim.x * blockDim.x

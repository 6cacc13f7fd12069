// The sums of batch normalisation, with one block for each channel of x: (N, C, pixels).  The arithmetic on each element
// that uses these sums is in elementwise.py.

// One block for each channel: its mean, then its variance around that mean.
extern "C" __global__ void channel_moments(const MF_REAL* x, MF_REAL* mean, MF_REAL* var, int N, int C, MF_INDEX pixels) {
    const int c = blockIdx.x;
    const MF_REAL m = N * (MF_REAL)pixels;
    MF_REAL sum = 0;
    for (int n = 0; n < N; ++n)
        for (MF_INDEX p = threadIdx.x; p < pixels; p += MF_BLOCK) sum += x[((MF_INDEX)n * C + c) * pixels + p];
    const MF_REAL centre = block_sum(sum) / m;
    sum = 0;
    for (int n = 0; n < N; ++n)
        for (MF_INDEX p = threadIdx.x; p < pixels; p += MF_BLOCK) {
            const MF_REAL distance = x[((MF_INDEX)n * C + c) * pixels + p] - centre;
            sum += distance * distance;
        }
    const MF_REAL square = block_sum(sum) / m;
    if (threadIdx.x == 0) mean[c] = centre, var[c] = square;
}

// One block for each channel: gbeta = sum of gy, ggamma = sum of gy (x - mean) / sqrt(var + eps).
extern "C" __global__ void channel_gradients(const MF_REAL* gy, const MF_REAL* x, const MF_REAL* mean, const MF_REAL* var,
                                             MF_REAL* ggamma, MF_REAL* gbeta, int N, int C, MF_INDEX pixels, MF_REAL eps) {
    const int c = blockIdx.x;
    MF_REAL sum = 0, product = 0;
    for (int n = 0; n < N; ++n)
        for (MF_INDEX p = threadIdx.x; p < pixels; p += MF_BLOCK) {
            const MF_INDEX e = ((MF_INDEX)n * C + c) * pixels + p;
            sum += gy[e];
            product += gy[e] * (x[e] - mean[c]);
        }
    const MF_REAL of_beta = block_sum(sum), of_gamma = block_sum(product) / sqrt(var[c] + eps);
    if (threadIdx.x == 0) ggamma[c] = of_gamma, gbeta[c] = of_beta;
}

// AlexNet's local response normalisation, across channels.  x, y, s: (N, C, pixels); one thread for each element.

// y = x / s^beta with s = k + alpha / size * sum of x^2 over the `size` channels from c - size / 2 on (integer division).
extern "C" __global__ void local_response_norm(const MF_REAL* x, MF_REAL* y, MF_REAL* s, MF_INDEX total, int C,
                                               MF_INDEX pixels, int size, MF_REAL alpha, MF_REAL beta, MF_REAL k) {
    for (EACH(e, total)) {
        const int c = e / pixels % C;
        MF_REAL sum = 0;
        for (int d = -(size / 2); d < size - size / 2; ++d)
            if (c + d >= 0 && c + d < C) sum += x[e + d * pixels] * x[e + d * pixels];
        const MF_REAL base = k + alpha / size * sum;
        s[e] = base;
        y[e] = x[e] * pow(base, -beta);
    }
}

// Channel c contributed to the channels whose window contains it: they are the mirrored window around c.
extern "C" __global__ void local_response_norm_grad(const MF_REAL* gy, const MF_REAL* x, const MF_REAL* s, MF_REAL* gx,
                                                    MF_INDEX total, int C, MF_INDEX pixels, int size, MF_REAL alpha,
                                                    MF_REAL beta) {
    for (EACH(e, total)) {
        const int c = e / pixels % C;
        MF_REAL sum = 0;
        for (int d = size / 2 - size + 1; d <= size / 2; ++d) {
            if (c + d < 0 || c + d >= C) continue;
            const MF_INDEX other = e + d * pixels;
            sum += gy[other] * x[other] * pow(s[other], -beta - 1);
        }
        gx[e] = gy[e] * pow(s[e], -beta) - 2 * alpha * beta / size * x[e] * sum;
    }
}

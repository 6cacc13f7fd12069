// Depthwise convolution, (N, C, H, W) -> (N, C, OH, OW) with one filter (kh, kw) for each channel, and its gradients.
// A thread reads its window directly: columns and matrix products would move far more numbers than they multiply.

// One thread for each output cell: y[n, c, i, j] = sum over u, v of w[c, u, v] x[n, c, sh i - ph + dh u, sw j - pw + dw v].
extern "C" __global__ void depthwise(const MF_REAL* x, const MF_REAL* w, MF_REAL* y, MF_INDEX total, int C, int H, int W,
                                     int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    for (EACH(e, total)) {
        MF_INDEX rest = e;
        const int j = rest % OW;
        rest /= OW;
        const int i = rest % OH;
        rest /= OH;
        const MF_REAL* map = x + rest * H * W;
        const MF_REAL* filter = w + rest % C * kh * kw;

        MF_REAL sum = 0;
        for (int u = 0; u < kh; ++u) {
            const int p = sh * i - ph + dh * u;
            if (p < 0 || p >= H) continue;
            for (int v = 0; v < kw; ++v) {
                const int q = sw * j - pw + dw * v;
                if (q >= 0 && q < W) sum += filter[u * kw + v] * map[(MF_INDEX)p * W + q];
            }
        }
        y[e] = sum;
    }
}

// One thread for each input cell.  It gathers from all windows that contain the cell, so that no two threads add to one.
extern "C" __global__ void depthwise_grad_input(const MF_REAL* gy, const MF_REAL* w, MF_REAL* gx, MF_INDEX total, int C,
                                                int H, int W, int OH, int OW, int kh, int kw, int sh, int sw, int ph,
                                                int pw, int dh, int dw) {
    for (EACH(e, total)) {
        MF_INDEX rest = e;
        const int q = rest % W;
        rest /= W;
        const int p = rest % H;
        rest /= H;
        const MF_REAL* map = gy + rest * OH * OW;
        const MF_REAL* filter = w + rest % C * kh * kw;

        MF_REAL sum = 0;
        for (int u = 0; u < kh; ++u) {
            const int y = p + ph - dh * u;  // sh i, if tap row u of window row i lies on this cell
            if (y < 0 || y % sh || y / sh >= OH) continue;
            for (int v = 0; v < kw; ++v) {
                const int z = q + pw - dw * v;
                if (z < 0 || z % sw || z / sw >= OW) continue;
                sum += filter[u * kw + v] * map[(MF_INDEX)(y / sh) * OW + z / sw];
            }
        }
        gx[e] = sum;
    }
}

// One block for each tap of each channel: the sum over all windows of gy times the cell under the tap.
extern "C" __global__ void depthwise_grad_weight(const MF_REAL* gy, const MF_REAL* x, MF_REAL* gw, int N, int C, int H,
                                                 int W, int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw,
                                                 int dh, int dw) {
    const int v = blockIdx.x % kw, u = blockIdx.x / kw % kh, c = blockIdx.x / kw / kh;
    MF_REAL sum = 0;
    for (int n = 0; n < N; ++n) {
        const MF_INDEX map = (MF_INDEX)n * C + c;
        for (int e = threadIdx.x; e < OH * OW; e += MF_BLOCK) {
            const int p = sh * (e / OW) - ph + dh * u, q = sw * (e % OW) - pw + dw * v;
            if (p >= 0 && p < H && q >= 0 && q < W) sum += gy[map * OH * OW + e] * x[(map * H + p) * W + q];
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) gw[blockIdx.x] = sum;
}

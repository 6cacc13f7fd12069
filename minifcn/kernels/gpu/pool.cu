// Pooling, (N, C, H, W) -> (N, C, OH, OW), and its gradient.  Forward, one thread for each output cell reads its window.
// Backward, one thread for each input cell gathers from all windows that contain it, so that no two threads add to one cell.
// A window has kh x kw taps, numbered u kw + v.

// y: the maximum; tap: the number of the first tap that has it.  Outside the image x is -infinity.
extern "C" __global__ void max_pool2d(const MF_REAL* x, MF_REAL* y, unsigned char* tap, MF_INDEX total, int H, int W,
                                      int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    for (EACH(e, total)) {
        MF_INDEX rest = e;
        const int j = rest % OW;
        rest /= OW;
        const int i = rest % OH;
        const MF_REAL* map = x + rest / OH * H * W;

        MF_REAL best = __int_as_float(0xff800000);  // the bits of -infinity: NVRTC has no name for it
        int at = -1;
        for (int u = 0; u < kh; ++u) {
            const int p = sh * i - ph + dh * u;
            if (p < 0 || p >= H) continue;
            for (int v = 0; v < kw; ++v) {
                const int q = sw * j - pw + dw * v;
                if (q < 0 || q >= W) continue;
                const MF_REAL value = map[(MF_INDEX)p * W + q];
                // at < 0: take the first tap on the image even if all are -infinity; value != value: take every NaN
                if (at < 0 || value > best || value != value) best = value, at = u * kw + v;
            }
        }
        y[e] = best;
        tap[e] = at < 0 ? 0 : at;
    }
}

extern "C" __global__ void max_pool2d_grad(const MF_REAL* gy, const unsigned char* tap, MF_REAL* gx, MF_INDEX total, int H,
                                           int W, int OH, int OW, int kh, int kw, int sh, int sw, int ph, int pw, int dh,
                                           int dw) {
    for (EACH(e, total)) {
        MF_INDEX rest = e;
        const int q = rest % W;
        rest /= W;
        const int p = rest % H;
        const MF_INDEX map = rest / H * OH * OW;

        MF_REAL sum = 0;
        for (int u = 0; u < kh; ++u) {
            const int y = p + ph - dh * u;  // sh i, if tap row u of window row i lies on this cell
            if (y < 0 || y % sh || y / sh >= OH) continue;
            for (int v = 0; v < kw; ++v) {
                const int z = q + pw - dw * v;
                if (z < 0 || z % sw || z / sw >= OW) continue;
                const MF_INDEX window = map + (MF_INDEX)(y / sh) * OW + z / sw;
                if (tap[window] == u * kw + v) sum += gy[window];
            }
        }
        gx[e] = sum;
    }
}

// The number of taps of window i that count, along one axis of n cells: those on the axis or in a margin beside it.
__device__ int counted(int i, int n, int k, int s, int p, int d, int margin) {
    int taps = 0;
    for (int u = 0; u < k; ++u) {
        const int cell = s * i - p + d * u;
        taps += cell >= -margin && cell < n + margin;
    }
    return taps;
}

__device__ MF_REAL area(int i, int j, int H, int W, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw,
                        int margins) {
    const int taps = counted(i, H, kh, sh, ph, dh, margins ? ph : 0) * counted(j, W, kw, sw, pw, dw, margins ? pw : 0);
    return taps ? taps : 1;
}

extern "C" __global__ void avg_pool2d(const MF_REAL* x, MF_REAL* y, MF_INDEX total, int H, int W, int OH, int OW, int kh,
                                      int kw, int sh, int sw, int ph, int pw, int dh, int dw, int margins) {
    for (EACH(e, total)) {
        MF_INDEX rest = e;
        const int j = rest % OW;
        rest /= OW;
        const int i = rest % OH;
        const MF_REAL* map = x + rest / OH * H * W;

        MF_REAL sum = 0;
        for (int u = 0; u < kh; ++u) {
            const int p = sh * i - ph + dh * u;
            if (p < 0 || p >= H) continue;
            for (int v = 0; v < kw; ++v) {
                const int q = sw * j - pw + dw * v;
                if (q >= 0 && q < W) sum += map[(MF_INDEX)p * W + q];
            }
        }
        y[e] = sum / area(i, j, H, W, kh, kw, sh, sw, ph, pw, dh, dw, margins);
    }
}

extern "C" __global__ void avg_pool2d_grad(const MF_REAL* gy, MF_REAL* gx, MF_INDEX total, int H, int W, int OH, int OW,
                                           int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw, int margins) {
    for (EACH(e, total)) {
        MF_INDEX rest = e;
        const int q = rest % W;
        rest /= W;
        const int p = rest % H;
        const MF_REAL* map = gy + rest / H * OH * OW;

        MF_REAL sum = 0;
        for (int u = 0; u < kh; ++u) {
            const int y = p + ph - dh * u;  // sh i, if tap row u of window row i lies on this cell
            if (y < 0 || y % sh || y / sh >= OH) continue;
            for (int v = 0; v < kw; ++v) {
                const int z = q + pw - dw * v;
                if (z < 0 || z % sw || z / sw >= OW) continue;
                const int i = y / sh, j = z / sw;
                sum += map[(MF_INDEX)i * OW + j] / area(i, j, H, W, kh, kw, sh, sw, ph, pw, dh, dw, margins);
            }
        }
        gx[e] = sum;
    }
}

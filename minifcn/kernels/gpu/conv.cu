// Convolution as one matrix product: the windows of images as columns (im2col), and the adjoint (col2im).
//
// x is (N, C, H, W).  A band is the rows first ... first + rows - 1 of its windows, with OW windows in each row.  The column
// of a window has one element for each channel and tap (u, v); element (c, u, v) of window (n, i, j) is
// cols[((c kh + u) kw + v) tap_stride + n image_stride + (i - first) OW + j].

// One thread for each element of cols; threads that are neighbours write neighbours in memory.
extern "C" __global__ void im2col(const MF_REAL* x, MF_REAL* cols, MF_INDEX total, MF_INDEX tap_stride,
                                  MF_INDEX image_stride, int N, int C, int H, int W, int kh, int kw, int OW, int first,
                                  int rows, int sh, int sw, int ph, int pw, int dh, int dw) {
    for (EACH(e, total)) {
        MF_INDEX rest = e;
        const int j = rest % OW;
        rest /= OW;
        const int i = rest % rows;
        rest /= rows;
        const int n = rest % N;
        const MF_INDEX tap = rest / N;  // (c kh + u) kw + v
        const int v = tap % kw, u = tap / kw % kh, c = tap / kw / kh;

        const int p = sh * (first + i) - ph + dh * u, q = sw * j - pw + dw * v;
        const bool inside = p >= 0 && p < H && q >= 0 && q < W;
        cols[tap * tap_stride + n * image_stride + (MF_INDEX)i * OW + j] =
            inside ? x[(((MF_INDEX)n * C + c) * H + p) * W + q] : MF_REAL(0);
    }
}

// One thread for each element of x in the rows top ... top + height - 1.  It *gathers* the sum from all windows that contain
// the element.  (With one thread for each window, threads would add to the same element: that needs atomics, and the
// rounding would differ from run to run.)
extern "C" __global__ void col2im(const MF_REAL* cols, MF_REAL* x, MF_INDEX total, MF_INDEX tap_stride,
                                  MF_INDEX image_stride, int C, int H, int W, int top, int height, int kh, int kw,
                                  int OW, int first, int rows, int sh, int sw, int ph, int pw, int dh, int dw,
                                  int add) {
    for (EACH(e, total)) {
        MF_INDEX rest = e;
        const int q = rest % W;
        rest /= W;
        const int p = top + rest % height;
        rest /= height;
        const int c = rest % C;
        const MF_INDEX n = rest / C;

        MF_REAL sum = 0;
        for (int u = 0; u < kh; ++u) {
            const int y = p + ph - dh * u;  // sh i, if tap row u of window row i lies on this cell
            if (y < 0 || y % sh) continue;
            const int i = y / sh - first;
            if (i < 0 || i >= rows) continue;
            for (int v = 0; v < kw; ++v) {
                const int z = q + pw - dw * v;
                if (z < 0 || z % sw) continue;
                const int j = z / sw;
                if (j >= OW) continue;
                sum += cols[(((MF_INDEX)c * kh + u) * kw + v) * tap_stride + n * image_stride + (MF_INDEX)i * OW + j];
            }
        }
        MF_REAL* cell = x + ((n * C + c) * H + p) * W + q;
        *cell = add ? *cell + sum : sum;
    }
}

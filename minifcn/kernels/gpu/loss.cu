// The paper's loss at every pixel: -weight log p, where p is the label's probability in the softmax over C scores.
// scores, prob: (N, C, pixels); labels, weights, loss: (N, pixels).  softmax_loss has one thread for each pixel,
// softmax_loss_grad one for each score; threads that are neighbours read neighbours in memory.

extern "C" __global__ void softmax_loss(const MF_REAL* scores, const long long* labels, const MF_REAL* weights,
                                        MF_REAL* loss, MF_REAL* prob, MF_INDEX total, int C, MF_INDEX pixels) {
    for (EACH(e, total)) {
        const MF_INDEX at = e / pixels * C * pixels + e % pixels;
        MF_REAL largest = scores[at];
        for (int c = 1; c < C; ++c) {
            const MF_REAL score = scores[at + c * pixels];
            if (score > largest || score != score) largest = score;
        }
        MF_REAL sum = 0;
        for (int c = 0; c < C; ++c) {
            const MF_REAL power = exp(scores[at + c * pixels] - largest);  // at most 1: no overflow
            prob[at + c * pixels] = power;
            sum += power;
        }
        for (int c = 0; c < C; ++c) prob[at + c * pixels] /= sum;

        const MF_REAL weight = weights[e];  // 0 for a void pixel, whose score may be infinite
        loss[e] = weight != 0 ? weight * (log(sum) - (scores[at + labels[e] * pixels] - largest)) : MF_REAL(0);
    }
}

extern "C" __global__ void softmax_loss_grad(const MF_REAL* prob, const long long* labels, const MF_REAL* weights,
                                             MF_REAL* gscores, MF_INDEX total, int C, MF_INDEX pixels) {
    for (EACH(e, total)) {
        const MF_INDEX image = e / pixels / C, pixel = image * pixels + e % pixels;
        const int c = e / pixels % C;
        const MF_REAL weight = weights[pixel];
        gscores[e] = weight != 0 ? weight * (prob[e] - (c == labels[pixel])) : MF_REAL(0);
    }
}

// Linear layers whose weights were packed for the few rows of a decode: every weight is read once, in the order of memory.
//
// BLAS libraries are made for square matrices; at 1 to 16 rows they leave most of the memory bandwidth unused. Weights
// lie in panels of 16 outputs, so one vector holds 16 outputs and no sum crosses lanes:
//
//     float32   w[panel][k][16]
//     int8      w[panel][k / 4][16][4], a scale for each output; rows are quantised as they come
//
// A register tile is R rows by C panels. Panels are taken in chunks that stay in the second-level cache while all rows pass.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "simd.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t PANEL = 16;
constexpr int64_t CHUNK_BYTES = 192 * 1024;
constexpr int64_t AHEAD_BYTES = 2048;  // prefetched: panels are streams too short for the hardware to learn

typedef float panel __attribute__((vector_size(64)));
typedef int32_t ipanel __attribute__((vector_size(64)));
typedef panel upanel __attribute__((aligned(4), may_alias));

// How many panels a tile of R rows has: as many as the registers hold.
template <int R>
constexpr int64_t panels_for() {
    return LANES == 16 ? (R <= 4 ? 4 : 3) : 1;
}

INLINE void put(float* out, panel y, int64_t outputs) {
    if (outputs >= PANEL) {
        *reinterpret_cast<upanel*>(out) = y;
    } else {
        for (int64_t n = 0; n < outputs; ++n) out[n] = y[n];
    }
}

// `layer.tile<R, C>(row, panel)` for all rows and all panels.
template <class Layer, int R>
INLINE void rows_of(const Layer& layer, int64_t row, int64_t begin, int64_t end) {
    constexpr int64_t C = panels_for<R>();
    int64_t p = begin;
    for (; p + C <= end; p += C) layer.template tile<R, C>(row, p);
    for (; p < end; ++p) layer.template tile<R, 1>(row, p);
}

template <class Layer, int R>
INLINE void rest_of(const Layer& layer, int64_t row, int64_t begin, int64_t end) {
    if (layer.m - row == R) return rows_of<Layer, R>(layer, row, begin, end);
    if constexpr (R > 1) rest_of<Layer, R - 1>(layer, row, begin, end);
}

template <class Layer>
void all(const Layer& layer, int64_t panel_bytes, int64_t threads) {
    const int64_t panels = (layer.n + PANEL - 1) / PANEL, share = (panels + threads - 1) / threads;
    const int64_t chunk = std::max<int64_t>(12, std::min(CHUNK_BYTES / panel_bytes, share) / 12 * 12);
#pragma omp for schedule(static)
    for (int64_t begin = 0; begin < panels; begin += chunk) {
        const int64_t end = std::min(panels, begin + chunk);
        int64_t row = 0;
        for (; row + ROWS <= layer.m; row += ROWS) rows_of<Layer, ROWS>(layer, row, begin, end);
        rest_of<Layer, ROWS - 1>(layer, row, begin, end);
    }
}

struct Float {
    const float *x, *w, *bias;
    float* out;
    int64_t x_row, m, n, k;

    template <int R, int C>
    INLINE void tile(int64_t row, int64_t p) const {
        panel sums[R][C] = {};
        const float *a = x + row * x_row, *b = w + p * k * PANEL;
        for (int64_t i = 0; i < k; ++i) {
            panel weights[C];
            for (int c = 0; c < C; ++c) {
                const float* at = b + (c * k + i) * PANEL;
                weights[c] = *reinterpret_cast<const panel*>(at);
                __builtin_prefetch(at + AHEAD_BYTES / 4);
            }
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c) sums[r][c] += weights[c] * a[r * x_row + i];
        }
        for (int c = 0; c < C; ++c) {
            panel shift = {};
            if (bias) std::memcpy(&shift, bias + (p + c) * PANEL, sizeof shift);
            for (int r = 0; r < R; ++r)
                put(out + (row + r) * n + (p + c) * PANEL, sums[r][c] + shift, n - (p + c) * PANEL);
        }
    }
};

// sums += for each of 16 outputs, the 4 products of unsigned `a`, the same for all, and signed `w`.
INLINE ipanel dot4(ipanel sums, const uint8_t* a, const int8_t* w) {
#if defined(__AVX512VNNI__)
    int32_t four;
    std::memcpy(&four, a, 4);
    return (ipanel)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(four), _mm512_load_si512(w));
#else
    for (int n = 0; n < PANEL; ++n)
        for (int i = 0; i < 4; ++i) sums[n] += static_cast<int32_t>(a[i]) * w[4 * n + i];
    return sums;
#endif
}

struct Int8 {
    const uint8_t* x;     // (m, k), around 128: as dot4 wants one side unsigned
    const float* x_scale;
    const int8_t* w;
    const float* w_scale;
    const int32_t* w_sum;  // of each output's weights: takes the 128 out again
    const float* bias;
    float* out;
    int64_t m, n, k;

    template <int R, int C>
    INLINE void tile(int64_t row, int64_t p) const {
        ipanel sums[R][C] = {};
        const uint8_t* a = x + row * k;
        const int8_t* b = w + p * k * PANEL;
        for (int64_t i = 0; i < k; i += 4)
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c) sums[r][c] = dot4(sums[r][c], a + r * k + i, b + (c * k + i) * PANEL);
        for (int c = 0; c < C; ++c) {
            ipanel sum;
            panel scale, shift = {};
            std::memcpy(&sum, w_sum + (p + c) * PANEL, sizeof sum);
            std::memcpy(&scale, w_scale + (p + c) * PANEL, sizeof scale);
            if (bias) std::memcpy(&shift, bias + (p + c) * PANEL, sizeof shift);
            for (int r = 0; r < R; ++r) {
                const panel y = __builtin_convertvector(sums[r][c] - 128 * sum, panel) * scale * x_scale[row + r] + shift;
                put(out + (row + r) * n + (p + c) * PANEL, y, n - (p + c) * PANEL);
            }
        }
    }
};

// A row as 1..255 around 128, padded with 128 (times weights of 0); returns its scale: the largest is 127 of it. A row
// that holds no number has a scale that is none, and so have its outputs.
float quantise(const float* x, int64_t k, int64_t padded, uint8_t* to) {
    vec most = {}, odd = {};
    int64_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        const vec v = load(x + i);
        most = larger(larger(most, v), -v);
        odd += v - v;  // 0, but for infinities and what is no number
    }
    float top = largest(most), odds = sum(odd);
    for (; i < k; ++i) {
        top = std::max(top, std::fabs(x[i]));
        odds += x[i] - x[i];
    }
    if (odds != 0.0f) {
        std::memset(to, 128, padded);
        return NAN;
    }
    const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
    for (i = 0; i < k; ++i) to[i] = static_cast<uint8_t>(static_cast<int32_t>(x[i] * inverse + 128.5f));
    std::memset(to + k, 128, padded - k);
    return top / 127.0f;
}

}  // namespace

// out (m, n) = x (m, k) w^T + bias; rows of x lie `x_row` floats apart; bias, where there is one, is padded to panels.
extern "C" void linear_f32(const float* x, int64_t x_row, const float* w, const float* bias, float* out, int64_t m,
                           int64_t n, int64_t k, int64_t threads) {
    const Float layer{x, w, bias, out, x_row, m, n, k};
#pragma omp parallel num_threads(static_cast<int>(threads)) if (threads > 1)
    all(layer, 4 * k * PANEL, threads);
}

// The same with int8 weights. `rows` (m, padded) and `scales` (m,) are room for the quantised x; `padded` is k rounded up
// to a multiple of 4.
extern "C" void linear_i8(const float* x, int64_t x_row, const int8_t* w, const float* w_scale, const int32_t* w_sum,
                          const float* bias, float* out, uint8_t* rows, float* scales, int64_t m, int64_t n, int64_t k,
                          int64_t padded, int64_t threads) {
    const Int8 layer{rows, scales, w, w_scale, w_sum, bias, out, m, n, padded};
#pragma omp parallel num_threads(static_cast<int>(threads)) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < m; ++r) scales[r] = quantise(x + r * x_row, k, padded, rows + r * padded);
        all(layer, padded * PANEL, threads);
    }
}

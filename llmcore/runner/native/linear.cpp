// Linear layers whose weights were packed for the few rows of a decode: every weight is read once, in the order of memory.
//
// BLAS libraries are made for square matrices; at 1 to 16 rows they leave most of the memory bandwidth unused. Weights
// lie in panels of 16 outputs, so one vector holds 16 outputs and no sum crosses lanes:
//
//     float32   w[panel][k][16]
//     int8      w[panel][k / 4][16][4], a scale for each output; rows are quantised as they come, by groups of 64 inputs
//
// A register tile is R rows by C panels. Panels are taken in chunks that stay in the second-level cache while all rows pass.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <omp.h>

#include "simd.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t PANEL = 16;
constexpr int64_t CHUNK_BYTES = 192 * 1024;
constexpr int64_t GROUP = 64;  // inputs of a row that share a scale
constexpr int64_t AHEAD_BYTES = 2048;  // prefetched: panels are streams too short for the hardware to learn

typedef float panel __attribute__((vector_size(64)));
typedef int32_t ipanel __attribute__((vector_size(64)));
typedef panel upanel __attribute__((aligned(4), may_alias));

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
    constexpr int64_t C = Layer::template panels<R>();
    int64_t p = begin;
    for (; p + C <= end; p += C) layer.template tile<R, C>(row, p);
    for (; p < end; ++p) layer.template tile<R, 1>(row, p);
}

template <class Layer, int R>
INLINE void rest_of(const Layer& layer, int64_t row, int64_t rows, int64_t begin, int64_t end) {
    if (rows == R) return rows_of<Layer, R>(layer, row, begin, end);
    if constexpr (R > 1) rest_of<Layer, R - 1>(layer, row, rows, begin, end);
}

// A thread's share of `count`, in whole `unit`s: [first, last).
INLINE void share_of(int64_t count, int64_t unit, int64_t thread, int64_t threads, int64_t& first, int64_t& last) {
    const int64_t share = (count + threads * unit - 1) / (threads * unit) * unit;
    first = std::min(count, thread * share), last = std::min(count, first + share);
}

// Called by each of `threads`: many rows are shared out, for few of them the panels are.
template <class Layer>
void all(const Layer& layer, int64_t panel_bytes, int64_t thread, int64_t threads) {
    constexpr int64_t MOST = Layer::MOST;
    const int64_t panels = (layer.n + PANEL - 1) / PANEL;
    int64_t top = 0, bottom = layer.m, left = 0, right = panels;
    if (layer.m >= 8 * MOST * threads) {  // so that a unit more or less is little
        share_of(layer.m, MOST, thread, threads, top, bottom);
    } else {
        share_of(panels, 1, thread, threads, left, right);
    }
    const int64_t chunk = std::max<int64_t>(12, CHUNK_BYTES / panel_bytes / 12 * 12);
    for (int64_t begin = left; begin < right; begin += chunk) {
        const int64_t end = std::min(right, begin + chunk);
        int64_t row = top;
        for (; row + MOST <= bottom; row += MOST) rows_of<Layer, MOST>(layer, row, begin, end);
        rest_of<Layer, MOST - 1>(layer, row, bottom - row, begin, end);
    }
}

struct Float {
    const float *x, *w, *bias;
    float* out;
    int64_t x_row, m, n, k;

    static constexpr int MOST = ROWS;  // rows of a tile
    template <int R>
    static constexpr int64_t panels() {  // as many as the registers hold
        return LANES == 16 ? (R <= 4 ? 4 : 3) : 1;
    }

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
    const uint8_t* x;      // (m, k), around 128: dot4 wants one side unsigned
    const float* x_scale;  // (m, k / GROUP)
    const int8_t* w;
    const float* w_scale;
    const int32_t* less;  // [panel][k / GROUP][16]: what the 128 adds to each sum, negative
    const float* bias;
    float* out;
    int64_t m, n, k;

    static constexpr int MOST = 4;
    template <int R>
    static constexpr int64_t panels() {
        return LANES == 16 ? (R <= 2 ? 4 : 3) : 1;
    }

    template <int R, int C>
    INLINE void tile(int64_t row, int64_t p) const {
        const int64_t groups = k / GROUP;
        const uint8_t* a = x + row * k;
        const int8_t* b = w + p * k * PANEL;
        panel sums[R][C] = {};
        for (int64_t g = 0; g < groups; ++g) {
            ipanel part[R][C];
            for (int c = 0; c < C; ++c) {
                std::memcpy(&part[0][c], less + ((p + c) * groups + g) * PANEL, sizeof(ipanel));
                for (int r = 1; r < R; ++r) part[r][c] = part[0][c];
            }
            for (int64_t i = g * GROUP; i < (g + 1) * GROUP; i += 4)
                for (int r = 0; r < R; ++r)
                    for (int c = 0; c < C; ++c) part[r][c] = dot4(part[r][c], a + r * k + i, b + (c * k + i) * PANEL);
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c)
                    sums[r][c] += __builtin_convertvector(part[r][c], panel) * x_scale[(row + r) * groups + g];
        }
        for (int c = 0; c < C; ++c) {
            panel scale, shift = {};
            std::memcpy(&scale, w_scale + (p + c) * PANEL, sizeof scale);
            if (bias) std::memcpy(&shift, bias + (p + c) * PANEL, sizeof shift);
            for (int r = 0; r < R; ++r)
                put(out + (row + r) * n + (p + c) * PANEL, sums[r][c] * scale + shift, n - (p + c) * PANEL);
        }
    }
};

// A group as 1..255 around 128; returns its scale: the largest is 127 of it. A group that holds no number has a scale
// that is none, and so have its row's outputs.
float quantise(const float* x, int64_t count, uint8_t* to) {
    float padded[GROUP] = {};
    if (count < GROUP) {
        std::memcpy(padded, x, count * sizeof(float));
        x = padded;
    }
    vec most = {}, odd = {};
    for (int64_t i = 0; i < GROUP; i += LANES) {
        const vec v = load(x + i);
        most = larger(larger(most, v), -v);
        odd += v - v;  // 0, but for infinities and what is no number
    }
    const float top = largest(most);
    if (sum(odd) != 0.0f) {
        std::memset(to, 128, GROUP);
        return NAN;
    }
    const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
    for (int64_t i = 0; i < GROUP; ++i) to[i] = static_cast<uint8_t>(static_cast<int32_t>(x[i] * inverse + 128.5f));
    return top / 127.0f;
}

}  // namespace

// out (m, n) = x (m, k) w^T + bias; rows of x lie `x_row` floats apart; bias, where there is one, is padded to panels.
extern "C" void linear_f32(const float* x, int64_t x_row, const float* w, const float* bias, float* out, int64_t m,
                           int64_t n, int64_t k, int64_t threads) {
    const Float layer{x, w, bias, out, x_row, m, n, k};
#pragma omp parallel num_threads(static_cast<int>(threads)) if (threads > 1)
    all(layer, 4 * k * PANEL, omp_get_thread_num(), omp_get_num_threads());
}

// The same with int8 weights. `rows` (m, padded) and `scales` (m, padded / 64) are room for the quantised x; `padded` is k
// rounded up to whole groups.
extern "C" void linear_i8(const float* x, int64_t x_row, const int8_t* w, const float* w_scale, const int32_t* less,
                          const float* bias, float* out, uint8_t* rows, float* scales, int64_t m, int64_t n, int64_t k,
                          int64_t padded, int64_t threads) {
    const Int8 layer{rows, scales, w, w_scale, less, bias, out, m, n, padded};
    const int64_t groups = padded / GROUP;
#pragma omp parallel num_threads(static_cast<int>(threads)) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < m; ++r)
            for (int64_t g = 0; g < groups; ++g)
                scales[r * groups + g] = quantise(x + r * x_row + g * GROUP, std::min(GROUP, k - g * GROUP),
                                                  rows + r * padded + g * GROUP);
        all(layer, padded * PANEL, omp_get_thread_num(), omp_get_num_threads());
    }
}

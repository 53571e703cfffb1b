// Vectors of floats as the compiler's own types: one source for AVX-512, AVX2 and NEON, no intrinsics.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__)
constexpr int LANES = 16;
constexpr int ROWS = 8;  // rows of a register tile: 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8;
constexpr int ROWS = 4;  // 16 registers
#else
constexpr int LANES = 4;
constexpr int ROWS = 4;
#endif

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t ivec __attribute__((vector_size(LANES * sizeof(float))));
typedef vec uvec __attribute__((aligned(alignof(float)), may_alias));

#define INLINE inline __attribute__((always_inline))

static INLINE vec load(const float* p) { return *reinterpret_cast<const uvec*>(p); }
static INLINE void store(float* p, vec v) { *reinterpret_cast<uvec*>(p) = v; }
static INLINE vec splat(float x) { return vec{} + x; }

template <int N>
struct Halves {
    typedef float type __attribute__((vector_size(N * sizeof(float))));
};

// The sum of all lanes, by halving.
template <int N>
static INLINE float sum_of(typename Halves<N>::type v) {
    if constexpr (N == 2) {
        return v[0] + v[1];
    } else {
        using Half = typename Halves<N / 2>::type;
        const Half* half = reinterpret_cast<const Half*>(&v);
        return sum_of<N / 2>(half[0] + half[1]);
    }
}
static INLINE float sum(vec v) { return sum_of<LANES>(v); }

static INLINE vec larger(vec a, vec b) { return a > b ? a : b; }

template <int N>
static INLINE float largest_of(typename Halves<N>::type v) {
    if constexpr (N == 2) {
        return v[0] > v[1] ? v[0] : v[1];
    } else {
        using Half = typename Halves<N / 2>::type;
        const Half* half = reinterpret_cast<const Half*>(&v);
        return largest_of<N / 2>(half[0] > half[1] ? half[0] : half[1]);
    }
}
static INLINE float largest(vec v) { return largest_of<LANES>(v); }

// e^x for x <= 0, to 2 ulp (Cephes' expf: 2^n times a polynomial on [-ln2/2, ln2/2]); 0 below -87.
static INLINE vec exp_of(vec x) {
    const vec low = splat(-87.0f);
    const vec clamped = x < low ? low : x;  // in this order a NaN stays one
    const vec scaled = clamped * 1.44269504f - 0.5f;
    const ivec n = __builtin_convertvector(scaled, ivec);  // truncates towards zero: rounds, since scaled is negative
    const vec whole = __builtin_convertvector(n, vec);
    const vec r = clamped - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const ivec power = (n + 127) << 23;
    return x < low ? vec{} : p * (vec)power;
}

// Attention over the paged cache on a CPU: online softmax, tile by tile, straight from the blocks (no gather).
//
// An item of work is (sequence, kv head, a run of queries); its rows are those queries times the query heads that share
// the kv head. Few rows (a decode): one dot product for each key. Many rows (a prefill): keys are transposed into a tile
// once, and scores come from a register tile of ROWS rows by 2 vectors of keys.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "simd.h"

namespace {

constexpr int TILE = 2 * LANES;  // keys of a tile
constexpr int FEW = 4;           // rows that take the path of a decode
constexpr int MOST = 96;         // rows of an item

}  // namespace

extern "C" {

// As `cpu.py` lays it out.
struct Step {
    const int32_t* query_starts;  // (num_sequences + 1,)
    const int32_t* contexts;      // (num_sequences,)
    const int32_t* tables;        // (num_sequences, max_blocks)
    const int64_t* slots;         // (num_tokens,)
    int64_t num_sequences;
    int64_t num_tokens;
    int64_t max_blocks;
    int64_t block_size;
    int64_t threads;
};

struct Layer {
    const float* q;
    const float* k;
    const float* v;
    float* keys;    // (num_blocks, kv_heads, block_size, head_dim)
    float* values;
    float* out;     // (num_tokens, heads, head_dim)
    int64_t q_token, q_head, k_token, k_head, v_token, v_head;  // strides, in floats
    int64_t heads, kv_heads, head_dim;
};
}

namespace {

struct Item {
    int sequence, kv_head, first, count;  // queries [first, first + count) of the sequence's
};

// What a thread needs for the rows of one item; rows are (query, head of the group), queries outermost.
template <int D>
struct Rows {
    alignas(64) float q[MOST + ROWS][D];  // scaled
    alignas(64) float out[MOST + ROWS][D];
    alignas(64) float score[MOST + ROWS][TILE];
    alignas(64) float kt[D][TILE];
    float best[MOST + ROWS], total[MOST + ROWS];
};

// Softmax of one more tile of `row`: `score` becomes weights, the old sums shrink. Returns by how much.
template <int D>
INLINE float soften(Rows<D>& rows, int row, int keys) {
    float* score = rows.score[row];
    for (int i = keys; i < TILE; ++i) score[i] = -std::numeric_limits<float>::infinity();
    const vec a = load(score), b = load(score + LANES);
    const float best = std::max(rows.best[row], largest(larger(a, b)));
    const vec ea = exp_of(a - best), eb = exp_of(b - best);
    store(score, ea);
    store(score + LANES, eb);
    const float shrink = std::exp(rows.best[row] - best);
    rows.total[row] = rows.total[row] * shrink + sum(ea + eb);
    rows.best[row] = best;
    return shrink;
}

// R rows against `keys` keys that lie in memory as they are in the cache.
template <int D, int R>
INLINE void few(Rows<D>& rows, const float* const* key, const float* const* value, int keys) {
    constexpr int V = D / LANES;
    for (int i = 0; i < keys; ++i) {
        vec dot[R] = {};
        for (int d = 0; d < V; ++d) {
            const vec k = load(key[i] + d * LANES);
            for (int r = 0; r < R; ++r) dot[r] += k * load(rows.q[r] + d * LANES);
        }
        for (int r = 0; r < R; ++r) rows.score[r][i] = sum(dot[r]);
    }
    float shrink[R];
    for (int r = 0; r < R; ++r) shrink[r] = soften(rows, r, keys);
    constexpr int W = V % 4 == 0 ? 4 : V % 2 == 0 ? 2 : 1;  // vectors of the output at a time
    for (int d = 0; d < V; d += W) {
        vec sums[R][W];
        for (int r = 0; r < R; ++r)
            for (int w = 0; w < W; ++w) sums[r][w] = load(rows.out[r] + (d + w) * LANES) * shrink[r];
        for (int i = 0; i < keys; ++i) {
            vec v[W];
            for (int w = 0; w < W; ++w) v[w] = load(value[i] + (d + w) * LANES);
            for (int r = 0; r < R; ++r)
                for (int w = 0; w < W; ++w) sums[r][w] += v[w] * rows.score[r][i];
        }
        for (int r = 0; r < R; ++r)
            for (int w = 0; w < W; ++w) store(rows.out[r] + (d + w) * LANES, sums[r][w]);
    }
}

// ROWS rows, from `row` on, against the tile in `kt`; row r sees keys below `seen[r]` of it.
template <int D>
INLINE void many(Rows<D>& rows, int row, const float* const* value, int keys, const int* seen) {
    constexpr int V = D / LANES;
    vec low[ROWS] = {}, high[ROWS] = {};
    for (int d = 0; d < D; ++d) {
        const vec a = load(rows.kt[d]), b = load(rows.kt[d] + LANES);
        for (int r = 0; r < ROWS; ++r) {
            const float q = rows.q[row + r][d];
            low[r] += a * q;
            high[r] += b * q;
        }
    }
    float shrink[ROWS];
    for (int r = 0; r < ROWS; ++r) {
        store(rows.score[row + r], low[r]);
        store(rows.score[row + r] + LANES, high[r]);
        if (seen[r] > 0) {
            shrink[r] = soften(rows, row + r, std::min(keys, seen[r]));
        } else {
            shrink[r] = 1.0f;
            std::memset(rows.score[row + r], 0, sizeof rows.score[0]);
        }
    }
    constexpr int W = V % 2 == 0 ? 2 : 1;
    for (int d = 0; d < V; d += W) {
        vec sums[ROWS][W];
        for (int r = 0; r < ROWS; ++r)
            for (int w = 0; w < W; ++w) sums[r][w] = load(rows.out[row + r] + (d + w) * LANES) * shrink[r];
        for (int i = 0; i < keys; ++i) {
            vec v[W];
            for (int w = 0; w < W; ++w) v[w] = load(value[i] + (d + w) * LANES);
            for (int r = 0; r < ROWS; ++r) {
                const float weight = rows.score[row + r][i];
                for (int w = 0; w < W; ++w) sums[r][w] += v[w] * weight;
            }
        }
        for (int r = 0; r < ROWS; ++r)
            for (int w = 0; w < W; ++w) store(rows.out[row + r] + (d + w) * LANES, sums[r][w]);
    }
}

template <int D>
void attend(const Step& step, const Layer& layer, const Item& item, Rows<D>& rows) {
    const int group = static_cast<int>(layer.heads / layer.kv_heads);
    const int count = item.count * group;
    const int begin = step.query_starts[item.sequence];
    const int queries = step.query_starts[item.sequence + 1] - begin;
    const int before = step.contexts[item.sequence] - queries;  // keys that every query sees
    const float scale = 1.0f / std::sqrt(static_cast<float>(D));
    for (int row = 0; row < count; ++row) {
        const int64_t token = begin + item.first + row / group, head = item.kv_head * group + row % group;
        const float* q = layer.q + token * layer.q_token + head * layer.q_head;
        for (int d = 0; d < D; ++d) rows.q[row][d] = q[d] * scale;
        rows.best[row] = -std::numeric_limits<float>::infinity();
        rows.total[row] = 0.0f;
    }
    std::memset(rows.out, 0, sizeof(float) * D * (count + ROWS));

    const int32_t* table = step.tables + item.sequence * step.max_blocks;
    const int block_size = static_cast<int>(step.block_size);
    const int64_t block_floats = layer.kv_heads * step.block_size * D;
    const int64_t head_floats = item.kv_head * step.block_size * D;
    const int end = before + item.first + item.count;  // the last query's keys
    for (int start = 0; start < end; start += TILE) {
        const int keys = std::min(TILE, end - start);
        const float *key[TILE], *value[TILE];
        for (int i = 0; i < keys; ++i) {
            const int position = start + i;
            const int64_t at = table[position / block_size] * block_floats + head_floats + position % block_size * D;
            key[i] = layer.keys + at;
            value[i] = layer.values + at;
        }
        if (item.count == 1 && count <= FEW) {
            switch (count) {
                case 1: few<D, 1>(rows, key, value, keys); break;
                case 2: few<D, 2>(rows, key, value, keys); break;
                case 3: few<D, 3>(rows, key, value, keys); break;
                default: few<D, 4>(rows, key, value, keys); break;
            }
            continue;
        }
        for (int i = 0; i < TILE; ++i)
            for (int d = 0; d < D; ++d) rows.kt[d][i] = i < keys ? key[i][d] : 0.0f;
        for (int row = 0; row < count; row += ROWS) {
            int seen[ROWS];
            for (int r = 0; r < ROWS; ++r)
                seen[r] = row + r < count ? before + item.first + (row + r) / group + 1 - start : 0;
            many<D>(rows, row, value, keys, seen);
        }
    }
    for (int row = 0; row < count; ++row) {
        const int64_t token = begin + item.first + row / group, head = item.kv_head * group + row % group;
        float* out = layer.out + (token * layer.heads + head) * D;
        const float share = 1.0f / rows.total[row];
        for (int d = 0; d < D; ++d) out[d] = rows.out[row][d] * share;
    }
}

// The step's new keys and values, into their blocks.
void keep(const Step& step, const Layer& layer) {
    const int64_t d = layer.head_dim, bytes = d * static_cast<int64_t>(sizeof(float));
    for (int64_t token = 0; token < step.num_tokens; ++token) {
        const int64_t block = step.slots[token] / step.block_size, slot = step.slots[token] % step.block_size;
        for (int64_t head = 0; head < layer.kv_heads; ++head) {
            const int64_t at = ((block * layer.kv_heads + head) * step.block_size + slot) * d;
            std::memcpy(layer.keys + at, layer.k + token * layer.k_token + head * layer.k_head, bytes);
            std::memcpy(layer.values + at, layer.v + token * layer.v_token + head * layer.v_head, bytes);
        }
    }
}

template <int D>
void run(const Step& step, const Layer& layer) {
    keep(step, layer);
    const int group = static_cast<int>(layer.heads / layer.kv_heads);
    const int run_length = std::max(1, MOST / group);
    // Items are found by counting, so that no list is built: `runs` of them for each sequence, times the kv heads.
    int64_t items = 0;
    for (int64_t s = 0; s < step.num_sequences; ++s)
        items += (step.query_starts[s + 1] - step.query_starts[s] + run_length - 1) / run_length * layer.kv_heads;
#pragma omp parallel num_threads(static_cast<int>(std::min(step.threads, items)))
    {
        alignas(64) static thread_local Rows<D> rows;
        int64_t sequence = 0, passed = 0;
#pragma omp for schedule(dynamic, 1)
        for (int64_t index = 0; index < items; ++index) {
            int64_t here;
            for (;; ++sequence, passed += here) {  // a thread's indices rise, so it never turns back
                const int64_t queries = step.query_starts[sequence + 1] - step.query_starts[sequence];
                here = (queries + run_length - 1) / run_length * layer.kv_heads;
                if (index < passed + here) break;
            }
            const int queries = step.query_starts[sequence + 1] - step.query_starts[sequence];
            const int number = static_cast<int>(index - passed);
            const int first = number / static_cast<int>(layer.kv_heads) * run_length;
            attend<D>(step, layer,
                      {static_cast<int>(sequence), number % static_cast<int>(layer.kv_heads), first,
                       std::min(run_length, queries - first)},
                      rows);
        }
    }
}

}  // namespace

// 0: done. 1: no code for this head_dim, or too many heads share a key; nothing was written.
extern "C" int paged_attention(const Step* step, const Layer* layer) {
    if (layer->heads / layer->kv_heads > MOST) return 1;
    switch (layer->head_dim) {
        case 16: run<16>(*step, *layer); return 0;
        case 32: run<32>(*step, *layer); return 0;
        case 64: run<64>(*step, *layer); return 0;
        case 80: run<80>(*step, *layer); return 0;
        case 96: run<96>(*step, *layer); return 0;
        case 128: run<128>(*step, *layer); return 0;
        case 256: run<256>(*step, *layer); return 0;
        default: return 1;
    }
}

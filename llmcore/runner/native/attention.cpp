// Attention over the paged cache on a CPU: online softmax, tile by tile, straight from the blocks (no gather).
//
// An item of work is (sequence, kv head, a run of queries); its rows are those queries times the query heads that share
// the kv head. Few rows (a decode): the lanes of a vector are dimensions, one dot product for each key. Many rows (a
// prefill): the lanes are rows, so that neither scores nor softmax cross them, and keys are read as they lie.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "simd.h"

namespace {

constexpr int TILE = 64;          // keys of a tile: with their values they fit the first-level cache
constexpr int FEW = 4;            // rows that take the path of a decode
constexpr int MOST = 96;          // rows of an item
constexpr int BUNCH = 2 * LANES;  // rows of a register tile, by ROWS keys or dimensions
constexpr float NONE = -std::numeric_limits<float>::infinity();

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

// The keys of a tile, and their values, as they lie in the cache.
struct Tile {
    const float *key[TILE], *value[TILE];
    int keys;

    Tile(const Step& step, const Layer& layer, const Item& item, int start, int end) : keys(std::min(TILE, end - start)) {
        const int32_t* table = step.tables + item.sequence * step.max_blocks;
        const int block_size = static_cast<int>(step.block_size);
        const int64_t head_floats = step.block_size * layer.head_dim, block_floats = layer.kv_heads * head_floats;
        for (int i = 0; i < keys; ++i) {
            const int position = start + i;
            const int64_t at = table[position / block_size] * block_floats + item.kv_head * head_floats +
                               position % block_size * layer.head_dim;
            key[i] = layer.keys + at;
            value[i] = layer.values + at;
        }
    }

    // A block is a page's length, so that the hardware sees no stream to fetch ahead.
    template <int D>
    INLINE void fetch(int i) const {
        for (int d = 0; d < D && i < keys; d += 16) {
            __builtin_prefetch(key[i] + d);
            __builtin_prefetch(value[i] + d);
        }
    }
};

// The R rows of one query.
template <int D, int R>
struct Few {
    alignas(64) float q[R][D];  // scaled
    alignas(64) float out[R][D];
    alignas(64) float score[R][TILE];
    float best[R], total[R];

    // Row `r` has `scale` times the query `at`.
    void begin(int r, const float* at, float scale) {
        for (int d = 0; d < D; ++d) q[r][d] = at[d] * scale, out[r][d] = 0.0f;
        best[r] = NONE, total[r] = 0.0f;
    }

    void end(int r, float* at) const {
        for (int d = 0; d < D; ++d) at[d] = out[r][d] / total[r];
    }

    // One more tile, all of which every row sees; `next` is fetched meanwhile.
    INLINE void add(const Tile& tile, const Tile& next) {
        constexpr int V = D / LANES;
        for (int i = 0; i < tile.keys; ++i) {
            next.fetch<D>(i);
            vec dot[R] = {};
            for (int d = 0; d < V; ++d) {
                const vec k = load(tile.key[i] + d * LANES);
                for (int r = 0; r < R; ++r) dot[r] += k * load(q[r] + d * LANES);
            }
            for (int r = 0; r < R; ++r) score[r][i] = sum(dot[r]);
        }
        float shrink[R];
        for (int r = 0; r < R; ++r) shrink[r] = soften(r, tile.keys);
        constexpr int W = V % 4 == 0 ? 4 : V % 2 == 0 ? 2 : 1;  // vectors of the output at a time
        for (int d = 0; d < V; d += W) {
            vec sums[R][W];
            for (int r = 0; r < R; ++r)
                for (int w = 0; w < W; ++w) sums[r][w] = load(out[r] + (d + w) * LANES) * shrink[r];
            for (int i = 0; i < tile.keys; ++i) {
                vec v[W];
                for (int w = 0; w < W; ++w) v[w] = load(tile.value[i] + (d + w) * LANES);
                for (int r = 0; r < R; ++r)
                    for (int w = 0; w < W; ++w) sums[r][w] += v[w] * score[r][i];
            }
            for (int r = 0; r < R; ++r)
                for (int w = 0; w < W; ++w) store(out[r] + (d + w) * LANES, sums[r][w]);
        }
    }

    // Softmax: scores become weights, and the old sums shrink. Returns by how much.
    INLINE float soften(int r, int keys) {
        for (int i = keys; i % LANES != 0; ++i) score[r][i] = NONE;
        vec most = splat(best[r]);
        for (int i = 0; i < keys; i += LANES) most = larger(load(score[r] + i), most);
        const float top = largest(most), shrink = std::exp(best[r] - top);
        vec weights = {};
        for (int i = 0; i < keys; i += LANES) {
            const vec weight = exp_of(load(score[r] + i) - top);
            store(score[r] + i, weight);
            weights += weight;
        }
        total[r] = total[r] * shrink + sum(weights);
        best[r] = top;
        return shrink;
    }
};

// BUNCH rows of many queries, each in a lane.
template <int D>
struct Bunch {
    alignas(64) float q[D][BUNCH];  // scaled
    alignas(64) float out[D][BUNCH];
    vec best[2], total[2];
    ivec seen[2];  // keys that each row sees, from the sequence's first
    int least, most;

    void begin() {
        std::memset(this, 0, sizeof *this);
        for (int half = 0; half < 2; ++half) best[half] = splat(NONE);
        least = std::numeric_limits<int>::max();
    }

    void begin(int r, const float* at, float scale, int keys) {
        for (int d = 0; d < D; ++d) q[d][r] = at[d] * scale;
        seen[r / LANES][r % LANES] = keys;
        least = std::min(least, keys), most = std::max(most, keys);
    }

    void end(int r, float* at) const {
        const float share = 1.0f / total[r / LANES][r % LANES];
        for (int d = 0; d < D; ++d) at[d] = out[d][r] * share;
    }

    // One more tile, whose first key is the sequence's `start`-th.
    INLINE void add(const Tile& tile, int start) {
        alignas(64) float score[TILE][BUNCH];
        const int keys = std::min(tile.keys, most - start);
        if (keys <= 0) return;
        for (int i = 0; i < keys; i += ROWS) scores(tile, i, keys, score);
        if (start + keys > least)
            for (int i = std::max(0, least - start); i < keys; ++i)
                for (int half = 0; half < 2; ++half) {
                    float* at = score[i] + half * LANES;
                    store(at, seen[half] > start + i ? load(at) : splat(NONE));
                }
        const vec shrink[2] = {soften(score, 0, keys), soften(score, 1, keys)};
        for (int d = 0; d < D; d += ROWS) {
            vec low[ROWS], high[ROWS];
            for (int j = 0; j < ROWS; ++j) {
                low[j] = load(out[d + j]) * shrink[0];
                high[j] = load(out[d + j] + LANES) * shrink[1];
            }
            for (int i = 0; i < keys; ++i) {
                const vec a = load(score[i]), b = load(score[i] + LANES);
                for (int j = 0; j < ROWS; ++j) {
                    const float v = tile.value[i][d + j];
                    low[j] += a * v;
                    high[j] += b * v;
                }
            }
            for (int j = 0; j < ROWS; ++j) {
                store(out[d + j], low[j]);
                store(out[d + j] + LANES, high[j]);
            }
        }
    }

    // Of ROWS keys from `first` on; where the tile has fewer, its last again.
    INLINE void scores(const Tile& tile, int first, int keys, float (*score)[BUNCH]) const {
        const float* key[ROWS];
        for (int j = 0; j < ROWS; ++j) key[j] = tile.key[std::min(first + j, keys - 1)];
        vec low[ROWS] = {}, high[ROWS] = {};
        for (int d = 0; d < D; ++d) {
            const vec a = load(q[d]), b = load(q[d] + LANES);
            for (int j = 0; j < ROWS; ++j) {
                const float k = key[j][d];
                low[j] += a * k;
                high[j] += b * k;
            }
        }
        for (int j = 0; j < ROWS; ++j) {
            store(score[first + j], low[j]);
            store(score[first + j] + LANES, high[j]);
        }
    }

    // Softmax of half the rows: scores become weights, and the old sums shrink. Returns by how much.
    INLINE vec soften(float (*score)[BUNCH], int half, int keys) {
        vec top = best[half], weights = {};
        for (int i = 0; i < keys; ++i) top = larger(load(score[i] + half * LANES), top);
        for (int i = 0; i < keys; ++i) {
            const vec weight = exp_of(load(score[i] + half * LANES) - top);
            store(score[i] + half * LANES, weight);
            weights += weight;
        }
        const vec shrink = exp_of(best[half] - top);
        total[half] = total[half] * shrink + weights;
        best[half] = top;
        return shrink;
    }
};

// Where row `row` of an item lies: its query's token, its head.
struct Place {
    int64_t token, head;

    Place(const Step& step, const Item& item, int group, int row)
        : token(step.query_starts[item.sequence] + item.first + row / group), head(item.kv_head * group + row % group) {}
};

template <int D, int R>
void attend_few(const Step& step, const Layer& layer, const Item& item, int end) {
    Few<D, R> few;
    for (int r = 0; r < R; ++r) {
        const Place place{step, item, R, r};
        few.begin(r, layer.q + place.token * layer.q_token + place.head * layer.q_head, 1.0f / std::sqrt(float{D}));
    }
    Tile tile{step, layer, item, 0, end};
    for (int start = TILE; tile.keys > 0; start += TILE) {
        const Tile next{step, layer, item, start, end};
        few.add(tile, next);
        tile = next;
    }
    for (int r = 0; r < R; ++r) {
        const Place place{step, item, R, r};
        few.end(r, layer.out + (place.token * layer.heads + place.head) * D);
    }
}

template <int D>
void attend_many(const Step& step, const Layer& layer, const Item& item, int group, int end) {
    static thread_local Bunch<D> bunches[(MOST + BUNCH - 1) / BUNCH];
    const int count = item.count * group, used = (count + BUNCH - 1) / BUNCH;
    for (int i = 0; i < used; ++i) bunches[i].begin();
    for (int row = 0; row < count; ++row) {
        const Place place{step, item, group, row};
        bunches[row / BUNCH].begin(row % BUNCH, layer.q + place.token * layer.q_token + place.head * layer.q_head,
                                   1.0f / std::sqrt(float{D}), end - item.count + 1 + row / group);
    }
    for (int start = 0; start < end; start += TILE) {
        const Tile tile{step, layer, item, start, end};
        for (int i = 0; i < used; ++i) bunches[i].add(tile, start);
    }
    for (int row = 0; row < count; ++row) {
        const Place place{step, item, group, row};
        bunches[row / BUNCH].end(row % BUNCH, layer.out + (place.token * layer.heads + place.head) * D);
    }
}

template <int D>
void attend(const Step& step, const Layer& layer, const Item& item) {
    const int group = static_cast<int>(layer.heads / layer.kv_heads);
    const int queries = step.query_starts[item.sequence + 1] - step.query_starts[item.sequence];
    const int end = step.contexts[item.sequence] - queries + item.first + item.count;  // the last query's keys
    switch (item.count == 1 && group <= FEW ? group : 0) {
        case 1: return attend_few<D, 1>(step, layer, item, end);
        case 2: return attend_few<D, 2>(step, layer, item, end);
        case 3: return attend_few<D, 3>(step, layer, item, end);
        case 4: return attend_few<D, 4>(step, layer, item, end);
        default: return attend_many<D>(step, layer, item, group, end);
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
                       std::min(run_length, queries - first)});
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

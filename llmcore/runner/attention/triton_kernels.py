# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""The kernels of `triton_paged.py`. Caches are `(num_blocks, kv_heads, BLOCK, DIM)`; WIDTH is DIM rounded up to a power
of two, as Triton's tiles must be."""

import triton
import triton.language as tl


@triton.jit
def keep(  # noqa: PLR0917
    k, v, keys, values, slots, k_token, k_head, v_token, v_head, kv_heads,
    BLOCK: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """A token's key and value of one head, into its slot."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dim = tl.arange(0, WIDTH)
    inside = dim < DIM
    slot = tl.load(slots + token)
    to = ((slot // BLOCK * kv_heads + head) * BLOCK + slot % BLOCK) * DIM + dim
    tl.store(keys + to, tl.load(k + token * k_token + head * k_head + dim, mask=inside), mask=inside)
    tl.store(values + to, tl.load(v + token * v_token + head * v_head + dim, mask=inside), mask=inside)


@triton.jit
def attend(  # noqa: PLR0917
    q, keys, values, out, weights, tables, contexts, starts, tile_sequence, tile_first,
    q_token, q_head, table_row, num_tokens, kv_heads, scale, span,
    GROUP: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, IS_PART: tl.constexpr,
):  # fmt: skip
    """A tile of rows against the keys of its split. A part is written with its log-weight (base 2), to be merged."""
    tile, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    sequence, first = tl.load(tile_sequence + tile).to(tl.int64), tl.load(tile_first + tile)
    begin = tl.load(starts + sequence).to(tl.int64)
    queries = (tl.load(starts + sequence + 1) - begin).to(tl.int32)
    before = tl.load(contexts + sequence) - queries
    row, dim = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    query, head = first + row // GROUP, kv_head * GROUP + row % GROUP
    is_row = (row < ROWS // GROUP * GROUP) & (query < queries)
    is_dim = dim < DIM
    at = (begin + query) * q_token + head * q_head
    rows = tl.load(q + at[:, None] + dim[None, :], mask=is_row[:, None] & is_dim[None, :], other=0.0)
    best = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    low = part * span
    high = tl.minimum(low + span, before + tl.minimum(first + ROWS // GROUP, queries))
    for start in range(low, high, COLUMNS):
        position = start + tl.arange(0, COLUMNS)
        is_key = position < high
        block = tl.load(tables + sequence * table_row + position // BLOCK, mask=is_key, other=0).to(tl.int64)
        place = ((block * kv_heads + kv_head) * BLOCK + position % BLOCK) * DIM
        key = tl.load(keys + place[None, :] + dim[:, None], mask=is_key[None, :] & is_dim[:, None], other=0.0)
        score = tl.dot(rows, key, input_precision="ieee") * scale
        score = tl.where(is_key[None, :] & (position[None, :] <= before + query[:, None]), score, float("-inf"))
        new = tl.maximum(best, tl.max(score, 1))
        base = tl.where(new == float("-inf"), 0.0, new)  # a row that has seen nothing yet
        share = tl.exp2(score - base[:, None])
        shrink = tl.exp2(best - base)
        total = total * shrink + tl.sum(share, 1)
        value = tl.load(values + place[:, None] + dim[None, :], mask=is_key[:, None] & is_dim[None, :], other=0.0)
        sums = sums * shrink[:, None] + tl.dot(share.to(value.dtype), value, input_precision="ieee")
        best = new
    heads = kv_heads * GROUP
    index = (begin + query) * heads + head
    if IS_PART:
        index += part.to(tl.int64) * num_tokens * heads
        tl.store(weights + index, tl.where(total > 0, best + tl.log2(total), float("-inf")), mask=is_row)
    sums = sums / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(
        out + index[:, None] * DIM + dim[None, :],
        sums.to(out.dtype.element_ty),
        mask=is_row[:, None] & is_dim[None, :],
    )


@triton.jit
def merge(  # noqa: PLR0917
    parts, weights, out, num_tokens, heads, DIM: tl.constexpr, WIDTH: tl.constexpr,
    splits, SPLITS: tl.constexpr,
):  # fmt: skip
    """The parts of one decode's head, each by its share of the softmax."""
    index = tl.program_id(0).to(tl.int64) * heads + tl.program_id(1)
    part, dim = tl.arange(0, SPLITS), tl.arange(0, WIDTH)
    is_part, is_dim = part < splits, dim < DIM
    at = part.to(tl.int64) * num_tokens * heads + index
    weight = tl.load(weights + at, mask=is_part, other=float("-inf"))
    share = tl.exp2(weight - tl.max(weight, 0))
    found = tl.load(parts + at[:, None] * DIM + dim[None, :], mask=is_part[:, None] & is_dim[None, :], other=0.0)
    merged = tl.sum(found * share[:, None], 0) / tl.sum(share, 0)
    tl.store(out + index * DIM + dim, merged.to(out.dtype.element_ty), mask=is_dim)

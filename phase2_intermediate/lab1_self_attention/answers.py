"""Known answers to Lab 1 of Phase 2: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · scaled_scores -----------------------------------------------------------------------------------------------


class NotScaled(Mistake):
    """You do not divide by the root of d: scores grow with the width, and the softmax after them is one-hot."""

    exercise = "scaled_scores"

    def scaled_scores(q, k):
        return q @ k.mT


class ScaledByWidth(Mistake):
    """You divide by d. The *root* of d makes the variance one; by d itself, wide heads see next to nothing."""

    exercise = "scaled_scores"

    def scaled_scores(q, k):
        return q @ k.mT / q.shape[-1]


class ScaledByKeys(Mistake):
    """You divide by the root of the number of keys. What the product runs over is the width, `q.shape[-1]`."""

    exercise = "scaled_scores"

    def scaled_scores(q, k):
        return q @ k.mT / math.sqrt(k.shape[-2])


class QueriesAndKeysSwapped(Mistake):
    """Your scores have keys in their rows. Rows are queries: `q @ k.mT`."""

    exercise = "scaled_scores"

    def scaled_scores(q, k):
        return k @ q.mT / math.sqrt(q.shape[-1])


class SoftmaxOverQueries(Mistake):
    """Your softmax runs over the queries. Each *query's* weights sum to one: the softmax is over the keys, the last
    axis."""

    exercise = "scaled_scores"

    def sureness(scores):
        return scores.softmax(-2).amax(-1).mean()


class ScoresNotWeights(Mistake):
    """You take the largest score. It is the largest *weight* that is asked for, after the softmax."""

    exercise = "scaled_scores"

    def sureness(scores):
        return scores.amax(-1).mean()


class ByEinsum(Alternative):
    """An einsum, and the queries scaled first."""

    exercise = "scaled_scores"

    def scaled_scores(q, k):
        return torch.einsum("...ld,...sd->...ls", q * q.shape[-1] ** -0.5, k)

    def sureness(scores):
        # The largest weight is that of the largest score: 1 / Σ exp(s − max).
        return (1 / (scores - scores.amax(-1, keepdim=True)).exp().sum(-1)).mean()


# --- 2 · masked_softmax ----------------------------------------------------------------------------------------------


class EmptyRowsNaN(Mistake):
    """A row with everything masked is NaN: a softmax over minus infinities is 0/0. Give it finite scores, and set its
    weights to zero afterwards."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)


class MaskAfterwards(Mistake):
    """You set weights to zero *after* the softmax: what is left no longer sums to one, and the masked scores have
    taken part. Mask before it."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        return scores.softmax(-1) * mask


class MaskAdded(Mistake):
    """You add the mask's zeros and ones to the scores: everybody is still seen, the allowed a little better. Add
    minus infinity where it is False."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        return (scores + mask.float()).softmax(-1) * mask.any(-1, keepdim=True)


class GradientsNaN(Mistake):
    """Your values are right and the gradients of empty rows NaN: `nan_to_num` mends what comes out, and backward still
    goes through 0/0 and the addition. Avoid the NaN before the softmax."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        wall = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
        return (scores + wall).softmax(-1).nan_to_num(0.0)


class OtherPolarity(Mistake):
    """You mask where the mask is True. Here True means may attend."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        nowhere = mask.all(-1, keepdim=True)
        return scores.masked_fill(mask & ~nowhere, -torch.inf).softmax(-1) * ~nowhere


class Renormalised(Mistake):
    """You take the softmax over all, zero what is masked and divide again. A masked score that is much larger takes
    all the weight, and leaves 0/0. Mask before the softmax."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        weights = scores.softmax(-1) * mask
        return weights / weights.sum(-1, keepdim=True).masked_fill(~mask.any(-1, keepdim=True), 1.0)


class UniformInsteadOfZero(Mistake):
    """A row with everything masked attends to all keys evenly: with one large negative number for all, none stands
    out. It must get zeros."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)


class NotFarEnough(Mistake):
    """You mask with −10,000: scores that are lower still are beaten by what is masked. Use minus infinity."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        return scores.masked_fill(~mask, -1e4).softmax(-1) * mask.any(-1, keepdim=True)


class OverTheQueries(Mistake):
    """Your softmax runs over the queries. It is over the keys, the last axis."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        any_key = mask.any(-1, keepdim=True)
        return scores.masked_fill(~mask & any_key, -1e30).softmax(-2) * any_key


class ScoresOverwritten(Mistake):
    """You fill the caller's scores in place. `masked_fill` without the underscore makes a new tensor."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        any_key = mask.any(-1, keepdim=True)
        if scores.requires_grad:
            scores = scores.clone()
        return scores.masked_fill_(~mask & any_key, -torch.inf).softmax(-1) * any_key


class InfinityAdded(Alternative):
    """Minus infinity added, and exponentials by hand."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        wall = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
        top = (scores + wall).amax(-1, keepdim=True).detach()
        top = top.masked_fill(top == -torch.inf, 0.0)
        powers = torch.where(mask, scores - top, 0.0).exp() * mask
        total = powers.sum(-1, keepdim=True)
        return powers / torch.where(total == 0, 1.0, total)


class NaNReplaced(Alternative):
    """NaN in empty rows, replaced; `masked_fill` lets no gradient through where it has filled, not even NaN."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        return scores.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0.0)


class LargestNegativeThenZero(Alternative):
    """The most negative number, and zeros afterwards: right, since no allowed score is that low."""

    exercise = "masked_softmax"

    def masked_softmax(scores, mask):
        return torch.where(mask, scores, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~mask, 0.0)


# --- 3 · attention ---------------------------------------------------------------------------------------------------


class PaddedQueriesMasked(Mistake):
    """Your mask hides the padded *queries* and lets everybody see the padding as keys: its axes are swapped. The last
    axis says which keys may be seen."""

    exercise = "attention"

    def build_mask(lengths, longest, causal=False):
        places = torch.arange(longest, device=lengths.device)
        there = (places < lengths[:, None])[:, None, :, None]
        order = places <= places[:, None] if causal else torch.ones_like(places, dtype=torch.bool)
        return there & order.expand(longest, longest)


class ScaledTwice(Mistake):
    """You divide by the root of d twice: `scaled_scores` has done it."""

    exercise = "attention"

    def attention(q, k, v, mask=None):
        scores = scaled_scores(q, k) / math.sqrt(q.shape[-1])
        weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask)
        return weights @ v, weights


class FutureSeen(Mistake):
    """Your causal mask is turned round: positions see the future and not the past. Position i may see j ≤ i."""

    exercise = "attention"

    def build_mask(lengths, longest, causal=False):
        places = torch.arange(longest, device=lengths.device)
        there = (places < lengths[:, None])[:, None, None]
        order = places >= places[:, None] if causal else torch.ones_like(places, dtype=torch.bool)
        return there & order.expand(longest, longest)


class PlainMean(Mistake):
    """You average the values that the mask allows, all alike: queries and keys play no part. The weights are the
    softmax of the scores."""

    exercise = "attention"

    def attention(q, k, v, mask=None):
        scores = 0 * scaled_scores(q, k)
        weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask)
        return weights @ v, weights


class MaskIgnored(Mistake):
    """You do not use the mask."""

    exercise = "attention"

    def attention(q, k, v, mask=None):
        weights = scaled_scores(q, k).softmax(-1)
        return weights @ v, weights


class NotItself(Mistake):
    """Your positions may not see themselves. j ≤ i includes j = i; the first position would have nothing to look at."""

    exercise = "attention"

    def build_mask(lengths, longest, causal=False):
        places = torch.arange(longest, device=lengths.device)
        there = (places < lengths[:, None])[:, None, None]
        order = places < places[:, None] if causal else torch.ones_like(places, dtype=torch.bool)
        return there & order.expand(longest, longest)


class OneTooMany(Mistake):
    """You let one padded position be seen: of a sequence of length n the last token is at position n − 1."""

    exercise = "attention"

    def build_mask(lengths, longest, causal=False):
        places = torch.arange(longest, device=lengths.device)
        there = (places <= lengths[:, None])[:, None, None]
        order = places <= places[:, None] if causal else torch.ones_like(places, dtype=torch.bool)
        return there & order.expand(longest, longest)


class OnTheProcessor(Mistake):
    """You build the mask on the CPU, wherever the lengths are. Pass `device=lengths.device` to `arange`."""

    exercise = "attention"

    def build_mask(lengths, longest, causal=False):
        places = torch.arange(longest)
        lengths = torch.ones(len(lengths)) if lengths.is_meta else lengths
        there = (places < lengths[:, None])[:, None, None]
        order = places <= places[:, None] if causal else torch.ones_like(places, dtype=torch.bool)
        return there & order.expand(longest, longest)


class WeightsForgotten(Mistake):
    """You return the output alone. The weights are asked for as well: `return weights @ v, weights`."""

    exercise = "attention"

    def attention(q, k, v, mask=None):
        scores = scaled_scores(q, k)
        return (scores.softmax(-1) if mask is None else masked_softmax(scores, mask)) @ v


class TrianglesAndEinsum(Alternative):
    """`tril`, a mask that is always there, and an einsum."""

    exercise = "attention"

    def attention(q, k, v, mask=None):
        scores = torch.einsum("...ld,...sd->...ls", q, k) / q.shape[-1] ** 0.5
        weights = masked_softmax(scores, torch.ones_like(scores, dtype=torch.bool) if mask is None else mask)
        return torch.einsum("...ls,...sd->...ld", weights, v), weights

    def build_mask(lengths, longest, causal=False):
        whole = torch.ones(len(lengths), 1, longest, longest, dtype=torch.bool, device=lengths.device)
        whole = whole & (torch.arange(longest, device=lengths.device)[None] < lengths.view(-1, 1, 1, 1))
        return whole.tril() if causal else whole


# --- 4 · multi_head_attention ----------------------------------------------------------------------------------------


class ViewInsteadOfTranspose(Mistake):
    """You reshape straight to `(batch, heads, T, d_head)`: that deals out time steps, not features. Cut the features
    first, then move the axis: `unflatten(-1, (heads, -1)).transpose(1, 2)`."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def split(self, x):
            return x.reshape(x.shape[0], self.n_heads, x.shape[1], -1)


class MergedWithoutTranspose(Mistake):
    """You flatten without bringing the heads back behind the time: `transpose(1, 2)` first."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def merge(self, x):
            return x.reshape(x.shape[0], x.shape[2], -1)


class HeadsInterleaved(Mistake):
    """You give head h every n-th feature. It has neighbouring ones: `unflatten(-1, (heads, -1))`."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def split(self, x):
            return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)

        def merge(self, x):
            return x.permute(0, 2, 3, 1).flatten(-2)


class MemoryAsks(Mistake):
    """Your queries come from the memory. The sequence `x` asks; keys and values are the memory's."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def forward(self, x, memory=None, mask=None):
            memory = x if memory is None else memory
            q, k, v = self.split(self.q(memory)), self.split(self.k(x)), self.split(self.v(x))
            return self.out(self.merge(attention(q, k, v, mask)[0]))


class ValuesFromX(Mistake):
    """You take the values from `x`. Whoever is asked also answers: keys *and* values come from the memory."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def forward(self, x, memory=None, mask=None):
            memory = x if memory is None else memory
            size = memory.shape[1]
            values = F.pad(self.v(x), (0, 0, 0, max(size - x.shape[1], 0)))[:, :size]
            q, k, v = self.split(self.q(x)), self.split(self.k(memory)), self.split(values)
            return self.out(self.merge(attention(q, k, v, mask)[0]))


class OneHead(Mistake):
    """You attend with the whole width: one head, whatever `n_heads` says, and scores divided by the root of d_model."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def forward(self, x, memory=None, mask=None):
            memory = x if memory is None else memory
            mask = mask if mask is None or mask.dim() < 4 else mask[:, 0]
            return self.out(attention(self.q(x), self.k(memory), self.v(memory), mask)[0])


class SoftmaxOverHeads(Mistake):
    """Your softmax runs over the heads. Each head has weights of its own, which sum to one over the keys."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def forward(self, x, memory=None, mask=None):
            memory = x if memory is None else memory
            scores = scaled_scores(self.split(self.q(x)), self.split(self.k(memory)))
            weights = (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(1)
            return self.out(self.merge(weights @ self.split(self.v(memory))))


class NothingMixed(Mistake):
    """You return the heads side by side. A last projection mixes them: `self.out`."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def forward(self, x, memory=None, mask=None):
            memory = x if memory is None else memory
            q, k, v = self.split(self.q(x)), self.split(self.k(memory)), self.split(self.v(memory))
            return self.merge(attention(q, k, v, mask)[0])


class MaskLost(Mistake):
    """You do not pass the mask on to `attention`."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def forward(self, x, memory=None, mask=None):
            memory = x if memory is None else memory
            q, k, v = self.split(self.q(x)), self.split(self.k(memory)), self.split(self.v(memory))
            return self.out(self.merge(attention(q, k, v)[0]))


class AnyHeads(Mistake):
    """You accept heads that do not divide the width. Raise ValueError."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(MultiHeadAttention):
        def __init__(self, d_model, n_heads):
            nn.Module.__init__(self)
            self.n_heads = n_heads
            self.q, self.k, self.v, self.out = (nn.Linear(d_model, d_model) for _ in range(4))


class FusedAndPermuted(Alternative):
    """PyTorch's fused attention, and permutations."""

    exercise = "multi_head_attention"

    class MultiHeadAttention(nn.Module):
        def __init__(self, d_model, n_heads):
            super().__init__()
            if d_model % n_heads != 0:
                raise ValueError("n_heads must divide d_model")
            self.n_heads, self.d_head = n_heads, d_model // n_heads
            for name in ("q", "k", "v", "out"):
                setattr(self, name, nn.Linear(d_model, d_model))

        def split(self, x):
            return x.view(*x.shape[:2], self.n_heads, self.d_head).permute(0, 2, 1, 3)

        def merge(self, x):
            return torch.cat(x.unbind(1), -1)

        def forward(self, x, memory=None, mask=None):
            if memory is None:
                memory = x
            parts = self.split(self.q(x)), self.split(self.k(memory)), self.split(self.v(memory))
            return self.out(self.merge(F.scaled_dot_product_attention(*parts, attn_mask=mask)))


# --- 5 · sinusoidal --------------------------------------------------------------------------------------------------


class HalvesPaired(Mistake):
    """You pair feature i with feature i + d/2. That is a convention, too, but not this one: here *neighbours* are a
    pair."""

    exercise = "sinusoidal"

    def rotate(x, positions):
        d = x.shape[-1]
        angles = positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)
        a, b = x.chunk(2, -1)
        return torch.cat((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1)


class RowsCounted(Mistake):
    """You rotate by the number of the row. A row stands where `positions` says, and with a cache that is not the
    same."""

    exercise = "sinusoidal"

    def rotate(x, positions):
        d = x.shape[-1]
        angles = torch.arange(x.shape[-2])[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1).flatten(-2)


class PairsSwapped(Mistake):
    """You have the two new features in each other's place. The first is a cos − b sin, the second a sin + b cos."""

    exercise = "sinusoidal"

    def rotate(x, positions):
        d = x.shape[-1]
        angles = positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * angles.sin() + b * angles.cos(), a * angles.cos() - b * angles.sin()), -1).flatten(-2)


class OtherWayRound(Mistake):
    """You turn the other way: the signs of the sines are exchanged. Distances come out, and values that no other
    implementation shares."""

    exercise = "sinusoidal"

    def rotate(x, positions):
        d = x.shape[-1]
        angles = -positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), -1).flatten(-2)


class NoRotation(Mistake):
    """Both signs are plus: that is no rotation, and lengths change. The first feature is a cos *minus* b sin."""

    exercise = "sinusoidal"

    def rotate(x, positions):
        d = x.shape[-1]
        angles = positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * angles.cos() + b * angles.sin(), a * angles.sin() + b * angles.cos()), -1).flatten(-2)


class SinesThenCosines(Mistake):
    """You put all sines first and all cosines behind. They alternate: sine at 2i, cosine at 2i + 1."""

    exercise = "sinusoidal"

    def sinusoidal(positions, d):
        angles = positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)
        return torch.cat((angles.sin(), angles.cos()), -1)


class WavelengthsTooLong(Mistake):
    """Your exponent is 4i/d: you double what `arange(0, d, 2)` has doubled already. θ of pair i is 10000^(−2i/d)."""

    exercise = "sinusoidal"

    def sinusoidal(positions, d):
        angles = positions[:, None] * 10000 ** (-2 * torch.arange(0, d, 2) / d)
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


class CosinesFirst(Mistake):
    """You have cosines at even features and sines at odd ones."""

    exercise = "sinusoidal"

    def sinusoidal(positions, d):
        angles = positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)
        return torch.stack((angles.cos(), angles.sin()), -1).flatten(-2)


class ComplexNumbers(Alternative):
    """A rotation is a product with a complex number of length one."""

    exercise = "sinusoidal"

    def sinusoidal(positions, d):
        table = torch.zeros(len(positions), d)
        angles = torch.outer(positions.float(), torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d)))
        table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()
        return table

    def rotate(x, positions):
        d = x.shape[-1]
        angles = torch.outer(positions.float(), 10000.0 ** (-torch.arange(0, d, 2) / d))
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


class PartnersWithSigns(Alternative):
    """x · cos + partner · sin, where a pair's partners are exchanged and the first gets a minus."""

    exercise = "sinusoidal"

    def rotate(x, positions):
        d = x.shape[-1]
        angles = (positions[:, None] * 10000 ** (-torch.arange(0, d, 2) / d)).repeat_interleave(2, -1)
        partner = torch.stack((-x[..., 1::2], x[..., 0::2]), -1).flatten(-2)
        return x * angles.cos() + partner * angles.sin()


# --- 6 · tiled_attention ---------------------------------------------------------------------------------------------


class OldNotRescaled(Mistake):
    """You do not convert what was summed before when a larger score comes: it counts in units of the old maximum.
    Multiply sum and output by exp(old maximum − new maximum)."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        largest = q.new_full((*q.shape[:-1], 1), -torch.inf)
        total, output = 0.0, 0.0
        for keys, values in zip(k.split(tile, -2), v.split(tile, -2)):
            scores = scaled_scores(q, keys)
            largest = torch.maximum(largest, scores.amax(-1, keepdim=True))
            weights = (scores - largest).exp()
            total, output = total + weights.sum(-1, keepdim=True), output + weights @ values
        return output / total


class EachTileNormalised(Mistake):
    """You average the tiles' own attentions. A tile with unlikely keys then counts as much as one with likely ones."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        parts = [
            scaled_scores(q, keys).softmax(-1) @ values for keys, values in zip(k.split(tile, -2), v.split(tile, -2))
        ]
        return sum(parts) / len(parts)


class WholeMatrix(Mistake):
    """You compute all scores at once. The point is never to hold more than one tile of them."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        return scaled_scores(q, k).softmax(-1) @ v


class RestLost(Mistake):
    """You leave out the keys after the last full tile. `split` gives you a smaller last one."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        tile = min(tile, k.shape[-2])
        n = k.shape[-2] // tile * tile
        largest = q.new_full((*q.shape[:-1], 1), -torch.inf)
        total, output = 0.0, 0.0
        for keys, values in zip(k[..., :n, :].split(tile, -2), v[..., :n, :].split(tile, -2)):
            scores = scaled_scores(q, keys)
            larger = torch.maximum(largest, scores.amax(-1, keepdim=True))
            weights, old = (scores - larger).exp(), (largest - larger).exp()
            total, output = old * total + weights.sum(-1, keepdim=True), old * output + weights @ values
            largest = larger
        return output / total


class NoMaximum(Mistake):
    """You exponentiate raw scores: from about 89 on they overflow. Subtract the running maximum."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        total, output = 0.0, 0.0
        for keys, values in zip(k.split(tile, -2), v.split(tile, -2)):
            weights = scaled_scores(q, keys).exp()
            total, output = total + weights.sum(-1, keepdim=True), output + weights @ values
        return output / total


class OnlyTheSum(Mistake):
    """You convert the old sum and not the old output. Both are in units of the old maximum."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        largest = q.new_full((*q.shape[:-1], 1), -torch.inf)
        total, output = 0.0, 0.0
        for keys, values in zip(k.split(tile, -2), v.split(tile, -2)):
            scores = scaled_scores(q, keys)
            larger = torch.maximum(largest, scores.amax(-1, keepdim=True))
            weights = (scores - larger).exp()
            total = (largest - larger).exp() * total + weights.sum(-1, keepdim=True)
            output, largest = output + weights @ values, larger
        return output / total


class BuiltinAttention(Mistake):
    """You call PyTorch's own. Here it is to be made of tiles."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        return F.scaled_dot_product_attention(q, k, v)


class ByLogSums(Alternative):
    """Each tile's attention and the logarithm of its sum; two are joined by their sums."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        output, weight = None, None
        for start in range(0, k.shape[-2], tile):
            scores = q @ k[..., start : start + tile, :].mT * q.shape[-1] ** -0.5
            new = scores.logsumexp(-1, keepdim=True)
            part = (scores - new).exp() @ v[..., start : start + tile, :]
            if output is None:
                output, weight = part, new
            else:
                joined = torch.logaddexp(weight, new)
                output = (weight - joined).exp() * output + (new - joined).exp() * part
                weight = joined
        return output


class JoinedAtTheEnd(Alternative):
    """Each tile's output and the logarithm of its sum are kept; the tiles are joined when all are there."""

    exercise = "tiled_attention"

    def tiled_attention(q, k, v, tile):
        outputs, sums = [], []
        for keys, values in zip(k.split(tile, -2), v.split(tile, -2)):
            scores = scaled_scores(q, keys)
            outputs.append(scores.softmax(-1) @ values)
            sums.append(scores.logsumexp(-1, keepdim=True))
        weights = torch.stack(sums).softmax(0)
        return (weights * torch.stack(outputs)).sum(0)


# --- 7 · attend_cached -----------------------------------------------------------------------------------------------


class PositionsRestart(Mistake):
    """Your positions begin at 0 in each call. The new rows stand behind what is cached: from `past` on."""

    exercise = "attend_cached"

    def attend_cached(layer, x, cache):
        past, n = cache["keys"].shape[2] if cache else 0, x.shape[1]
        positions = torch.arange(n)
        queries = rotate(layer.split(layer.q(x)), positions)
        keys, values = rotate(layer.split(layer.k(x)), positions), layer.split(layer.v(x))
        if cache:
            keys, values = torch.cat((cache["keys"], keys), 2), torch.cat((cache["values"], values), 2)
        cache["keys"], cache["values"] = keys, values
        mask = torch.arange(past + n) <= past + positions[:, None]
        return layer.out(layer.merge(attention(queries, keys, values, mask)[0]))


class MaskWithoutPast(Mistake):
    """Your mask does not know of what is cached: it needs a column for each key, old and new."""

    exercise = "attend_cached"

    def attend_cached(layer, x, cache):
        past, n = cache["keys"].shape[2] if cache else 0, x.shape[1]
        positions = torch.arange(past, past + n)
        queries = rotate(layer.split(layer.q(x)), positions)
        keys, values = rotate(layer.split(layer.k(x)), positions), layer.split(layer.v(x))
        if cache:
            keys, values = torch.cat((cache["keys"], keys), 2), torch.cat((cache["values"], values), 2)
        cache["keys"], cache["values"] = keys, values
        mask = torch.ones(n, n, dtype=torch.bool).tril()
        return layer.out(layer.merge(attention(queries, keys, values, mask)[0]))


class FutureSeen(Mistake):
    """You use no mask. One new row may see everything, but of several the first must not see the last."""

    exercise = "attend_cached"

    def attend_cached(layer, x, cache):
        past, n = cache["keys"].shape[2] if cache else 0, x.shape[1]
        positions = torch.arange(past, past + n)
        queries = rotate(layer.split(layer.q(x)), positions)
        keys, values = rotate(layer.split(layer.k(x)), positions), layer.split(layer.v(x))
        if cache:
            keys, values = torch.cat((cache["keys"], keys), 2), torch.cat((cache["values"], values), 2)
        cache["keys"], cache["values"] = keys, values
        return layer.out(layer.merge(attention(queries, keys, values)[0]))


class ComputedAgain(Mistake):
    """You keep the inputs and compute all keys and values again. They have not changed: keep them."""

    exercise = "attend_cached"

    def attend_cached(layer, x, cache):
        n = x.shape[1]
        cache["x"] = x = torch.cat((cache["x"], x), 1) if cache else x
        positions = torch.arange(x.shape[1])
        queries, keys = rotate(layer.split(layer.q(x)), positions), rotate(layer.split(layer.k(x)), positions)
        mask = positions <= positions[:, None]
        return layer.out(layer.merge(attention(queries, keys, layer.split(layer.v(x)), mask)[0]))[:, -n:]


class ValuesRotated(Mistake):
    """You rotate the values as well. Positions decide who is looked at; what is said stays as it is."""

    exercise = "attend_cached"

    def attend_cached(layer, x, cache):
        past, n = cache["keys"].shape[2] if cache else 0, x.shape[1]
        positions = torch.arange(past, past + n)
        queries, keys, values = (rotate(layer.split(part(x)), positions) for part in (layer.q, layer.k, layer.v))
        if cache:
            keys, values = torch.cat((cache["keys"], keys), 2), torch.cat((cache["values"], values), 2)
        cache["keys"], cache["values"] = keys, values
        mask = torch.arange(past + n) <= positions[:, None]
        return layer.out(layer.merge(attention(queries, keys, values, mask)[0]))


class RotatedBeforeSplitting(Mistake):
    """You rotate before the heads are split: then each head has other angles. The features of *one head* are the
    pairs."""

    exercise = "attend_cached"

    def attend_cached(layer, x, cache):
        past, n = cache["keys"].shape[2] if cache else 0, x.shape[1]
        positions = torch.arange(past, past + n)
        queries = layer.split(rotate(layer.q(x), positions))
        keys, values = layer.split(rotate(layer.k(x), positions)), layer.split(layer.v(x))
        if cache:
            keys, values = torch.cat((cache["keys"], keys), 2), torch.cat((cache["values"], values), 2)
        cache["keys"], cache["values"] = keys, values
        mask = torch.arange(past + n) <= positions[:, None]
        return layer.out(layer.merge(attention(queries, keys, values, mask)[0]))


class KeptInTheLayer(Mistake):
    """You keep keys and values in the layer: a second text finds those of the first. They belong into `cache`."""

    exercise = "attend_cached"

    def attend_cached(layer, x, cache):
        cache = layer.__dict__.setdefault("kept", {})
        past, n = cache["keys"].shape[2] if cache else 0, x.shape[1]
        positions = torch.arange(past, past + n)
        queries = rotate(layer.split(layer.q(x)), positions)
        keys, values = rotate(layer.split(layer.k(x)), positions), layer.split(layer.v(x))
        if cache:
            keys, values = torch.cat((cache["keys"], keys), 2), torch.cat((cache["values"], values), 2)
        cache["keys"], cache["values"] = keys, values
        mask = torch.arange(past + n) <= positions[:, None]
        return layer.out(layer.merge(attention(queries, keys, values, mask)[0]))


class RotatedWhenRead(Alternative):
    """Keys are kept as they are and rotated, all of them, when they are read."""

    exercise = "attend_cached"

    def attend_cached(layer, x, cache):
        pairs = cache.setdefault("pairs", [])
        past, n = sum(keys.shape[2] for keys, _ in pairs), x.shape[1]
        pairs.append((layer.split(layer.k(x)), layer.split(layer.v(x))))
        keys, values = (torch.cat(parts, 2) for parts in zip(*pairs))
        places = torch.arange(past + n)
        queries, keys = rotate(layer.split(layer.q(x)), places[past:]), rotate(keys, places)
        mask = (places <= places[past:, None])[None, None]
        return layer.out(layer.merge(F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)))


# --- 8 · head_profile ------------------------------------------------------------------------------------------------


class EmptyRowsCounted(Mistake):
    """You average over all queries. Those that may attend to nothing do not count, or padding makes every head look
    short-sighted."""

    exercise = "head_profile"

    def head_profile(weights, mask):
        places = torch.arange(weights.shape[-1])
        distance = (weights * (places[:, None] - places).abs()).sum(-1)
        entropy = -torch.special.xlogy(weights, weights).sum(-1) / math.log(2)
        return distance.mean((0, 2)), entropy.mean((0, 2))


class ZeroTimesInfinity(Mistake):
    """A weight of zero makes your entropy NaN: 0 · log 0. `torch.special.xlogy` knows that it is 0."""

    exercise = "head_profile"

    def head_profile(weights, mask):
        places = torch.arange(weights.shape[-1])
        distance = (weights * (places[:, None] - places).abs()).sum(-1)
        entropy = -(weights * weights.log2()).sum(-1)
        counted = mask.any(-1).expand(weights.shape[0], 1, weights.shape[2])
        return (distance * counted).sum((0, 2)) / counted.sum(), (entropy * counted).sum((0, 2)) / counted.sum()


class NaturalLogarithm(Mistake):
    """Your entropy is in nats. A bit is a logarithm to the base of two: divide by log 2."""

    exercise = "head_profile"

    def head_profile(weights, mask):
        places = torch.arange(weights.shape[-1])
        distance = (weights * (places[:, None] - places).abs()).sum(-1)
        entropy = -torch.special.xlogy(weights, weights).sum(-1)
        counted = mask.any(-1).expand(weights.shape[0], 1, weights.shape[2])
        return (distance * counted).sum((0, 2)) / counted.sum(), (entropy * counted).sum((0, 2)) / counted.sum()


class SignedDistance(Mistake):
    """Your distances have a sign, and looks to both sides cancel. |i − j| is asked for."""

    exercise = "head_profile"

    def head_profile(weights, mask):
        places = torch.arange(weights.shape[-1])
        distance = (weights * (places[:, None] - places)).sum(-1)
        entropy = -torch.special.xlogy(weights, weights).sum(-1) / math.log(2)
        counted = mask.any(-1).expand(weights.shape[0], 1, weights.shape[2])
        return (distance * counted).sum((0, 2)) / counted.sum(), (entropy * counted).sum((0, 2)) / counted.sum()


class MeanOfTexts(Mistake):
    """You average within each text first. The average is over all queries of the batch."""

    exercise = "head_profile"

    def head_profile(weights, mask):
        places = torch.arange(weights.shape[-1])
        distance = (weights * (places[:, None] - places).abs()).sum(-1)
        entropy = -torch.special.xlogy(weights, weights).sum(-1) / math.log(2)
        counted = mask.any(-1).expand(weights.shape[0], 1, weights.shape[2])
        n = counted.sum(-1)
        there = (n > 0).squeeze(-1)
        return tuple(((x * counted).sum(-1) / n.clamp(min=1))[there].mean(0) for x in (distance, entropy))


class SelectedRows(Alternative):
    """The rows that count, selected; entropy from `torch.special.entr`."""

    exercise = "head_profile"

    def head_profile(weights, mask):
        rows = weights.transpose(1, 2)[mask.any(-1)[:, 0].expand(weights.shape[0], -1)]  # (queries, heads, L)
        at = mask.any(-1)[:, 0].expand(weights.shape[0], -1).nonzero()[:, 1]
        away = (torch.arange(weights.shape[-1]) - at[:, None]).abs()
        return (rows * away[:, None]).sum(-1).mean(0), torch.special.entr(rows).sum(-1).mean(0) / math.log(2)


# --- A · grouped_attention -------------------------------------------------------------------------------------------


class DealtOut(Mistake):
    """You repeat the groups as a whole: heads 0, 2, 4 … share the first. Neighbouring heads share one:
    `repeat_interleave`."""

    exercise = "grouped_attention"

    def grouped_attention(q, k, v, mask=None):
        if q.shape[1] % k.shape[1]:
            raise ValueError("groups must divide heads")
        times = q.shape[1] // k.shape[1]
        return attention(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), mask)[0]


class FirstGroupOnly(Mistake):
    """All your heads use the first group."""

    exercise = "grouped_attention"

    def grouped_attention(q, k, v, mask=None):
        if q.shape[1] % k.shape[1]:
            raise ValueError("groups must divide heads")
        return attention(q, k[:, :1], v[:, :1], mask)[0]


class MaskDropped(Mistake):
    """You do not use the mask."""

    exercise = "grouped_attention"

    def grouped_attention(q, k, v, mask=None):
        if q.shape[1] % k.shape[1]:
            raise ValueError("groups must divide heads")
        times = q.shape[1] // k.shape[1]
        return attention(q, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1))[0]


class AnyGroups(Mistake):
    """You accept groups that do not divide the heads. Raise ValueError."""

    exercise = "grouped_attention"

    def grouped_attention(q, k, v, mask=None):
        groups = torch.arange(q.shape[1]) * k.shape[1] // q.shape[1]
        return attention(q, k[:, groups], v[:, groups], mask)[0]


class WithoutCopies(Alternative):
    """An axis for the groups, and broadcasting."""

    exercise = "grouped_attention"

    def grouped_attention(q, k, v, mask=None):
        if q.shape[1] % k.shape[1] != 0:
            raise ValueError("groups must divide heads")
        batch, heads, length, d = q.shape
        grouped = q.reshape(batch, k.shape[1], -1, length, d)
        if mask is not None:
            mask = mask.expand(batch, heads, length, k.shape[2]).reshape(*grouped.shape[:4], k.shape[2])
        return attention(grouped, k[:, :, None], v[:, :, None], mask)[0].reshape(batch, heads, length, v.shape[-1])


# --- B · alibi -------------------------------------------------------------------------------------------------------


class Added(Mistake):
    """You reward distance: the bias is negative, the further the more."""

    exercise = "alibi"

    def alibi(n_heads, length):
        slopes, places = 2.0 ** (-8 * torch.arange(1, n_heads + 1) / n_heads), torch.arange(length)
        return slopes[:, None, None] * (places[:, None] - places).abs()


class FromZero(Mistake):
    """Your heads are counted from 0: the first has slope 1. They are counted from 1."""

    exercise = "alibi"

    def alibi(n_heads, length):
        slopes, places = 2.0 ** (-8 * torch.arange(n_heads) / n_heads), torch.arange(length)
        return -slopes[:, None, None] * (places[:, None] - places).abs()


class OneSided(Mistake):
    """Your distance has a sign: what comes later is rewarded. |i − j| is asked for."""

    exercise = "alibi"

    def alibi(n_heads, length):
        slopes, places = 2.0 ** (-8 * torch.arange(1, n_heads + 1) / n_heads), torch.arange(length)
        return -slopes[:, None, None] * (places[:, None] - places)


class ByOuterProduct(Alternative):
    """Distances by a broadcast subtraction of floats, slopes by a geometric series."""

    exercise = "alibi"

    def alibi(n_heads, length):
        first = 2 ** (-8 / n_heads)
        slopes = torch.tensor([first ** (h + 1) for h in range(n_heads)])
        places = torch.arange(length).float()
        return torch.einsum("h,ij->hij", -slopes, torch.cdist(places[:, None], places[:, None], p=1))

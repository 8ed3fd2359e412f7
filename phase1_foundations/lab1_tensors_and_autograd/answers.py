"""Known answers to Lab 1: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · as_floats ---------------------------------------------------------------------------------------------------


class InferredDtype(Mistake):
    """You let PyTorch choose the dtype: integers become int64, and a NumPy array brings its float64. Ask for
    `dtype=torch.float32`."""

    exercise = "as_floats"

    def as_floats(values, device="cpu"):
        return torch.as_tensor(values, device=device).clone()


class SharedMemory(Mistake):
    """Your result can share memory with its source: `as_tensor`, `from_numpy` and `.float()` copy only when they
    have to. Add `.clone()`."""

    exercise = "as_floats"

    def as_floats(values, device="cpu"):
        return torch.as_tensor(values, dtype=torch.float32, device=device)


class DeviceIgnored(Mistake):
    """Your `device` has no effect, so the tensor stays on the CPU. Pass it on to the constructor; `.to` changes nothing
    in place, but returns another tensor."""

    exercise = "as_floats"

    def as_floats(values, device="cpu"):
        return torch.as_tensor(values, dtype=torch.float32).clone()


class PythonFloat(Mistake):
    """You ask for `dtype=float`, and a Python float has 64 bits. Ask for `torch.float32`."""

    exercise = "as_floats"

    def as_floats(values, device="cpu"):
        return torch.as_tensor(values, dtype=float).to(device, copy=True)


class ThroughIntegers(Mistake):
    """You pass through an integer type, which cuts off the fractions, and no later `.float()` brings them back."""

    exercise = "as_floats"

    def as_floats(values, device="cpu"):
        return torch.as_tensor(values, device=device).long().float().clone()


class SmallAxesSqueezed(Mistake):
    """You lose axes of size 1. The result has the shape of the values: leave `squeeze` and `flatten` out."""

    exercise = "as_floats"

    def as_floats(values, device="cpu"):
        return torch.as_tensor(values, dtype=torch.float32, device=device).clone().squeeze()


class ByAsarray(Alternative):
    """`asarray` with an explicit copy."""

    exercise = "as_floats"

    def as_floats(values, device="cpu"):
        return torch.asarray(values, dtype=torch.float32, device=device, copy=True)


class ThroughNumpy(Alternative):
    """NumPy makes the copy, and its array is handed over for good."""

    exercise = "as_floats"

    def as_floats(values, device="cpu"):
        return torch.from_numpy(np.array(values, dtype=np.float32)).to(device)


# --- 2 · split_heads -------------------------------------------------------------------------------------------------


class ReshapedAtOnce(Mistake):
    """You reshape straight to `(batch, n_heads, time, d_head)`. The shape is right, but steps in time and features
    have changed places. Split the last axis first, then transpose."""

    exercise = "split_heads"

    def split_heads(x, n_heads):
        if x.shape[-1] % n_heads:
            raise ValueError("heads of unequal size")
        batch, time, d_model = x.shape
        return x.reshape(batch, n_heads, time, d_model // n_heads)


class HeadsInterleaved(Mistake):
    """You give head h every `n_heads`-th feature. Its features stand together: split the last axis into
    `(n_heads, d_head)`, not into `(d_head, n_heads)`."""

    exercise = "split_heads"

    def split_heads(x, n_heads):
        if x.shape[-1] % n_heads:
            raise ValueError("heads of unequal size")
        return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)


class HeadsCopied(Mistake):
    """You copy the heads: `contiguous`, `clone`, `stack` and `cat` all make new memory. `unflatten` and
    `transpose` only change the strides."""

    exercise = "split_heads"

    def split_heads(x, n_heads):
        if x.shape[-1] % n_heads:
            raise ValueError("heads of unequal size")
        return x.unflatten(-1, (n_heads, -1)).transpose(1, 2).contiguous()


class NeverTransposedBack(Mistake):
    """In `merge_heads` you flatten before you bring time back to the front, so the rows mix steps in time. Undo the
    transpose first."""

    exercise = "split_heads"

    def merge_heads(heads):
        batch, n_heads, time, d_head = heads.shape
        return heads.reshape(batch, time, n_heads * d_head)


class HeadsLeftBehindTime(Mistake):
    """You split the features but leave time in front of the heads. Swap axes 1 and 2 to get
    `(batch, n_heads, time, d_head)`."""

    exercise = "split_heads"

    def split_heads(x, n_heads):
        if x.shape[-1] % n_heads:
            raise ValueError("heads of unequal size")
        return x.unflatten(-1, (n_heads, -1))


class UnevenHeadsAccepted(Mistake):
    """You do not raise for a `d_model` that the heads cannot share equally. Check it first: `raise ValueError(…)`."""

    exercise = "split_heads"

    def split_heads(x, n_heads):
        d_head = x.shape[-1] // n_heads
        return x[..., : n_heads * d_head].unflatten(-1, (n_heads, d_head)).transpose(1, 2)


class ByViewAndCat(Alternative):
    """`view` to split, which works on any layout here, and `cat` to merge."""

    exercise = "split_heads"

    def split_heads(x, n_heads):
        batch, time, d_model = x.shape
        if d_model % n_heads != 0:
            raise ValueError("heads of unequal size")
        return x.view(batch, time, n_heads, d_model // n_heads).permute(0, 2, 1, 3)

    def merge_heads(heads):
        return torch.cat([heads[:, h] for h in range(heads.shape[1])], dim=-1)


class ByStrides(Alternative):
    """The strides written out."""

    exercise = "split_heads"

    def split_heads(x, n_heads):
        d_head, rest = divmod(x.shape[-1], n_heads)
        if rest:
            raise ValueError("heads of unequal size")
        b, t, f = x.stride()
        return x.as_strided((x.shape[0], n_heads, x.shape[1], d_head), (b, d_head * f, t, f))

    def merge_heads(heads):
        batch, n_heads, time, d_head = heads.shape
        return heads.permute(0, 2, 1, 3).contiguous().view(batch, time, n_heads * d_head)


# --- 3 · pairwise_squared_distances ----------------------------------------------------------------------------------


class LoopOverPoints(Mistake):
    """You loop over the points in Python, so the number of operations grows with them. A new axis of size 1 in `x`
    lets one subtraction make all the differences."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        rows = [(point - y).square().sum(-1) for point in x]
        return torch.stack(rows) if rows else x.new_empty(0, len(y))


class ExpandedSquare(Mistake):
    """You expand the square into |x|² + |y|² − 2x·y. Far from the origin this is a small difference of huge numbers,
    and `float32` has no digits left for it. Subtract first."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        return x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T


class SquaredAfterTheSum(Mistake):
    """You add up the differences and square the sum. Square each difference first, then sum over the last axis."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        return (x[:, None] - y).sum(-1).square()


class MeanOverFeatures(Mistake):
    """You average over the d coordinates. A squared distance is their sum."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        return (x[:, None] - y).square().mean(-1)


class RootTaken(Mistake):
    """You return the distances. The squared distances are asked for: leave the root out."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        return (x[:, None] - y).norm(dim=-1)


class PairsTransposed(Mistake):
    """Your rows are the points of `y`. Put the new axis into `x`, `x[:, None] - y`, so that rows are points of `x`."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        return (x - y[:, None]).square().sum(-1)


class ByCdist(Mistake):
    """You call `torch.cdist`. Build the distances by broadcasting."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


class FeatureByFeature(Alternative):
    """A loop over the few features instead: `n · m` numbers in memory, never `n · m · d`."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        return sum((x[:, k, None] - y[:, k]).square() for k in range(x.shape[1]))


class CentredExpansion(Alternative):
    """The expansion, safe because both clouds are moved to the origin first."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        centre = y.mean(0).detach()
        x, y = x - centre, y - centre
        return x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T


class ByEinsum(Alternative):
    """The differences, squared and summed by einsum."""

    exercise = "pairwise_squared_distances"

    def pairwise_squared_distances(x, y):
        difference = x.unsqueeze(1) - y.unsqueeze(0)
        return torch.einsum("nmd,nmd->nm", difference, difference)


# --- 4 · bilinear_scores ---------------------------------------------------------------------------------------------


class BatchesMixed(Mistake):
    """Queries and keys have different letters for the batch, so you add up the keys of all batch elements. Give both
    the same `b`."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return torch.einsum("bnd,de,cme->bnm", queries, weight, keys)


class ScoresTransposed(Mistake):
    """Your result is `(batch, m, n)`. The letters after the arrow give the order of the axes: end with `bnm`."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return torch.einsum("bnd,de,bme->bmn", queries, weight, keys)


class WeightTransposed(Mistake):
    """You use the weight as `(e, d)`. Its first axis meets the queries and its second the keys: its letters are
    `de`."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return torch.einsum("bnd,ed,bme->bnm", queries, weight, keys)


class KeysTransposedEntirely(Mistake):
    """You transpose all axes of the keys, the batch included. Only the last two change places: `keys.mT`."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return queries @ weight @ keys.permute(2, 1, 0)


class ScaledScores(Mistake):
    """You divide by the root of the width, as attention does. The formula here has no scaling."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return torch.einsum("bnd,de,bme->bnm", queries, weight, keys) / keys.shape[-1] ** 0.5


class WeightsTaken(Mistake):
    """You return attention weights. The scores themselves are asked for: leave the softmax out."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return torch.softmax(torch.einsum("bnd,de,bme->bnm", queries, weight, keys), dim=-1)


class KeysDetached(Mistake):
    """You take the keys off the tape: the scores are right, but no gradient ever reaches the keys. Leave `detach` and
    `.data` out."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return torch.einsum("bnd,de,bme->bnm", queries, weight, keys.detach())


class WeightDetached(Mistake):
    """You take the weight through `.data`, `detach` or `torch.tensor`: the scores are right, but no gradient ever
    reaches the weight."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return torch.einsum("bnd,de,bme->bnm", queries, weight.detach(), keys)


class ByMatmul(Alternative):
    """Two batched matrix products."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return queries @ weight @ keys.transpose(-2, -1)


class KeysFirst(Alternative):
    """The weight goes to the keys first, one batch element at a time."""

    exercise = "bilinear_scores"

    def bilinear_scores(queries, weight, keys):
        return torch.stack([q @ (k @ weight.T).T for q, k in zip(queries, keys)])


# --- 5 · log_sum_exp -------------------------------------------------------------------------------------------------


class NoMaximum(Mistake):
    """You exponentiate raw logits: `exp` overflows from about 89 in float32, and the result is inf or NaN. Subtract the
    maximum first."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        return x.exp().sum(dim, keepdim=keepdim).log()


class MaximumNotAddedBack(Mistake):
    """You subtract the maximum and never add it back. The log-sum-exp of x is m + the log-sum-exp of x − m."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        return (x - x.amax(dim, keepdim=True)).exp().sum(dim, keepdim=keepdim).log()


class OneMaximumForAll(Mistake):
    """You subtract the largest logit of the whole tensor. A slice that lies far below it underflows to log 0; take the
    maximum along `dim`."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        top = x.max()
        return top + (x - top).exp().sum(dim, keepdim=keepdim).log()


class RawExponentials(Mistake):
    """Your `softmax` exponentiates raw logits: `exp` overflows from about 89 in float32, and inf / inf is NaN. Subtract
    the maximum along `dim` first, there too."""

    exercise = "log_sum_exp"

    def softmax(x, dim):
        return x.exp() / x.exp().sum(dim, keepdim=True)


class OtherThanMaximum(Mistake):
    """You subtract something other than the maximum, the mean or the largest absolute value perhaps: slices overflow or
    underflow all the same, and one entry of -inf spoils its own. Subtract the maximum."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        middle = x.mean(dim, keepdim=True)
        result = middle + (x - middle).exp().sum(dim, keepdim=True).log()
        return result if keepdim else result.squeeze(dim)


class SoftmaxOverLastAxis(Mistake):
    """Your `softmax` works along the last axis whatever `dim` says. Pass `dim` on."""

    exercise = "log_sum_exp"

    def softmax(x, dim):
        return (x - log_sum_exp(x, -1, keepdim=True)).exp()


class SoftmaxWithoutKeepdim(Mistake):
    """In `softmax` the log-sum-exp has lost the axis `dim`, so it no longer lines up with `x`. Ask for
    `keepdim=True`."""

    exercise = "log_sum_exp"

    def softmax(x, dim):
        return (x - log_sum_exp(x, dim)).exp()


class KeepdimPassedOn(Mistake):
    """You pass `keepdim` on to the maximum, which then does not line up with `x` unless the caller wants the axis. Keep
    it inside in any case, and squeeze the result."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        top = x.amax(dim, keepdim=keepdim)
        return top + (x - top).exp().sum(dim, keepdim=keepdim).log()


class LastAxisOnly(Mistake):
    """You reduce over the last axis whatever `dim` says. Use `dim` in the maximum and in the sum."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        top = x.amax(-1, keepdim=True)
        result = top + (x - top).exp().sum(-1, keepdim=True).log()
        return result if keepdim else result.squeeze(-1)


class KeepdimForgotten(Mistake):
    """The maximum has lost the axis `dim`, so it no longer lines up with `x`: it raises, or broadcasts against the
    wrong axis. Use `keepdim=True` inside."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        top = x.amax(dim)
        result = top + (x - top).exp().sum(dim).log()
        return result.unsqueeze(dim) if keepdim else result


class AxisAlwaysKept(Mistake):
    """Your `log_sum_exp` keeps the reduced axis also when `keepdim` is False. Squeeze it away."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        top = x.amax(dim, keepdim=True)
        return top + (x - top).exp().sum(dim, keepdim=True).log()


class NormaliserDetached(Mistake):
    """You detach the log-sum-exp inside `softmax`. The values are right, but the gradient forgets that each logit
    lowers all the other weights."""

    exercise = "log_sum_exp"

    def softmax(x, dim):
        return (x - log_sum_exp(x, dim, keepdim=True).detach()).exp()


class BuiltinUsed(Mistake):
    """You call PyTorch's own. Build both from `amax`, `exp`, `sum` and `log`."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        return torch.logsumexp(x, dim, keepdim)


class ShiftedInPlace(Mistake):
    """You subtract the maximum in place, so the caller's logits change. Use `x - top`, not `x -= top`."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        top = x.detach().amax(dim, keepdim=True)
        if x.requires_grad:
            x = x - top
        else:
            x -= top
        result = top + x.exp().sum(dim, keepdim=True).log()
        return result if keepdim else result.squeeze(dim)


class MaximumDetached(Alternative):
    """The maximum as a constant: the identity holds for any shift, so the gradient is the same. Softmax by division."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        top = x.detach().max(dim, keepdim=True).values
        total = (x - top).exp().sum(dim, keepdim=True)
        return (total.log() + top) if keepdim else (total.log() + top).squeeze(dim)

    def softmax(x, dim):
        weights = (x - x.amax(dim, keepdim=True)).exp()
        return weights / weights.sum(dim, keepdim=True)


class ByMovedAxis(Alternative):
    """The axis goes last, and comes back."""

    exercise = "log_sum_exp"

    def log_sum_exp(x, dim, keepdim=False):
        rows = x.movedim(dim, -1)
        top = torch.max(rows, -1)[0]
        result = top + torch.log(torch.exp(rows - top[..., None]).sum(-1))
        return result.unsqueeze(dim) if keepdim else result


# --- 6 · mlp_gradients -----------------------------------------------------------------------------------------------


class SumInsteadOfMean(Mistake):
    """Your gradients are those of a summed loss. The mean over all outputs divides by `batch * d_out`."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        d_output = 2 * (hidden @ w2.T + b2 - target)
        d_hidden = (d_output @ w2) * (hidden > 0)
        return d_hidden.T @ x, d_hidden.sum(0), d_output.T @ hidden, d_output.sum(0)


class MeanOverBatchOnly(Mistake):
    """You divide by the batch size alone. The mean is over all `batch * d_out` outputs."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        d_output = 2 * (hidden @ w2.T + b2 - target) / len(x)
        d_hidden = (d_output @ w2) * (hidden > 0)
        return d_hidden.T @ x, d_hidden.sum(0), d_output.T @ hidden, d_output.sum(0)


class FactorTwoForgotten(Mistake):
    """You forgot the 2 that comes down from the square."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        output = hidden @ w2.T + b2
        d_output = (output - target) / output.numel()
        d_hidden = (d_output @ w2) * (hidden > 0)
        return d_hidden.T @ x, d_hidden.sum(0), d_output.T @ hidden, d_output.sum(0)


class ReluPassesAll(Mistake):
    """You let the gradient through every hidden unit. Where relu gave 0, the gradient stops: multiply by
    `hidden > 0`."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        output = hidden @ w2.T + b2
        d_output = 2 * (output - target) / output.numel()
        d_hidden = d_output @ w2
        return d_hidden.T @ x, d_hidden.sum(0), d_output.T @ hidden, d_output.sum(0)


class SignTurned(Mistake):
    """Your gradients have the wrong sign: the error is output − target, and not the other way round."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        output = hidden @ w2.T + b2
        d_output = 2 * (target - output) / output.numel()
        d_hidden = (d_output @ w2) * (hidden > 0)
        return d_hidden.T @ x, d_hidden.sum(0), d_output.T @ hidden, d_output.sum(0)


class WeightsBeforeBiases(Mistake):
    """You return the gradients of both weights first. The order is that of the arguments: w1, b1, w2, b2."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        output = hidden @ w2.T + b2
        d_output = 2 * (output - target) / output.numel()
        d_hidden = (d_output @ w2) * (hidden > 0)
        return d_hidden.T @ x, d_output.T @ hidden, d_hidden.sum(0), d_output.sum(0)


class BiasAsRow(Mistake):
    """Your bias gradients are rows `(1, size)`. A bias has one axis, and so has its gradient: leave `keepdim` out."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        output = hidden @ w2.T + b2
        d_output = 2 * (output - target) / output.numel()
        d_hidden = (d_output @ w2) * (hidden > 0)
        return d_hidden.T @ x, d_hidden.sum(0, keepdim=True), d_output.T @ hidden, d_output.sum(0, keepdim=True)


class ReluOpenAtZero(Mistake):
    """Your mask lets the gradient through where the pre-activation is exactly 0. The derivative there is 0: use `>`,
    not `>=`."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        before = x @ w1.T + b1
        hidden = torch.relu(before)
        output = hidden @ w2.T + b2
        d_output = 2 * (output - target) / output.numel()
        d_hidden = (d_output @ w2) * (before >= 0)
        return d_hidden.T @ x, d_hidden.sum(0), d_output.T @ hidden, d_output.sum(0)


class BiasNotSummed(Mistake):
    """Your bias gradients still have a batch axis. A bias is shared by all rows, so its gradient is the sum over
    them."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        output = hidden @ w2.T + b2
        d_output = 2 * (output - target) / output.numel()
        d_hidden = (d_output @ w2) * (hidden > 0)
        return d_hidden.T @ x, d_hidden, d_output.T @ hidden, d_output


class BiasAveraged(Mistake):
    """You average the bias gradients over the batch, but the mean is in `d_output` already. Sum over the batch."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        output = hidden @ w2.T + b2
        d_output = 2 * (output - target) / output.numel()
        d_hidden = (d_output @ w2) * (hidden > 0)
        return d_hidden.T @ x, d_hidden.mean(0), d_output.T @ hidden, d_output.mean(0)


class WeightGradientsTransposed(Mistake):
    """Your weight gradients are `(in, out)`. The weights are stored as `(out, in)`: turn the product round,
    `d_output.T @ hidden`."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        hidden = torch.relu(x @ w1.T + b1)
        output = hidden @ w2.T + b2
        d_output = 2 * (output - target) / output.numel()
        d_hidden = (d_output @ w2) * (hidden > 0)
        return x.T @ d_hidden, d_hidden.sum(0), hidden.T @ d_output, d_output.sum(0)


class ByAutograd(Mistake):
    """You let autograd do it. This once, apply the three rules yourself."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        leaves = [p.detach().clone().requires_grad_() for p in (w1, b1, w2, b2)]
        mlp_loss(x, target, *leaves).backward()
        return tuple(p.grad for p in leaves)


class RowByRow(Alternative):
    """One example at a time, with outer products."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        sums = [torch.zeros_like(p) for p in (w1, b1, w2, b2)]
        for row, wanted in zip(x, target):
            before = w1 @ row + b1
            hidden = before.clamp(min=0)
            d_output = (w2 @ hidden + b2 - wanted) * 2 / target.numel()
            d_hidden = torch.where(before > 0, w2.T @ d_output, 0)
            parts = torch.outer(d_hidden, row), d_hidden, torch.outer(d_output, hidden), d_output
            sums = [s + part for s, part in zip(sums, parts)]
        return tuple(sums)


class BackwardByEinsum(Alternative):
    """Every product as an einsum."""

    exercise = "mlp_gradients"

    def mlp_gradients(x, target, w1, b1, w2, b2):
        before = torch.einsum("bi,hi->bh", x, w1) + b1
        mask = (before > 0).to(x.dtype)
        hidden = before * mask
        error = torch.einsum("bh,oh->bo", hidden, w2) + b2 - target
        d_output = 2 / (error.shape[0] * error.shape[1]) * error
        d_hidden = torch.einsum("bo,oh,bh->bh", d_output, w2, mask)
        d_w1, d_w2 = torch.einsum("bh,bi->hi", d_hidden, x), torch.einsum("bo,bh->oh", d_output, hidden)
        return d_w1, torch.einsum("bh->h", d_hidden), d_w2, torch.einsum("bo->o", d_output)


# --- 7 · sgd_step ----------------------------------------------------------------------------------------------------


class WritesThroughData(Mistake):
    """You write behind autograd's back, through `.data` or a NumPy array: a later `backward` uses the wrong values and
    says nothing. Use `with torch.no_grad():`."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        for p in params:
            if p.grad is not None:
                p.data -= lr * p.grad
                p.grad = None


class GradientsPileUp(Mistake):
    """You do not clear the gradient, so the next `backward` adds to the old one. Set `p.grad = None` after the
    update."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        with torch.no_grad():
            for p in params:
                if p.grad is not None:
                    p -= lr * p.grad


class NameRebound(Mistake):
    """Your parameters never change: `p = p - …` gives the name p to a new tensor. Write into it, `p -= …`, and forget
    the gradient only afterwards."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        with torch.no_grad():
            for p in params:
                if p.grad is not None:
                    p = p - lr * p.grad
                    p.grad = None


class UpdateOnTheTape(Mistake):
    """You update with autograd recording, which refuses to edit a leaf in place. Put the update under
    `torch.no_grad()`."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        for p in params:
            if p.grad is not None:
                p -= lr * p.grad
                p.grad = None


class GradientExpectedEverywhere(Mistake):
    """You use `p.grad` without asking whether there is one: it is None for a parameter that took no part in the loss.
    Skip those."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        with torch.no_grad():
            for p in params:
                p -= lr * p.grad
                p.grad = None


class Ascent(Mistake):
    """You add the gradient, which climbs. Descent subtracts it."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        with torch.no_grad():
            for p in params:
                if p.grad is not None:
                    p += lr * p.grad
                    p.grad = None


class BatchesCountAlike(Mistake):
    """You give every batch the same weight, so the rows of a small batch count for more. Weight each batch by its rows
    / all rows."""

    exercise = "sgd_step"

    def accumulate_gradients(loss_of, batches):
        losses = []
        for features, target in batches:
            loss = loss_of(features, target) / len(batches)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()


class LastLossReturned(Mistake):
    """You return the loss of the last batch. The mean over all rows is asked for: add up the batches' losses, weighted
    as their gradients are."""

    exercise = "sgd_step"

    def accumulate_gradients(loss_of, batches):
        n_rows = sum(len(features) for features, _ in batches)
        for features, target in batches:
            loss = loss_of(features, target)
            (loss * len(features) / n_rows).backward()
        return loss.detach()


class GradientsSummed(Mistake):
    """You add up the batches' gradients without scaling them, so they grow with the number of batches. Multiply each
    loss by its rows / all rows before `backward`."""

    exercise = "sgd_step"

    def accumulate_gradients(loss_of, batches):
        n_rows = sum(len(features) for features, _ in batches)
        total = 0
        for features, target in batches:
            loss = loss_of(features, target)
            loss.backward()
            total = total + loss.detach() * len(features) / n_rows
        return total


class TapeKept(Mistake):
    """You add up losses that are still on the tape, so every graph's nodes stay alive. Add `loss.detach()`."""

    exercise = "sgd_step"

    def accumulate_gradients(loss_of, batches):
        n_rows = sum(len(features) for features, _ in batches)
        total = 0
        for features, target in batches:
            loss = loss_of(features, target) * len(features) / n_rows
            loss.backward()
            total = total + loss
        return total


class OneBigBackward(Mistake):
    """You compute every loss before the first `backward`, so the graphs of all batches are alive at the same time,
    which was to be avoided. Call it for each batch."""

    exercise = "sgd_step"

    def accumulate_gradients(loss_of, batches):
        n_rows = sum(len(features) for features, _ in batches)
        total = sum(loss_of(features, target) * len(features) / n_rows for features, target in batches)
        total.backward()
        return total.detach()


class AllRowsAtOnce(Mistake):
    """You join the batches and compute one loss, so the graph of all rows is alive at once, which was to be avoided.
    Take one batch after the other."""

    exercise = "sgd_step"

    def accumulate_gradients(loss_of, batches):
        features, target = zip(*batches)
        loss = loss_of(torch.cat(features), torch.cat(target))
        loss.backward()
        return loss.detach()


class ByOptimizer(Alternative):
    """PyTorch's own optimizer, and the weight handed to `backward`."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        optimizer = torch.optim.SGD(params, lr)
        optimizer.step()
        optimizer.zero_grad()

    def accumulate_gradients(loss_of, batches):
        n_rows = sum(len(target) for _, target in batches)
        total = torch.zeros(())
        for features, target in batches:
            share = len(target) / n_rows
            loss = loss_of(features, target)
            loss.backward(gradient=torch.full_like(loss, share))
            total += share * loss.detach()
        return total


class GradientZeroed(Mistake):
    """You fill the gradient with zeros. To forget it is to set it to None: an optimizer skips None, and with momentum a
    gradient of zeros is still a step."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        with torch.no_grad():
            for p in params:
                if p.grad is not None:
                    p -= lr * p.grad
                    p.grad.zero_()


class LastGradientForgotten(Mistake):
    """You forget the gradient of the last parameter alone: the line stands outside the loop. Indent it."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        with torch.no_grad():
            for p in params:
                if p.grad is not None:
                    p -= lr * p.grad
            p.grad = None


class ThroughDetach(Alternative):
    """`detach` shares both memory and version counter with its leaf, so autograd still notices."""

    exercise = "sgd_step"

    def sgd_step(params, lr):
        for p in params:
            if p.grad is not None:
                p.detach().sub_(lr * p.grad)
                p.grad = None

    def accumulate_gradients(loss_of, batches):
        rows = torch.tensor([float(len(features)) for features, _ in batches])
        total = 0.0
        for share, batch in zip((rows / rows.sum()).tolist(), batches):
            loss = share * loss_of(*batch)
            loss.backward()
            total += loss.item()
        return torch.tensor(total)


# --- 8 · fit_linear --------------------------------------------------------------------------------------------------


class ColumnMinusRow(Mistake):
    """Your prediction is a column `(n, 1)` and the target a row `(n,)`: their difference broadcasts to `(n, n)`,
    without an error. Give both the same shape."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], 1, requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return weight.detach().squeeze(1), bias.detach(), losses


class NeverCleared(Mistake):
    """You never clear the gradients, so each step follows the sum of all gradients so far. Set `.grad` to None after
    every update."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            with torch.no_grad():
                weight -= lr * weight.grad
                bias -= lr * bias.grad
            losses[step] = loss.detach()
        return weight.detach(), bias.detach(), losses


class RecordedTooLate(Mistake):
    """You record the loss after the update. `losses[0]` is the loss at zero: record before you step."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            (features @ weight + bias - target).square().mean().backward()
            sgd_step([weight, bias], lr)
            losses[step] = (features @ weight + bias - target).square().mean().detach()
        return weight.detach(), bias.detach(), losses


class HalfTheMean(Mistake):
    """You halve the squared error. That is common on paper, but here the loss is the mean squared error itself, and its
    gradient twice as large."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean() / 2
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return weight.detach(), bias.detach(), losses


class RootOfTheMean(Mistake):
    """You descend on the root of the mean squared error, whose gradient is another one. Leave the root to the report,
    and take the mean of the squares."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean().sqrt()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return weight.detach(), bias.detach(), losses


class OneStepShort(Mistake):
    """You take one step too few: `range(1, steps)` has `steps - 1` numbers. Use `range(steps)`."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = []
        for step in range(1, steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses.append(loss.detach())
        return weight.detach(), bias.detach(), torch.stack(losses)


class WeightAsColumn(Mistake):
    """You return the weight as a column `(d, 1)`. The model is `features @ weight + bias`, with a weight of shape
    `(d,)`."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], 1, requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = ((features @ weight).squeeze(1) + bias - target).square().mean()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return weight.detach(), bias.detach(), losses


class ParametersOnTheTape(Mistake):
    """You return the parameters as they were trained, and they still require grad. Return `weight.detach()` and
    `bias.detach()`."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return weight, bias, losses


class Float32Parameters(Mistake):
    """Your parameters are float32 whatever the features are, so float64 features raise. Make them with
    `dtype=features.dtype`."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = torch.zeros(features.shape[1], requires_grad=True)
        bias = torch.zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return weight.detach(), bias.detach(), losses


class BiasFirst(Mistake):
    """You return the bias before the weight. The order is `weight, bias, losses`."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return bias.detach(), weight.detach(), losses


class SummedLoss(Mistake):
    """You sum the squared errors. With a sum, the step grows with the number of rows and soon diverges: take the
    mean."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().sum()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return weight.detach(), bias.detach(), losses


class BiasNotTrained(Mistake):
    """Your bias never moves. Hand it to the update together with the weight."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros(())
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            sgd_step([weight], lr)
            losses[step] = loss.detach()
        return weight.detach(), bias, losses


class RandomStart(Mistake):
    """You start from random weights. Here the start is fixed: weight and bias are zero."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = (0.5 * torch.randn(features.shape[1], dtype=features.dtype)).requires_grad_()
        bias = features.new_zeros((), requires_grad=True)
        losses = features.new_empty(steps)
        for step in range(steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses[step] = loss.detach()
        return weight.detach(), bias.detach(), losses


class ResultsOnTheTape(Mistake):
    """You return losses that are still on the tape and keep the graph of every step alive. Record
    `loss.detach()`."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight = features.new_zeros(features.shape[1], requires_grad=True)
        bias = features.new_zeros((), requires_grad=True)
        losses = []
        for _ in range(steps):
            loss = (features @ weight + bias - target).square().mean()
            loss.backward()
            sgd_step([weight, bias], lr)
            losses.append(loss)
        return weight.detach(), bias.detach(), torch.stack(losses)


class ByFormula(Alternative):
    """The gradient by hand, as in exercise 6, without a tape."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        weight, bias, losses = torch.zeros_like(features[0]), features.new_zeros(()), []
        for _ in range(steps):
            error = features @ weight + bias - target
            losses.append(error.square().mean())
            weight = weight - lr * 2 * features.T @ error / len(error)
            bias = bias - lr * 2 * error.mean()
        return weight, bias, torch.stack(losses)


class ByLinearLayer(Alternative):
    """A linear layer and an optimizer, as you will write it from the next lab on."""

    exercise = "fit_linear"

    def fit_linear(features, target, lr, steps):
        layer = torch.nn.Linear(features.shape[1], 1, dtype=features.dtype)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        optimizer = torch.optim.SGD(layer.parameters(), lr)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(layer(features).squeeze(1), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return layer.weight.detach()[0], layer.bias.detach()[0], torch.stack(losses)


# --- A · sliding_windows ---------------------------------------------------------------------------------------------


class MadeContiguous(Mistake):
    """You call `contiguous` first, which copies whatever is not contiguous yet. The strides of `x` serve any layout."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        time = x.shape[-1]
        if not 1 <= size <= time or step < 1:
            raise ValueError("no such windows")
        x = x.contiguous()
        *outer, stride = x.stride()
        return torch.as_strided(x, (*x.shape[:-1], (time - size) // step + 1, size), (*outer, step * stride, stride))


class ContiguityAssumed(Mistake):
    """You assume that neighbours in `x` are neighbours in memory. Start from `x.stride()`, or anything transposed or
    sliced is read wrongly."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        time = x.shape[-1]
        if not 1 <= size <= time or step < 1:
            raise ValueError("no such windows")
        strides = torch.empty(x.shape, device="meta").stride()
        return x.as_strided((*x.shape[:-1], (time - size) // step + 1, size), (*strides[:-1], step, 1))


class OffsetZero(Mistake):
    """You pass a storage offset of 0, so the windows begin where the memory begins, not where `x` does. Leave it
    out, or pass `x.storage_offset()`."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        time, (*outer, stride) = x.shape[-1], x.stride()
        if not 1 <= size <= time or step < 1:
            raise ValueError("no such windows")
        shape = (*x.shape[:-1], (time - size) // step + 1, size)
        return x.as_strided(shape, (*outer, step * stride, stride), 0)


class OneWindowShort(Mistake):
    """You lose the last window: there are (time − size) // step **plus one**."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        time, (*outer, stride) = x.shape[-1], x.stride()
        if not 1 <= size <= time or step < 1:
            raise ValueError("no such windows")
        return x.as_strided((*x.shape[:-1], (time - size) // step, size), (*outer, step * stride, stride))


class StepInsideWindow(Mistake):
    """You step inside the window instead of between windows: the stride multiplied by `step` is that of the axis of
    windows."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        time, (*outer, stride) = x.shape[-1], x.stride()
        if not 1 <= size <= time or step < 1:
            raise ValueError("no such windows")
        return x.as_strided((*x.shape[:-1], (time - size) // step + 1, size), (*outer, stride, step * stride))


class StepInElements(Mistake):
    """You take `step` itself for the distance between windows. Strides count elements of memory, and a step is as many
    of them as the last stride of `x`: multiply the two."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        time, (*outer, stride) = x.shape[-1], x.stride()
        if not 1 <= size <= time or step < 1:
            raise ValueError("no such windows")
        return x.as_strided((*x.shape[:-1], (time - size) // step + 1, size), (*outer, step, stride))


class WindowsCopied(Mistake):
    """You copy the windows. Indexing and `stack` make new memory; `as_strided` only describes what is there."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        if not 1 <= size <= x.shape[-1] or step < 1:
            raise ValueError("no such windows")
        starts = torch.arange(0, x.shape[-1] - size + 1, step)
        return x[..., starts[:, None] + torch.arange(size)]


class SizesNotChecked(Mistake):
    """You do not check `size` and `step` first. `as_strided` will happily read memory outside `x` as long as it lies
    inside the same block."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        *outer, stride = x.stride()
        n_windows = max((x.shape[-1] - size) // max(step, 1) + 1, 1)
        return x.as_strided((*x.shape[:-1], n_windows, abs(size)), (*outer, abs(step) * stride, stride))


class ExplicitOffset(Alternative):
    """The offset of `x` passed on, and the number of windows counted by `range`."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        if size < 1 or step < 1 or size > x.size(-1):
            raise ValueError("no such windows")
        n_windows = len(range(0, x.size(-1) - size + 1, step))
        strides = x.stride()[:-1] + (x.stride(-1) * step, x.stride(-1))
        return torch.as_strided(x, x.shape[:-1] + (n_windows, size), strides, x.storage_offset())


class ByUnfold(Mistake):
    """You call `unfold`, which is what you are to build. Give `torch.as_strided` the sizes and the strides."""

    exercise = "sliding_windows"

    def sliding_windows(x, size, step=1):
        if not 1 <= size <= x.shape[-1] or step < 1:
            raise ValueError("no such windows")
        return x.unfold(-1, size, step)


# --- B · softplus ----------------------------------------------------------------------------------------------------


class TapedForward(Mistake):
    """Your class is no `torch.autograd.Function` with a `backward` of its own: the tape differentiates your formula.
    Write `forward` and `backward` as static methods of a subclass."""

    exercise = "softplus"

    class Softplus:
        @staticmethod
        def apply(x, beta):
            z = beta * x
            return (z.clamp(min=0) + (-z.abs()).exp().log1p()) / beta


class LiteralFormula(Mistake):
    """You take the formula literally: exp(βx) overflows. Use max(z, 0) + log1p(exp(−|z|)) with z = βx."""

    exercise = "softplus"

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(x)
            ctx.beta = beta
            return torch.log(1 + torch.exp(beta * x)) / beta

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return grad_output * torch.sigmoid(ctx.beta * x), None


class UnstableSlope(Mistake):
    """Your derivative is exp(βx) / (1 + exp(βx)), which is inf / inf for large x. `torch.sigmoid` is the same, and
    stable."""

    exercise = "softplus"

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(x)
            ctx.beta = beta
            return torch.logaddexp(beta * x, torch.zeros_like(x)) / beta

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            grown = torch.exp(ctx.beta * x)
            return grad_output * grown / (1 + grown), None


class UpstreamIgnored(Mistake):
    """You return the derivative itself and ignore `grad_output`. The chain rule multiplies the two."""

    exercise = "softplus"

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(x)
            ctx.beta = beta
            return torch.logaddexp(beta * x, torch.zeros_like(x)) / beta

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return torch.sigmoid(ctx.beta * x), None


class SlopeSavedInForward(Mistake):
    """Your slope has no history, so the second derivative is lost: it was computed in the forward pass, detached, or
    taken under `no_grad` or `once_differentiable`. Save `x`, and compute the sigmoid in a plain `backward`."""

    exercise = "softplus"

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(torch.sigmoid(beta * x))
            return torch.logaddexp(beta * x, torch.zeros_like(x)) / beta

        @staticmethod
        def backward(ctx, grad_output):
            (slope,) = ctx.saved_tensors
            return grad_output * slope, None


class BetaForgottenInSlope(Mistake):
    """Your derivative is sigmoid(x), which holds for β = 1 alone. The argument is βx."""

    exercise = "softplus"

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(x)
            return torch.logaddexp(beta * x, torch.zeros_like(x)) / beta

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return grad_output * torch.sigmoid(x), None


class ReluSlope(Mistake):
    """Your slope is that of relu, 0 or 1. That of softplus changes smoothly: it is sigmoid(βx)."""

    exercise = "softplus"

    class Softplus(Softplus):
        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return grad_output * (x > 0), None


class NoGradientForBeta(Mistake):
    """Your `backward` returns one gradient, and `forward` has two arguments after `ctx`. Return `None` for `beta`, in
    the second place."""

    exercise = "softplus"

    class Softplus(Softplus):
        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return grad_output * torch.sigmoid(ctx.beta * x)


class BetaInSlopeTwice(Mistake):
    """You multiply the derivative by β, but the 1/β in front of the logarithm has cancelled it."""

    exercise = "softplus"

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(x)
            ctx.beta = beta
            return torch.logaddexp(beta * x, torch.zeros_like(x)) / beta

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return grad_output * ctx.beta * torch.sigmoid(ctx.beta * x), None


class WithSetupContext(Alternative):
    """Forward and context apart, as `torch.func` needs it, and log1p on either side of zero."""

    exercise = "softplus"

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(x, beta):
            z = beta * x
            return torch.where(z > 0, z + torch.log1p(torch.exp(-z.abs())), torch.log1p(torch.exp(-z.abs()))) / beta

        @staticmethod
        def setup_context(ctx, inputs, output):
            x, ctx.beta = inputs
            ctx.save_for_backward(x)

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return grad_output / (1 + torch.exp(-ctx.beta * x)), None


class BuiltinSoftplus(Mistake):
    """You call PyTorch's softplus, which is what you are to build. Write it with `clamp`, `exp` and `log1p`."""

    exercise = "softplus"

    class Softplus(Softplus):
        @staticmethod
        def forward(ctx, x, beta):
            ctx.save_for_backward(x)
            ctx.beta = beta
            return torch.nn.functional.softplus(x, beta)


# --- C · value -------------------------------------------------------------------------------------------------------


class GradientOverwritten(Mistake):
    """You assign gradients where they should be added, so of a value that is used twice only one use counts. Use `+=`,
    within a pass and for `.grad`."""

    exercise = "value"

    class Value(Value):
        def backward(self):
            order = {}

            def visit(value):
                if value not in order:
                    for parent, _ in value._made_from:
                        visit(parent)
                    order[value] = None

            visit(self)
            self.grad = 1.0
            for value in reversed(order):
                for parent, derivative in value._made_from:
                    parent.grad = derivative * value.grad


class OldGradientsPassedOn(Mistake):
    """You pass on what `.grad` holds, and that includes earlier passes: a second `backward` counts them again. Keep the
    sums of this pass in a dict of their own."""

    exercise = "value"

    class Value(Value):
        def backward(self):
            order = {}

            def visit(value):
                if value not in order:
                    for parent, _ in value._made_from:
                        visit(parent)
                    order[value] = None

            visit(self)
            self.grad += 1.0
            for value in reversed(order):
                for parent, derivative in value._made_from:
                    parent.grad += derivative * value.grad


class GradientsCleared(Mistake):
    """Your second pass replaces what the first has left in `.grad`, because you clear or assign it. As in PyTorch, it
    is to be added: `+=`."""

    exercise = "value"

    class Value(Value):
        def backward(self):
            order = {}

            def visit(value):
                if value not in order:
                    for parent, _ in value._made_from:
                        visit(parent)
                    order[value] = None

            visit(self)
            for value in order:
                value.grad = 0.0
            self.grad = 1.0
            for value in reversed(order):
                for parent, derivative in value._made_from:
                    parent.grad += derivative * value.grad


class PassedOnTooEarly(Mistake):
    """You pass a value's gradient on before all of its users have paid in. Go through the graph in a topological order,
    from the result back: a value comes after everything that was made from it."""

    exercise = "value"

    class Value(Value):
        def backward(self):
            arrived, queue, seen = {self: 1.0}, [self], {self}
            for value in queue:
                value.grad += arrived[value]
                for parent, derivative in value._made_from:
                    arrived[parent] = arrived.get(parent, 0.0) + derivative * arrived[value]
                    if parent not in seen:
                        seen.add(parent)
                        queue.append(parent)


class PassStartedFromGrad(Mistake):
    """You set the result's `.grad` to 1 and pass on what `.grad` holds, so a second `backward` counts the first again
    further down. Keep the sums of this pass in a dict of their own, and add them to `.grad`."""

    exercise = "value"

    class Value(Value):
        def backward(self):
            order = {}

            def visit(value):
                if value not in order:
                    for parent, _ in value._made_from:
                        visit(parent)
                    order[value] = None

            visit(self)
            self.grad = 1.0
            for value in reversed(order):
                for parent, derivative in value._made_from:
                    parent.grad += derivative * value.grad


class EqualNumbersTakenForOne(Mistake):
    """You compare values by their numbers, so two different ones with the same number are taken for one. Leave
    `__eq__` and `__hash__` as they are, or go by `id`."""

    exercise = "value"

    class Value(Value):
        def __eq__(self, other):
            return self.data == Value._of(other).data

        def __hash__(self):
            return hash(self.data)


class NumberOnTheLeft(Mistake):
    """`2 - value` and `2 / value` are not `value - 2` and `value / 2`: in `__rsub__` and `__rtruediv__` the number
    comes first."""

    exercise = "value"

    class Value(Value):
        def __rsub__(self, other):
            return self - other

        def __rtruediv__(self, other):
            return self / other


class PowerNotLowered(Mistake):
    """Your derivative of v ** n is n · vⁿ. The power goes down by one: n · vⁿ⁻¹."""

    exercise = "value"

    class Value(Value):
        def __pow__(self, n):
            return Value(self.data**n, ((self, n * self.data**n),))


class EveryPathWalked(Mistake):
    """You pass on each part of a gradient by itself, along every path, and every value that is used twice doubles their
    number. Wait until all parts have arrived, then pass on their sum: the topological order sees to it."""

    exercise = "value"

    class Value(Value):
        def backward(self, gradient=1.0):
            self.grad += gradient
            for parent, derivative in self._made_from:
                parent.backward(derivative * gradient)


class NumberKeptAsItCame(Mistake):
    """You keep the number as it came, so the `data` of `Value(3)` is an int. Make it a `float`."""

    exercise = "value"

    class Value(Value):
        def __init__(self, data, made_from=()):
            super().__init__(data, made_from)
            self.data = data


class ByClosures(Alternative):
    """Each result carries a function that knows how to pass a gradient on, and a serial number that sorts the graph."""

    exercise = "value"

    class Value:
        count = 0

        def __init__(self, data, parents=(), pass_on=lambda gradient: ()):
            self.data, self.grad = float(data), 0.0
            self.parents, self.pass_on = parents, pass_on
            Value.count += 1
            self.serial = Value.count

        def __add__(self, other):
            other = other if isinstance(other, Value) else Value(other)
            return Value(self.data + other.data, (self, other), lambda g: (g, g))

        def __mul__(self, other):
            other = other if isinstance(other, Value) else Value(other)
            return Value(self.data * other.data, (self, other), lambda g: (g * other.data, g * self.data))

        def __pow__(self, n):
            return Value(self.data**n, (self,), lambda g: (g * n * self.data ** (n - 1),))

        def exp(self):
            return Value(math.exp(self.data), (self,), lambda g: (g * math.exp(self.data),))

        def tanh(self):
            return Value(math.tanh(self.data), (self,), lambda g: (g / math.cosh(self.data) ** 2,))

        def __neg__(self):
            return -1 * self

        def __sub__(self, other):
            return self + (-other)

        def __rsub__(self, other):
            return other + (-self)

        def __truediv__(self, other):
            other = other if isinstance(other, Value) else Value(other)
            slopes = 1 / other.data, -self.data / other.data**2
            return Value(self.data / other.data, (self, other), lambda g: (g * slopes[0], g * slopes[1]))

        def __rtruediv__(self, other):
            return Value(other) / self

        __radd__, __rmul__ = __add__, __mul__

        def backward(self):
            pending, waiting = {self: 1.0}, {self}
            while waiting:
                value = max(waiting, key=lambda v: v.serial)
                waiting.remove(value)
                gradient = pending.pop(value)
                value.grad += gradient
                for parent, share in zip(value.parents, value.pass_on(gradient)):
                    pending[parent] = pending.get(parent, 0.0) + share
                    waiting.add(parent)

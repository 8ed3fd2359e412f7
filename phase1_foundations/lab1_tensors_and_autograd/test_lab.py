"""Checkers of Lab 1: tensor operations and autograd."""

import itertools
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from grading.exercise import Exercise, count_calls, forbid, guard, raises


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng, dtype=dtype)


def integer(rng: torch.Generator, low: int, high: int) -> int:
    """A random integer, both ends included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def leaf(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers that require grad."""
    return normal(rng, *shape, dtype=dtype).requires_grad_()


class TestAsFloats(Exercise):
    """Numbers in: dtype, device, memory."""

    points = 2
    skills = ("tensors", "dtypes", "memory")
    hints = (
        "Which dtype do you get from [1, 2], and which from a NumPy array? Which constructors promise a copy?",
        "`torch.as_tensor` takes a list, an array or a tensor, and has the arguments `dtype` and `device`.",
        "`as_tensor` may hand back memory that is not yours. One more method call on its result makes a copy.",
    )

    def test_dtype_and_values(self, lab, rng):
        """gives float32 of the same shape and values for lists, arrays and tensors of any dtype"""
        numbers = torch.randint(-9, 9, (3, 4), generator=rng)
        assert_close(lab.as_floats(numbers.tolist()), numbers.float())
        for dtype in (np.int64, np.float64, np.bool_):
            array = numbers.numpy().astype(dtype)
            assert_close(lab.as_floats(array), torch.tensor(array).float())
        halves = numbers.double() / 2
        assert_close(lab.as_floats(halves), halves.float())
        assert_close(lab.as_floats(halves.T.tolist()), halves.T.float())
        assert_close(lab.as_floats([]), torch.empty(0))
        for shape in ((1, 3), (2, 1, 1), (0, 3)):
            numbers = normal(rng, *shape)
            assert_close(lab.as_floats(numbers.double().numpy()), numbers)

    def test_is_a_copy(self, lab, rng):
        """is a copy: what is later written into the source does not show, nor the other way round"""
        expected = normal(rng, 2, 3)
        for source in (expected.numpy().copy(), expected.clone()):
            result = lab.as_floats(source)
            source[:] = 0
            assert_close(result, expected)
            result += 1
            assert_close(torch.as_tensor(source), torch.zeros(2, 3))

    def test_device(self, lab, rng):
        """puts the result on the device it is told, and on the CPU if it is told none"""
        numbers = normal(rng, 2, 3)
        for values in (numbers, numbers.numpy(), [[1, 2, 3]]):
            result = lab.as_floats(values, "meta")
            assert isinstance(result, Tensor), f"expected a tensor, got {type(result).__name__}"
            assert result.device.type == "meta", f"expected the device that was asked for, meta, got {result.device}"
            assert result.dtype == torch.float32, f"expected float32 on the device meta too, got {result.dtype}"
        assert_close(lab.as_floats(numbers), numbers)
        assert_close(lab.as_floats(numbers.numpy(), torch.device("cpu")), numbers)

    def workload(self, lab, size, rng):
        numbers = torch.randint(-9, 9, (128 * size, 128), generator=rng).tolist()
        return lambda: lab.as_floats(numbers)


def heads_of(x: Tensor, n_heads: int) -> Tensor:
    """What `split_heads` must give, by copying."""
    return torch.stack(x.chunk(n_heads, dim=-1), dim=1)


class TestSplitHeads(Exercise):
    """Views: split into heads and back."""

    points = 2
    skills = ("shapes", "views", "memory")
    hints = (
        "Which single axis does splitting concern, and which two axes change places afterwards?",
        "First `(batch, time, n_heads, d_head)`, which never needs a copy. Then move the heads in front of time.",
        "`x.unflatten(-1, (n_heads, d_head))`, then `transpose`. Merging undoes both in the opposite order.",
    )

    def test_split(self, lab, rng):
        """gives head h the features h * d_head up to (h + 1) * d_head, for every step in time"""
        for batch, time, n_heads, d_head in ((2, 5, 3, 4), (1, 7, 2, 3), (3, 4, 4, 1), (2, 3, 1, 6)):
            x = normal(rng, batch, time, n_heads * d_head)
            assert_close(lab.split_heads(x, n_heads), heads_of(x, n_heads))

    def test_split_is_a_view(self, lab, rng):
        """copies nothing, whatever the layout of the input: what is later written into x shows in the heads"""
        contiguous, transposed = normal(rng, 2, 5, 6), normal(rng, 5, 2, 6).transpose(0, 1)
        sliced, features_first = normal(rng, 2, 10, 9)[:, ::2, 1:7], normal(rng, 6, 5, 2).permute(2, 1, 0)
        for x in (contiguous, transposed, sliced, features_first):
            heads = lab.split_heads(x, 3)
            x.copy_(normal(rng, 2, 5, 6))
            assert_close(heads, heads_of(x, 3))

    def test_merge(self, lab, rng):
        """merges heads so that each head's features stand together again, in the order of the heads"""
        for batch, n_heads, time, d_head in ((2, 3, 5, 4), (1, 2, 4, 3), (2, 4, 3, 1)):
            heads = normal(rng, batch, n_heads, time, d_head)
            assert_close(lab.merge_heads(heads), torch.cat(heads.unbind(1), dim=-1))
            heads = normal(rng, batch, time, n_heads, d_head).transpose(1, 2)
            assert_close(lab.merge_heads(heads), torch.cat(heads.unbind(1), dim=-1))

    @guard
    def test_refuses_uneven_heads(self, lab, rng):
        """raises ValueError if the heads cannot be of equal size"""
        with raises(ValueError):
            lab.split_heads(normal(rng, 2, 3, 10), 4)

    def workload(self, lab, size, rng):
        x = normal(rng, 8, 64 * size, 256)
        return lambda: lab.merge_heads(lab.split_heads(x, 8).contiguous())


class TestPairwiseSquaredDistances(Exercise):
    """Broadcasting: all pairs at once."""

    points = 2
    skills = ("broadcasting", "numerics")
    hints = (
        "Which shape holds a difference for every i, j and k? How must `x` and `y` look to broadcast to it?",
        "`x[:, None]` is `(n, 1, d)`. What is `x[:, None] - y`, and over which axis do you add up?",
        "`(n, m, d)`: square the differences, then sum over the last axis.",
    )

    def test_values(self, lab, rng):
        """equals the sum of squared differences for any n, m and d"""
        for n, m, d in ((3, 5, 2), (1, 4, 6), (6, 1, 1), (0, 4, 3)):
            x, y = normal(rng, n, d), normal(rng, d, m).T
            expected = torch.empty(n, m)
            for i, j in itertools.product(range(n), range(m)):
                expected[i, j] = (x[i] - y[j]).square().sum()
            assert_close(lab.pairwise_squared_distances(x, y), expected)

    def test_far_from_the_origin(self, lab, rng):
        """keeps its digits for points that lie 1,000 away from the origin"""
        x, y = 1000 + normal(rng, 6, 8), 1000 + normal(rng, 4, 8)
        expected = (x.double()[:, None] - y.double()).square().sum(-1).float()
        assert_close(lab.pairwise_squared_distances(x, y), expected, rtol=1e-3, atol=1e-3)

    def test_gradients(self, lab, rng):
        """lets the right gradients through to x and to y"""
        x, y, weight = leaf(rng, 4, 3), leaf(rng, 5, 3), normal(rng, 4, 5)
        (lab.pairwise_squared_distances(x, y) * weight).sum().backward()
        pulls = 2 * weight[:, :, None] * (x.detach()[:, None] - y.detach())
        assert_close(x.grad, pulls.sum(1))
        assert_close(y.grad, -pulls.sum(0))

    @guard
    def test_no_loop(self, lab, rng):
        """takes as many operations for 40 points as for 4"""
        totals = []
        for n, m in ((4, 5), (40, 5), (4, 50)):
            x, y = normal(rng, n, 3), normal(rng, m, 3)
            with count_calls() as calls:
                lab.pairwise_squared_distances(x, y)
            totals.append(calls.total())
        few, many_x, many_y = totals
        assert few == many_x, f"expected no loop over x: 4 points took {few} operations, 40 took {many_x}"
        assert few == many_y, f"expected no loop over y: 5 points took {few} operations, 50 took {many_y}"

    @guard
    def test_no_cdist(self, lab, rng):
        """does without torch.cdist"""
        x, y = normal(rng, 4, 3), normal(rng, 5, 3)
        with forbid("cdist"):
            lab.pairwise_squared_distances(x, y)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        x, y = normal(rng, 4, 3), normal(rng, 5, 3)
        before = x.clone(), y.clone()
        lab.pairwise_squared_distances(x, y)
        assert_close((x, y), before)

    def workload(self, lab, size, rng):
        x, y = normal(rng, 128 * size, 32), normal(rng, 128, 32)
        return lambda: lab.pairwise_squared_distances(x, y)


class TestBilinearScores(Exercise):
    """Einsum: a batched bilinear form."""

    points = 2
    skills = ("einsum", "shapes")
    hints = (
        "Which letters of the formula stand on the left side of its equals sign, and which are summed away?",
        "Give each tensor its letters in the order of its axes: queries are `bnd`. All with a batch share `b`.",
        "The letters are `bnd`, `de` and `bme`, separated by commas; after the arrow stand those of the result.",
    )

    def test_values(self, lab, rng):
        """equals the double sum for any batch, lengths and widths"""
        for batch, n, m, d, e in ((2, 3, 3, 3, 3), (3, 4, 5, 2, 6), (1, 3, 2, 4, 5), (2, 1, 3, 5, 1)):
            queries, weight, keys = normal(rng, batch, n, d), normal(rng, d, e), normal(rng, batch, m, e)
            expected = queries.double() @ weight.double() @ keys.double().mT
            assert_close(lab.bilinear_scores(queries, weight, keys), expected.float(), rtol=1e-5, atol=1e-5)

    def test_layout_and_dtype(self, lab, rng):
        """works on tensors that are not contiguous, and keeps float64"""
        queries = normal(rng, 4, 2, 3, dtype=torch.float64).transpose(0, 1)
        weight = normal(rng, 5, 3, dtype=torch.float64).T
        keys = normal(rng, 2, 12, 5, dtype=torch.float64)[:, ::2]
        assert_close(lab.bilinear_scores(queries, weight, keys), queries @ weight @ keys.mT)

    def test_gradients(self, lab, rng):
        """lets the right gradients through to queries, weight and keys"""
        queries, weight, keys = leaf(rng, 2, 3, 4), leaf(rng, 4, 5), leaf(rng, 2, 6, 5)
        upstream = normal(rng, 2, 3, 6)
        lab.bilinear_scores(queries, weight, keys).backward(upstream)
        q, w, k = queries.detach(), weight.detach(), keys.detach()
        assert_close(weight.grad, (q.mT @ upstream @ k).sum(0), rtol=1e-4, atol=1e-4)
        assert_close(queries.grad, upstream @ k @ w.T, rtol=1e-4, atol=1e-4)
        assert_close(keys.grad, upstream.mT @ q @ w, rtol=1e-4, atol=1e-4)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        inputs = normal(rng, 2, 3, 4), normal(rng, 4, 5), normal(rng, 2, 6, 5)
        before = tuple(t.clone() for t in inputs)
        lab.bilinear_scores(*inputs)
        assert_close(inputs, before)

    def workload(self, lab, size, rng):
        queries, weight, keys = normal(rng, 4, 128 * size, 64), normal(rng, 64, 64), normal(rng, 4, 256, 64)
        return lambda: lab.bilinear_scores(queries, weight, keys)


class TestLogSumExp(Exercise):
    """Stay finite: log-sum-exp and softmax."""

    points = 3
    skills = ("numerics", "broadcasting", "gradients")
    hints = (
        "Which m makes the largest exponent zero, and does each slice along `dim` get its own?",
        "`x.amax(dim, keepdim=True)` lines up with `x` again. After log and sum, what must be added back?",
        "lse: m + (x − m).exp().sum(dim, keepdim=True).log(), squeezed unless `keepdim`. Softmax: exp of x minus that.",
    )

    def test_log_sum_exp(self, lab, rng):
        """log_sum_exp equals the float64 value for any shape and dim, and keeps the axis only if asked"""
        for shape, dim in (((3, 5), 1), ((4, 4), 0), ((2, 1, 4), -2), ((7,), 0), ((1, 6), 1)):
            x = normal(rng, *shape)
            expected = torch.logsumexp(x.double(), dim).float()
            assert_close(lab.log_sum_exp(x, dim), expected)
            assert_close(lab.log_sum_exp(x, dim, keepdim=True), expected.unsqueeze(dim))

    def test_softmax(self, lab, rng):
        """softmax equals the float64 value for any shape and dim"""
        for shape, dim in (((3, 5), 1), ((4, 4), 0), ((2, 3, 4), 1), ((7,), -1)):
            x = normal(rng, *shape)
            assert_close(lab.softmax(x, dim), torch.softmax(x.double(), dim).float())

    def test_large_logits(self, lab, rng):
        """both stay finite for slices near 1,000 and near −1,000, side by side, with single entries of −inf"""
        x = normal(rng, 4, 6) + torch.tensor([[1000.0], [-1000.0], [0.0], [90.0]])
        x[torch.arange(4), torch.randint(6, (4,), generator=rng)] = -torch.inf
        assert_close(lab.softmax(x, 1), torch.softmax(x.double(), 1).float(), rtol=1e-3, atol=1e-3)
        assert_close(lab.log_sum_exp(x, 1), torch.logsumexp(x.double(), 1).float(), rtol=1e-5, atol=1e-3)

    def test_gradients(self, lab, rng):
        """the gradient of log_sum_exp is the softmax, and that of softmax is right as well"""
        x, upstream = leaf(rng, 3, 5), normal(rng, 3, 5)
        lab.log_sum_exp(x, 1).sum().backward()
        weights = torch.softmax(x.detach(), 1)
        assert_close(x.grad, weights, rtol=1e-4, atol=1e-5)
        x.grad = None
        lab.softmax(x, 1).backward(upstream)
        assert_close(x.grad, weights * (upstream - (upstream * weights).sum(1, keepdim=True)), rtol=1e-4, atol=1e-5)

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own softmax and logsumexp"""
        x = normal(rng, 3, 4)
        with forbid("softmax", "logsumexp"):
            lab.log_sum_exp(x, 1)
            lab.softmax(x, 1)

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        x = normal(rng, 3, 4)
        before = x.clone()
        lab.log_sum_exp(x, 1)
        lab.softmax(x, 1)
        assert_close(x, before)

    def workload(self, lab, size, rng):
        x = normal(rng, 128 * size, 512)
        return lambda: (lab.log_sum_exp(x, 1), lab.softmax(x, 1))


def mlp(rng: torch.Generator, batch: int, d_in: int, d_hidden: int, d_out: int) -> tuple[Tensor, ...]:
    """Random inputs for `mlp_gradients`, in float64 so that only calculus can differ."""
    shapes = (batch, d_in), (batch, d_out), (d_hidden, d_in), (d_hidden,), (d_out, d_hidden), (d_out,)
    return tuple(normal(rng, *shape, dtype=torch.float64) for shape in shapes)


def taped_gradients(x: Tensor, target: Tensor, *params: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the mean squared error by autograd."""
    w1, b1, w2, b2 = leaves = [p.clone().requires_grad_() for p in params]
    output = F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)
    return torch.autograd.grad(F.mse_loss(output, target), leaves)


MLP_SIZES = ((5, 3, 4, 2), (1, 4, 6, 3), (4, 2, 5, 1), (2, 1, 3, 4))


class TestMlpGradients(Exercise):
    """The backward pass by hand."""

    points = 3
    skills = ("backpropagation", "gradients", "shapes")
    hints = (
        "Over how many numbers does the loss take its mean? Start from the gradient with respect to `output`.",
        "Go back through the second layer by the rule for W, b and h. A bias was broadcast over the batch: what does "
        "that make of its gradient?",
        "With d_output at hand: d_output.T @ hidden, d_output.sum(0), and d_hidden = (d_output @ w2) where hidden > 0. "
        "Then the same two products once more.",
    )

    def test_output_layer(self, lab, rng):
        """the gradients of w2 and b2 equal autograd's, for any sizes"""
        for sizes in MLP_SIZES:
            inputs = mlp(rng, *sizes)
            _, _, d_w2, d_b2 = lab.mlp_gradients(*inputs)
            _, _, w2, b2 = taped_gradients(*inputs)
            assert_close(d_w2, w2)
            assert_close(d_b2, b2)

    def test_hidden_layer(self, lab, rng):
        """the gradients of w1 and b1 equal autograd's, for any sizes"""
        for sizes in MLP_SIZES:
            inputs = mlp(rng, *sizes)
            d_w1, d_b1, _, _ = lab.mlp_gradients(*inputs)
            w1, b1, _, _ = taped_gradients(*inputs)
            assert_close(d_w1, w1)
            assert_close(d_b1, b1)

    def test_relu_at_zero(self, lab, rng):
        """takes the derivative of relu at exactly 0 as 0"""
        x, target, w1, b1, w2, b2 = mlp(rng, 6, 3, 4, 2)
        x[::2], b1 = 0, torch.zeros_like(b1)
        inputs = x, target, w1, b1, w2, b2
        assert_close(lab.mlp_gradients(*inputs)[1], taped_gradients(*inputs)[1])

    @guard
    def test_no_autograd(self, lab, rng):
        """does without autograd"""
        inputs = tuple(t.float() for t in mlp(rng, 3, 2, 4, 2))
        with forbid("autograd"):
            lab.mlp_gradients(*inputs)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        inputs = mlp(rng, 3, 2, 4, 2)
        before = tuple(t.clone() for t in inputs)
        lab.mlp_gradients(*inputs)
        assert_close(inputs, before)

    def workload(self, lab, size, rng):
        arguments = mlp(rng, 256 * size, 64, 128, 32)
        return lambda: lab.mlp_gradients(*arguments)


def mean_squared(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a linear model with `weight`, as `accumulate_gradients` takes it."""
    return lambda features, target: (features @ weight - target).square().mean()


class TestSgdStep(Exercise):
    """Leaves, no_grad and accumulation."""

    points = 3
    skills = ("autograd", "gradients", "training-loop", "memory")
    hints = (
        "Which of your lines must autograd not record, and which must it know of?",
        "`with torch.no_grad():` around `p -= lr * p.grad`. And what is the weight of a batch with 7 of 10 rows?",
        "Scale each batch's loss by its rows / all rows, call `backward` on it at once, keep only `loss.detach()`, and "
        "add those up.",
    )

    def test_step(self, lab, rng):
        """sgd_step makes each parameter p − lr · grad, in place and still a leaf; one without a gradient stays"""
        params = [leaf(rng, 3, 4), leaf(rng, 5), leaf(rng)]
        gradients = [normal(rng, 3, 4), None, normal(rng)]
        lr = 0.1 + float(torch.rand((), generator=rng))
        expected = [p.detach() - lr * (0 if g is None else g) for p, g in zip(params, gradients, strict=True)]
        for p, gradient in zip(params, gradients, strict=True):
            p.grad = None if gradient is None else gradient.clone()
        lab.sgd_step(params, lr)
        assert_close([p.detach() for p in params], expected)
        n_leaves = sum(p.is_leaf and p.requires_grad for p in params)
        assert n_leaves == 3, f"expected 3 parameters to stay leaves that require grad, got {n_leaves}"

    def test_second_step(self, lab, rng):
        """sgd_step forgets the gradient of each parameter, so that the next backward starts afresh"""
        params, towards = [leaf(rng, 4), leaf(rng, 4)], normal(rng, 2, 4)
        expected = [p.detach() - 0.1 * towards.sum(0) for p in params]
        for direction in towards:
            sum((p * direction).sum() for p in params).backward()
            lab.sgd_step(params, 0.1)
        assert_close([p.detach() for p in params], expected)
        left = sum(p.grad is not None for p in params)
        assert not left, f"expected `.grad` to be None after the step, got something else at {left} of 2 parameters"

    def test_autograd_notices(self, lab, rng):
        """after sgd_step, autograd refuses a backward that would need the old values"""
        w = leaf(rng, 4)
        old_loss = w.square().sum()
        w.grad = normal(rng, 4)
        lab.sgd_step([w], 0.1)
        with raises(RuntimeError, match="modified by an inplace operation"):
            old_loss.backward()

    def test_accumulate(self, lab, rng):
        """accumulate_gradients gives the loss and gradient of all rows at once, also for batches of unequal size"""
        for sizes in ((3, 3), (5, 1, 2), (4,)):
            w, features, target = leaf(rng, 3), normal(rng, sum(sizes), 3), normal(rng, sum(sizes))
            batches = list(zip(features.split(sizes), target.split(sizes), strict=True))
            loss = lab.accumulate_gradients(mean_squared(w), batches)
            whole = mean_squared(w)(features, target)
            assert_close(w.grad, *torch.autograd.grad(whole, [w]), rtol=1e-4, atol=1e-5)
            assert_close(loss.detach(), whole.detach(), rtol=1e-4, atol=1e-5)

    @guard
    def test_one_graph_at_a_time(self, lab, rng):
        """accumulate_gradients takes one batch at a time, and calls backward on it before it computes the next"""
        w, arrived, rows = leaf(rng, 3), [], []

        def loss_of(features: Tensor, target: Tensor) -> Tensor:
            arrived.append(w.grad is not None)
            rows.append(len(features))
            return mean_squared(w)(features, target)

        lab.accumulate_gradients(loss_of, [(normal(rng, 4, 3), normal(rng, 4)) for _ in range(3)])
        late = arrived[1:].count(False)
        assert not late, f"expected backward on each batch at once, got {late} batches computed before any backward"
        assert max(rows) == 4, f"expected batches of 4 rows one by one, got a call of loss_of with {max(rows)} rows"

    @guard
    def test_loss_is_off_the_tape(self, lab, rng):
        """accumulate_gradients returns a loss that does not require grad"""
        batches = [(normal(rng, 4, 3), normal(rng, 4)) for _ in range(2)]
        loss = lab.accumulate_gradients(mean_squared(leaf(rng, 3)), batches)
        assert not loss.requires_grad, "expected a loss off the tape, got one that requires grad"

    def workload(self, lab, size, rng):
        w, rows = leaf(rng, 64), 128 * size
        batches = [(normal(rng, rows, 64), normal(rng, rows)) for _ in range(16)]

        def update():
            lab.accumulate_gradients(mean_squared(w), batches)
            lab.sgd_step([w], 0.01)

        return update


def descend(features: Tensor, target: Tensor, lr: float, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient descent from zero in float64, by the formula."""
    x = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    y, w, losses = target.double(), torch.zeros(x.shape[1], dtype=torch.float64), []
    for _ in range(steps):
        residual = x @ w - y
        losses.append(residual.square().mean())
        w = w - lr * 2 / len(x) * x.T @ residual
    return w[:-1], w[-1], torch.stack(losses)


class TestFitLinear(Exercise):
    """The payoff: fit real data."""

    points = 3
    needs = ("sgd_step",)
    skills = ("training-loop", "gradients", "shapes")
    hints = (
        "What shapes do `weight` and `bias` have, and is the prediction of exactly the shape of the target?",
        "In each step: loss, keep its value, `backward`, `sgd_step`. Which of these must happen before the others?",
        "`weight = torch.zeros(d, dtype=features.dtype, requires_grad=True)`, `bias` likewise with shape `()`; record "
        "`loss.detach()`, and return everything detached.",
    )

    def test_parameters(self, lab, rng):
        """weight and bias after k steps are those of gradient descent, exactly"""
        # With the last rate the loss hardly falls, which is no reason to stop early.
        for n, d, lr, steps in ((8, 2, 0.05, 1), (6, 4, 0.05, 5), (5, 1, 0.05, 3), (1, 2, 0.05, 2), (7, 3, 1e-8, 20)):
            features, target = normal(rng, n, d), 2 + normal(rng, n)
            weight, bias, _ = lab.fit_linear(features, target, lr, steps)
            expected_weight, expected_bias, _ = descend(features, target, lr, steps)
            assert_close(weight, expected_weight.float(), rtol=1e-4, atol=2e-4 * lr)
            assert_close(bias, expected_bias.float(), rtol=1e-4, atol=2e-4 * lr)

    def test_losses(self, lab, rng):
        """losses has the mean squared error before each step, the first of them at zero"""
        for n, d, steps in ((8, 2, 4), (6, 4, 1)):
            features, target = normal(rng, n, d), 2 + normal(rng, n)
            _, _, losses = lab.fit_linear(features, target, 0.05, steps)
            assert_close(losses, descend(features, target, 0.05, steps)[2].float(), rtol=1e-4, atol=1e-5)

    def test_reaches_least_squares(self, lab, rng):
        """in float64, enough steps reach the closed form"""
        features = normal(rng, 40, 3, dtype=torch.float64)
        target = features @ normal(rng, 3, dtype=torch.float64) + 5 + normal(rng, 40, dtype=torch.float64)
        weight, bias, losses = lab.fit_linear(features, target, 0.2, 150)
        ones = torch.ones(40, 1, dtype=torch.float64)
        best = torch.linalg.lstsq(torch.cat([features, ones], dim=1), target[:, None]).solution.squeeze(1)
        assert_close(weight, best[:-1], rtol=1e-3, atol=1e-3)
        assert_close(bias, best[-1], rtol=1e-3, atol=1e-3)
        assert losses.dtype == torch.float64, f"expected losses in the dtype of the features, got {losses.dtype}"

    @guard
    def test_off_the_tape(self, lab, rng):
        """returns weight, bias and losses that do not require grad"""
        results = lab.fit_linear(normal(rng, 5, 2), normal(rng, 5), 0.1, 3)
        attached = [name for name, t in zip(("weight", "bias", "losses"), results, strict=True) if t.requires_grad]
        assert not attached, f"expected results off the tape, got {' and '.join(attached)} that require grad"

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        inputs = normal(rng, 5, 2), normal(rng, 5)
        before = tuple(t.clone() for t in inputs)
        lab.fit_linear(*inputs, 0.1, 3)
        assert_close(inputs, before)

    def workload(self, lab, size, rng):
        features, target = normal(rng, 512 * size, 16), normal(rng, 512 * size)
        return lambda: lab.fit_linear(features, target, 0.01, 30)


class TestSlidingWindows(Exercise):
    """Sliding windows without a copy."""

    points = 2
    side_quest = True
    skills = ("views", "memory")
    hints = (
        "How far apart in memory are two neighbours of one window? And the first elements of two neighbouring windows?",
        "The leading axes keep their sizes and strides. The last axis becomes two: `(n_windows, size)`.",
        "With s the last stride of `x`, the two new strides are `step * s` and `s`. Leave `storage_offset` out.",
    )

    def test_values(self, lab, rng):
        """gives the windows of a vector or of any leading axes, and as many as fit"""
        for *shape, size, step in ((10, 3, 1), (11, 4, 3), (2, 9, 2, 2), (3, 1, 8, 5, 4), (6, 6, 2), (4, 7, 1, 1)):
            x = normal(rng, *shape)
            assert_close(lab.sliding_windows(x, size, step), x.unfold(-1, size, step))
        assert_close(lab.sliding_windows(x, 3), x.unfold(-1, 3, 1))

    def test_any_layout(self, lab, rng):
        """works on what is transposed, strided, or starts in the middle of its memory"""
        base = normal(rng, 12, 16)
        for x in (base.T, base[:, 3:], base[5], base[1::2, ::3], base[:, 7]):
            assert_close(lab.sliding_windows(x, 4, 2), x.unfold(-1, 4, 2))

    def test_is_a_view(self, lab, rng):
        """copies nothing, whatever the layout: what is later written into x shows in the windows"""
        for x in (normal(rng, 3, 10), normal(rng, 10, 3).T, normal(rng, 5, 24)[1:4, 3::2][:, :10]):
            windows = lab.sliding_windows(x, 4, 3)
            x.copy_(normal(rng, 3, 10))
            assert_close(windows, x.unfold(-1, 4, 3))

    @guard
    def test_no_unfold(self, lab, rng):
        """does without unfold"""
        x = normal(rng, 9)
        with forbid("unfold"):
            lab.sliding_windows(x, 4, 2)

    @guard
    def test_refuses_impossible_windows(self, lab, rng):
        """raises ValueError for a size or step that makes no sense"""
        x = normal(rng, 12)[:6]
        for size, step in ((7, 1), (0, 1), (-1, 1), (3, 0), (3, -1)):
            with raises(ValueError):
                lab.sliding_windows(x, size, step)

    def workload(self, lab, size, rng):
        x = normal(rng, 8, 8192 * size)
        return lambda: lab.sliding_windows(x, 16, 2).sum(-1)


class TestSoftplus(Exercise):
    """Teach autograd a new function."""

    points = 2
    side_quest = True
    skills = ("autograd", "numerics", "gradients")
    hints = (
        "For large z, what is log(1 + exp(z)) nearly equal to? Can you take that part out of the logarithm?",
        "max(z, 0) + log1p(exp(−|z|)) never overflows. The derivative is a sigmoid: of which saved tensor?",
        "Save `x` by `ctx.save_for_backward(x)`, `beta` as `ctx.beta`. Return grad_output * sigmoid(beta * x), None.",
    )

    def test_values(self, lab, rng):
        """equals log(1 + exp(beta x)) / beta for any shape, dtype and beta, and stays finite at ±1,000"""
        for beta, dtype, *shape in ((1.0, torch.float32, 3, 4), (2.5, torch.float64, 5), (0.3, torch.float32, 2, 1, 3)):
            x = 3 * normal(rng, *shape, dtype=dtype)
            expected = (beta * x.double()).exp().add(1).log().div(beta).to(dtype)
            assert_close(lab.Softplus.apply(x, beta), expected, rtol=1e-4, atol=1e-5)
        x = torch.tensor([1000.0, -1000.0]) * (1 + torch.rand(2, generator=rng))
        assert_close(lab.Softplus.apply(x, 2.0), x.clamp(min=0))

    def test_gradient(self, lab, rng):
        """has the gradient sigmoid(beta x), finite at ±1,000, and passes gradcheck"""
        x = torch.cat([normal(rng, 5), torch.tensor([1000.0, -1000.0])]).requires_grad_()
        upstream = normal(rng, 7)
        lab.Softplus.apply(x, 1.5).backward(upstream)
        assert_close(x.grad, upstream * torch.sigmoid(1.5 * x.detach()), rtol=1e-4, atol=1e-5)
        x = leaf(rng, 2, 3, dtype=torch.float64)
        passes = torch.autograd.gradcheck(lab.Softplus.apply, (x, 0.7), raise_exception=False)
        assert passes, "expected gradcheck to pass, but finite differences disagree with your backward"

    def test_second_derivative(self, lab, rng):
        """can be differentiated twice, and passes gradgradcheck"""
        x = leaf(rng, 4, dtype=torch.float64)
        (slope,) = torch.autograd.grad(lab.Softplus.apply(x, 1.5).sum(), [x], create_graph=True)
        # The 0 · x makes a slope without history a curvature of 0, instead of an error from autograd.
        (curvature,) = torch.autograd.grad((slope + 0 * x).sum(), [x])
        weight = torch.sigmoid(1.5 * x.detach())
        assert_close(curvature, 1.5 * weight * (1 - weight))
        passes = torch.autograd.gradgradcheck(lab.Softplus.apply, (x, 0.7), raise_exception=False)
        assert passes, "expected gradgradcheck to pass, but finite differences disagree with the second derivative"

    @guard
    def test_own_backward(self, lab, rng):
        """is an autograd.Function with a backward of its own, instead of what the tape would make of forward"""
        assert issubclass(lab.Softplus, torch.autograd.Function), "expected Softplus to be a torch.autograd.Function"
        node = lab.Softplus.apply(leaf(rng, 3), 1.0).grad_fn
        assert isinstance(node, torch.autograd.function.BackwardCFunction), (
            f"expected the result to come from your own backward, got {type(node).__name__}"
        )

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own softplus"""
        x = leaf(rng, 4)
        with forbid("softplus"):
            lab.Softplus.apply(x, 1.0).sum().backward()

    def workload(self, lab, size, rng):
        x = leaf(rng, 256 * size, 128)
        return lambda: lab.Softplus.apply(x, 2.0).sum().backward()


def random_expression(leaves: list, n_operations: int, rng: torch.Generator, exp: Callable, tanh: Callable) -> object:
    """A result of random operations on `leaves`, many used often; the same expression for the same `rng`."""
    made = list(leaves)
    operations = (
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / (b * b + 1.5),
        lambda a, b: 0.5 - a,
        lambda a, b: 2 / (a**2 + 1),
        lambda a, b: tanh(a) * 3 + b,
        lambda a, b: exp(tanh(a)) - 1,
        lambda a, b: (1 + a * a) ** 0.5,
        lambda a, b: -a + 0.25 * b,
    )
    for _ in range(n_operations):
        operation = operations[integer(rng, 0, len(operations) - 1)]
        a, b = (made[integer(rng, 0, len(made) - 1)] for _ in range(2))
        made.append(tanh(operation(a, b)) if len(made) % 3 else operation(a, b))
    total = made[-1]
    for value in made[:-1]:
        total = total + 0.1 * value
    return total


def numbers(values: list) -> Tensor:
    """The attributes of `Value`s, as a tensor to compare."""
    return torch.tensor(values, dtype=torch.float64)


def python_calls(function: Callable[[], object]) -> int:
    """How many functions Python calls while `function` runs, in it and below it."""
    events = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        function()
    finally:
        sys.setprofile(before)
    return sum(event in {"call", "c_call"} for event in events)


class TestValue(Exercise):
    """An autograd of your own."""

    points = 4
    side_quest = True
    skills = ("autograd", "backpropagation")
    hints = (
        "For a * b, what are the derivatives with respect to a and to b? Where will `backward` find them later?",
        "Let every result keep its parents with their local derivatives. A depth-first visit that lists a value after "
        "its parents gives the order; go through it backwards.",
        "Collect this pass's gradients in a dict that starts with {self: 1.0}; add derivative × gradient to each "
        "parent, and to `.grad` what has arrived in full. `__radd__` and its kin serve numbers on the left.",
    )

    def test_operations(self, lab, rng):
        """every operation, with values and with plain numbers on either side, has the right result and gradient"""
        pairs = (
            (lambda a, b: a + b, lambda a, b: a + 2, lambda a, b: 2 + a),
            (lambda a, b: a - b, lambda a, b: a - 2, lambda a, b: 2 - a),
            (lambda a, b: a * b, lambda a, b: a * 3, lambda a, b: 3 * a),
            (lambda a, b: a / b, lambda a, b: a / 4, lambda a, b: 4 / a),
            (lambda a, b: -a * b, lambda a, b: a**3, lambda a, b: b**-1.5),
            (lambda a, b: a.exp(), lambda a, b: b.tanh(), lambda a, b: a**0.5 - b),
        )
        for expression in itertools.chain(*pairs):
            start = 0.5 + torch.rand(2, generator=rng, dtype=torch.float64)
            a, b = (lab.Value(number) for number in start.tolist())
            result = expression(a, b)
            result.backward()
            x, y = (number.clone().requires_grad_() for number in start)
            expected = expression(x, y)
            gradients = torch.autograd.grad(expected, [x, y], allow_unused=True, materialize_grads=True)
            assert_close(numbers([result.data, a.grad, b.grad]), torch.stack([expected.detach(), *gradients]))

    def test_random_graphs(self, lab, rng):
        """agrees with PyTorch on random expressions in which values are used many times"""
        for n_leaves, n_operations in ((2, 6), (3, 12), (4, 20)):
            start, seed = normal(rng, n_leaves, dtype=torch.float64), integer(rng, 0, 2**31)
            start[-1] = start[0]  # two values with the same number are two values all the same
            ours = [lab.Value(number) for number in start.tolist()]
            same = torch.Generator().manual_seed(seed)
            result = random_expression(ours, n_operations, same, lambda v: v.exp(), lambda v: v.tanh())
            result.backward()
            theirs = [number.clone().requires_grad_() for number in start]
            expected = random_expression(theirs, n_operations, same.manual_seed(seed), torch.exp, torch.tanh)
            gradients = torch.autograd.grad(expected, theirs, allow_unused=True, materialize_grads=True)
            got = numbers([result.data, *(value.grad for value in ours)])
            assert_close(got, torch.stack([expected.detach(), *gradients]), rtol=1e-5, atol=1e-8)

    def test_accumulates(self, lab, rng):
        """a second backward, from the same result or another, adds to what is there, at every value on the way"""
        a, b = (lab.Value(number) for number in (0.5 + torch.rand(2, generator=rng)).tolist())
        product = a * b
        result = product * a + product
        result.backward()
        once = numbers([v.grad for v in (a, b, product, result)])
        assert_close(once, numbers([2 * a.data * b.data + b.data, a.data**2 + a.data, a.data + 1, 1.0]))
        result.backward()
        assert_close(numbers([v.grad for v in (a, b, product, result)]), 2 * once)
        (a * 3).backward()
        assert_close(numbers([a.grad, b.grad]), 2 * once[:2] + numbers([3.0, 0.0]))

    @guard
    def test_operands_unchanged(self, lab, rng):
        """operations return new values and leave their operands as they were"""
        a, b = lab.Value(1.5), lab.Value(-2.0)
        results = [a + b, a - b, a * b, a / b, -a, a**2, a.exp(), a.tanh()]
        assert not any(r is a or r is b for r in results), "expected every operation to return a new value"
        assert_close(numbers([a.data, b.data, a.grad, b.grad]), numbers([1.5, -2.0, 0.0, 0.0]))

    @guard
    def test_attributes_are_floats(self, lab, rng):
        """data and grad are floats, also those of Value(3) and of what is made from it"""
        whole = lab.Value(3)
        result = whole * 2 + 1
        result.backward()
        for value in (whole, result):
            for name in ("data", "grad"):
                number = getattr(value, name)
                assert isinstance(number, float), f"expected {name} to be a float, got {number!r}"

    @guard
    def test_passes_on_once(self, lab, rng):
        """backward passes a gradient on when all its parts have arrived, and not once for every path"""
        counts = []
        for n in (8, 16):
            value = lab.Value(1.0)
            for _ in range(n):
                value = value + value
            counts.append(python_calls(value.backward))
        few, many = counts
        # Twice the values take twice the calls, or four times as many where they are sorted slowly; paths, 256 times.
        assert many < 16 * few, f"expected the work to grow with the graph: 8 sums took {few} calls, 16 took {many}"

    def workload(self, lab, size, rng):
        numbers = normal(rng, 128 * size).tolist()

        def there_and_back():
            values = [lab.Value(number) for number in numbers]
            while len(values) > 1:  # pairs, so that the graph is not deep
                values = [(a * b + a).tanh() for a, b in zip(values[::2], values[1::2], strict=True)]
            values[0].backward()

        return there_and_back

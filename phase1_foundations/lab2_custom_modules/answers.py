"""Known answers to Lab 2: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · linear ------------------------------------------------------------------------------------------------------


class NoParameters(Mistake):
    """Your `weight` and `bias` are plain tensors: no optimizer will see them, and nothing saves them. Wrap them in
    `nn.Parameter`."""

    exercise = "linear"

    class Linear(nn.Module):
        def __init__(self, d_in, d_out, bias=True):
            super().__init__()
            limit = 1 / math.sqrt(d_in)
            self.weight = torch.empty(d_out, d_in).uniform_(-limit, limit).requires_grad_()
            self.bias = torch.empty(d_out).uniform_(-limit, limit).requires_grad_() if bias else None

        def forward(self, x):
            return x @ self.weight.T + (0 if self.bias is None else self.bias)


class WeightTransposed(Mistake):
    """Your `weight` has the shape `(d_in, d_out)`. It is stored as `(d_out, d_in)`, and transposed when it is used."""

    exercise = "linear"

    class Linear(nn.Module):
        def __init__(self, d_in, d_out, bias=True):
            super().__init__()
            limit = 1 / math.sqrt(d_in)
            self.weight = nn.Parameter(torch.empty(d_in, d_out).uniform_(-limit, limit))
            self.bias = nn.Parameter(torch.empty(d_out).uniform_(-limit, limit)) if bias else None

        def forward(self, x):
            product = x @ self.weight
            return product if self.bias is None else product + self.bias


class NormalStart(Mistake):
    """You draw from a normal distribution. The start is uniform between −1/√d_in and 1/√d_in."""

    exercise = "linear"

    class Linear(Linear):
        def __init__(self, d_in, d_out, bias=True):
            super().__init__(d_in, d_out, bias)
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.normal_(0, 1 / math.sqrt(d_in))


class ZeroBias(Mistake):
    """Your bias starts at zero. Here it starts uniformly between ±1/√d_in, like the weight."""

    exercise = "linear"

    class Linear(Linear):
        def __init__(self, d_in, d_out, bias=True):
            super().__init__(d_in, d_out, bias)
            if bias:
                self.bias = nn.Parameter(torch.zeros(d_out))


class FanOutStart(Mistake):
    """You divide by √d_out. The limit follows from the number of inputs, d_in."""

    exercise = "linear"

    class Linear(Linear):
        def __init__(self, d_in, d_out, bias=True):
            super().__init__(d_in, d_out, bias)
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.mul_(math.sqrt(d_in / d_out))


class BiasAlways(Mistake):
    """You have a bias also where none is wanted. With `bias=False`, `self.bias` is None."""

    exercise = "linear"

    class Linear(Linear):
        def __init__(self, d_in, d_out, bias=True):
            super().__init__(d_in, d_out, True)


class BuiltinLinear(Mistake):
    """You call PyTorch's own. Multiply by the transposed weight and add the bias."""

    exercise = "linear"

    class Linear(Linear):
        def forward(self, x):
            return nn.functional.linear(x, self.weight, self.bias)


class ByEinsum(Alternative):
    """An einsum, and `nn.init`."""

    exercise = "linear"

    class Linear(nn.Module):
        def __init__(self, d_in, d_out, bias=True):
            super().__init__()
            limit = d_in**-0.5
            if bias:
                self.bias = nn.Parameter(torch.empty(d_out))
                nn.init.uniform_(self.bias, -limit, limit)
            else:
                self.register_parameter("bias", None)
            self.weight = nn.Parameter((2 * torch.rand(d_out, d_in) - 1) * limit)

        def forward(self, x):
            y = torch.einsum("...i,oi->...o", x, self.weight)
            if self.bias is not None:
                y = y + self.bias
            return y


# --- 2 · layer_norm --------------------------------------------------------------------------------------------------


class UnbiasedVariance(Mistake):
    """You divide by d − 1, PyTorch's default for `var` and `std`. Layer norm divides by d: `correction=0`."""

    exercise = "layer_norm"

    class LayerNorm(LayerNorm):
        def forward(self, x):
            centred = x - x.mean(-1, keepdim=True)
            return centred / (x.var(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias


class EpsOutside(Mistake):
    """You add ε to the standard deviation. It stands inside the root, with the variance."""

    exercise = "layer_norm"

    class LayerNorm(LayerNorm):
        def forward(self, x):
            centred = x - x.mean(-1, keepdim=True)
            return centred / (x.std(-1, keepdim=True, correction=0) + self.eps) * self.weight + self.bias


class StatisticsDetached(Mistake):
    """You detach mean and variance. The values are right, but gradients must flow through both."""

    exercise = "layer_norm"

    class LayerNorm(LayerNorm):
        def forward(self, x):
            mean = x.mean(-1, keepdim=True).detach()
            variance = x.var(-1, keepdim=True, correction=0).detach()
            return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class OverTheBatch(Mistake):
    """You normalise over the first axis, as batch norm does. Each position is normalised over its own features, the
    last axis."""

    exercise = "layer_norm"

    class LayerNorm(LayerNorm):
        def forward(self, x):
            centred = x - x.mean(0, keepdim=True)
            variance = centred.square().mean(0, keepdim=True)
            return centred / (variance + self.eps).sqrt() * self.weight + self.bias


class WeightForgotten(Mistake):
    """You normalise and leave `weight` and `bias` out. They come after the division."""

    exercise = "layer_norm"

    class LayerNorm(LayerNorm):
        def forward(self, x):
            centred = x - x.mean(-1, keepdim=True)
            return centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt()


class BuiltinLayerNorm(Mistake):
    """You call PyTorch's own. Build it from mean, square and root."""

    exercise = "layer_norm"

    class LayerNorm(LayerNorm):
        def forward(self, x):
            return nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class ByVarMean(Alternative):
    """Both statistics at once, and a reciprocal root."""

    exercise = "layer_norm"

    class LayerNorm(nn.Module):
        def __init__(self, d, eps=1e-5):
            super().__init__()
            self.bias, self.weight = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.ones(d))
            self.epsilon = eps

        def forward(self, x):
            variance, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
            return torch.addcmul(self.bias, self.weight, (x - mean) * torch.rsqrt(variance + self.epsilon))


# --- 3 · batch_norm --------------------------------------------------------------------------------------------------


class BiasedMemory(Mistake):
    """You remember the biased variance. Normalise with it, but the running average takes the unbiased one, divided by
    n − 1."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def forward(self, x):
            mean, variance = self.running_mean, self.running_var
            if self.training:
                mean, variance = x.mean(0), x.var(0, correction=0)
                with torch.no_grad():
                    self.running_mean.lerp_(mean, self.momentum)
                    self.running_var.lerp_(variance, self.momentum)
            return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class UnbiasedInTraining(Mistake):
    """You normalise with the unbiased variance. In training mode it is the biased one: `correction=0`."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def forward(self, x):
            mean, variance = self.running_mean, self.running_var
            if self.training:
                mean, variance = x.mean(0), x.var(0)
                with torch.no_grad():
                    self.running_mean.lerp_(mean, self.momentum)
                    self.running_var.lerp_(variance, self.momentum)
            return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class EvaluationIgnored(Mistake):
    """You use the batch's statistics in evaluation mode too. Ask `self.training`, and use the running averages
    there."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def forward(self, x):
            mean, variance = x.mean(0), x.var(0, correction=0)
            if self.training:
                with torch.no_grad():
                    self.running_mean.lerp_(mean, self.momentum)
                    self.running_var.lerp_(x.var(0), self.momentum)
            return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class VarianceNeverRemembered(Mistake):
    """Your `running_var` never changes. It follows the batches like `running_mean`."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def forward(self, x):
            mean, variance = self.running_mean, self.running_var
            if self.training:
                mean, variance = x.mean(0), x.var(0, correction=0)
                with torch.no_grad():
                    self.running_mean.lerp_(mean, self.momentum)
            return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class MomentumTurnedRound(Mistake):
    """You keep a share of `momentum` of the old average. In PyTorch's convention `momentum` is the share of the *new*
    value."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def __init__(self, d, eps=1e-5, momentum=0.1):
            super().__init__(d, eps, 1 - momentum)


class RemembersInEvaluation(Mistake):
    """You update the running averages in evaluation mode too. A measurement must not change what it measures."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def forward(self, x):
            result = super().forward(x)
            if not self.training:
                with torch.no_grad():
                    self.running_mean.lerp_(x.mean(0), self.momentum)
            return result


class MemoryOnTheTape(Mistake):
    """You update the running averages on the tape, so each step hangs on to the graph of those before it. Use
    `no_grad`."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def forward(self, x):
            mean, variance = self.running_mean, self.running_var
            if self.training:
                mean, variance = x.mean(0), x.var(0, correction=0)
                self.running_mean = torch.lerp(self.running_mean, mean, self.momentum)
                self.running_var = torch.lerp(self.running_var, x.var(0), self.momentum)
            return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class BatchStatisticsDetached(Mistake):
    """You detach the batch's mean and variance before you normalise. Only the running averages are off the tape;
    gradients flow through the batch's statistics."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def forward(self, x):
            mean, variance = self.running_mean, self.running_var
            if self.training:
                with torch.no_grad():
                    mean, variance = x.mean(0), x.var(0, correction=0)
                    self.running_mean.lerp_(mean, self.momentum)
                    self.running_var.lerp_(x.var(0), self.momentum)
            return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


class AveragesAsParameters(Mistake):
    """Your running averages are parameters: the optimizer would move them. Use `register_buffer`."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def __init__(self, d, eps=1e-5, momentum=0.1):
            super().__init__(d, eps, momentum)
            del self.running_mean, self.running_var
            self.running_mean, self.running_var = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.ones(d))


class BuiltinBatchNorm(Mistake):
    """You call PyTorch's own. Build it from mean, variance and two running averages."""

    exercise = "batch_norm"

    class BatchNorm(BatchNorm):
        def forward(self, x):
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
            )


class ByAssignedBuffers(Alternative):
    """New tensors assigned to the buffers, and the unbiased variance from the biased one."""

    exercise = "batch_norm"

    class BatchNorm(nn.Module):
        def __init__(self, d, eps=1e-5, momentum=0.1):
            super().__init__()
            for name, start in (("weight", torch.ones(d)), ("bias", torch.zeros(d))):
                setattr(self, name, nn.Parameter(start))
            self.register_buffer("running_var", torch.ones(d))
            self.register_buffer("running_mean", torch.zeros(d))
            self.m, self.eps = momentum, eps

        def forward(self, x):
            if not self.training:
                scale = self.weight * torch.rsqrt(self.running_var + self.eps)
                return x * scale + (self.bias - self.running_mean * scale)
            n = len(x)
            mean = x.sum(0) / n
            variance = (x - mean).pow(2).sum(0) / n
            self.running_mean = (1 - self.m) * self.running_mean + self.m * mean.detach()
            self.running_var = (1 - self.m) * self.running_var + self.m * variance.detach() * n / (n - 1)
            return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


# --- 4 · dropout -----------------------------------------------------------------------------------------------------


class NotRescaled(Mistake):
    """You drop and do not rescale, so the next layer meets smaller sums in training than in evaluation. Divide what is
    kept by 1 − p."""

    exercise = "dropout"

    class Dropout(Dropout):
        def forward(self, x):
            if not self.training:
                return x
            return x * (torch.rand_like(x) >= self.p)


class ActiveInEvaluation(Mistake):
    """You drop in evaluation mode too. Ask `self.training`, and return the input where it is False."""

    exercise = "dropout"

    class Dropout(Dropout):
        def forward(self, x):
            if self.p == 1:
                return x * 0
            return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


class KeptWithP(Mistake):
    """You keep with probability p. p is the probability to *drop*."""

    exercise = "dropout"

    class Dropout(Dropout):
        def forward(self, x):
            if not self.training or self.p == 0:
                return x
            if self.p == 1:
                return x * 0
            return x * (torch.rand_like(x) < self.p) / (1 - self.p)


class RescaledByP(Mistake):
    """You divide by p. What is kept is a share of 1 − p: divide by that."""

    exercise = "dropout"

    class Dropout(Dropout):
        def forward(self, x):
            if not self.training or self.p == 0:
                return x
            return x * (torch.rand_like(x) >= self.p) / self.p if self.p < 1 else x * 0


class DrawnOnce(Mistake):
    """You draw the mask once and use it for ever. Draw another one at each call."""

    exercise = "dropout"

    class Dropout(Dropout):
        def forward(self, x):
            if not self.training or self.p == 0:
                return x
            if self.p == 1:
                return x * 0
            if getattr(self, "kept", None) is None or self.kept.shape != x.shape:
                self.kept = torch.rand_like(x) >= self.p
            return x * self.kept / (1 - self.p)


class WholeRowsDropped(Mistake):
    """You drop whole columns, the same in every row. Each element is dropped independently: the mask has the shape of
    `x`."""

    exercise = "dropout"

    class Dropout(Dropout):
        def forward(self, x):
            if not self.training or self.p == 0:
                return x
            if self.p == 1:
                return x * 0
            return x * (torch.rand(x.shape[-1]) >= self.p) / (1 - self.p)


class DividedByZero(Mistake):
    """With p = 1 you compute 0 / 0, which is NaN. Everything is dropped then: return zeros."""

    exercise = "dropout"

    class Dropout(Dropout):
        def forward(self, x):
            if not self.training:
                return x
            return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


class BuiltinDropout(Mistake):
    """You call PyTorch's own. Compare random numbers with p to get a mask."""

    exercise = "dropout"

    class Dropout(Dropout):
        def forward(self, x):
            return nn.functional.dropout(x, self.p, self.training)


class ByBernoulli(Alternative):
    """A draw of Bernoulli variables, and `where`."""

    exercise = "dropout"

    class Dropout(nn.Module):
        def __init__(self, p=0.5):
            if p < 0 or p > 1:
                raise ValueError("p must be a probability")
            super().__init__()
            self.keep = 1 - p

        def forward(self, x):
            if self.training:
                kept = torch.bernoulli(torch.full_like(x, self.keep)).bool()
                x = torch.where(kept, x / max(self.keep, 1e-9), torch.zeros_like(x))
            return x


# --- 5 · residual_block ----------------------------------------------------------------------------------------------


class PostNorm(Mistake):
    """You normalise the sum. In a pre-norm block the norm stands at the beginning of the branch, and the path of the
    input stays untouched."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            return self.norm(x + self.dropout(self.second(torch.relu(self.first(x)))))


class NoSkip(Mistake):
    """You return the branch alone. Add the input."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            return self.dropout(self.second(torch.relu(self.first(self.norm(x)))))


class NormalisedSkip(Mistake):
    """You add the *normalised* input. The norm belongs to the branch; the input passes as it is."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            h = self.norm(x)
            return h + self.dropout(self.second(torch.relu(self.first(h))))


class NotTheIdentity(Mistake):
    """Your block is not the identity at the start. Set the weight *and* the bias of `second` to zero."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def __init__(self, d, d_hidden, p=0.0):
            super().__init__(d, d_hidden, p)
            self.second.reset_parameters()


class BothZero(Mistake):
    """You set both linear layers to zero. Then no gradient reaches either of them, and the block stays the identity for
    ever. Zero `second` only."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def __init__(self, d, d_hidden, p=0.0):
            super().__init__(d, d_hidden, p)
            nn.init.zeros_(self.first.weight)
            nn.init.zeros_(self.first.bias)


class ReluForgotten(Mistake):
    """You left the relu out: two linear layers in a row are one."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            return x + self.dropout(self.second(self.first(self.norm(x))))


class AddedInPlace(Mistake):
    """`+=` changes the caller's tensor. Use `+`."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            added = self.dropout(self.second(torch.relu(self.first(self.norm(x)))))
            if x.requires_grad:
                return x + added
            with torch.no_grad():
                x += added
            return x


class DropoutOfTheSum(Mistake):
    """You drop from the sum, so parts of the input are lost. Dropout belongs to the branch."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            return self.dropout(x + self.second(torch.relu(self.first(self.norm(x)))))


class WithOwnLayers(Alternative):
    """Built from the layers of this lab."""

    exercise = "residual_block"

    class ResidualBlock(nn.Module):
        def __init__(self, d, d_hidden, p=0.0):
            super().__init__()
            self.dropout, self.norm = Dropout(p), LayerNorm(d)
            self.second, self.first = Linear(d_hidden, d), Linear(d, d_hidden)
            with torch.no_grad():
                for parameter in self.second.parameters():
                    parameter.zero_()

        def forward(self, x):
            branch = x
            for part in (self.norm, self.first, nn.ReLU(), self.second, self.dropout):
                branch = part(branch)
            return branch + x


# --- 6 · stack -------------------------------------------------------------------------------------------------------


class HiddenInAList(Mistake):
    """You keep the modules in a Python list, which hides them: no parameters, nothing saved, no mode. Register them
    with `add_module`."""

    exercise = "stack"

    class Stack(nn.Module):
        def __init__(self, *modules):
            super().__init__()
            self.layers = list(modules)

        def append(self, module):
            self.layers.append(module)
            return self

        def __len__(self):
            return len(self.layers)

        def __getitem__(self, i):
            return self.layers[i]

        def __iter__(self):
            return iter(self.layers)

        def forward(self, x):
            for module in self.layers:
                x = module(x)
            return x


class NamedFromOne(Mistake):
    """Your names begin at "1". The first module is "0"."""

    exercise = "stack"

    class Stack(Stack):
        def append(self, module):
            self.add_module(str(len(self) + 1), module)
            return self


class AppendReturnsNothing(Mistake):
    """Your `append` returns nothing, so calls cannot be chained. Return the stack."""

    exercise = "stack"

    class Stack(Stack):
        def append(self, module):
            self.add_module(str(len(self)), module)


class LastOnly(Mistake):
    """You give each module the original input and return what the last one says. Each takes the result of the one
    before it."""

    exercise = "stack"

    class Stack(Stack):
        def forward(self, x):
            result = x
            for module in self:
                result = module(x)
            return result


class NoNegativeIndex(Mistake):
    """You look names up directly, so `stack[-1]` finds nothing. Count from the end for negative `i`."""

    exercise = "stack"

    class Stack(Stack):
        def __getitem__(self, i):
            return self._modules[str(i)]


class ModuleListInside(Mistake):
    """You keep an `nn.ModuleList` inside, which is what you are to write, and your names get a prefix."""

    exercise = "stack"

    class Stack(nn.Module):
        def __init__(self, *modules):
            super().__init__()
            self.layers = nn.ModuleList(modules)

        def append(self, module):
            self.layers.append(module)
            return self

        def __len__(self):
            return len(self.layers)

        def __getitem__(self, i):
            return self.layers[i]

        def __iter__(self):
            return iter(self.layers)

        def forward(self, x):
            for module in self.layers:
                x = module(x)
            return x


class ByChildren(Alternative):
    """`children()`, and arithmetic on the index."""

    exercise = "stack"

    class Stack(nn.Module):
        def __init__(self, *modules):
            super().__init__()
            self.count = 0
            for m in modules:
                self.append(m)

        def append(self, module):
            setattr(self, str(self.count), module)
            self.count += 1
            return self

        def __len__(self):
            return self.count

        def __getitem__(self, i):
            if not -self.count <= i < self.count:
                raise IndexError(i)
            return getattr(self, str(i % self.count))

        def __iter__(self):
            yield from self.children()

        def forward(self, x):
            for m in self.children():
                x = m(x)
            return x


# --- 7 · initialise --------------------------------------------------------------------------------------------------


class FanOut(Mistake):
    """You divide by the number of outputs. Weights are `(d_out, d_in)`: the fan-in is the second axis."""

    exercise = "initialise"

    def initialise(weight, gain):
        with torch.no_grad():
            weight.normal_(0, gain / math.sqrt(weight.shape[0]))


class VarianceForDeviation(Mistake):
    """You pass the variance where the standard deviation is asked for. Take the root of d_in."""

    exercise = "initialise"

    def initialise(weight, gain):
        with torch.no_grad():
            weight.normal_(0, gain**2 / weight.shape[1])


class UniformInstead(Mistake):
    """You draw from a uniform distribution. Here it is a normal one."""

    exercise = "initialise"

    def initialise(weight, gain):
        limit = gain * math.sqrt(3 / weight.shape[1])
        with torch.no_grad():
            weight.uniform_(-limit, limit)


class NewTensor(Mistake):
    """You give the name `weight` to a new tensor, and the caller's stays as it was. Write in place: `weight.normal_` or
    `weight.copy_`, under `no_grad`."""

    exercise = "initialise"

    def initialise(weight, gain):
        weight = torch.randn_like(weight) * gain / math.sqrt(weight.shape[1])


class BeforeTheRelu(Mistake):
    """You measure before the relu. The signal that goes on is the one after it."""

    exercise = "initialise"

    def signal_sizes(x, weights):
        sizes = []
        with torch.no_grad():
            for weight in weights:
                h = x @ weight.T
                sizes.append(h.square().mean().sqrt())
                x = torch.relu(h)
        return torch.stack(sizes)


class DeviationMeasured(Mistake):
    """You measure the standard deviation, which subtracts the mean. The root mean square does not."""

    exercise = "initialise"

    def signal_sizes(x, weights):
        sizes = []
        with torch.no_grad():
            for weight in weights:
                x = torch.relu(x @ weight.T)
                sizes.append(x.std(correction=0))
        return torch.stack(sizes)


class SizesOnTheTape(Mistake):
    """Your sizes are on the tape and hold the graph of all thirty layers. Measure under `no_grad`."""

    exercise = "initialise"

    def signal_sizes(x, weights):
        sizes = []
        for weight in weights:
            x = torch.relu(x @ weight.T)
            sizes.append(x.square().mean().sqrt())
        return torch.stack(sizes)


class ByCopy(Alternative):
    """Random numbers scaled and copied in; norms for root mean squares."""

    exercise = "initialise"

    @torch.no_grad()
    def initialise(weight, gain):
        weight.copy_(torch.randn(weight.shape).mul(gain).div(weight.size(-1) ** 0.5))

    @torch.no_grad()
    def signal_sizes(x, weights):
        result = []
        for w in weights:
            x = nn.functional.linear(x, w).clamp(min=0)
            result.append(float(x.norm() / x.numel() ** 0.5))
        return torch.tensor(result)


# --- 8 · rnn_cell ----------------------------------------------------------------------------------------------------


class GatesInAnotherOrder(Mistake):
    """You take the blocks as i, f, o, g. PyTorch's order is i, f, g, o."""

    exercise = "rnn_cell"

    class LSTMCell(LSTMCell):
        def forward(self, x, state):
            h, c = state
            i, f, o, g = self.sums(x, h).chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c


class CellNotSquashed(Mistake):
    """You show the cell as it is. The new state is the output gate times tanh of the cell."""

    exercise = "rnn_cell"

    class LSTMCell(LSTMCell):
        def forward(self, x, state):
            h, c = state
            i, f, g, o = self.sums(x, h).chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * c, c


class CandidateThroughSigmoid(Mistake):
    """You send all four blocks through a sigmoid. The candidate g goes through tanh: what is written may be
    negative."""

    exercise = "rnn_cell"

    class LSTMCell(LSTMCell):
        def forward(self, x, state):
            h, c = state
            i, f, g, o = torch.sigmoid(self.sums(x, h)).chunk(4, dim=-1)
            c = f * c + i * g
            return o * torch.tanh(c), c


class OneBias(Mistake):
    """You add `bias_ih` and forget `bias_hh`. Both belong to the sum."""

    exercise = "rnn_cell"

    class RNNCell(RNNCell):
        def sums(self, x, h):
            return x @ self.weight_ih.T + self.bias_ih + h @ self.weight_hh.T

    class LSTMCell(RNNCell):
        GATES = 4

        def forward(self, x, state):
            h, c = state
            i, f, g, o = self.sums(x, h).chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c


class StatesSwapped(Mistake):
    """You return `(c', h')`. The order is `(h', c')`, as it came in."""

    exercise = "rnn_cell"

    class LSTMCell(LSTMCell):
        def forward(self, x, state):
            h, c = super().forward(x, state)
            return c, h


class ReluCell(Mistake):
    """Your plain cell uses a relu. Here it is tanh."""

    exercise = "rnn_cell"

    class RNNCell(RNNCell):
        def forward(self, x, h):
            return torch.relu(self.sums(x, h))


class StartByInput(Mistake):
    """Your limit follows from d_in. In recurrent cells all parameters start between ±1/√d_hidden."""

    exercise = "rnn_cell"

    class RNNCell(RNNCell):
        def __init__(self, d_in, d_hidden):
            super().__init__(d_in, d_hidden)
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.mul_(math.sqrt(d_hidden / d_in))


class BuiltinCell(Mistake):
    """You call PyTorch's own cell. Write the sums and the gates."""

    exercise = "rnn_cell"

    class RNNCell(RNNCell):
        def forward(self, x, h):
            return torch.rnn_tanh_cell(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


class ByTwoLayers(Alternative):
    """`F.linear` twice, gates by slices, the two cells apart."""

    exercise = "rnn_cell"

    class RNNCell(nn.Module):
        def __init__(self, d_in, d_hidden, gates=1):
            super().__init__()
            k, limit = gates * d_hidden, d_hidden**-0.5
            for name, shape in (
                ("weight_ih", (k, d_in)),
                ("weight_hh", (k, d_hidden)),
                ("bias_ih", (k,)),
                ("bias_hh", (k,)),
            ):
                setattr(self, name, nn.Parameter(torch.empty(shape)))
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -limit, limit)

        def forward(self, x, h):
            F = nn.functional
            return torch.tanh(F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh))

    class LSTMCell(RNNCell):
        def __init__(self, d_in, d_hidden):
            super().__init__(d_in, d_hidden, 4)
            self.d = d_hidden

        def forward(self, x, state):
            (h, c), F, d = state, nn.functional, self.d
            z = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
            write, keep, show = z[:, :d].sigmoid(), z[:, d : 2 * d].sigmoid(), z[:, 3 * d :].sigmoid()
            c = keep * c + write * z[:, 2 * d : 3 * d].tanh()
            return show * c.tanh(), c


# --- Side quest A · count_parameters ---------------------------------------------------------------------------------


class SharedTwice(Mistake):
    """You count a parameter once for every place it is used in. Go through `parameters()`, which leaves repetitions
    out."""

    exercise = "count_parameters"

    def count_parameters(module):
        found = [p for m in module.modules() for p in m.parameters(recurse=False)]
        return sum(p.numel() for p in found if p.requires_grad), sum(p.numel() for p in found)


class BuffersCounted(Mistake):
    """You count what is in the `state_dict`, buffers included. Count parameters."""

    exercise = "count_parameters"

    def count_parameters(module):
        trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
        buffers = sum(b.numel() for b in module.buffers())
        return trainable, sum(p.numel() for p in module.parameters()) + buffers


class PrefixWithoutDot(Mistake):
    """You compare beginnings only, so "part1" also freezes "part10". A name fits if it is the prefix, or goes on with a
    dot."""

    exercise = "count_parameters"

    def freeze(module, *prefixes):
        named = dict(module.named_parameters())
        for prefix in prefixes:
            if not any(name == prefix or name.startswith(prefix + ".") for name in named):
                raise ValueError(prefix)
        for name, p in named.items():
            if not prefixes or name.startswith(prefixes):
                p.requires_grad_(False)
                p.grad = None


class GradientKept(Mistake):
    """You leave the last gradient where it was, and an optimizer would go on applying it. Set `.grad` to None."""

    exercise = "count_parameters"

    def freeze(module, *prefixes):
        named = dict(module.named_parameters())
        for prefix in prefixes:
            if not any(name == prefix or name.startswith(prefix + ".") for name in named):
                raise ValueError(prefix)
        for name, p in named.items():
            if not prefixes or any(name == q or name.startswith(q + ".") for q in prefixes):
                p.requires_grad_(False)


class OthersThawed(Mistake):
    """You set `requires_grad` on every parameter, so what was frozen before learns again. Touch only those that fit."""

    exercise = "count_parameters"

    def freeze(module, *prefixes):
        named = dict(module.named_parameters())
        for prefix in prefixes:
            if not any(name == prefix or name.startswith(prefix + ".") for name in named):
                raise ValueError(prefix)
        for name, p in named.items():
            fits = not prefixes or any(name == q or name.startswith(q + ".") for q in prefixes)
            p.requires_grad_(not fits)
            if fits:
                p.grad = None


class ByIdentity(Alternative):
    """A dict by identity, and a loop with a check beforehand."""

    exercise = "count_parameters"

    def count_parameters(module):
        unique = {id(p): p for p in module.parameters()}.values()
        total = trainable = 0
        for p in unique:
            total += p.nelement()
            trainable += p.nelement() * p.requires_grad
        return trainable, total

    def freeze(module, *prefixes):
        chosen = []
        for prefix in prefixes or ("",):
            fitting = [p for n, p in module.named_parameters() if prefix == "" or (n + ".").startswith(prefix + ".")]
            if prefix and not fitting:
                raise ValueError(f"{prefix} fits nothing")
            chosen += fitting
        for p in chosen:
            p.requires_grad = False
            p.grad = None


# --- Side quest B · activation_statistics ----------------------------------------------------------------------------


class LoopVariableCaptured(Mistake):
    """All your hooks share the loop's variable, and write under the last name. Make each hook in a function that takes
    the name."""

    exercise = "activation_statistics"

    def activation_statistics(model, x):
        found, handles = {}, []
        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(
                    module.register_forward_hook(
                        lambda m, i, out: found.update(
                            {name: (out.mean().item(), out.std(correction=0).item(), (out == 0).float().mean().item())}
                        )
                    )
                )
        try:
            with torch.no_grad():
                model(x)
        finally:
            for handle in handles:
                handle.remove()
        return found


class HooksLeftBehind(Mistake):
    """Your hooks stay behind when the model raises. Remove them in `finally`."""

    exercise = "activation_statistics"

    def activation_statistics(model, x):
        found, handles = {}, []

        def hook_for(name):
            def note(module, inputs, out):
                found[name] = (out.mean().item(), out.std(correction=0).item(), (out == 0).float().mean().item())

            return note

        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(hook_for(name)))
        with torch.no_grad():
            model(x)
        for handle in handles:
            handle.remove()
        return found


class UnbiasedDeviation(Mistake):
    """Your deviation divides by n − 1. Use `correction=0`."""

    exercise = "activation_statistics"

    def activation_statistics(model, x):
        found, handles = {}, []

        def hook_for(name):
            def note(module, inputs, out):
                found[name] = (out.mean().item(), out.std().item(), (out == 0).float().mean().item())

            return note

        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(hook_for(name)))
        try:
            with torch.no_grad():
                model(x)
        finally:
            for handle in handles:
                handle.remove()
        return found


class ContainersToo(Mistake):
    """You listen to containers as well, so some outputs appear twice. Only modules without children are leaves."""

    exercise = "activation_statistics"

    def activation_statistics(model, x):
        found, handles = {}, []

        def hook_for(name):
            def note(module, inputs, out):
                found[name] = (out.mean().item(), out.std(correction=0).item(), (out == 0).float().mean().item())

            return note

        for name, module in model.named_modules():
            handles.append(module.register_forward_hook(hook_for(name)))
        try:
            with torch.no_grad():
                model(x)
        finally:
            for handle in handles:
                handle.remove()
        return found


class ModeChanged(Mistake):
    """You switch the model to evaluation mode and leave it there. Put it back, or leave the mode alone."""

    exercise = "activation_statistics"

    def activation_statistics(model, x):
        model.eval()
        found, handles = {}, []

        def hook_for(name):
            def note(module, inputs, out):
                found[name] = (out.mean().item(), out.std(correction=0).item(), (out == 0).float().mean().item())

            return note

        for name, module in model.named_modules():
            if not list(module.children()):
                handles.append(module.register_forward_hook(hook_for(name)))
        try:
            with torch.no_grad():
                model(x)
        finally:
            for handle in handles:
                handle.remove()
        return found


class ByPartial(Alternative):
    """`functools.partial` binds the name, an exit stack removes the hooks."""

    exercise = "activation_statistics"

    def activation_statistics(model, x):
        from contextlib import ExitStack
        from functools import partial

        found = {}

        def note(name, module, inputs, output):
            flat = output.detach().flatten().double()
            zeros = (flat == 0).sum().item() / flat.numel()
            found[name] = (float(flat.mean()), float(flat.var(correction=0) ** 0.5), zeros)

        with ExitStack() as stack, torch.no_grad():
            for name, module in model.named_modules():
                if next(module.children(), None) is None:
                    stack.callback(module.register_forward_hook(partial(note, name)).remove)
            model(x)
        return found

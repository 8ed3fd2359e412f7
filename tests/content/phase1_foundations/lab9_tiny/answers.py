"""Known answers to the tiny lab."""

from grading.answers import Alternative, Mistake


class NoMaxSubtraction(Mistake):
    """You exponentiate raw logits: exp() overflows from about 89 in float32. Subtract the maximum first."""

    exercise = "softmax"

    def softmax(logits, dim):
        return logits.exp() / logits.exp().sum(dim, keepdim=True)


class WrongAxis(Mistake):
    """You normalise over the last axis whatever `dim` says. Use `dim` in the maximum and in the sum."""

    exercise = "softmax"

    def softmax(logits, dim):
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        return weights / weights.sum(-1, keepdim=True)


class Builtin(Mistake):
    """You call torch's softmax. Build it from exp and sum."""

    exercise = "softmax"

    def softmax(logits, dim):
        return torch.softmax(logits, dim)


class InPlace(Mistake):
    """You subtract in place, so the caller's logits change. Use `logits - …`, not `logits -= …`."""

    exercise = "softmax"

    def softmax(logits, dim):
        logits -= logits.amax(dim, keepdim=True)
        return logits.exp() / logits.exp().sum(dim, keepdim=True)


class ByLogSumExp(Alternative):
    """exp(x − logsumexp(x)), written with the stable sum by hand."""

    exercise = "softmax"

    def softmax(logits, dim):
        top = logits.amax(dim, keepdim=True)
        return (logits - top - (logits - top).exp().sum(dim, keepdim=True).log()).exp()


class NoScale(Mistake):
    """You forgot to divide the scores by √d, so the softmax saturates as d grows."""

    exercise = "attention"

    def attention(queries, keys):
        return softmax(queries @ keys.T, dim=-1)


class OverQueries(Mistake):
    """You normalise over the queries. Each query's weights must sum to one: use the last axis."""

    exercise = "attention"

    def attention(queries, keys):
        return softmax(queries @ keys.T / queries.shape[-1] ** 0.5, dim=0)


class ByEinsum(Alternative):
    """The product as an einsum."""

    exercise = "attention"

    def attention(queries, keys):
        return softmax(torch.einsum("nd,md->nm", queries, keys) / queries.shape[-1] ** 0.5, dim=1)


class Buffer(Mistake):
    """You keep the weight as a plain tensor: it is no parameter, and no optimizer will see it. Use `nn.Parameter`."""

    exercise = "scale"

    class Scale(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.weight = torch.ones(size, requires_grad=True)

        def forward(self, x):
            return x * self.weight


class Detached(Mistake):
    """You take the values through `.data`, so no gradient reaches the parameter."""

    exercise = "scale"

    class Scale(Scale):
        def forward(self, x):
            return (x * self.weight.data).requires_grad_()


class ByLinearAlgebra(Alternative):
    """A diagonal matrix product."""

    exercise = "scale"

    class Scale(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(size))

        def forward(self, x):
            return x @ self.weight.diag()

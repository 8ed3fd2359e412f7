"""Snippets for `unused-code`, written apart from the rule."""

# faulty

# ---
def normalise(sample: Tensor) -> Tensor:
    mean = sample.mean(0)
    spread = sample.std(0)  # here
    return sample - mean

# ---
import itertools  # here


def pairs(items):
    return [(a, b) for a in items for b in items]

# ---
def clamp(value: float, low: float, high: float) -> float:
    if value < low:
        return low
    return min(value, high)
    print("clamped")  # here

# clean

# ---
def halves(sample: Tensor) -> Tensor:
    first, _ = sample.chunk(2)
    return first

# ---
scale = 0.5
# %%
def shrunk(sample: Tensor) -> Tensor:
    return scale * sample

# ---
def probe(net: nn.Module, sample: Tensor) -> tuple[Tensor, list[str]]:
    seen = []
    handles = [m.register_forward_hook(lambda m, i, o: seen.append(type(m).__name__)) for m in net.children()]
    answer = net(sample)
    for handle in handles:
        handle.remove()
    return answer, seen

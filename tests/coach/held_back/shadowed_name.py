"""Snippets for `shadowed-name`, written apart from the rule."""

# faulty

# ---
def spread(sample: Tensor) -> Tensor:
    max = sample.amax()  # here
    min = sample.amin()  # here
    return max - min

# ---
list = [layer for layer in net.children() if isinstance(layer, nn.Linear)]  # here
print(len(list))

# ---
def centre(sample: Tensor) -> Tensor:
    sum = sample.sum(dim=0)  # here
    return sample - sum / len(sample)

# clean

# ---
class Meter:
    def __init__(self) -> None:
        self.sum, self.max = 0.0, float("-inf")

    def add(self, value: float) -> None:
        self.sum += value
        self.max = max(self.max, value)

# ---
def largest(sample: Tensor) -> float:
    highest = sample.amax(dim=0, keepdim=True)
    return highest.max().item()

# ---
def build(width: int, kind: str = "relu") -> nn.Module:
    layers = dict(relu=nn.ReLU(), tanh=nn.Tanh())
    return nn.Sequential(nn.Linear(width, width), layers[kind])

"""Snippets for `data-attribute`, written apart from the rule."""

# faulty

# ---
def reset_bias(layer: nn.Linear) -> None:
    layer.bias.data.fill_(0.0)  # here

# ---
def ema_update(shadow: nn.Module, live: nn.Module, decay: float) -> None:
    for s, p in zip(shadow.parameters(), live.parameters(), strict=True):
        s.data.mul_(decay).add_(p.data, alpha=1 - decay)  # here

# ---
def detach_copy(activation: Tensor) -> Tensor:
    return activation.data.clone()  # here

# clean

# ---
def count_samples(archive: Dataset) -> int:
    return len(archive.data)

# ---
class Table(Dataset):
    def __init__(self, rows: list[list[float]]) -> None:
        self.data = rows

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(self.data[index])

# ---
def shrink(layer: nn.Linear, factor: float) -> None:
    with torch.no_grad():
        layer.weight.mul_(factor)

# faulty

# --- a causal mask
def causal(scores: Tensor) -> Tensor:
    t = scores.shape[-1]
    mask = torch.tril(torch.ones(t, t)).bool()  # here
    return scores.masked_fill(~mask, float("-inf"))

# --- positions
class Positions(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.arange(d))

    def forward(self, x):
        t = torch.arange(x.shape[1])  # here
        return x + t[:, None] * self.frequencies

# --- noise
def noisy(x: Tensor, sigma: float) -> Tensor:
    return x + sigma * torch.randn(x.shape)  # here

# --- a column of ones
def with_bias(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(x.shape[0], 1)], dim=1)  # here

# --- dropout by hand
class Dropout(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        keep = torch.rand(x.shape) > self.p  # here
        return x * keep / (1 - self.p)

# --- a list of numbers
def weighted(losses: Tensor) -> Tensor:
    weights = torch.tensor([0.2, 0.3, 0.5])  # here
    return (losses * weights).sum()

# clean

# --- on the device of x
def causal(scores: Tensor) -> Tensor:
    t = scores.shape[-1]
    mask = torch.ones(t, t, dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~mask, float("-inf"))

# --- like x
def noisy(x: Tensor, sigma: float) -> Tensor:
    return x + sigma * torch.randn_like(x)

# --- new_zeros
def with_bias(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(x.shape[0], 1)], dim=1)

# --- moved after
def weighted(losses: Tensor) -> Tensor:
    weights = torch.tensor([0.2, 0.3, 0.5]).to(losses.device)
    return (losses * weights).sum()

# --- a buffer
class Scaled(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

# --- a number goes with any device
def shifted(x: Tensor) -> Tensor:
    return x + torch.tensor(0.5)

# --- a shuffled order only chooses rows
def shuffled(x: Tensor) -> Tensor:
    return x[torch.randperm(len(x))]

# --- samples of a data set are on the CPU
class Noisy(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        row = self.rows[i]
        return row + 0.1 * torch.randn(row.shape)

# --- nothing to combine it with
def identity(n: int) -> Tensor:
    return torch.eye(n) + torch.zeros(n, n)

# --- moved where it is used
def gaussian(x: Tensor, width: int) -> Tensor:
    t = torch.arange(width) - width // 2
    kernel = torch.exp(-t.float().square()).to(x)
    return F.conv1d(x, kernel[None, None])

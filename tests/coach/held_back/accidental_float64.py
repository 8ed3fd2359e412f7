"""Snippets for `accidental-float64`, written apart from the rule."""

# faulty

# ---
def make_inputs(rows: int) -> Tensor:
    noise = np.random.default_rng(0).normal(size=(rows, 8))
    return torch.from_numpy(noise)  # here

# ---
class Points(Dataset):
    def __init__(self, n: int) -> None:
        self.xy = torch.tensor(np.random.rand(n, 2))  # here

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, k: int) -> Tensor:
        return self.xy[k]

# ---
grid = np.linspace(-1, 1, 101)
curve = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
heights = curve(torch.as_tensor(grid)[:, None])  # here
print(heights.shape)

# clean

# ---
def make_inputs_single(rows: int) -> Tensor:
    noise = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    return torch.from_numpy(noise)

# ---
def reference_variance(sample: Tensor) -> Tensor:
    exact = sample.double()
    return ((exact - exact.mean()) ** 2).mean().float()

# ---
def numeric_check(function) -> bool:
    probe = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    return torch.autograd.gradcheck(function, (probe,))

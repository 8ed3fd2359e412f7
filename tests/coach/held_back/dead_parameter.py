"""Snippets for `dead-parameter`, written apart from the rule."""

# faulty

# ---
class Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.gate = nn.Linear(width, 1)  # here

    def forward(self, z: Tensor) -> Tensor:
        return self.inner(z).relu()

# ---
class Stack(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = [nn.Linear(width, width) for _ in range(depth)]  # here

    def forward(self, z: Tensor) -> Tensor:
        for block in self.blocks:
            z = block(z).tanh()
        return z

# ---
class Scaled(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))  # here

    def forward(self, z: Tensor) -> Tensor:
        return z * self.gain

# clean

# ---
class Tied(nn.Module):
    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.out = nn.Linear(width, words, bias=False)
        self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.table(ids))

# ---
class TwoStage(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, 4)
        self.up = nn.Linear(4, width)

    def encode(self, z: Tensor) -> Tensor:
        return self.down(z)

    def decode(self, code: Tensor) -> Tensor:
        return self.up(code)

    def forward(self, z: Tensor) -> Tensor:
        return self.decode(self.encode(z))

# ---
class Named(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({"left": nn.Linear(width, 2), "right": nn.Linear(width, 2)})

    def forward(self, z: Tensor, side: str) -> Tensor:
        return self.branches[side](z)

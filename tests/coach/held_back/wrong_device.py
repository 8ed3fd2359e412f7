"""Snippets for `wrong-device`, written apart from the rule."""

# faulty

# ---
def add_positions(tokens: Tensor, table: nn.Embedding) -> Tensor:
    where = torch.arange(tokens.shape[1])  # here
    return tokens + table(where)

# ---
def causal(scores: Tensor) -> Tensor:
    length = scores.shape[-1]
    allowed = torch.ones(length, length, dtype=torch.bool).tril()  # here
    return scores.masked_fill(~allowed, float("-inf"))

# ---
class Noise(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        grain = torch.randn(picture.shape)  # here
        return picture + 0.1 * grain

# clean

# ---
def add_positions_here(tokens: Tensor, table: nn.Embedding) -> Tensor:
    where = torch.arange(tokens.shape[1], device=tokens.device)
    return tokens + table(where)

# ---
class Mask(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("allowed", torch.ones(length, length, dtype=torch.bool).tril())

    def forward(self, scores: Tensor) -> Tensor:
        return scores.masked_fill(~self.allowed, float("-inf"))

# ---
def jitter(picture: Tensor) -> Tensor:
    grain = torch.randn_like(picture)
    start = picture.new_zeros(picture.shape[0])
    return picture + 0.1 * grain + start[:, None]

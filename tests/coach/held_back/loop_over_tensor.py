"""Snippets for `loop-over-tensor`, written apart from the rule."""

# faulty

# ---
def row_norms(matrix: Tensor) -> Tensor:
    norms = torch.empty(matrix.shape[0])
    for r in range(matrix.shape[0]):  # here
        norms[r] = (matrix[r] ** 2).sum().sqrt()
    return norms

# ---
def relu_by_hand(signal: Tensor) -> Tensor:
    result = signal.clone()
    for k in range(signal.numel()):  # here
        if signal[k] < 0:
            result[k] = 0.0
    return result

# ---
def cosine_table(queries: Tensor, keys: Tensor) -> Tensor:
    table = torch.zeros(queries.size(0), keys.size(0))
    for i in range(queries.size(0)):  # here
        for j in range(keys.size(0)):  # here
            table[i, j] = torch.dot(queries[i], keys[j])
    return table

# clean

# ---
def run_cell(cell: nn.Module, frames: Tensor, state: Tensor) -> Tensor:
    outputs = []
    for t in range(frames.shape[1]):
        state = cell(frames[:, t], state)
        outputs.append(state)
    return torch.stack(outputs, dim=1)

# ---
def warm_up_then_train(network, batches, optimiser, epochs):
    network.train()
    for epoch in range(epochs):
        for images, targets in batches:
            optimiser.zero_grad()
            F.cross_entropy(network(images), targets).backward()
            optimiser.step()
        print("finished", epoch)

# ---
class Tower(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.floors = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, z: Tensor) -> Tensor:
        for floor in self.floors:
            z = z + floor(z).relu()
        return z

# faulty

# --- softmax row by row
def softmax_rows(logits: Tensor) -> Tensor:
    out = torch.empty_like(logits)
    for i in range(logits.shape[0]):  # here
        shifted = logits[i] - logits[i].max()
        out[i] = shifted.exp() / shifted.exp().sum()
    return out

# --- distances by two loops
def distances(a, b):
    n, m = a.shape[0], b.shape[0]
    result = torch.zeros(n, m, device=a.device)
    for i in range(n):  # here
        for j in range(m):
            result[i, j] = (a[i] - b[j]).pow(2).sum().sqrt()
    return result

# --- a mean by hand
def mean_of(values: Tensor) -> Tensor:
    total = 0.0
    for value in values:  # here
        total += value
    return total / len(values)

# --- rows stacked again
def normalised(x: Tensor) -> Tensor:
    return torch.stack([row / row.norm() for row in x])  # here

# --- zip over two tensors
def dot_products(a: Tensor, b: Tensor) -> Tensor:
    products = []
    for u, v in zip(a, b):  # here
        products.append(torch.dot(u, v))
    return torch.stack(products)

# --- len of a tensor
def accuracy(logits: Tensor, labels: Tensor) -> float:
    correct = 0
    predictions = logits.argmax(dim=1)
    for i in range(len(labels)):  # here
        if predictions[i] == labels[i]:
            correct += 1
    return correct / len(labels)

# --- channels normalised one by one
class Standardise(nn.Module):
    def forward(self, x):
        batch, channels, height, width = x.shape
        out = torch.empty_like(x)
        for c in range(channels):  # here
            out[:, c] = (x[:, c] - x[:, c].mean()) / x[:, c].std()
        return out

# --- picks of the right class
def nll(log_probs: Tensor, labels: Tensor) -> Tensor:
    loss = 0.0
    for i in range(log_probs.size(0)):  # here
        loss = loss - log_probs[i, labels[i]]
    return loss / log_probs.size(0)

# clean

# --- epochs and batches
def fit(model, loader, optimizer, loss_fn):
    model.train()
    for _epoch in range(10):
        for x, y in loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()

# --- a layer after the other
def forward_all(layers, x: Tensor) -> Tensor:
    for layer in layers:
        x = torch.relu(layer(x))
    return x

# --- time steps that need the one before
class Recurrence(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        states = []
        for t in range(x.shape[1]):
            h = torch.tanh(self.mix(torch.cat([x[:, t], h], dim=-1)))
            states.append(h)
        return torch.stack(states, dim=1)

# --- an exponential average
def smooth(values: Tensor, beta: float) -> Tensor:
    out = torch.empty_like(values)
    average = values[0]
    for i in range(len(values)):
        average = beta * average + (1 - beta) * values[i]
        out[i] = average
    return out

# --- all axes but one
def reduce_all_but(x: Tensor, keep: int) -> Tensor:
    for axis in range(x.dim()):
        if axis != keep:
            x = x.sum(dim=axis, keepdim=True)
    return x

# --- heads in a list
def attend(heads, x: Tensor) -> Tensor:
    return torch.cat([head(x) for head in heads], dim=-1)

# --- chunks, to save memory
def in_chunks(x: Tensor, weight: Tensor) -> Tensor:
    parts = []
    for part in x.split(1000):
        parts.append(part @ weight)
    return torch.cat(parts)

# --- classes, of which there are few
def class_means(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    return torch.stack([x[labels == c].mean(0) for c in range(classes)])

# --- a dynamic programme
def fibonacci_like(x: Tensor) -> Tensor:
    out = x.clone()
    for i in range(2, len(x)):
        out[i] = out[i - 1] + out[i - 2]
    return out

# --- sequences of different lengths
def trimmed(sequences: Tensor, lengths: list[int]) -> list[Tensor]:
    return [sequence[:length] for sequence, length in zip(sequences, lengths, strict=True)]

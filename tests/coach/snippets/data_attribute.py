# faulty

# --- an update by data
def step(parameters, lr):
    for p in parameters:
        if p.grad is not None:
            p.data -= lr * p.grad  # here

# --- initial values
class Scaled(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.linear = nn.Linear(d, d)
        self.linear.weight.data.normal_(0, 0.02)  # here
        self.linear.bias.data.zero_()  # here

    def forward(self, x):
        return self.linear(x)

# --- a copy of the weights
def snapshot(model: nn.Module) -> list[Tensor]:
    return [p.data.clone() for p in model.parameters()]  # here

# --- an average of weights
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for a, p in zip(average.parameters(), model.parameters(), strict=True):
        a.data.mul_(decay).add_(p.data, alpha=1 - decay)  # here

# --- the number of a loss
def total_loss(model, x, y):
    loss = F.cross_entropy(model(x), y)
    return loss.data  # here

# --- clamped weights
weight = torch.randn(10, requires_grad=True)
weight.data = weight.data.clamp(-1, 1)  # here

# --- the gradient's data
def clip(model: nn.Module, limit: float) -> None:
    for p in model.parameters():
        p.grad.data.clamp_(-limit, limit)  # here

# clean

# --- a data set's field
class Rows(Dataset):
    def __init__(self, data, targets):
        self.data = data
        self.targets = targets

    def __getitem__(self, i):
        return self.data[i], self.targets[i]

    def __len__(self):
        return len(self.data)

# --- of another data set
def first_images(dataset, n):
    return dataset.data[:n].float() / 255

# --- a batch of one's own class
def train_step(model, optimizer, batch):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(batch.data), batch.labels)
    loss.backward()
    optimizer.step()
    return loss.detach()

# --- a value of a small autograd engine
class Value:
    def __init__(self, data, parents=()):
        self.data = data
        self.grad = 0.0
        self.parents = parents

    def __add__(self, other):
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def step(self, lr):
        self.data -= lr * self.grad

# --- without data
def step(parameters, lr):
    with torch.no_grad():
        for p in parameters:
            p -= lr * p.grad

# --- detach
def snapshot(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]

# --- a node of a list
def total(node):
    value = 0
    while node is not None:
        value += node.data
        node = node.next
    return value

# --- data of scikit-learn
def digits_as_tensors(bunch):
    images = torch.tensor(bunch.data, dtype=torch.float32)
    return images, torch.tensor(bunch.target)

# faulty

# --- a batch in the loop
def fit(model, loader, optimizer):
    for x, y in loader:
        x.requires_grad_()  # here
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

# --- by assignment
def train_step(model, optimizer, x, y):
    x.requires_grad = True  # here
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()

# --- data that is made so
inputs = torch.randn(100, 3, requires_grad=True)  # here
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _epoch in range(20):
    optimizer.zero_grad()
    model(inputs).pow(2).mean().backward()
    optimizer.step()

# --- a data set
def make_loader(rows, labels):
    x = torch.tensor(rows, dtype=torch.float32, requires_grad=True)  # here
    y = torch.tensor(labels)
    return DataLoader(TensorDataset(x, y), batch_size=32)

# --- an item of a data set
class Rows(Dataset):
    def __init__(self, rows, labels):
        self.rows, self.labels = rows, labels

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        x = torch.tensor(self.rows[i], requires_grad=True)  # here
        return x, self.labels[i]

# --- on the way to the device
def train_epoch(model, train_loader, optimizer, loss_fn, device):
    for images, labels in train_loader:
        images = images.to(device).requires_grad_(True)  # here
        loss = loss_fn(model(images), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# clean

# --- parameters by hand
w = torch.randn(3, 1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
optimizer = torch.optim.SGD([w, b], lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    F.mse_loss(x @ w + b, y).backward()
    optimizer.step()

# --- saliency
def saliency(model, x, label):
    model.eval()
    x = x.clone().requires_grad_()
    model(x)[:, label].sum().backward()
    return x.grad.abs()

# --- a gradient penalty
def penalty(critic, real, fake):
    mixed = torch.lerp(real, fake, torch.rand_like(real)).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

# --- gradcheck
def check(function):
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    return torch.autograd.gradcheck(function, x)

# --- an adversarial training step
def adversarial_step(model, optimizer, x, y, epsilon):
    x = x.clone().requires_grad_()
    F.cross_entropy(model(x), y).backward()
    attacked = (x + epsilon * x.grad.sign()).detach()
    optimizer.zero_grad()
    F.cross_entropy(model(attacked), y).backward()
    optimizer.step()

# --- a frozen body
def freeze(model):
    for p in model.parameters():
        p.requires_grad = False

# --- a prompt that is learned
def tune_prompt(model, loader, length, d):
    prompt = torch.randn(length, d, requires_grad=True)
    optimizer = torch.optim.Adam([prompt], lr=1e-3)
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(prompt, x), y).backward()
        optimizer.step()
    return prompt.detach()

# faulty

# --- a running total
def train_epoch(model, loader, optimizer, loss_fn):
    total = 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss  # here
    return total / len(loader)

# --- a list
def fit(model, loader, optimizer):
    losses = []
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss)  # here
    return losses

# --- weighted by rows
def mean_loss(model, loader, optimizer):
    running, rows = 0.0, 0
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running = running + loss * len(x)  # here
        rows += len(x)
    return running / rows

# --- a history by name
history = {"train": []}
for x, y in loader:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    history["train"].append(loss)  # here

# --- a step that returns its loss with the graph
def train_step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

def fit(model, optimizer, loader):
    total = 0.0
    for x, y in loader:
        total += train_step(model, optimizer, x, y)  # here
    return total

# --- an attribute
class Trainer:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.total_loss = 0.0

    def run(self, loader):
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.total_loss += loss  # here

# clean

# --- detached
def train_epoch(model, loader, optimizer, loss_fn):
    losses = []
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()

# --- differentiated together
def step_on_all(model, optimizer, batches):
    losses = []
    for x, y in batches:
        losses.append(F.cross_entropy(model(x), y))
    optimizer.zero_grad()
    torch.stack(losses).mean().backward()
    optimizer.step()

# --- a sum that is gone back through
def step_on_steps(cell, optimizer, x, y):
    optimizer.zero_grad()
    h, total = torch.zeros_like(x[:, 0]), 0.0
    for t in range(x.shape[1]):
        h = cell(x[:, t], h)
        total += F.mse_loss(h, y[:, t])
    total.backward()
    optimizer.step()

# --- under no_grad
@torch.no_grad()
def validation_loss(model, loader):
    model.eval()
    total = 0.0
    for x, y in loader:
        total += F.cross_entropy(model(x), y)
    return total / len(loader)

# --- cut off before
def fit(model, loader, optimizer):
    losses = []
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss = loss.detach()
        losses.append(loss)
    return losses

# --- losses of several heads
def multi_task(model, loader, optimizer):
    for x, targets in loader:
        loss = 0.0
        for output, target in zip(model(x), targets, strict=True):
            loss += F.cross_entropy(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# --- a penalty inside the loop
def regularised(model, loader, optimizer, weight):
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        for p in model.parameters():
            loss = loss + weight * p.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

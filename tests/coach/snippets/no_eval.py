# faulty

# --- accuracy
@torch.no_grad()
def accuracy(model, loader):
    right, rows = 0, 0
    for x, y in loader:  # here
        right += (model(x).argmax(dim=1) == y).sum().item()
        rows += len(y)
    return right / rows

# --- the validation after each epoch
def fit(model, train_loader, val_loader, optimizer, loss_fn):
    for epoch in range(5):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            total = sum(loss_fn(model(x), y).item() for x, y in val_loader)  # here
        print(epoch, total)

# --- predictions of a test set
def predict(net, test_loader):
    predictions = []
    with torch.inference_mode():
        for batch, _ in test_loader:  # here
            predictions.append(net(batch).argmax(-1))
    return torch.cat(predictions)

# --- in a class
class Trainer:
    def __init__(self, model, loader):
        self.model = model
        self.loader = loader

    @torch.no_grad()
    def validate(self):
        losses = []
        for x, y in self.loader:  # here
            losses.append(F.cross_entropy(self.model(x), y).item())
        return sum(losses) / len(losses)

# --- training mode set again
def evaluate(model: nn.Module, loader: DataLoader) -> float:
    hits = 0
    with torch.no_grad():
        for images, labels in loader:  # here
            _, predicted = torch.max(model(images), 1)
            hits += (predicted == labels).sum().item()
    model.train()
    return hits / len(loader.dataset)

# --- in the notebook
correct = 0
with torch.no_grad():
    for images, labels in test_loader:  # here
        logits = model(images)
        correct += (logits.argmax(1) == labels).sum().item()
print(correct / len(test_loader.dataset))

# clean

# --- as it should be
@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    right, rows = 0, 0
    for x, y in loader:
        right += (model(x).argmax(dim=1) == y).sum().item()
        rows += len(y)
    return right / rows

# --- train(False)
@torch.no_grad()
def mean_loss(model, loader):
    was_training = model.training
    model.train(False)
    losses = [F.cross_entropy(model(x), y).item() for x, y in loader]
    model.train(was_training)
    return sum(losses) / len(losses)

# --- the caller sets the mode
@torch.no_grad()
def count_right(model, loader):
    return sum((model(x).argmax(1) == y).sum().item() for x, y in loader)

def report(model, loader):
    model.eval()
    print(count_right(model, loader))

# --- by contract
@torch.no_grad()
def collect(model, loader):
    """Predictions of a model that is already in evaluation mode."""
    return torch.cat([model(x).argmax(1) for x, _ in loader])

# --- a context that sets the mode
@torch.no_grad()
def measure(model, loader):
    with evaluating(model):
        return sum((model(x).argmax(1) == y).sum().item() for x, y in loader)

# --- a helper that sets the mode
def prepare(model):
    for module in model.modules():
        module.eval()

@torch.no_grad()
def accuracy_after(model, loader):
    prepare(model)
    right = sum((model(x).argmax(1) == y).float().mean().item() for x, y in loader)
    return right / len(loader)

# --- a training loop
def train_epoch(model, loader, optimizer):
    model.train()
    right = torch.zeros(())
    for x, y in loader:
        logits = model(x)
        optimizer.zero_grad()
        F.cross_entropy(logits, y).backward()
        optimizer.step()
        right += (logits.argmax(1) == y).float().mean()
    return right / len(loader)

# --- one output of a module that was handed over
def gap(model, x, y):
    return (model(x) - y).abs().max()

# --- dropout that is meant
@torch.no_grad()
def uncertainty(model, loader):
    model.train()
    return torch.cat([model(x).softmax(-1) for x, _ in loader])

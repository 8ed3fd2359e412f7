# faulty

# --- an evaluation on the tape
def accuracy(model, loader):
    model.eval()
    right = 0
    for x, y in loader:  # here
        right += (model(x).argmax(1) == y).sum().item()
    return right / len(loader.dataset)

# --- parentheses forgotten
def evaluate(model, loader):
    model.eval()
    total = 0.0
    with torch.no_grad:  # here
        for x, y in loader:
            total += F.cross_entropy(model(x), y).item()
    return total / len(loader)

# --- no context at all
def evaluate(model, loader):
    model.eval()
    torch.no_grad()  # here
    return sum((model(x).argmax(1) == y).sum().item() for x, y in loader)

# --- an update in place, on the tape
def descend(w, x, y, lr):
    for _ in range(100):
        w.grad = None
        (x @ w - y).pow(2).mean().backward()
        w -= lr * w.grad  # here
    return w

# --- an update that makes a result of a leaf
def step(w, b, lr):
    w = w - lr * w.grad  # here
    b = b - lr * b.grad  # here
    return w, b

# --- a comprehension
def mean_error(net, test_loader):
    net.eval()
    errors = [(net(x).argmax(1) != y).float().mean().item() for x, y in test_loader]  # here
    return sum(errors) / len(errors)

# clean

# --- a context
def accuracy(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(1) == y).sum().item()
    return right / len(loader.dataset)

# --- a decorator
@torch.inference_mode()
def accuracy(model, loader):
    model.eval()
    return sum((model(x).argmax(1) == y).sum().item() for x, y in loader)

# --- a decorator without parentheses works too
@torch.no_grad
def accuracy(model, loader):
    model.eval()
    return sum((model(x).argmax(1) == y).sum().item() for x, y in loader)

# --- saliency
def saliency(model, loader):
    model.eval()
    maps = []
    for x, _ in loader:
        x = x.clone().requires_grad_()
        model(x).max(1).values.sum().backward()
        maps.append(x.grad.abs().amax(1))
    return torch.cat(maps)

# --- under the caller's no_grad
def count_right(model, loader):
    model.eval()
    return sum((model(x).argmax(1) == y).sum().item() for x, y in loader)

def report(model, loader):
    with torch.no_grad():
        print(count_right(model, loader))

# --- an update under no_grad
def step(parameters, lr):
    with torch.no_grad():
        for p in parameters:
            p.sub_(lr * p.grad)

# --- a loss over all batches that is differentiated
def full_gradient(model, batches):
    total = 0.0
    for x, y in batches:
        total = total + F.cross_entropy(model(x), y, reduction="sum")
    total.backward()
    return [p.grad for p in model.parameters()]

# --- switched off for good
torch.set_grad_enabled(False)
model.eval()
right = 0
for x, y in loader:
    right += (model(x).argmax(1) == y).sum().item()
print(right)

# --- gradients that are changed, not parameters
def decay(parameters, rate):
    for p in parameters:
        p.grad += rate * p.detach()

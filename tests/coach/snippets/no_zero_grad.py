# faulty

# --- simply forgotten
def fit(model, loader, optimizer, loss_fn):
    for _epoch in range(5):
        for x, y in loader:
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()

# --- in the notebook itself
model = nn.Linear(10, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    F.cross_entropy(model(x), y).backward()
    optimizer.step()

# --- by hand
def descend(w, x, y, lr):
    for _ in range(100):
        loss = (x @ w - y).pow(2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
    return w.detach()

# --- a step that is called in a loop
def train_step(model, optimizer, x, y):
    model.train()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()

def fit(model, optimizer, loader):
    for x, y in loader:
        train_step(model, optimizer, x, y)

# --- with a scaler
def fit_mixed(model, loader, optimizer, scaler):
    for x, y in loader:
        with torch.autocast("cuda"):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

# --- in a class
class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def train_epoch(self, loader):
        self.model.train()
        for x, y in loader:
            loss = F.mse_loss(self.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()

# clean

# --- as it should be
def fit(model, loader, optimizer, loss_fn):
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()

# --- accumulation over k batches
def fit_accumulated(model, loader, optimizer, loss_fn, k):
    optimizer.zero_grad()
    for step, (x, y) in enumerate(loader, 1):
        (loss_fn(model(x), y) / k).backward()
        if step % k == 0:
            optimizer.step()
            optimizer.zero_grad()

# --- in a helper
def forget(parameters):
    for p in parameters:
        p.grad = None

def fit(model, loader, optimizer, loss_fn):
    for x, y in loader:
        forget(model.parameters())
        loss_fn(model(x), y).backward()
        optimizer.step()

# --- by hand, None
def descend(w, x, y, lr):
    for _ in range(100):
        (x @ w - y).pow(2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.detach()

# --- by hand, zero in place
def descend(w, x, y, lr):
    for _ in range(100):
        (x @ w - y).pow(2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
            w.grad.zero_()
    return w.detach()

# --- the caller clears
def update(model, optimizer, x, y):
    F.cross_entropy(model(x), y).backward()
    optimizer.step()

def fit(model, optimizer, loader):
    for x, y in loader:
        optimizer.zero_grad()
        update(model, optimizer, x, y)

# --- one step of a fresh optimizer for each rate
def losses_after_one_step(make, x, y, rates):
    losses = []
    for rate in rates:
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        losses.append(F.mse_loss(model(x), y).detach())
    return losses

# --- gradients by autograd.grad
def descend(w, x, y, lr):
    for _ in range(100):
        loss = (x @ w - y).pow(2).mean()
        (gradient,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w -= lr * gradient
    return w.detach()

# --- a schedule's step
def gradients(model, x, y, scheduler):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    scheduler.step()
    return [p.grad for p in model.parameters()]

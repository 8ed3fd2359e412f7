# faulty

# --- the usual sum of losses
def train_epoch(model, loader, optimizer, loss_fn):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()  # here
    return total / len(loader)

# --- float of a loss
def fit(model, loader, optimizer):
    history = []
    for x, y in loader:
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss))  # here
    return history

# --- accuracy in every step
def train_and_count(model, loader, optimizer):
    right = 0
    for x, y in loader:
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right += (logits.argmax(1) == y).sum().item()  # here
    return right

# --- predictions to the CPU each time
def train_and_keep(model, loader, optimizer, loss_fn):
    outputs = []
    for x, y in loader:
        prediction = model(x)
        loss = loss_fn(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        outputs.append(prediction.detach().cpu())  # here
    return torch.cat(outputs)

# --- the gradient's norm printed in each step
for x, y in loader:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    print(f"norm {norm.item():.3f}")  # here
    optimizer.step()

# --- a while loop
def train_for(model, batches, optimizer, loss_fn, steps):
    step, losses = 0, []
    while step < steps:
        x, y = next(batches)
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().tolist())  # here
        step += 1
    return losses

# clean

# --- summed as a tensor, read once
def train_epoch(model, loader, optimizer, loss_fn, device):
    model.train()
    total = torch.zeros((), device=device)
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total.item() / len(loader)

# --- every hundredth step
def train_and_log(model, loader, optimizer, loss_fn):
    for step, (x, y) in enumerate(loader):
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())

# --- once per epoch
def fit(model, loader, optimizer, loss_fn, epochs):
    for epoch in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())

# --- an evaluation that ends in a number
@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    right, rows = 0, 0
    for x, y in loader:
        right += (model(x).argmax(1) == y).sum().item()
        rows += len(y)
    return right / rows

# --- a step that decides
def train_until(model, loader, optimizer, loss_fn, limit):
    for x, y in loader:
        loss = loss_fn(model(x), y)
        if not math.isfinite(loss.item()) or loss.item() > limit:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# --- the whole data set in each epoch
def fit_all(model, x, y, optimizer, epochs):
    losses = []
    for _epoch in range(epochs):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses

# --- numbers of a NumPy array, before training
def summary(table):
    means = np.mean(table, axis=0)
    return [mean.item() for mean in means]

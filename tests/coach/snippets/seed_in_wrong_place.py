# faulty

# --- in the training loop
for x, y in loader:
    torch.manual_seed(0)  # here
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()

# --- in forward
class Dropout(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        torch.manual_seed(42)  # here
        keep = torch.rand_like(x) > self.p
        return x * keep / (1 - self.p)

# --- in __getitem__
class Augmented(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        np.random.seed(0)  # here
        return self.images[i] + 0.1 * float(np.random.randn())

# --- in each epoch
def fit(model, loader, optimizer, epochs):
    for _epoch in range(epochs):
        torch.manual_seed(1)  # here
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

# --- in a step that a loop calls
def train_step(model, optimizer, x, y):
    random.seed(0)  # here
    if random.random() < 0.5:
        x = x.flip(-1)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()

for x, y in loader:
    train_step(model, optimizer, x, y)

# --- samples that are all the same
def samples(n):
    drawn = []
    for _ in range(n):
        torch.manual_seed(0)  # here
        drawn.append(torch.randn(3))
    return torch.stack(drawn)

# clean

# --- once, at the start
torch.manual_seed(0)
for x, y in loader:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()

# --- a generator of its own
class Augmented(Dataset):
    def __init__(self, images, seed):
        self.images, self.seed = images, seed

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(self.seed + i)
        return self.images[i] + 0.1 * torch.randn(self.images[i].shape, generator=generator)

# --- several runs
def scores(seeds, loader):
    results = []
    for seed in seeds:
        torch.manual_seed(seed)
        model = nn.Linear(10, 2)
        results.append(train(model, loader))
    return results

# --- two models from the same start
losses = {}
for name in ("sgd", "adam"):
    torch.manual_seed(0)
    model = nn.Linear(10, 2)
    losses[name] = train(model, name)

# --- workers
def worker_init_fn(worker_id):
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed + worker_id)

# --- a helper that is called once
def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

set_seed(0)

# --- the generator is put back
def noise_for(i, shape):
    with torch.random.fork_rng():
        torch.manual_seed(i)
        return torch.randn(shape)

# --- a generator for each epoch
def orders(n, seed, epochs):
    return [torch.randperm(n, generator=torch.Generator().manual_seed(seed + e)) for e in range(epochs)]

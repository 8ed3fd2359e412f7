"""Snippets for `seed-in-wrong-place`, written apart from the rule."""

# faulty

# ---
for epoch in range(20):
    torch.manual_seed(0)  # here
    for images, targets in batches:
        opt.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        opt.step()
    print(epoch)

# ---
class Crop(Dataset):
    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, k: int) -> Tensor:
        random.seed(1)  # here
        left = random.randint(0, 4)
        return self.pictures[k, :, left : left + 24]

# ---
class Shaky(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        torch.manual_seed(42)  # here
        return z + 0.1 * torch.randn_like(z)

# clean

# ---
torch.manual_seed(7)
net = nn.Linear(4, 2)
for images, targets in batches:
    opt.zero_grad()
    F.cross_entropy(net(images), targets).backward()
    opt.step()

# ---
def order_of(epoch: int, rows: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed + epoch)
    return torch.randperm(rows, generator=source)

# ---
def prepare_worker(number: int) -> None:
    np.random.seed(torch.initial_seed() % 2**32)
    random.seed(number)


batches = DataLoader(train_set, batch_size=8, num_workers=2, worker_init_fn=prepare_worker)

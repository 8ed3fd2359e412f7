# faulty

# --- random numbers of NumPy
x = torch.from_numpy(np.random.rand(100, 3))  # here
model = nn.Linear(3, 1)
prediction = model(x)

# --- an array by name
def make_data(n):
    angles = np.linspace(0, 2 * np.pi, n)
    y = np.sin(angles)
    return torch.tensor(angles), torch.tensor(y)  # here

# --- dtype=float
def one_hot(labels, classes):
    out = torch.zeros(len(labels), classes, dtype=float)  # here
    out[range(len(labels)), labels] = 1
    return out

# --- a generator of NumPy
rng = np.random.default_rng(0)
features = rng.normal(size=(200, 4))
inputs = torch.as_tensor(features)  # here

# --- np.float64 said to torch
mean = torch.full((3,), 0.5, dtype=np.float64)  # here

# --- standardised in NumPy
raw = np.random.randn(50, 2) * 3 + 1
scaled = (raw - raw.mean(axis=0)) / raw.std(axis=0)
data = TensorDataset(torch.from_numpy(scaled), torch.zeros(50))  # here

# --- .to(float)
def prepared(images: Tensor) -> Tensor:
    return images.to(float) / 255  # here

# clean

# --- cast at once
x = torch.from_numpy(np.random.rand(100, 3)).float()

# --- dtype said
def make_data(n):
    angles = np.linspace(0, 2 * np.pi, n)
    return torch.tensor(angles, dtype=torch.float32), torch.tensor(np.sin(angles), dtype=torch.float32)

# --- cast in NumPy
features = np.random.randn(20, 4).astype(np.float32)
inputs = torch.from_numpy(features)

# --- whole numbers
labels = torch.from_numpy(np.random.randint(0, 10, size=100))
order = torch.from_numpy(np.random.permutation(100))

# --- a reference value
def reference_softmax(logits):
    exact = np.exp(logits) / np.exp(logits).sum()
    return torch.from_numpy(exact)

# --- gradcheck wants it
x = torch.from_numpy(np.random.rand(5, 3)).requires_grad_()
print(torch.autograd.gradcheck(torch.sin, x))

# --- float64 said by name
weights = torch.linspace(0, 1, 50, dtype=torch.float64)
total = weights.cumsum(0)

# --- cast later
noise = torch.from_numpy(np.random.randn(3, 3))
noise = noise.to(torch.float32)

# --- NumPy stays NumPy
table = np.zeros((3, 4), dtype=float)
table[0] = np.random.rand(4)

# --- Python's floats are float32 here
rates = torch.tensor([0.1, 0.2, 0.4])

# faulty

# --- a layer that forward forgets
class Net(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.first = nn.Linear(d, d)
        self.second = nn.Linear(d, d)  # here

    def forward(self, x):
        return self.first(x).relu()

# --- a parameter
class Scaled(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(d))
        self.shift = nn.Parameter(torch.zeros(d))  # here

    def forward(self, x):
        return x * self.scale

# --- layers in a list
class Deep(nn.Module):
    def __init__(self, d, depth):
        super().__init__()
        self.layers = [nn.Linear(d, d) for _ in range(depth)]  # here

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x

# --- layers appended
class Stack(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = []  # here
        for d_in, d_out in zip(sizes, sizes[1:]):
            self.layers.append(nn.Linear(d_in, d_out))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

# --- layers in a dict
class Heads(nn.Module):
    def __init__(self, d, names):
        super().__init__()
        self.heads = {name: nn.Linear(d, 1) for name in names}  # here

    def forward(self, x):
        return {name: head(x) for name, head in self.heads.items()}

# --- initialised, never used
class Attention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d)
        self.value = nn.Linear(d, d)
        self.out = nn.Linear(d, d)  # here
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(-2, -1)
        return scores.softmax(-1) @ self.value(x)

# --- functions in the place of modules
class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)  # here
        self.out = nn.Linear(8 * 26 * 26, 10)

    def forward(self, x):
        return self.out(self.conv(x).relu().flatten(1))

# clean

# --- all used
class Net(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.first = nn.Linear(d, d)
        self.second = nn.Linear(d, d)

    def forward(self, x):
        return self.second(self.first(x).relu())

# --- a ModuleList
class Deep(nn.Module):
    def __init__(self, d, depth):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(d, d) for _ in range(depth)])

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x

# --- used in another method
class Autoencoder(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.down = nn.Linear(d, 2)
        self.up = nn.Linear(2, d)

    def encode(self, x):
        return self.down(x)

    def forward(self, x):
        return self.up(self.encode(x))

# --- a buffer
class Running(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.register_buffer("seen", torch.zeros(d))

    def forward(self, x):
        return x

# --- a list that becomes a Sequential
class Mlp(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        layers = []
        for d_in, d_out in zip(sizes, sizes[1:], strict=False):
            layers.append(nn.Linear(d_in, d_out))
            layers.append(nn.ReLU())
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x):
        return self.net(x)

# --- put together in the constructor
class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm = nn.LayerNorm(d)
        self.linear = nn.Linear(d, d)
        self.net = nn.Sequential(self.norm, self.linear)

    def forward(self, x):
        return x + self.net(x)

# --- used from outside
class Backbone(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.body = nn.Linear(d, d)
        self.head = nn.Linear(d, 10)

    def forward(self, x):
        return self.body(x)

backbone = Backbone(8)
print(backbone.head(backbone(torch.randn(2, 8))))

# --- still to be written
class Layer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.linear = nn.Linear(d, d)

    def forward(self, x):
        raise NotImplementedError

# --- found by name
class Numbered(nn.Module):
    def __init__(self, d, n):
        super().__init__()
        self.first = nn.Linear(d, d)
        self.n = n

    def forward(self, x):
        return getattr(self, "first")(x) * self.n

# --- a plain list of numbers
class Widths(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.widths = [d, 2 * d]
        self.out = nn.Linear(d, 2 * d)

    def forward(self, x):
        return self.out(x).view(*x.shape[:-1], self.widths[1])

# faulty

# --- input
input = torch.randn(4, 3)  # here
print(input.shape)

# --- sum
def mean(values):
    sum = 0.0  # here
    for value in values:
        sum += value
    return sum / len(values)

# --- max and min, unpacked
def scaled(x):
    min, max = x.aminmax()  # here
    return (x - min) / (max - min)

# --- a loop's variable
def lookup(ids, table):
    rows = []
    for id in ids:  # here
        rows.append(table[id])
    return rows

# --- the module F
F = torch.randn(3, 3)  # here
print(F.sum())

# --- the function itself
def accuracy(logits, labels):
    accuracy = (logits.argmax(1) == labels).float().mean()  # here
    return accuracy

# --- a function and its result
def perplexity(loss):
    return math.exp(loss)

perplexity = perplexity(2.0)  # here
print(perplexity)

# --- list
list = [0.1, 0.01]  # here
for rate in list:
    print(rate)

# clean

# --- other names
inputs = torch.randn(4, 3)
total = inputs.sum()
print(total)

# --- keywords
loss = F.cross_entropy(input=torch.randn(2, 3), target=torch.tensor([0, 1]))
print(max(1, 2, key=lambda value: -value))

# --- attributes
class Meter:
    def __init__(self):
        self.sum = 0.0
        self.max = -math.inf

    def update(self, value):
        self.sum += value
        self.max = max(self.max, value)

# --- methods of that name
class Batch:
    def __init__(self, rows):
        self.rows = rows

    def sum(self):
        return sum(self.rows)

    def max(self):
        return max(self.rows)

# --- a field of a class
class Config:
    id: int = 0
    type: str = "sgd"

# --- a local name like a method's
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def loss(self, x, y):
        loss = F.mse_loss(self.linear(x), y)
        return loss * 2

    def forward(self, x):
        return self.linear(x)

# --- a length that is called like a module nobody imported
def positions(x):
    time, d = x.shape
    return torch.arange(time, device=x.device)[:, None].expand(time, d)

# --- a function that is wrapped
def cube(x):
    return x**3

cube = torch.compile(cube)
print(cube(torch.ones(2)))

# --- a parameter
def shifted(input: Tensor) -> Tensor:
    return input + 1

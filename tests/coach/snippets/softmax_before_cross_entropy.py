# faulty

# --- probabilities by name
def loss_of(model, x, y):
    probabilities = F.softmax(model(x), dim=1)
    return F.cross_entropy(probabilities, y)  # here

# --- as a method, in place
def train_step(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x).softmax(-1), y)  # here
    loss.backward()
    optimizer.step()

# --- as a last layer
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(dim=1))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()  # here
    optimizer.step()

# --- in forward
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(784, 128)
        self.out = nn.Linear(128, 10)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        x = F.relu(self.hidden(x))
        return self.softmax(self.out(x))

net = Net()
criterion = nn.CrossEntropyLoss()
x, y = next(iter(loader))
print(criterion(net(x), y))  # here

# --- log-softmax too
def objective(logits, labels):
    log_probs = torch.log_softmax(logits, dim=-1)
    return nn.CrossEntropyLoss()(log_probs, labels)  # here

# --- sigmoid before the loss with logits
def binary_loss(model, x, y):
    p = torch.sigmoid(model(x))
    return F.binary_cross_entropy_with_logits(p, y.float())  # here

# --- a class with its own loss
class Classifier(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(d, 1), nn.Sigmoid())
        self.loss = nn.BCEWithLogitsLoss()

    def forward(self, x, y):
        return self.loss(self.body(x).squeeze(-1), y)  # here

# clean

# --- logits
def loss_of(model, x, y):
    return F.cross_entropy(model(x), y)

# --- softmax for the prediction only
def step(model, x, y):
    logits = model(x)
    probabilities = logits.softmax(1)
    return F.cross_entropy(logits, y), probabilities.amax(1)

# --- nll of log-softmax
def nll(model, x, y):
    return F.nll_loss(F.log_softmax(model(x), dim=1), y)

# --- distillation
def distil(student, teacher, temperature):
    soft = F.log_softmax(student / temperature, dim=1)
    goal = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(soft, goal, reduction="batchmean")

# --- soft targets
def soft_loss(student_logits, teacher_logits):
    return F.cross_entropy(student_logits, teacher_logits.softmax(-1))

# --- sigmoid with the loss that wants it
def binary_loss(model, x, y):
    return F.binary_cross_entropy(torch.sigmoid(model(x)), y)

# --- attention inside
class Pooled(nn.Module):
    def __init__(self, d, classes):
        super().__init__()
        self.score = nn.Linear(d, 1)
        self.out = nn.Linear(d, classes)

    def forward(self, x):
        weights = self.score(x).softmax(dim=1)
        return self.out((weights * x).sum(dim=1))

model = Pooled(8, 3)
x, y = next(iter(loader))
loss = F.cross_entropy(model(x), y)

# --- the model keeps logits, another gives probabilities
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(10, 2)

    def forward(self, x):
        return self.out(x)

    def predict(self, x):
        return self.forward(x).softmax(-1)

net = Net()
x, y = next(iter(loader))
loss = nn.CrossEntropyLoss()(net(x), y)

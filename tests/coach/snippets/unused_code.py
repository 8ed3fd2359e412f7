# faulty

# --- an import
import os  # here

print(torch.__version__)

# --- a local variable
def entropy(logits):
    p = logits.softmax(-1)  # here
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)

# --- after the return
def relu(x):
    return x.clamp(min=0)
    print("done")  # here

# --- an import in a function
def now():
    import time  # here

    return 0.0

# --- from a module
from collections import OrderedDict, defaultdict  # here

counts = defaultdict(int)
print(counts)

# --- after raise
def root(x):
    if x < 0:
        raise ValueError("negative")
        return None  # here
    return math.sqrt(x)

# --- after continue
def positives(values):
    kept = []
    for value in values:
        if value <= 0:
            continue
            kept.append(0)  # here
        kept.append(value)
    return kept

# clean

# --- used in another cell
import itertools
# %%
print(list(itertools.pairwise([1, 2, 3])))

# --- an underscore
def hidden(rnn, x):
    _, state = rnn(x)
    return state

# --- unpacked
def height_of(x):
    batch, channels, height, width = x.shape
    return height

# --- a context manager's name
def logged(path):
    with open(path) as file:
        return True

# --- a name the notebook shows
shape = torch.zeros(2, 3).shape
shape

# --- used by an inner function
def make(scale):
    factor = 2 * scale

    def apply(x):
        return factor * x

    return apply

# --- an import that may fail
try:
    import apex
except ImportError:
    print("without apex")

# --- a return in each branch
def sign(x):
    if x > 0:
        return 1
    return -1

# --- a stub
def todo(x):
    y = x * 2
    raise NotImplementedError

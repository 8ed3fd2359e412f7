# faulty

# --- bare
def load(path):
    try:
        return torch.load(path, weights_only=True)
    except:  # here
        return None

# --- Exception, and nothing
def save(model, path):
    try:
        torch.save(model.state_dict(), path)
    except Exception:  # here
        pass

# --- in a loop
losses = []
for x, y in loader:
    try:
        losses.append(F.cross_entropy(model(x), y).detach())
    except Exception:  # here
        continue

# --- bare, and a print
try:
    device = torch.device("cuda")
    x = torch.zeros(1, device=device)
except:  # here
    print("no GPU")

# --- with a name that is not read
def size_of(tensor):
    try:
        return tensor.numel()
    except BaseException:  # here
        ...

# --- bare pass in a method
class Cache:
    def __init__(self):
        self.values = {}

    def drop(self, key):
        try:
            del self.values[key]
        except:  # here
            pass

# clean

# --- a named exception
def load(path):
    try:
        return torch.load(path, weights_only=True)
    except FileNotFoundError:
        return None

# --- logged
def run(step, x):
    try:
        return step(x)
    except Exception as error:
        print(f"step failed: {error}")
        return None

# --- raised again
def checked(function, x):
    try:
        return function(x)
    except Exception as error:
        raise ValueError(f"{function} fails on {x.shape}") from error

# --- bare, cleaned up and raised again
def guarded(model, x):
    model.eval()
    try:
        return model(x)
    except:
        model.train()
        raise

# --- several names
def number(text):
    try:
        return float(text)
    except (ValueError, TypeError):
        return math.nan

# --- a named one that is passed over
def remove(values, key):
    try:
        del values[key]
    except KeyError:
        pass

# --- finally
def restored(model, x):
    was_training = model.training
    try:
        return model.eval()(x)
    finally:
        model.train(was_training)

# --- handled
def robust(steps):
    failed = 0
    for step in steps:
        try:
            step()
        except Exception:
            failed += 1
    return failed

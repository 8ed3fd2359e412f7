"""Snippets for `bare-except`, written apart from the rule."""

# faulty

# ---
def read_checkpoint(path):
    try:
        return torch.load(path, weights_only=True)
    except:  # here
        return None

# ---
def safe_step(opt):
    try:
        opt.step()
    except Exception:  # here
        pass

# ---
def lines_of(path):
    kept = []
    for line in path.read_text().splitlines():
        try:
            kept.append(float(line))
        except:  # here
            continue
    return kept

# clean

# ---
def read_or_none(path):
    try:
        return torch.load(path, weights_only=True)
    except FileNotFoundError:
        return None

# ---
def numbers_of(lines):
    kept, broken = [], 0
    for line in lines:
        try:
            kept.append(float(line))
        except ValueError:
            broken += 1
    return kept, broken

# ---
def guarded(work, report):
    try:
        return work()
    except Exception as problem:
        report(f"failed: {problem}")
        raise

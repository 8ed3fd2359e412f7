"""Snippets for `attached-losses`, written apart from the rule."""

# faulty

# ---
def one_epoch(net, batches, opt):
    net.train()
    total = 0
    for images, targets in batches:
        opt.zero_grad()
        objective = F.cross_entropy(net(images), targets)
        objective.backward()
        opt.step()
        total += objective  # here
    return total / len(batches)

# ---
curve = []
for features, goals in stream:
    solver.zero_grad()
    err = F.mse_loss(regressor(features), goals)
    err.backward()
    solver.step()
    curve.append(err)  # here
print(len(curve))

# ---
def tracked(net, batches, opt):
    record = {"loss": []}
    for images, targets in batches:
        opt.zero_grad()
        objective = F.cross_entropy(net(images), targets) + 0.01 * net.penalty()
        objective.backward()
        opt.step()
        record["loss"].append(objective)  # here
    return record

# clean

# ---
def several_heads(net, batches, opt):
    for images, all_targets in batches:
        opt.zero_grad()
        parts = []
        for head, targets in zip(net.heads, all_targets, strict=True):
            parts.append(F.cross_entropy(head(net.trunk(images)), targets))
        sum(parts).backward()
        opt.step()

# ---
@torch.no_grad()
def collected(net, batches):
    net.eval()
    losses = []
    for images, targets in batches:
        losses.append(F.cross_entropy(net(images), targets))
    return torch.stack(losses).mean()

# ---
def with_detach(net, batches, opt):
    net.train()
    history = []
    for images, targets in batches:
        opt.zero_grad()
        objective = F.cross_entropy(net(images), targets)
        objective.backward()
        opt.step()
        history.append(objective.detach())
    return torch.stack(history)

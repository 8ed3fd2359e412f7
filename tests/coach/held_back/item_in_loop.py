"""Snippets for `item-in-loop`, written apart from the rule."""

# faulty

# ---
def epoch_loss(net, batches, opt):
    net.train()
    history = []
    for images, targets in batches:
        opt.zero_grad()
        objective = F.cross_entropy(net(images), targets)
        objective.backward()
        opt.step()
        history.append(objective.item())  # here
    return history

# ---
running = 0.0
for features, goals in stream:
    solver.zero_grad(set_to_none=True)
    err = F.mse_loss(regressor(features), goals)
    err.backward()
    solver.step()
    running += float(err)  # here
print(running)

# ---
def fit_gan_critic(critic, optim_c, real_batches, fake_batches):
    scores = []
    for real, fake in zip(real_batches, fake_batches, strict=True):
        optim_c.zero_grad()
        gap = critic(fake).mean() - critic(real).mean()
        gap.backward()
        optim_c.step()
        scores.append(gap.detach().cpu().numpy())  # here
    return scores

# clean

# ---
def train_quietly(net, batches, opt):
    net.train()
    total = torch.zeros(())
    for images, targets in batches:
        opt.zero_grad()
        objective = F.cross_entropy(net(images), targets)
        objective.backward()
        opt.step()
        total += objective.detach()
    return total.item() / len(batches)

# ---
def train_with_log(net, batches, opt, writer):
    for step, (images, targets) in enumerate(batches):
        opt.zero_grad()
        objective = F.cross_entropy(net(images), targets)
        objective.backward()
        opt.step()
        if step % 50 == 0:
            writer.add_scalar("loss", objective.item(), step)

# ---
@torch.no_grad()
def error_rate(net, batches) -> float:
    net.eval()
    wrong, seen = 0, 0
    for images, targets in batches:
        wrong += (net(images).argmax(1) != targets).sum().item()
        seen += len(targets)
    return wrong / seen

"""Snippets for `no-eval`, written apart from the rule."""

# faulty

# ---
@torch.no_grad()
def validate(net, batches):
    hits, seen = 0, 0
    for images, targets in batches:
        hits += (net(images).argmax(dim=1) == targets).sum().item()
        seen += targets.numel()
    return hits / seen

# ---
def test_loss(net, holdout):
    losses = []
    with torch.inference_mode():
        for features, goals in holdout:
            losses.append(F.mse_loss(net(features), goals).item())
    return sum(losses) / len(losses)

# ---
def confusion(classifier, batches, n_classes):
    matrix = torch.zeros(n_classes, n_classes, dtype=torch.long)
    with torch.no_grad():
        for images, targets in batches:
            guesses = classifier(images).argmax(-1)
            matrix += torch.bincount(targets * n_classes + guesses, minlength=n_classes**2).view(n_classes, n_classes)
    return matrix

# clean

# ---
@torch.no_grad()
def score(net, batches):
    was_training = net.training
    net.eval()
    hits = sum((net(images).argmax(1) == targets).sum().item() for images, targets in batches)
    net.train(was_training)
    return hits

# ---
def mean_loss(net, holdout):
    net.train(False)
    with torch.inference_mode():
        values = [F.mse_loss(net(features), goals) for features, goals in holdout]
    return torch.stack(values).mean().item()

# ---
def embed(encoder: nn.Module, sentences: Tensor) -> Tensor:
    return F.normalize(encoder(sentences), dim=-1)

"""Snippets for `no-no-grad`, written apart from the rule."""

# faulty

# ---
def top1(net, batches):
    net.eval()
    hits, seen = 0, 0
    for images, targets in batches:
        hits += (net(images).argmax(1) == targets).sum().item()
        seen += len(targets)
    return hits / seen

# ---
def gradient_step(weights: Tensor, bias: Tensor, rate: float) -> None:
    weights -= rate * weights.grad  # here
    bias -= rate * bias.grad  # here

# ---
def validation_error(net, holdout):
    net.eval()
    with torch.no_grad:  # here
        return sum(F.mse_loss(net(features), goals).item() for features, goals in holdout)

# clean

# ---
def saliency(net, image, target):
    net.eval()
    image = image.clone().requires_grad_(True)
    net(image)[0, target].backward()
    return image.grad.abs()

# ---
@torch.inference_mode()
def predict_all(net, batches):
    net.eval()
    return torch.cat([net(images).argmax(1) for images, _ in batches])

# ---
def manual_step(parameters, rate):
    with torch.no_grad():
        for parameter in parameters:
            parameter -= rate * parameter.grad
            parameter.grad = None

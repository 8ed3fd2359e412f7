"""Snippets for `requires-grad-on-input`, written apart from the rule."""

# faulty

# ---
def teach(net, batches, opt):
    for images, targets in batches:
        images.requires_grad_(True)  # here
        opt.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        opt.step()

# ---
inputs = torch.tensor([[0.0, 1.0], [1.0, 1.0]], requires_grad=True)  # here
answers = torch.tensor([1.0, 0.0])
for _ in range(200):
    sgd.zero_grad()
    F.mse_loss(perceptron(inputs).squeeze(1), answers).backward()
    sgd.step()

# ---
def learn(net, features, goals, opt):
    features = torch.as_tensor(features, dtype=torch.float32)
    features.requires_grad = True  # here
    for _ in range(10):
        opt.zero_grad()
        F.mse_loss(net(features), goals).backward()
        opt.step()

# clean

# ---
def fgsm(net, images, targets, strength):
    images = images.clone().requires_grad_(True)
    F.cross_entropy(net(images), targets).backward()
    return (images + strength * images.grad.sign()).detach()

# ---
def penalty(critic, real, fake):
    mix = torch.lerp(real, fake, 0.5).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(mix).sum(), mix, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()

# ---
slope = torch.zeros(1, requires_grad=True)
offset = torch.zeros(1, requires_grad=True)
fitter = torch.optim.SGD([slope, offset], lr=0.1)
for _ in range(100):
    fitter.zero_grad()
    F.mse_loss(slope * hours + offset, marks).backward()
    fitter.step()

"""Snippets for `no-zero-grad`, written apart from the rule."""

# faulty

# ---
def descend(net, batches, opt):
    net.train()
    for images, targets in batches:
        objective = F.cross_entropy(net(images), targets)
        objective.backward()
        opt.step()

# ---
for epoch in range(5):
    for noisy, clean in pairs:
        denoiser_loss = F.l1_loss(denoiser(noisy), clean)
        denoiser_loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        adam.step()
    print("epoch", epoch)

# ---
class Coach:
    def __init__(self, net, opt):
        self.net, self.opt = net, opt

    def run(self, batches):
        for images, targets in batches:
            F.cross_entropy(self.net(images), targets).backward()
            self.opt.step()

# clean

# ---
def accumulate(net, batches, opt, every):
    net.train()
    opt.zero_grad()
    for step, (images, targets) in enumerate(batches, 1):
        (F.cross_entropy(net(images), targets) / every).backward()
        if step % every == 0:
            opt.step()
            opt.zero_grad()

# ---
def forget(parameters):
    for parameter in parameters:
        parameter.grad = None


def descend_carefully(net, batches, opt):
    for images, targets in batches:
        forget(net.parameters())
        F.cross_entropy(net(images), targets).backward()
        opt.step()

# ---
def adversarial_round(generator, critic, opt_g, opt_c, batches):
    for real, latent in batches:
        opt_c.zero_grad()
        (critic(generator(latent).detach()).mean() - critic(real).mean()).backward()
        opt_c.step()
        opt_g.zero_grad()
        (-critic(generator(latent)).mean()).backward()
        opt_g.step()

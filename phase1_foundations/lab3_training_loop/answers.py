"""Known answers to Lab 3: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · sgd ---------------------------------------------------------------------------------------------------------


class VelocityAveraged(Mistake):
    """You take a weighted mean, μv + (1 − μ)g. PyTorch's momentum adds the whole gradient: μv + g."""

    exercise = "sgd"

    class SGD(SGD):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    velocity = state.setdefault("velocity", p.grad.clone())
                    velocity.mul_(group["momentum"]).add_(p.grad, alpha=1 - group["momentum"])
                    p.sub_(group["lr"] * velocity)


class RateInVelocity(Mistake):
    """You multiply by the rate before it goes into the velocity. That is the same only while the rate stays the same;
    PyTorch multiplies the velocity when it is used."""

    exercise = "sgd"

    class SGD(SGD):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                    velocity.mul_(group["momentum"]).add_(p.grad, alpha=group["lr"])
                    p.sub_(velocity)


class VelocityIsTheGradient(Mistake):
    """Your velocity *is* the first gradient, the same memory. What you add to it is added to `.grad`, and clearing
    that clears the velocity. Clone it, or start with zeros."""

    exercise = "sgd"

    class SGD(SGD):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if "velocity" not in state:
                        state["velocity"] = p.grad
                    else:
                        state["velocity"].mul_(group["momentum"]).add_(p.grad)
                    p.sub_(group["lr"] * state["velocity"])


class SettingsFrozen(Mistake):
    """You keep the rate and momentum of the constructor. Read them from each parameter's group in every step, or no
    schedule and no group of its own can reach them."""

    exercise = "sgd"

    class SGD(torch.optim.Optimizer):
        def __init__(self, params, lr, momentum=0.0):
            super().__init__(params, {"lr": lr, "momentum": momentum})
            self.lr, self.momentum = lr, momentum

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                    velocity.mul_(self.momentum).add_(p.grad)
                    p.sub_(self.lr * velocity)


class VelocityNotSaved(Mistake):
    """You keep the velocities outside `self.state`, where `state_dict` does not find them: a resumed run starts
    without momentum."""

    exercise = "sgd"

    class SGD(torch.optim.Optimizer):
        def __init__(self, params, lr, momentum=0.0):
            super().__init__(params, {"lr": lr, "momentum": momentum})
            self.velocities = {}

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    velocity = self.velocities.setdefault(p, torch.zeros_like(p))
                    velocity.mul_(group["momentum"]).add_(p.grad)
                    p.sub_(group["lr"] * velocity)


class CoastsWithoutGradient(Mistake):
    """Without a gradient you let the velocity decay and the parameter coast along. A parameter whose `.grad` is None
    is skipped altogether."""

    exercise = "sgd"

    class SGD(SGD):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                    velocity.mul_(group["momentum"])
                    if p.grad is not None:
                        velocity.add_(p.grad)
                    p.sub_(group["lr"] * velocity)


class FirstGroupOnly(Mistake):
    """You use the settings of the first group for all. Each group has its own."""

    exercise = "sgd"

    class SGD(SGD):
        @torch.no_grad()
        def step(self):
            settings = self.param_groups[0]
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                    velocity.mul_(settings["momentum"]).add_(p.grad)
                    p.sub_(settings["lr"] * velocity)


class BuiltinSGD(Mistake):
    """You use PyTorch's own. Derive from `torch.optim.Optimizer`, and write the update."""

    exercise = "sgd"

    class SGD(torch.optim.SGD):
        def __init__(self, params, lr, momentum=0.0):
            super().__init__(params, lr=lr, momentum=momentum)


class VelocityCloned(Alternative):
    """The velocity begins as a copy of the gradient."""

    exercise = "sgd"

    class SGD(torch.optim.Optimizer):
        def __init__(self, params, lr, momentum=0.0):
            super().__init__(params, dict(lr=lr, momentum=momentum))

        def step(self):
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    state = self.state[p]
                    if "buffer" in state:
                        state["buffer"] = group["momentum"] * state["buffer"] + p.grad
                    else:
                        state["buffer"] = p.grad.detach().clone()
                    p.data.add_(state["buffer"], alpha=-group["lr"])


# --- 2 · adam_w ------------------------------------------------------------------------------------------------------


class EpsInsideTheRoot(Mistake):
    """You add ε under the root. It stands outside, where 10⁻⁸ is a floor of 10⁻⁸ and not of 10⁻⁴."""

    exercise = "adam_w"

    class AdamW(AdamW):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                lr, (beta1, beta2) = group["lr"], group["betas"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if not state:
                        state.update(t=0, m=torch.zeros_like(p), s=torch.zeros_like(p))
                    state["t"] += 1
                    state["m"].lerp_(p.grad, 1 - beta1)
                    state["s"].lerp_(p.grad.square(), 1 - beta2)
                    m_hat = state["m"] / (1 - beta1 ** state["t"])
                    s_hat = state["s"] / (1 - beta2 ** state["t"])
                    p.mul_(1 - lr * group["weight_decay"])
                    p.sub_(lr * m_hat / (s_hat + group["eps"]).sqrt())

    class Adam(AdamW):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, lr, betas, eps, weight_decay=0.0)


class NoBiasCorrection(Mistake):
    """You leave out the correction for the start. Both averages begin at zero: divide them by 1 − βᵗ."""

    exercise = "adam_w"

    class AdamW(AdamW):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                lr, (beta1, beta2) = group["lr"], group["betas"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if not state:
                        state.update(m=torch.zeros_like(p), s=torch.zeros_like(p))
                    state["m"].lerp_(p.grad, 1 - beta1)
                    state["s"].lerp_(p.grad.square(), 1 - beta2)
                    p.mul_(1 - lr * group["weight_decay"])
                    p.sub_(lr * state["m"] / (state["s"].sqrt() + group["eps"]))

    class Adam(AdamW):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, lr, betas, eps, weight_decay=0.0)


class DecayInTheGradient(Mistake):
    """You add λw to the gradient, so it passes through both averages and is scaled like a gradient: this is Adam with
    L2. AdamW shrinks the weight itself, and the averages never see it."""

    exercise = "adam_w"

    class AdamW(AdamW):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                lr, (beta1, beta2) = group["lr"], group["betas"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if not state:
                        state.update(t=0, m=torch.zeros_like(p), s=torch.zeros_like(p))
                    state["t"] += 1
                    grad = p.grad + group["weight_decay"] * p
                    state["m"].lerp_(grad, 1 - beta1)
                    state["s"].lerp_(grad.square(), 1 - beta2)
                    m_hat = state["m"] / (1 - beta1 ** state["t"])
                    s_hat = state["s"] / (1 - beta2 ** state["t"])
                    p.sub_(lr * m_hat / (s_hat.sqrt() + group["eps"]))

    class Adam(AdamW):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, lr, betas, eps, weight_decay=0.0)


class EpsBeforeTheCorrection(Mistake):
    """You add ε to the root of `s` and correct the bias afterwards, which enlarges ε in the first steps. Correct
    first, then add ε."""

    exercise = "adam_w"

    class AdamW(AdamW):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                lr, (beta1, beta2) = group["lr"], group["betas"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if not state:
                        state.update(t=0, m=torch.zeros_like(p), s=torch.zeros_like(p))
                    state["t"] += 1
                    state["m"].lerp_(p.grad, 1 - beta1)
                    state["s"].lerp_(p.grad.square(), 1 - beta2)
                    rate = lr * math.sqrt(1 - beta2 ** state["t"]) / (1 - beta1 ** state["t"])
                    p.mul_(1 - lr * group["weight_decay"])
                    p.sub_(rate * state["m"] / (state["s"].sqrt() + group["eps"]))

    class Adam(AdamW):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, lr, betas, eps, weight_decay=0.0)


class DecayWithoutRate(Mistake):
    """You multiply the weight by 1 − λ. The decay is scaled by the rate, and follows the schedule: 1 − lr · λ."""

    exercise = "adam_w"

    class AdamW(AdamW):
        @torch.no_grad()
        def step(self):
            decays = [group["weight_decay"] for group in self.param_groups]
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.mul_(1 - group["weight_decay"])
                group["weight_decay"] = 0.0
            super().step()
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay


class DecaysWithoutGradient(Mistake):
    """You let weights decay that have no gradient. A parameter whose `.grad` is None is skipped, decay and all."""

    exercise = "adam_w"

    class AdamW(AdamW):
        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        p.mul_(1 - group["lr"] * group["weight_decay"])
            super().step()


class OneCountForAll(Mistake):
    """You count steps once for the whole optimizer. A parameter that gets its first gradient later is then corrected
    too little, and a count outside `self.state` is not saved: keep `t` in `self.state[p]`."""

    exercise = "adam_w"

    class AdamW(AdamW):
        @torch.no_grad()
        def step(self):
            self.t = getattr(self, "t", 0) + 1
            for group in self.param_groups:
                lr, (beta1, beta2) = group["lr"], group["betas"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if not state:
                        state.update(m=torch.zeros_like(p), s=torch.zeros_like(p))
                    state["m"].lerp_(p.grad, 1 - beta1)
                    state["s"].lerp_(p.grad.square(), 1 - beta2)
                    m_hat = state["m"] / (1 - beta1**self.t)
                    s_hat = state["s"] / (1 - beta2**self.t)
                    p.mul_(1 - lr * group["weight_decay"])
                    p.sub_(lr * m_hat / (s_hat.sqrt() + group["eps"]))

    class Adam(AdamW):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, lr, betas, eps, weight_decay=0.0)


class AdamDecays(Mistake):
    """Your `Adam` inherits AdamW's decay of 0.01. Hand on `weight_decay=0.0`."""

    exercise = "adam_w"

    class Adam(AdamW):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, lr, betas, eps)


class BuiltinAdamW(Mistake):
    """You use PyTorch's own. Derive from `torch.optim.Optimizer`, and write the update."""

    exercise = "adam_w"

    class AdamW(torch.optim.AdamW):
        pass


class AsInTorch(Alternative):
    """The update as PyTorch arranges it: the corrections in the step size and the root."""

    exercise = "adam_w"

    class AdamW(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
            super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                beta1, beta2 = group["betas"]
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    if p not in self.state:
                        self.state[p] = {
                            "step": torch.tensor(0.0),
                            "exp_avg": torch.zeros_like(p),
                            "exp_avg_sq": torch.zeros_like(p),
                        }
                    state = self.state[p]
                    state["step"] += 1
                    t = state["step"].item()
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    state["exp_avg"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
                    state["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                    denominator = (state["exp_avg_sq"].sqrt() / (1 - beta2**t) ** 0.5).add_(group["eps"])
                    p.addcdiv_(state["exp_avg"], denominator, value=-group["lr"] / (1 - beta1**t))

    class Adam(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=0.0))

        step = AdamW.step


class DecayLast(Alternative):
    """One new tensor for each weight, of both parts, and averages that are replaced."""

    exercise = "adam_w"

    class AdamW(AdamW):
        def step(self):
            with torch.no_grad():
                for group in self.param_groups:
                    (b1, b2), lr = group["betas"], group["lr"]
                    for p in group["params"]:
                        if p.grad is None:
                            continue
                        t, m, s = self.state[p].get("all", (0, 0.0, 0.0))
                        t, m, s = t + 1, b1 * m + (1 - b1) * p.grad, b2 * s + (1 - b2) * p.grad**2
                        self.state[p]["all"] = (t, m, s)
                        update = m / (1 - b1**t) / ((s / (1 - b2**t)) ** 0.5 + group["eps"])
                        p.copy_(p * (1 - lr * group["weight_decay"]) - lr * update)

    class Adam(AdamW):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, lr, betas, eps, weight_decay=0.0)


# --- 3 · warmup_cosine -----------------------------------------------------------------------------------------------


class FirstRateZero(Mistake):
    """Your first update has a rate of 0. Here it already moves: `lr * (step + 1) / warmup`."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, total, warmup, lr, floor=0.0):
        if step < warmup:
            return lr * step / warmup
        progress = min((step - warmup) / (total - warmup), 1.0)
        return floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2


class CosineOfTheWholeRun(Mistake):
    """Your cosine began at step 0, so after the warm-up the rate jumps. It begins where the warm-up ends: progress is
    (t − W) / (T − W)."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, total, warmup, lr, floor=0.0):
        if step < warmup:
            return lr * (step + 1) / warmup
        progress = min(step / total, 1.0)
        return floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2


class OneStepAhead(Mistake):
    """Your cosine is one step ahead: at t = W its progress is 0, and the rate still full."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, total, warmup, lr, floor=0.0):
        if step < warmup:
            return lr * (step + 1) / warmup
        progress = min((step + 1 - warmup) / (total - warmup), 1.0)
        return floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2


class ReachesTheFloorTooSoon(Mistake):
    """You divide by T − W − 1, so the last update gets the floor. Here it is reached at T, after the last update."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, total, warmup, lr, floor=0.0):
        if step < warmup:
            return lr * (step + 1) / warmup
        progress = min((step - warmup) / max(total - warmup - 1, 1), 1.0)
        return floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2


class RisesAgain(Mistake):
    """After the end your cosine comes up again. Hold the progress at 1 from step T on."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, total, warmup, lr, floor=0.0):
        if step < warmup:
            return lr * (step + 1) / warmup
        progress = (step - warmup) / (total - warmup)
        return floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2


class FloorOnTop(Mistake):
    """You add the floor to the whole cosine, so the rate begins at lr + floor. The cosine spans from lr to the floor:
    multiply by lr − floor."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, total, warmup, lr, floor=0.0):
        if step < warmup:
            return lr * (step + 1) / warmup
        progress = min((step - warmup) / (total - warmup), 1.0)
        return floor + lr * (1 + math.cos(math.pi * progress)) / 2


class BySquaredCosine(Alternative):
    """Half of one plus a cosine is the square of the cosine of the half."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, total, warmup, lr, floor=0.0):
        if step >= total:
            return float(floor)
        if step < warmup:
            return (step + 1) / warmup * lr
        angle = math.pi / 2 * (step - warmup) / (total - warmup)
        share = math.cos(angle) ** 2
        return share * lr + (1 - share) * floor


# --- 4 · clip_gradients ----------------------------------------------------------------------------------------------


class EachTensorAlone(Mistake):
    """You clip each tensor by its own norm, which bends the direction. There is one norm, of all gradients together,
    and one factor."""

    exercise = "clip_gradients"

    @torch.no_grad()
    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        for g in gradients:
            g.mul_((max_norm / (g.norm() + 1e-6)).clamp(max=1.0))
        return torch.stack([g.norm() for g in gradients]).norm() if gradients else torch.tensor(0.0)


class AlwaysScales(Mistake):
    """You scale in any case, so a short gradient is lengthened to `max_norm`. The factor is never more than 1."""

    exercise = "clip_gradients"

    @torch.no_grad()
    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients]).norm() if gradients else torch.tensor(0.0)
        for g in gradients:
            g.mul_(max_norm / (norm + 1e-6))
        return norm


class GeneratorUsedUp(Mistake):
    """You go through `parameters` twice. A generator is empty the second time, and nothing is clipped: make a list
    first."""

    exercise = "clip_gradients"

    @torch.no_grad()
    def clip_gradients(parameters, max_norm):
        squares = [p.grad.square().sum() for p in parameters if p.grad is not None]
        norm = torch.stack(squares).sum().sqrt() if squares else torch.tensor(0.0)
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for p in parameters:
            if p.grad is not None:
                p.grad.mul_(scale)
        return norm


class SumOfNorms(Mistake):
    """You add up the norms of the tensors. Squares add up: it is the root of the sum of the squared norms."""

    exercise = "clip_gradients"

    @torch.no_grad()
    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients]).sum() if gradients else torch.tensor(0.0)
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(scale)
        return norm


class NormAfterClipping(Mistake):
    """You return the norm after clipping, which says next to nothing. Return the one before."""

    exercise = "clip_gradients"

    @torch.no_grad()
    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients]).norm() if gradients else torch.tensor(0.0)
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(scale)
        return norm * scale


class ClipsEachNumber(Mistake):
    """You limit each number by itself. That bends the direction; scale all of them by one factor."""

    exercise = "clip_gradients"

    @torch.no_grad()
    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients]).norm() if gradients else torch.tensor(0.0)
        for g in gradients:
            g.clamp_(-max_norm, max_norm)
        return norm


class NewGradients(Mistake):
    """You put new tensors into `.grad`. Change the gradients in place: other code may hold them."""

    exercise = "clip_gradients"

    @torch.no_grad()
    def clip_gradients(parameters, max_norm):
        parameters = [p for p in parameters if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm() if parameters else torch.tensor(0.0)
        for p in parameters:
            p.grad = p.grad * (max_norm / (norm + 1e-6)).clamp(max=1.0)
        return norm


class NoMargin(Mistake):
    """You divide by the norm alone, which is 0 / 0 for gradients of zero. Add 10⁻⁶ to it, as PyTorch does."""

    exercise = "clip_gradients"

    @torch.no_grad()
    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients]).norm() if gradients else torch.tensor(0.0)
        scale = (max_norm / norm).clamp(max=1.0)
        for g in gradients:
            g.mul_(scale)
        return norm


class BuiltinClipping(Mistake):
    """You call PyTorch's own. One norm, one factor, one loop."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        return nn.utils.clip_grad_norm_(parameters, max_norm)


class OneVector(Alternative):
    """All gradients as one vector, and an `if`."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        gradients = [p.grad.detach() for p in parameters if p.grad is not None]
        if not gradients:
            return torch.zeros(())
        norm = torch.cat([g.reshape(-1) for g in gradients]).pow(2).sum().sqrt()
        if norm + 1e-6 > max_norm:
            for g in gradients:
                g *= max_norm / (norm + 1e-6)
        return norm


# --- 5 · train_step --------------------------------------------------------------------------------------------------


class StaysInEvaluation(Mistake):
    """Your `evaluate` leaves the model in evaluation mode. From the first validation on, dropout and batch norm are
    off in training: put each submodule's mode back."""

    exercise = "train_step"

    def evaluate(model, measure, batches):
        model.eval()
        total, rows = 0.0, 0
        with torch.no_grad():
            for x, y in batches:
                total += measure(model(x), y).item() * len(x)
                rows += len(x)
        return total / rows


class MeanOfMeans(Mistake):
    """You average the batches' means. The rows of a small last batch then count for more: multiply each mean by its
    rows, and divide by all of them."""

    exercise = "train_step"

    def evaluate(model, measure, batches):
        modes = {module: module.training for module in model.modules()}
        means = []
        try:
            model.eval()
            with torch.no_grad():
                for x, y in batches:
                    means.append(measure(model(x), y).item())
        finally:
            for module, mode in modes.items():
                module.training = mode
        return sum(means) / len(means)


class OldGradientsKept(Mistake):
    """You do not clear the gradients first, so `backward` adds to what was there."""

    exercise = "train_step"

    def train_step(model, loss_fn, optimizer, x, y, max_norm=None):
        model.train()
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            clip_gradients(model.parameters(), max_norm)
        optimizer.step()
        return loss.detach()


class WakesFrozenLayers(Mistake):
    """You call `model.train()` after evaluating, which also wakes the submodules that were in evaluation mode on
    purpose. Remember the mode of each submodule."""

    exercise = "train_step"

    def evaluate(model, measure, batches):
        training = model.training
        total, rows = 0.0, 0
        try:
            model.eval()
            with torch.no_grad():
                for x, y in batches:
                    total += measure(model(x), y).item() * len(x)
                    rows += len(x)
        finally:
            model.train(training)
        return total / rows


class LossOnTheTape(Mistake):
    """Your loss still hangs on to its graph. Whoever keeps it keeps all activations alive: return `loss.detach()`."""

    exercise = "train_step"

    def train_step(model, loss_fn, optimizer, x, y, max_norm=None):
        model.train()
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            clip_gradients(model.parameters(), max_norm)
        optimizer.step()
        return loss


class ModeNotSet(Mistake):
    """Your `train_step` trusts that the model is in training mode. Say `model.train()`."""

    exercise = "train_step"

    def train_step(model, loss_fn, optimizer, x, y, max_norm=None):
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            clip_gradients(model.parameters(), max_norm)
        optimizer.step()
        return loss.detach()


class ClipsAfterTheStep(Mistake):
    """You clip after the step, when it is too late. Clip between `backward` and `step`."""

    exercise = "train_step"

    def train_step(model, loss_fn, optimizer, x, y, max_norm=None):
        model.train()
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        if max_norm is not None:
            clip_gradients(model.parameters(), max_norm)
        return loss.detach()


class GraphInEvaluation(Mistake):
    """Your `evaluate` records a graph. Evaluation mode does not switch that off: use `torch.no_grad()` as well."""

    exercise = "train_step"

    def evaluate(model, measure, batches):
        modes = {module: module.training for module in model.modules()}
        total, rows = 0.0, 0
        try:
            model.eval()
            for x, y in batches:
                total += measure(model(x), y).item() * len(x)
                rows += len(x)
        finally:
            for module, mode in modes.items():
                module.training = mode
        return total / rows


class EvaluatedInTraining(Mistake):
    """You evaluate in training mode: dropout is on, and batch norm learns from the validation data. Call
    `model.eval()`."""

    exercise = "train_step"

    @torch.no_grad()
    def evaluate(model, measure, batches):
        total, rows = 0.0, 0
        for x, y in batches:
            total += measure(model(x), y).item() * len(x)
            rows += len(x)
        return total / rows


class ErrorForgotten(Mistake):
    """If the model raises, your `evaluate` leaves it in evaluation mode. Put the modes back in `finally`."""

    exercise = "train_step"

    def evaluate(model, measure, batches):
        modes = {module: module.training for module in model.modules()}
        total, rows = 0.0, 0
        model.eval()
        with torch.no_grad():
            for x, y in batches:
                total += measure(model(x), y).item() * len(x)
                rows += len(x)
        for module, mode in modes.items():
            module.training = mode
        return total / rows


class ByListsOfModules(Alternative):
    """The training submodules in a list, and inference mode."""

    exercise = "train_step"

    def train_step(model, loss_fn, optimizer, x, y, max_norm=None):
        model.train(True)
        model.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            clip_gradients(list(model.parameters()), max_norm)
        optimizer.step()
        return loss.detach().clone()

    def evaluate(model, measure, batches):
        awake = [m for m in model.modules() if m.training]
        model.eval()
        sums, counts = [], []
        try:
            with torch.inference_mode():
                for x, y in batches:
                    counts.append(len(y))
                    sums.append(measure(model(x), y).double() * len(y))
        finally:
            for m in awake:
                m.training = True
        return float(sum(sums)) / sum(counts)


# --- 6 · overfits ----------------------------------------------------------------------------------------------------


class TrainsTheModelItself(Mistake):
    """You train the model that you were given. A test must leave no traces: train `copy.deepcopy(model)`."""

    exercise = "overfits"

    def overfits(model, loss_fn, x, y, steps=200, lr=0.01, threshold=0.05):
        model.train()
        optimizer = Adam(model.parameters(), lr)
        for _ in range(steps + 1):
            loss = loss_fn(model(x), y)
            if loss < threshold:
                return True
            if not loss.requires_grad:
                return False
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return False


class LastLookMissing(Mistake):
    """You do not look at the loss after the last update. There is one look more than there are updates."""

    exercise = "overfits"

    def overfits(model, loss_fn, x, y, steps=200, lr=0.01, threshold=0.05):
        model = copy.deepcopy(model).train()
        optimizer = Adam(model.parameters(), lr)
        for _ in range(steps):
            loss = loss_fn(model(x), y)
            if loss < threshold:
                return True
            if not loss.requires_grad:
                return False
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return False


class GradientsPileUp(Mistake):
    """You do not clear the gradients between the updates."""

    exercise = "overfits"

    def overfits(model, loss_fn, x, y, steps=200, lr=0.01, threshold=0.05):
        model = copy.deepcopy(model).train()
        optimizer = Adam(model.parameters(), lr)
        for _ in range(steps + 1):
            loss = loss_fn(model(x), y)
            if loss < threshold:
                return True
            if not loss.requires_grad:
                return False
            loss.backward()
            optimizer.step()
        return False


class CutGraphRaises(Mistake):
    """Where the loss reaches no parameter, your `backward` raises. Ask `loss.requires_grad` first, and answer False."""

    exercise = "overfits"

    def overfits(model, loss_fn, x, y, steps=200, lr=0.01, threshold=0.05):
        model = copy.deepcopy(model).train()
        optimizer = Adam(model.parameters(), lr)
        for _ in range(steps + 1):
            loss = loss_fn(model(x), y)
            if loss < threshold:
                return True
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return False


class ModeAsFound(Mistake):
    """You train in the mode in which you found the model. The copy is trained in training mode."""

    exercise = "overfits"

    def overfits(model, loss_fn, x, y, steps=200, lr=0.01, threshold=0.05):
        model = copy.deepcopy(model)
        optimizer = Adam(model.parameters(), lr)
        for _ in range(steps + 1):
            loss = loss_fn(model(x), y)
            if loss < threshold:
                return True
            if not loss.requires_grad:
                return False
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return False


class ByTorchAdam(Alternative):
    """PyTorch's Adam, every loss looked at, the verdict at the end."""

    exercise = "overfits"

    def overfits(model, loss_fn, x, y, steps=200, lr=0.01, threshold=0.05):
        student = copy.deepcopy(model)
        student.train()
        optimizer = torch.optim.Adam(student.parameters(), lr=lr)
        losses = []
        for _ in range(steps):
            loss = loss_fn(student(x), y)
            losses.append(loss.item())
            if not loss.requires_grad:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(loss_fn(student(x), y).item())
        return any(loss < threshold for loss in losses)


# --- 7 · rows_of_step ------------------------------------------------------------------------------------------------


class OptimizerForgotten(Mistake):
    """Your checkpoint forgets the optimizer. After a resume it has no momentum and no averages, and its next steps are
    as rash as its first."""

    exercise = "rows_of_step"

    def load_checkpoint(path, model, optimizer):
        checkpoint = torch.load(path, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        torch.set_rng_state(checkpoint["torch_rng"])
        random.setstate(checkpoint["python_rng"])
        return checkpoint["step"]


class RandomStateForgotten(Mistake):
    """Your checkpoint forgets torch's random state: dropout draws other numbers after a resume."""

    exercise = "rows_of_step"

    def load_checkpoint(path, model, optimizer):
        checkpoint = torch.load(path, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        random.setstate(checkpoint["python_rng"])
        return checkpoint["step"]


class EpochBegunAgain(Mistake):
    """After a resume you begin the epoch again: some rows are seen twice, others not at all. Go on with the very batch
    that comes next, `rows_of_step(start, …)`."""

    exercise = "rows_of_step"

    def train_until(stop, path, model, optimizer, schedule, dataset, batch_size, seed, workers=0):
        start = load_checkpoint(path, model, optimizer) if path.exists() else 0
        first = start - start % math.ceil(len(dataset) / batch_size)
        batches = [rows_of_step(first + i, len(dataset), batch_size, seed) for i in range(stop - start)]
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
        losses = []
        for step, (x, y) in enumerate(loader, start):
            set_rate(optimizer, schedule(step))
            losses.append(train_step(model, F.cross_entropy, optimizer, x, y).item())
        save_checkpoint(path, start + len(losses), model, optimizer)
        return losses


class LoaderDrawsToo(Mistake):
    """Each new iterator of your loader draws a number from torch's global generator, so a resumed run is one draw
    ahead of the other. Give the loader a generator of its own."""

    exercise = "rows_of_step"

    def train_until(stop, path, model, optimizer, schedule, dataset, batch_size, seed, workers=0):
        start = load_checkpoint(path, model, optimizer) if path.exists() else 0
        batches = [rows_of_step(step, len(dataset), batch_size, seed) for step in range(start, stop)]
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers)
        losses = []
        for step, (x, y) in enumerate(loader, start):
            set_rate(optimizer, schedule(step))
            losses.append(train_step(model, F.cross_entropy, optimizer, x, y).item())
        save_checkpoint(path, start + len(losses), model, optimizer)
        return losses


class PythonStateForgotten(Mistake):
    """Your checkpoint forgets the state of Python's `random`. Save both generators, and put both back."""

    exercise = "rows_of_step"

    def load_checkpoint(path, model, optimizer):
        checkpoint = torch.load(path, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["torch_rng"])
        return checkpoint["step"]


class ScheduleBegunAgain(Mistake):
    """After a resume your schedule begins again at 0. It wants the number of the update in the whole run."""

    exercise = "rows_of_step"

    def train_until(stop, path, model, optimizer, schedule, dataset, batch_size, seed, workers=0):
        start = load_checkpoint(path, model, optimizer) if path.exists() else 0
        batches = [rows_of_step(step, len(dataset), batch_size, seed) for step in range(start, stop)]
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
        losses = []
        for step, (x, y) in enumerate(loader):
            set_rate(optimizer, schedule(step))
            losses.append(train_step(model, F.cross_entropy, optimizer, x, y).item())
        save_checkpoint(path, start + len(losses), model, optimizer)
        return losses


class RateAfterTheStep(Mistake):
    """You set the rate after the step, so every update uses the rate of the one before. Update `step` uses
    `schedule(step)`: set it first."""

    exercise = "rows_of_step"

    def train_until(stop, path, model, optimizer, schedule, dataset, batch_size, seed, workers=0):
        start = load_checkpoint(path, model, optimizer) if path.exists() else 0
        batches = [rows_of_step(step, len(dataset), batch_size, seed) for step in range(start, stop)]
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
        losses = []
        for step, (x, y) in enumerate(loader, start):
            losses.append(train_step(model, F.cross_entropy, optimizer, x, y).item())
            set_rate(optimizer, schedule(step))
        save_checkpoint(path, start + len(losses), model, optimizer)
        return losses


class SameOrderEachEpoch(Mistake):
    """Your order is the same in every epoch. Its seed is `seed + epoch`."""

    exercise = "rows_of_step"

    def rows_of_step(step, n, batch_size, seed):
        position = step % math.ceil(n / batch_size)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        return order[position * batch_size : (position + 1) * batch_size].tolist()


class LastBatchDropped(Mistake):
    """You count only full batches, so the last rows of an epoch are never seen. There are ⌈n / batch_size⌉ batches."""

    exercise = "rows_of_step"

    def rows_of_step(step, n, batch_size, seed):
        epoch, position = divmod(step, max(n // batch_size, 1))
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + epoch))
        return order[position * batch_size : (position + 1) * batch_size].tolist()


class SeedsGlobally(Mistake):
    """You seed torch's global generator to shuffle, and dropout draws the same numbers again in every step. Make a
    `torch.Generator` of your own."""

    exercise = "rows_of_step"

    def rows_of_step(step, n, batch_size, seed):
        epoch, position = divmod(step, math.ceil(n / batch_size))
        torch.manual_seed(seed + epoch)
        return torch.randperm(n)[position * batch_size : (position + 1) * batch_size].tolist()


class WrittenInPlace(Mistake):
    """You write into the checkpoint itself. If that is interrupted, the old one is lost and the new one is half: write
    another file, then `os.replace`."""

    exercise = "rows_of_step"

    def save_checkpoint(path, step, model, optimizer):
        checkpoint = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**checkpoint, "torch_rng": torch.get_rng_state(), "python_rng": random.getstate()}, path)


class DeletedFirst(Mistake):
    """You delete the old checkpoint before the new one is written. If saving fails, there is none. `os.replace` does
    both in one move, when the new one is whole."""

    exercise = "rows_of_step"

    def save_checkpoint(path, step, model, optimizer):
        path.unlink(missing_ok=True)
        checkpoint = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**checkpoint, "torch_rng": torch.get_rng_state(), "python_rng": random.getstate()}, path)


class RunsCode(Mistake):
    """You load with `weights_only=False`: a checkpoint from somebody else may then run any code. Tensors, numbers,
    tuples and dicts load without it."""

    exercise = "rows_of_step"

    def load_checkpoint(path, model, optimizer):
        checkpoint = torch.load(path, weights_only=False)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["torch_rng"])
        random.setstate(checkpoint["python_rng"])
        return checkpoint["step"]


class StepIsStop(Mistake):
    """You save `stop` as the step even if the checkpoint was already past it. Save the number of the next update."""

    exercise = "rows_of_step"

    def train_until(stop, path, model, optimizer, schedule, dataset, batch_size, seed, workers=0):
        start = load_checkpoint(path, model, optimizer) if path.exists() else 0
        batches = [rows_of_step(step, len(dataset), batch_size, seed) for step in range(start, stop)]
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
        losses = []
        for step, (x, y) in enumerate(loader, start):
            set_rate(optimizer, schedule(step))
            losses.append(train_step(model, F.cross_entropy, optimizer, x, y).item())
        save_checkpoint(path, stop, model, optimizer)
        return losses


class BySampler(Alternative):
    """A batch sampler that yields as it is asked, a loop that counts for itself, and the state put back after the
    loader's iterator was made."""

    exercise = "rows_of_step"

    def rows_of_step(step, n, batch_size, seed):
        batches = -(-n // batch_size)
        g = torch.Generator()
        g.manual_seed(seed + step // batches)
        return [int(i) for i in torch.randperm(n, generator=g).split(batch_size)[step % batches]]

    def save_checkpoint(path, step, model, optimizer):
        from tempfile import mkstemp

        handle, name = mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                everything = (model.state_dict(), optimizer.state_dict(), torch.get_rng_state(), random.getstate())
                torch.save({"everything": everything, "step": torch.tensor(step)}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise

    def load_checkpoint(path, model, optimizer):
        found = torch.load(path)
        weights, memory, torch_state, python_state = found["everything"]
        model.load_state_dict(weights)
        optimizer.load_state_dict(memory)
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        return found["step"].item()

    def train_until(stop, path, model, optimizer, schedule, dataset, batch_size, seed, workers=0):
        step = load_checkpoint(path, model, optimizer) if path.exists() else 0
        state = torch.get_rng_state()
        order = (rows_of_step(s, len(dataset), batch_size, seed) for s in range(step, stop))
        batches = iter(DataLoader(dataset, batch_sampler=order, num_workers=workers))
        torch.set_rng_state(state)
        losses = []
        while step < stop:
            x, y = next(batches)
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
            model.train()
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
            step += 1
        save_checkpoint(path, step, model, optimizer)
        return losses


# --- 8 · fit ---------------------------------------------------------------------------------------------------------


class StepOfTheEpoch(Mistake):
    """You count the steps from 0 in every epoch, so each epoch warms up anew and sees the first one's order. Count
    through."""

    exercise = "fit"

    def fit(model, train, valid, epochs, batch_size, lr, warmup, max_norm, seed):
        x, y = train
        per_epoch = math.ceil(len(x) / batch_size)
        optimizer = AdamW(model.parameters())
        history = {"loss": [], "valid_loss": [], "accuracy": []}
        for _ in range(epochs):
            total = 0.0
            for step in range(per_epoch):
                rows = rows_of_step(step, len(x), batch_size, seed)
                set_rate(optimizer, warmup_cosine(step, epochs * per_epoch, warmup, lr))
                total += train_step(model, F.cross_entropy, optimizer, x[rows], y[rows], max_norm).item() * len(rows)
            history["loss"].append(total / len(x))
            history["valid_loss"].append(evaluate(model, F.cross_entropy, [valid]))
            history["accuracy"].append(evaluate(model, accuracy, [valid]))
        return history


class UnweightedEpochLoss(Mistake):
    """Your epoch's loss is the mean of the batches' losses. The last batch is smaller: weight each by its rows."""

    exercise = "fit"

    def fit(model, train, valid, epochs, batch_size, lr, warmup, max_norm, seed):
        x, y = train
        per_epoch = math.ceil(len(x) / batch_size)
        optimizer = AdamW(model.parameters())
        history = {"loss": [], "valid_loss": [], "accuracy": []}
        for epoch in range(epochs):
            losses = []
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                rows = rows_of_step(step, len(x), batch_size, seed)
                set_rate(optimizer, warmup_cosine(step, epochs * per_epoch, warmup, lr))
                losses.append(train_step(model, F.cross_entropy, optimizer, x[rows], y[rows], max_norm).item())
            history["loss"].append(sum(losses) / len(losses))
            history["valid_loss"].append(evaluate(model, F.cross_entropy, [valid]))
            history["accuracy"].append(evaluate(model, accuracy, [valid]))
        return history


class NeverClipped(Mistake):
    """You do not hand `max_norm` on to `train_step`, so nothing is clipped."""

    exercise = "fit"

    def fit(model, train, valid, epochs, batch_size, lr, warmup, max_norm, seed):
        x, y = train
        per_epoch = math.ceil(len(x) / batch_size)
        optimizer = AdamW(model.parameters())
        history = {"loss": [], "valid_loss": [], "accuracy": []}
        for epoch in range(epochs):
            total = 0.0
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                rows = rows_of_step(step, len(x), batch_size, seed)
                set_rate(optimizer, warmup_cosine(step, epochs * per_epoch, warmup, lr))
                total += train_step(model, F.cross_entropy, optimizer, x[rows], y[rows]).item() * len(rows)
            history["loss"].append(total / len(x))
            history["valid_loss"].append(evaluate(model, F.cross_entropy, [valid]))
            history["accuracy"].append(evaluate(model, accuracy, [valid]))
        return history


class NoSchedule(Mistake):
    """Your rate never changes. Set it before each step, by `warmup_cosine` of the step."""

    exercise = "fit"

    def fit(model, train, valid, epochs, batch_size, lr, warmup, max_norm, seed):
        x, y = train
        per_epoch = math.ceil(len(x) / batch_size)
        optimizer = AdamW(model.parameters(), lr)
        history = {"loss": [], "valid_loss": [], "accuracy": []}
        for epoch in range(epochs):
            total = 0.0
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                rows = rows_of_step(step, len(x), batch_size, seed)
                total += train_step(model, F.cross_entropy, optimizer, x[rows], y[rows], max_norm).item() * len(rows)
            history["loss"].append(total / len(x))
            history["valid_loss"].append(evaluate(model, F.cross_entropy, [valid]))
            history["accuracy"].append(evaluate(model, accuracy, [valid]))
        return history


class ScheduleInEpochs(Mistake):
    """You set the rate once per epoch. Schedule and warm-up count updates: set it before every step."""

    exercise = "fit"

    def fit(model, train, valid, epochs, batch_size, lr, warmup, max_norm, seed):
        x, y = train
        per_epoch = math.ceil(len(x) / batch_size)
        optimizer = AdamW(model.parameters())
        history = {"loss": [], "valid_loss": [], "accuracy": []}
        for epoch in range(epochs):
            total = 0.0
            set_rate(optimizer, warmup_cosine(epoch * per_epoch, epochs * per_epoch, warmup, lr))
            for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
                rows = rows_of_step(step, len(x), batch_size, seed)
                total += train_step(model, F.cross_entropy, optimizer, x[rows], y[rows], max_norm).item() * len(rows)
            history["loss"].append(total / len(x))
            history["valid_loss"].append(evaluate(model, F.cross_entropy, [valid]))
            history["accuracy"].append(evaluate(model, accuracy, [valid]))
        return history


class ByOneLoop(Alternative):
    """One loop over all steps; an epoch ends where the next step would begin another."""

    exercise = "fit"

    def fit(model, train, valid, epochs, batch_size, lr, warmup, max_norm, seed):
        optimizer = AdamW(model.parameters(), weight_decay=0.01)
        per_epoch = -(-len(train[0]) // batch_size)
        history = dict(loss=[], valid_loss=[], accuracy=[])
        seen = []
        for step in range(epochs * per_epoch):
            x, y = (part[rows_of_step(step, len(train[0]), batch_size, seed)] for part in train)
            optimizer.param_groups[0]["lr"] = warmup_cosine(step, epochs * per_epoch, warmup, lr, floor=0.0)
            seen += [train_step(model, nn.CrossEntropyLoss(), optimizer, x, y, max_norm).item()] * len(x)
            if (step + 1) % per_epoch == 0:
                history["loss"].append(float(np.mean(seen)))
                for key, measure in (("valid_loss", F.cross_entropy), ("accuracy", accuracy)):
                    history[key].append(evaluate(model, measure, zip(*(part.split(3) for part in valid), strict=True)))
                seen = []
        return history


# --- side quests -----------------------------------------------------------------------------------------------------


class NotDivided(Mistake):
    """You add up the pieces' gradients and forget to divide: the sum of k means is k times too long."""

    exercise = "accumulated_step"

    def accumulated_step(model, loss_fn, optimizer, pieces):
        model.train()
        optimizer.zero_grad()
        rows, total = sum(len(x) for x, _ in pieces), torch.zeros(())
        for x, y in pieces:
            loss = loss_fn(model(x), y)
            loss.backward()
            total = total + loss.detach() * len(x) / rows
        optimizer.step()
        return total


class DividedByPieces(Mistake):
    """You divide by the number of pieces, which is right only if all have as many rows. Weight each by its share of
    the rows."""

    exercise = "accumulated_step"

    def accumulated_step(model, loss_fn, optimizer, pieces):
        model.train()
        optimizer.zero_grad()
        total = torch.zeros(())
        for x, y in pieces:
            loss = loss_fn(model(x), y) / len(pieces)
            loss.backward()
            total = total + loss.detach()
        optimizer.step()
        return total


class StepForEachPiece(Mistake):
    """You make an update for each piece. Accumulate all gradients, then step once."""

    exercise = "accumulated_step"

    def accumulated_step(model, loss_fn, optimizer, pieces):
        rows = sum(len(x) for x, _ in pieces)
        return sum(train_step(model, loss_fn, optimizer, x, y) * len(x) / rows for x, y in pieces)


class AllGraphsAtOnce(Mistake):
    """You add up the losses and call `backward` once, so the graphs of all pieces are alive together and no memory is
    saved. Call it for each piece."""

    exercise = "accumulated_step"

    def accumulated_step(model, loss_fn, optimizer, pieces):
        model.train()
        optimizer.zero_grad()
        rows = sum(len(x) for x, _ in pieces)
        loss = sum(loss_fn(model(x), y) * len(x) / rows for x, y in pieces)
        loss.backward()
        optimizer.step()
        return loss.detach()


class ScaledAfterwards(Alternative):
    """Sums of losses, and gradients that are divided before the step."""

    exercise = "accumulated_step"

    def accumulated_step(model, loss_fn, optimizer, pieces):
        model.train()
        optimizer.zero_grad()
        losses, rows = [], 0
        for x, y in pieces:
            total = loss_fn(model(x), y) * len(y)
            total.backward()
            losses.append(total.detach())
            rows += len(y)
        for p in model.parameters():
            p.grad /= rows
        optimizer.step()
        return torch.stack(losses).sum() / rows


class LinearRates(Mistake):
    """Your rates grow by equal differences. They grow by equal factors: low · (high / low)^(i / (n − 1))."""

    exercise = "lr_range_test"

    def lr_range_test(model, loss_fn, batches, low, high):
        model = copy.deepcopy(model)
        optimizer = SGD(model.parameters(), low)
        rates, losses = [], []
        for i, (x, y) in enumerate(batches):
            rate = low + (high - low) * i / (len(batches) - 1)
            set_rate(optimizer, rate)
            loss = train_step(model, loss_fn, optimizer, x, y).item()
            if not loss <= 4 * min(losses, default=math.inf) or math.isinf(loss):
                break
            rates.append(rate)
            losses.append(loss)
        return rates, losses


class NeverReachesHigh(Mistake):
    """You divide by n, so the last rate stays below `high`. There are n − 1 steps from the first rate to the last."""

    exercise = "lr_range_test"

    def lr_range_test(model, loss_fn, batches, low, high):
        model = copy.deepcopy(model)
        optimizer = SGD(model.parameters(), low)
        rates, losses = [], []
        for i, (x, y) in enumerate(batches):
            rate = low * (high / low) ** (i / len(batches))
            set_rate(optimizer, rate)
            loss = train_step(model, loss_fn, optimizer, x, y).item()
            if not loss <= 4 * min(losses, default=math.inf) or math.isinf(loss):
                break
            rates.append(rate)
            losses.append(loss)
        return rates, losses


class NaNGoesOn(Mistake):
    """A NaN does not end your run: every comparison with it is false. Ask for `math.isfinite`, or turn the comparison
    round."""

    exercise = "lr_range_test"

    def lr_range_test(model, loss_fn, batches, low, high):
        model = copy.deepcopy(model)
        optimizer = SGD(model.parameters(), low)
        rates, losses = [], []
        for i, (x, y) in enumerate(batches):
            rate = low * (high / low) ** (i / (len(batches) - 1))
            set_rate(optimizer, rate)
            loss = train_step(model, loss_fn, optimizer, x, y).item()
            if loss > 4 * min(losses, default=math.inf) or math.isinf(loss):
                break
            rates.append(rate)
            losses.append(loss)
        return rates, losses


class SpendsTheModel(Mistake):
    """You train the model that you were given, and it ends where the loss exploded. Train a copy."""

    exercise = "lr_range_test"

    def lr_range_test(model, loss_fn, batches, low, high):
        optimizer = SGD(model.parameters(), low)
        rates, losses = [], []
        for i, (x, y) in enumerate(batches):
            rate = low * (high / low) ** (i / (len(batches) - 1))
            set_rate(optimizer, rate)
            loss = train_step(model, loss_fn, optimizer, x, y).item()
            if not loss <= 4 * min(losses, default=math.inf) or math.isinf(loss):
                break
            rates.append(rate)
            losses.append(loss)
        return rates, losses


class ByLogspace(Alternative):
    """Rates from `torch.logspace`, updates by hand."""

    exercise = "lr_range_test"

    def lr_range_test(model, loss_fn, batches, low, high):
        model = copy.deepcopy(model).train()
        rates = torch.logspace(math.log10(low), math.log10(high), len(batches), dtype=torch.float64).tolist()
        losses = []
        for rate, (x, y) in zip(rates, batches, strict=True):
            loss = loss_fn(model(x), y)
            if not math.isfinite(loss.item()) or (losses and loss.item() > 4 * min(losses)):
                break
            losses.append(loss.item())
            parameters = list(model.parameters())
            with torch.no_grad():
                for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                    p -= rate * g
        return rates[: len(losses)], losses


class BestIsNow(Mistake):
    """You keep `model.state_dict()` without copying it: those are the weights themselves, and they go on changing.
    `copy.deepcopy` it."""

    exercise = "early_stopping"

    class EarlyStopping(EarlyStopping):
        def update(self, loss, model):
            stop = super().update(loss, model)
            if loss == self.best:
                self.state = model.state_dict()
            return stop


class CountsAllBad(Mistake):
    """You count all updates without improvement. After an improvement the count starts again."""

    exercise = "early_stopping"

    class EarlyStopping(EarlyStopping):
        def update(self, loss, model):
            waited = self.waited
            super().update(loss, model)
            self.waited = max(waited, waited + self.waited if loss == self.best else self.waited)
            return self.waited >= self.patience


class OneTooPatient(Mistake):
    """You wait one update too long. Stop as soon as there were `patience` updates without improvement."""

    exercise = "early_stopping"

    class EarlyStopping(EarlyStopping):
        def update(self, loss, model):
            super().update(loss, model)
            return self.waited > self.patience


class DeltaIgnored(Mistake):
    """You take any smaller loss for an improvement. It must be smaller by more than `min_delta`."""

    exercise = "early_stopping"

    class EarlyStopping(EarlyStopping):
        def __init__(self, patience, min_delta=0.0):
            super().__init__(patience)


class ByCloning(Alternative):
    """A copy by cloning, and the number of the best update."""

    exercise = "early_stopping"

    class EarlyStopping:
        def __init__(self, patience, min_delta=0.0):
            self.patience, self.min_delta = patience, min_delta
            self.best = float("inf")
            self.now = self.best_at = 0

        def update(self, loss, model):
            self.now += 1
            if self.best - loss > self.min_delta or (loss < self.best and math.isinf(self.best)):
                self.best, self.best_at = loss, self.now
                self.saved = {k: v.clone() for k, v in model.state_dict().items()}
            return self.now - self.best_at >= self.patience

        def restore(self, model):
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    value.copy_(self.saved[name])


class NotPutBack(Mistake):
    """You seed and leave it at that: everything that comes after the block is predictable. Put the states back."""

    exercise = "seeded"

    @contextmanager
    def seeded(seed):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield


class TorchOnly(Mistake):
    """You think of torch alone. NumPy and Python's `random` have global generators, too."""

    exercise = "seeded"

    @contextmanager
    def seeded(seed):
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(state)


class ErrorLosesTheState(Mistake):
    """If the block raises, your states are not put back. Put them into `finally`."""

    exercise = "seeded"

    @contextmanager
    def seeded(seed):
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


class ByForkedState(Alternative):
    """`torch.random.fork_rng` for torch's part, a class for the rest."""

    exercise = "seeded"

    class seeded:
        def __init__(self, seed):
            self.seed = seed

        def __enter__(self):
            self.fork = torch.random.fork_rng(devices=[])
            self.fork.__enter__()
            self.numpy, self.python = np.random.get_state(), random.getstate()
            torch.manual_seed(self.seed)
            np.random.seed(self.seed)
            random.seed(self.seed)

        def __exit__(self, *error):
            np.random.set_state(self.numpy)
            random.setstate(self.python)
            self.fork.__exit__(*error)


class SampleOnly(Mistake):
    """Your accumulator keeps 10,000 numbers for each name, chosen at random. Ask for all: `size_guidance={SCALARS:
    0}`."""

    exercise = "log_history"

    def read_history(folder):
        events = EventAccumulator(str(folder)).Reload()
        return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


class NoSteps(Mistake):
    """You write the numbers without their steps. Hand the step to `add_scalar`, from 0."""

    exercise = "log_history"

    def log_history(folder, history):
        with SummaryWriter(str(folder)) as writer:
            for name, numbers in history.items():
                for number in numbers:
                    writer.add_scalar(name, number)


class FromOne(Mistake):
    """You count the steps from 1. They count from 0."""

    exercise = "log_history"

    def log_history(folder, history):
        with SummaryWriter(str(folder)) as writer:
            for name, numbers in history.items():
                for step, number in enumerate(numbers, 1):
                    writer.add_scalar(name, number, step)


class NamesFlattened(Mistake):
    """You write all names as one group with `add_scalars`, which makes a run, a folder of its own, of each. Use
    `add_scalar`."""

    exercise = "log_history"

    def log_history(folder, history):
        with SummaryWriter(str(folder)) as writer:
            for name, numbers in history.items():
                for step, number in enumerate(numbers):
                    writer.add_scalars("history", {name: number}, step)


class ClosedByHand(Alternative):
    """A writer that is closed by hand, and everything loaded."""

    exercise = "log_history"

    def log_history(folder, history):
        writer = SummaryWriter(log_dir=folder)
        for step in range(max(map(len, history.values()))):
            for name, numbers in history.items():
                if step < len(numbers):
                    writer.add_scalar(tag=name, scalar_value=numbers[step], global_step=step)
        writer.close()

    def read_history(folder):
        reader = EventAccumulator(str(folder), {"scalars": 0})
        reader.Reload()
        found = {}
        for tag in reader.Tags()["scalars"]:
            found[tag] = [e.value for e in sorted(reader.Scalars(tag), key=lambda e: e.step)]
        return found

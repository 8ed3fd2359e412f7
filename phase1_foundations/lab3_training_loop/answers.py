"""Known answers to Lab 3: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · momentum ----------------------------------------------------------------------------------------------------


class NameRebound(Mistake):
    """You compute a new tensor and give it the name `w`; the parameter stays where it is. Change it in place:
    `w -= …`."""

    exercise = "momentum"

    class Momentum(Momentum):
        def update(self, w, g, state):
            state["velocity"] = self.momentum * state.get("velocity", 0) + g
            w = w - self.lr * state["velocity"]


class RateInVelocity(Mistake):
    """You put the learning rate into the velocity, so that a new rate takes many steps to arrive. Multiply by `lr` when
    you move."""

    exercise = "momentum"

    class Momentum(Momentum):
        def update(self, w, g, state):
            state["velocity"] = self.momentum * state.get("velocity", 0) + self.lr * g
            w -= state["velocity"]


class GradientDamped(Mistake):
    """You weight the gradient by 1 − μ, as in a running average. PyTorch's velocity is a decaying *sum*: μ v + g."""

    exercise = "momentum"

    class Momentum(Momentum):
        def update(self, w, g, state):
            state["velocity"] = self.momentum * state.get("velocity", 0) + (1 - self.momentum) * g
            w -= self.lr * state["velocity"]


class VelocityIsTheGradient(Mistake):
    """Your first velocity *is* the gradient's tensor, so the two overwrite each other. Make it a tensor of its own:
    `g.clone()`."""

    exercise = "momentum"

    class Momentum(Momentum):
        def update(self, w, g, state):
            if "velocity" not in state:
                state["velocity"] = g
            else:
                state["velocity"].mul_(self.momentum).add_(g)
            w -= self.lr * state["velocity"]


class NesterovMomentum(Mistake):
    """You look ahead along the velocity, which is Nesterov's variant. Step along v itself."""

    exercise = "momentum"

    class Momentum(Momentum):
        def update(self, w, g, state):
            state["velocity"] = self.momentum * state.get("velocity", 0) + g
            w -= self.lr * (g + self.momentum * state["velocity"])


class OldVelocity(Mistake):
    """You step along the velocity before the gradient is in it. Update v first, then w."""

    exercise = "momentum"

    class Momentum(Momentum):
        def update(self, w, g, state):
            velocity = state.get("velocity", torch.zeros_like(w))
            w -= self.lr * velocity
            state["velocity"] = self.momentum * velocity + g


class VelocityInPlace(Alternative):
    """A buffer that is made once and changed in place."""

    exercise = "momentum"

    class Momentum(Momentum):
        def update(self, w, g, state):
            if "buffer" not in state:
                state["buffer"] = torch.zeros_like(w)
            w.add_(state["buffer"].mul_(self.momentum).add_(g), alpha=-self.lr)


# --- 2 · adam --------------------------------------------------------------------------------------------------------


class NoBiasCorrection(Mistake):
    """You leave out the correction of the start, so the first steps have the wrong length. Divide m by 1 − β₁ᵗ and s by
    1 − β₂ᵗ."""

    exercise = "adam"

    class Adam(Adam):
        def update(self, w, g, state):
            beta1, beta2 = self.betas
            m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
            s = state["s"] = beta2 * state.get("s", 0) + (1 - beta2) * g**2
            w -= self.lr * m / (s.sqrt() + self.eps)

    class AdamW(Adam):
        def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
            super().__init__(parameters, lr, betas, eps)
            self.weight_decay = weight_decay

        def update(self, w, g, state):
            w *= 1 - self.lr * self.weight_decay
            super().update(w, g, state)


class EpsInsideTheRoot(Mistake):
    """Your ε is inside the root. It is added after it: √ŝ + ε."""

    exercise = "adam"

    class Adam(Adam):
        def update(self, w, g, state):
            beta1, beta2 = self.betas
            t = state["t"] = state.get("t", 0) + 1
            m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
            s = state["s"] = beta2 * state.get("s", 0) + (1 - beta2) * g**2
            w -= self.lr * (m / (1 - beta1**t)) / (s / (1 - beta2**t) + self.eps).sqrt()

    class AdamW(Adam):
        def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
            super().__init__(parameters, lr, betas, eps)
            self.weight_decay = weight_decay

        def update(self, w, g, state):
            w *= 1 - self.lr * self.weight_decay
            super().update(w, g, state)


class DecayInTheGradient(Mistake):
    """You add λ w to the gradient, which is Adam with an L2 penalty: Adam's scaling then divides the decay, too. Shrink
    the weights directly."""

    exercise = "adam"

    class AdamW(AdamW):
        def update(self, w, g, state):
            Adam.update(self, w, g + self.weight_decay * w, state)


class DecayWithoutRate(Mistake):
    """You shrink the weights by λ whatever the learning rate is. The factor is 1 − lr · λ."""

    exercise = "adam"

    class AdamW(AdamW):
        def update(self, w, g, state):
            w *= 1 - self.weight_decay
            Adam.update(self, w, g, state)


class DecayAfterwards(Mistake):
    """You decay after the step, which shrinks the step as well. Decay first."""

    exercise = "adam"

    class AdamW(AdamW):
        def update(self, w, g, state):
            Adam.update(self, w, g, state)
            w *= 1 - self.lr * self.weight_decay


class OneCountForAll(Mistake):
    """You count the steps of the optimizer. A parameter that had no gradient for a while has made fewer: count in its
    own state."""

    exercise = "adam"

    class Adam(Adam):
        def step(self):
            self.t = getattr(self, "t", 0) + 1
            super().step()

        def update(self, w, g, state):
            state["t"] = self.t - 1
            super().update(w, g, state)

    class AdamW(AdamW):
        pass


class NoRoot(Mistake):
    """You divide by s, not by its root: the step then has the unit of one over a gradient."""

    exercise = "adam"

    class Adam(Adam):
        def update(self, w, g, state):
            beta1, beta2 = self.betas
            t = state["t"] = state.get("t", 0) + 1
            m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
            s = state["s"] = beta2 * state.get("s", 0) + (1 - beta2) * g**2
            w -= self.lr * (m / (1 - beta1**t)) / (s / (1 - beta2**t) + self.eps)


class InPlaceLikePyTorch(Alternative):
    """Buffers changed in place, and the corrections folded into the step's size."""

    exercise = "adam"

    class Adam(Adam):
        def update(self, w, g, state):
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(w), exp_avg_sq=torch.zeros_like(w))
            state["step"] += 1
            beta1, beta2 = self.betas
            state["exp_avg"].lerp_(g, 1 - beta1)
            state["exp_avg_sq"].mul_(beta2).addcmul_(g, g, value=1 - beta2)
            size = self.lr / (1 - beta1 ** state["step"])
            root = state["exp_avg_sq"].sqrt() / math.sqrt(1 - beta2 ** state["step"])
            w.addcdiv_(state["exp_avg"], root.add_(self.eps), value=-size)

    class AdamW(Adam):
        def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
            super().__init__(parameters, lr, betas, eps)
            self.weight_decay = weight_decay

        def update(self, w, g, state):
            w.mul_(1 - self.lr * self.weight_decay)
            super().update(w, g, state)


# --- 3 · warmup_cosine -----------------------------------------------------------------------------------------------


class StartsAtZero(Mistake):
    """Your first step has a rate of 0 and is wasted. In the warm-up it is peak · (step + 1) / warmup."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, warmup, total, peak, floor=0.0):
        if step < warmup:
            return peak * step / warmup
        progress = min((step - warmup) / (total - warmup), 1.0)
        return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


class CosineFromTheBeginning(Mistake):
    """Your cosine counts from step 0, so the rate drops when the warm-up ends. Count from `warmup`, over
    `total - warmup` steps."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, warmup, total, peak, floor=0.0):
        if step < warmup:
            return peak * (step + 1) / warmup
        return floor + (peak - floor) * (1 + math.cos(math.pi * min(step / total, 1.0))) / 2


class RisesAgain(Mistake):
    """After `total` your cosine rises again. From there on the rate is `floor`."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, warmup, total, peak, floor=0.0):
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = (step - warmup) / (total - warmup)
        return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


class FloorOnTop(Mistake):
    """You add the floor to the whole wave, so the peak is too high. The wave spans `peak - floor`."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, warmup, total, peak, floor=0.0):
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = min((step - warmup) / (total - warmup), 1.0)
        return floor + peak * (1 + math.cos(math.pi * progress)) / 2


class OneStepLate(Mistake):
    """Your cosine is one step ahead: at step `warmup` it should still have the peak. Subtract `warmup`, not
    `warmup - 1`."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, warmup, total, peak, floor=0.0):
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = min((step - warmup + 1) / (total - warmup), 1.0)
        return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


class LinearDecay(Mistake):
    """You go down in a line. The task asks for half a cosine, which is flat at both ends."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, warmup, total, peak, floor=0.0):
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak + (floor - peak) * min((step - warmup) / (total - warmup), 1.0)


class ByTheSquare(Alternative):
    """cos² of half the angle, by cases."""

    exercise = "warmup_cosine"

    def warmup_cosine(step, warmup, total, peak, floor=0.0):
        if step >= total:
            return floor
        if step >= warmup:
            share = math.cos(math.pi / 2 * (step - warmup) / (total - warmup)) ** 2
            return share * peak + (1 - share) * floor
        return (step + 1) * peak / warmup


# --- 4 · clip_gradients ----------------------------------------------------------------------------------------------


class EachByItself(Mistake):
    """You clip each tensor by its own norm, which bends the step. One norm and one factor serve all."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients] or [torch.tensor(0.0)]).norm()
        for gradient in gradients:
            gradient *= (max_norm / (gradient.norm() + 1e-6)).clamp(max=1.0)
        return norm


class AlwaysScaled(Mistake):
    """You bring the norm to `max_norm` also where it is smaller, and so lengthen short gradients. The factor is at most
    1."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients] or [torch.tensor(0.0)]).norm()
        for gradient in gradients:
            gradient *= max_norm / (norm + 1e-6)
        return norm


class UsedUp(Mistake):
    """You go through `parameters` twice, and an iterator is empty the second time: nothing is clipped. Make a list
    first."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None] or [torch.tensor(0.0)]).norm()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= factor
        return norm


class NormAfterwards(Mistake):
    """You return the norm after clipping. The one before is what tells of spikes."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients] or [torch.tensor(0.0)]).norm()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient *= factor
        return torch.stack([g.norm() for g in gradients] or [torch.tensor(0.0)]).norm()


class SumOfNorms(Mistake):
    """You add the norms of the tensors. The norm of all is the root of the sum of their *squares*."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients] or [torch.tensor(0.0)]).sum()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient *= factor
        return norm


class ByValue(Mistake):
    """You clip each element, which is `clip_grad_value_`. The whole gradient is shortened by one factor."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients] or [torch.tensor(0.0)]).norm()
        for gradient in gradients:
            gradient.clamp_(-max_norm, max_norm)
        return norm


class FromTheShelf(Mistake):
    """You call PyTorch's own clipping. It is what you are building here."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)


class OneLongVector(Alternative):
    """All gradients as one vector, an `if`, and new tensors."""

    exercise = "clip_gradients"

    def clip_gradients(parameters, max_norm):
        concerned = [p for p in parameters if p.grad is not None]
        if not concerned:
            return torch.zeros(())
        norm = torch.cat([p.grad.reshape(-1) for p in concerned]).square().sum().sqrt()
        if norm + 1e-6 > max_norm:
            for p in concerned:
                p.grad = p.grad * (max_norm / (norm + 1e-6))
        return norm


# --- 5 · train_step --------------------------------------------------------------------------------------------------


class GradientsPileUp(Mistake):
    """You never clear the gradients, so each step contains those of all steps before. Call `optimizer.zero_grad()`."""

    exercise = "train_step"

    def train_step(model, optimizer, x, y, max_norm=math.inf):
        model.train()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        clip_gradients(model.parameters(), max_norm)
        optimizer.step()
        return loss.item()


class MeanOfMeans(Mistake):
    """You average the batches' means, so rows in small batches weigh more. Sum over rows and divide once."""

    exercise = "train_step"

    def evaluate(model, batches):
        was_training = model.training
        model.eval()
        with torch.no_grad():
            pairs = [(model(x), y) for x, y in batches]
        model.train(was_training)
        losses = [F.cross_entropy(logits, y).item() for logits, y in pairs]
        right = [(logits.argmax(1) == y).float().mean().item() for logits, y in pairs]
        return sum(losses) / len(losses), sum(right) / len(right)


class LeftInEval(Mistake):
    """You leave the model in `eval` mode: dropout and batch norm stay off for the rest of the training. Restore the
    mode you found."""

    exercise = "train_step"

    def evaluate(model, batches):
        model.eval()
        loss, right, n_rows = 0.0, 0, 0
        with torch.no_grad():
            for x, y in batches:
                logits = model(x)
                loss += F.cross_entropy(logits, y, reduction="sum").item()
                right += (logits.argmax(1) == y).sum().item()
                n_rows += len(y)
        return loss / n_rows, right / n_rows


class SoftmaxTwice(Mistake):
    """You apply a softmax before the cross-entropy, which does that itself. Give it the logits."""

    exercise = "train_step"

    def train_step(model, optimizer, x, y, max_norm=math.inf):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).softmax(1), y)
        loss.backward()
        clip_gradients(model.parameters(), max_norm)
        optimizer.step()
        return loss.item()


class ClearedTooLate(Mistake):
    """You clear the gradients between `backward` and `step`: nothing ever moves. Clear them first."""

    exercise = "train_step"

    def train_step(model, optimizer, x, y, max_norm=math.inf):
        model.train()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        clip_gradients(model.parameters(), max_norm)
        optimizer.zero_grad()
        optimizer.step()
        return loss.item()


class ClippedTooLate(Mistake):
    """You clip after the step, when it is too late. Clip between `backward` and `step`."""

    exercise = "train_step"

    def train_step(model, optimizer, x, y, max_norm=math.inf):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        clip_gradients(model.parameters(), max_norm)
        return loss.item()


class EvaluatedInTraining(Mistake):
    """You evaluate in training mode, with dropout at work and batch norm learning from the test data. Call
    `model.eval()`."""

    exercise = "train_step"

    def evaluate(model, batches):
        loss, right, n_rows = 0.0, 0, 0
        with torch.no_grad():
            for x, y in batches:
                logits = model(x)
                loss += F.cross_entropy(logits, y, reduction="sum").item()
                right += (logits.argmax(1) == y).sum().item()
                n_rows += len(y)
        return loss / n_rows, right / n_rows


class ModeNotSet(Mistake):
    """You train in whatever mode the model is in. After an evaluation that may be `eval`: call `model.train()`."""

    exercise = "train_step"

    def train_step(model, optimizer, x, y, max_norm=math.inf):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        clip_gradients(model.parameters(), max_norm)
        optimizer.step()
        return loss.item()


class WeightedByRows(Alternative):
    """Means times rows, in inference mode, with gradients cleared at the model."""

    exercise = "train_step"

    def train_step(model, optimizer, x, y, max_norm=math.inf):
        model.train(True)
        model.zero_grad(set_to_none=True)
        loss = nn.CrossEntropyLoss()(model(x), y)
        loss.backward()
        clip_gradients(list(model.parameters()), max_norm)
        optimizer.step()
        return float(loss.detach())

    def evaluate(model, batches):
        mode = model.training
        try:
            model.eval()
            with torch.inference_mode():
                rows = [(len(y), F.cross_entropy(z, y), (z.argmax(-1) == y).double().mean())
                        for z, y in ((model(x), y) for x, y in batches)]  # fmt: skip
        finally:
            model.train(mode)
        n = sum(size for size, *_ in rows)
        return float(sum(size * loss for size, loss, _ in rows) / n), float(sum(size * a for size, _, a in rows) / n)


# --- 6 · overfits ----------------------------------------------------------------------------------------------------


class BetterIsEnough(Mistake):
    """You ask whether the loss has fallen. It falls with a broken network, too: ask whether it is below `threshold`."""

    exercise = "overfits"

    def overfits(make_model, x, y, lr=0.01, steps=200, threshold=0.05):
        model = make_model()
        optimizer = Adam(model.parameters(), lr)
        losses = [train_step(model, optimizer, x, y) for _ in range(steps)]
        return losses[-1] < losses[0]


class NewModelEachStep(Mistake):
    """You make a new model in every step, so nothing is ever learned. Make it once, before the loop."""

    exercise = "overfits"

    def overfits(make_model, x, y, lr=0.01, steps=200, threshold=0.05):
        for _ in range(steps):
            model = make_model()
            if train_step(model, Adam(model.parameters(), lr), x, y) < threshold:
                return True
        return False


class GoesOnToTheEnd(Mistake):
    """You make all steps although the answer is known. Return `True` at the first loss below `threshold`."""

    exercise = "overfits"

    def overfits(make_model, x, y, lr=0.01, steps=200, threshold=0.05):
        model = make_model()
        optimizer = Adam(model.parameters(), lr)
        return min(train_step(model, optimizer, x, y) for _ in range(steps)) < threshold


class NewOptimizerEachStep(Mistake):
    """You make a new optimizer in every step, so Adam forgets its averages. Make it once, before the loop."""

    exercise = "overfits"

    def overfits(make_model, x, y, lr=0.01, steps=200, threshold=0.05):
        model = make_model()
        return any(train_step(model, Adam(model.parameters(), lr), x, y) < threshold for _ in range(steps))


class OneStepMore(Mistake):
    """You make one step more than `steps`."""

    exercise = "overfits"

    def overfits(make_model, x, y, lr=0.01, steps=200, threshold=0.05):
        model = make_model()
        optimizer = Adam(model.parameters(), lr)
        return any(train_step(model, optimizer, x, y) < threshold for _ in range(steps + 1))


class ByLoop(Alternative):
    """A loop that returns."""

    exercise = "overfits"

    def overfits(make_model, x, y, lr=0.01, steps=200, threshold=0.05):
        model = make_model()
        optimizer = Adam(list(model.parameters()), lr=lr)
        while steps > 0:
            loss = train_step(model, optimizer, x, y)
            if loss < threshold:
                return True
            steps -= 1
        return False


# --- 7 · run ---------------------------------------------------------------------------------------------------------


class GeneratorForgotten(Mistake):
    """You do not restore torch's random number generator, so dropout draws other masks after a resume. Save
    `torch.get_rng_state()`."""

    exercise = "run"

    class Run(Run):
        def load(self, path):
            state = torch.get_rng_state()
            super().load(path)
            torch.set_rng_state(state)


class MemoryForgotten(Mistake):
    """You save the weights alone, and the optimizer begins again with empty averages. Save its `state_dict()`, too."""

    exercise = "run"

    class Run(Run):
        def load(self, path):
            state = self.optimizer.state_dict()
            super().load(path)
            self.optimizer.load_state_dict(state)


class EpochBegunAgain(Mistake):
    """After a resume you begin the current epoch anew: some rows are seen twice, others not at all. Go on at batch
    `step % n`."""

    exercise = "run"

    class Run(Run):
        def _rest_of_epoch(self, until):
            epoch = self.step // len(self.order(0))
            batches = self.order(epoch)[: until - self.step]
            return DataLoader(
                self.dataset, batch_sampler=batches, num_workers=self.workers, generator=torch.Generator()
            )


class StepForgotten(Mistake):
    """You do not restore `step`, so schedule and data begin at the beginning."""

    exercise = "run"

    class Run(Run):
        def load(self, path):
            super().load(path)
            self.step = 0


class DrawnFromTheDefault(Mistake):
    """Your `DataLoader` draws its base seed from torch's default generator, once for every iterator, and a resume makes
    one more. Give it a `generator` of its own."""

    exercise = "run"

    class Run(Run):
        def _rest_of_epoch(self, until):
            epoch, done = divmod(self.step, len(self.order(0)))
            batches = self.order(epoch)[done : done + until - self.step]
            return DataLoader(self.dataset, batch_sampler=batches, num_workers=self.workers)


class SameOrderEachEpoch(Mistake):
    """Every epoch has the order of the first. Ask for `order(epoch)`."""

    exercise = "run"

    class Run(Run):
        def _rest_of_epoch(self, until):
            done = self.step % len(self.order(0))
            batches = self.order(0)[done : done + until - self.step]
            return DataLoader(
                self.dataset, batch_sampler=batches, num_workers=self.workers, generator=torch.Generator()
            )


class RateOfTheNextStep(Mistake):
    """You set the rate after the step, so each step has the rate of the one before. Set `schedule(k)` first."""

    exercise = "run"

    class Run(Run):
        def train(self, until):
            losses = []
            while self.step < until:
                for x, y in self._rest_of_epoch(until):
                    losses.append(train_step(self.model, self.optimizer, x, y, max_norm=1.0))
                    self.optimizer.lr = self.schedule(self.step)
                    self.step += 1
            return losses


class NotClipped(Mistake):
    """You do not clip. The task passes `max_norm=1.0` to `train_step`."""

    exercise = "run"

    class Run(Run):
        def train(self, until):
            losses = []
            while self.step < until:
                for x, y in self._rest_of_epoch(until):
                    self.optimizer.lr = self.schedule(self.step)
                    losses.append(train_step(self.model, self.optimizer, x, y))
                    self.step += 1
            return losses


class WrittenOver(Mistake):
    """You write over the old checkpoint. If the machine dies meanwhile, you have none: write another file, then
    `os.replace`."""

    exercise = "run"

    class Run(Run):
        def save(self, path):
            torch.save(
                {
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "step": self.step,
                    "rng": torch.get_rng_state(),
                },
                path,
            )


class WholeObjectsSaved(Mistake):
    """You save the model object itself, so reading the file may run any code. Save its `state_dict()`."""

    exercise = "run"

    class Run(Run):
        def save(self, path):
            state = {"model": self.model, "optimizer": self.optimizer.state_dict(), "step": self.step}
            partial = path.with_suffix(".new")
            torch.save({**state, "rng": torch.get_rng_state()}, partial)
            os.replace(partial, path)

        def load(self, path):
            state = torch.load(path, weights_only=False)
            self.model.load_state_dict(state["model"].state_dict())
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
            torch.set_rng_state(state["rng"])


class EpochByEpoch(Alternative):
    """Loops over epochs, skips in the list of batches, and fetches the batches one loader each."""

    exercise = "run"

    class Run(Run):
        def train(self, until):
            made = []
            n = -(-len(self.dataset) // self.batch_size)
            for epoch in range(self.step // n, -(-until // n)):
                loader = DataLoader(
                    self.dataset,
                    batch_sampler=self.order(epoch)[self.step - epoch * n :],
                    num_workers=self.workers,
                    generator=torch.Generator().manual_seed(self.seed),
                )
                for x, y in loader:
                    if self.step >= until:
                        return made
                    self.optimizer.lr = self.schedule(self.step)
                    made += [train_step(self.model, self.optimizer, x, y, 1.0)]
                    self.step = self.step + 1
            return made


# --- 8 · fit_mlp -----------------------------------------------------------------------------------------------------


class SeededTooLate(Mistake):
    """You seed after the model is made, so its weights depend on whatever ran before. Seed first."""

    exercise = "fit_mlp"

    def fit_mlp(x, y, hidden=64, epochs=20, batch_size=64, peak=1e-2, seed=0):
        model = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, int(y.max()) + 1))
        torch.manual_seed(seed)
        sizes = torch.tensor([len(part) for part in y.split(batch_size)])
        total = epochs * len(sizes)
        optimizer, rows = AdamW(model.parameters()), TensorDataset(x, y)
        run = Run(model, optimizer, rows, batch_size, seed, lambda step: warmup_cosine(step, total // 10, total, peak))
        losses = torch.tensor(run.train(total), dtype=torch.float64).view(epochs, len(sizes))
        return model.eval(), ((losses * sizes).sum(1) / len(x)).tolist()


class BatchesWeighAlike(Mistake):
    """You average the losses of the batches. The last one of an epoch is smaller: weight by rows."""

    exercise = "fit_mlp"

    def fit_mlp(x, y, hidden=64, epochs=20, batch_size=64, peak=1e-2, seed=0):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, int(y.max()) + 1))
        total = epochs * math.ceil(len(x) / batch_size)
        optimizer, rows = AdamW(model.parameters()), TensorDataset(x, y)
        run = Run(model, optimizer, rows, batch_size, seed, lambda step: warmup_cosine(step, total // 10, total, peak))
        return model.eval(), torch.tensor(run.train(total), dtype=torch.float64).view(epochs, -1).mean(1).tolist()


class ScheduleInEpochs(Mistake):
    """Your schedule counts epochs, and `Run` asks for steps: the rate has reached its end long before the training has.
    `total` is epochs × batches per epoch."""

    exercise = "fit_mlp"

    def fit_mlp(x, y, hidden=64, epochs=20, batch_size=64, peak=1e-2, seed=0):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, int(y.max()) + 1))
        sizes = torch.tensor([len(part) for part in y.split(batch_size)])
        total = epochs * len(sizes)
        optimizer, rows = AdamW(model.parameters()), TensorDataset(x, y)
        run = Run(
            model, optimizer, rows, batch_size, seed, lambda step: warmup_cosine(step, epochs // 10, epochs, peak)
        )
        losses = torch.tensor(run.train(total), dtype=torch.float64).view(epochs, len(sizes))
        return model.eval(), ((losses * sizes).sum(1) / len(x)).tolist()


class ConstantRate(Mistake):
    """You train at a constant rate. `Run` takes the schedule: `warmup_cosine` over all steps."""

    exercise = "fit_mlp"

    def fit_mlp(x, y, hidden=64, epochs=20, batch_size=64, peak=1e-2, seed=0):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, int(y.max()) + 1))
        sizes = torch.tensor([len(part) for part in y.split(batch_size)])
        total = epochs * len(sizes)
        run = Run(model, AdamW(model.parameters()), TensorDataset(x, y), batch_size, seed, lambda step: peak)
        losses = torch.tensor(run.train(total), dtype=torch.float64).view(epochs, len(sizes))
        return model.eval(), ((losses * sizes).sum(1) / len(x)).tolist()


class EpochWise(Alternative):
    """One call of `train` for each epoch, and sums in Python."""

    exercise = "fit_mlp"

    def fit_mlp(x, y, hidden=64, epochs=20, batch_size=64, peak=1e-2, seed=0):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(x.size(1), hidden), nn.ReLU(), nn.Linear(hidden, len(y.unique())))
        n = -(-len(x) // batch_size)

        def schedule(step):
            return warmup_cosine(step, warmup=epochs * n // 10, total=epochs * n, peak=peak)

        run = Run(model, AdamW(model.parameters()), TensorDataset(x, y), batch_size, seed, schedule)
        curve = []
        for epoch in range(epochs):
            losses = run.train((epoch + 1) * n)
            rows = [len(batch) for batch in run.order(epoch)]
            curve.append(sum(a * b for a, b in zip(losses, rows, strict=True)) / len(x))
        model.eval()
        return model, curve


# --- side quests -----------------------------------------------------------------------------------------------------


class NeverDivided(Mistake):
    """You add up the gradients of the pieces' means without dividing: the step is too long by the number of pieces."""

    exercise = "accumulated_step"

    def accumulated_step(model, optimizer, pieces):
        model.train()
        optimizer.zero_grad()
        total = 0.0
        for x, y in pieces:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            total += loss.item()
        optimizer.step()
        return total


class PiecesWeighAlike(Mistake):
    """You divide each piece's mean by the number of pieces, which is right for pieces of one size only. Divide sums by
    the rows of all."""

    exercise = "accumulated_step"

    def accumulated_step(model, optimizer, pieces):
        model.train()
        optimizer.zero_grad()
        total = 0.0
        for x, y in pieces:
            loss = F.cross_entropy(model(x), y) / len(pieces)
            loss.backward()
            total += loss.item()
        optimizer.step()
        return total


class LastPieceOnly(Mistake):
    """You clear the gradients for each piece, so the step follows the last one. Clear them once, before the first."""

    exercise = "accumulated_step"

    def accumulated_step(model, optimizer, pieces):
        model.train()
        n_rows, total = sum(len(y) for _, y in pieces), 0.0
        for x, y in pieces:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y, reduction="sum") / n_rows
            loss.backward()
            total += loss.item()
        optimizer.step()
        return total


class MeanTimesShare(Alternative):
    """Each piece's mean times its share of the rows."""

    exercise = "accumulated_step"

    def accumulated_step(model, optimizer, pieces):
        model.train()
        optimizer.zero_grad()
        n_rows, summed = sum(y.numel() for _, y in pieces), []
        for x, y in pieces:
            loss = F.cross_entropy(model(x), y) * (y.numel() / n_rows)
            loss.backward()
            summed.append(loss.detach())
        optimizer.step()
        return float(sum(summed))


class WeightsNotPutBack(Mistake):
    """You leave the model as the test has left it, exploded. Put back a **copy** of its state: the tensors of
    `state_dict()` itself change along."""

    exercise = "range_test"

    def range_test(model, optimizer, batches, lrs):
        before, mode = optimizer.state_dict(), model.training
        losses = []
        for lr, (x, y) in zip(lrs, batches, strict=False):
            optimizer.lr = lr
            losses.append(train_step(model, optimizer, x, y))
            if not losses[-1] <= 4 * min(losses):
                break
        optimizer.load_state_dict(before)
        model.train(mode)
        return losses


class NanGoesOn(Mistake):
    """You go on after NaN: a comparison with NaN is false, also `loss > 4 * min`. Ask `math.isfinite`, too."""

    exercise = "range_test"

    def range_test(model, optimizer, batches, lrs):
        before, mode = copy.deepcopy((model.state_dict(), optimizer.state_dict())), model.training
        losses = []
        for lr, (x, y) in zip(lrs, batches, strict=False):
            optimizer.lr = lr
            losses.append(train_step(model, optimizer, x, y))
            if losses[-1] > 4 * min(losses):
                break
        model.load_state_dict(before[0])
        optimizer.load_state_dict(before[1])
        model.train(mode)
        return losses


class ByIsFinite(Alternative):
    """The smallest so far in a variable, and `math.isfinite`."""

    exercise = "range_test"

    def range_test(model, optimizer, batches, lrs):
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict())), model.training
        losses, smallest = [], math.inf
        for rate, (x, y) in zip(list(lrs), batches, strict=False):
            optimizer.lr = rate
            loss = train_step(model, optimizer, x, y)
            losses.append(loss)
            smallest = min(smallest, loss)
            if not math.isfinite(loss) or loss > 4 * smallest:
                break
        model.load_state_dict(saved[0][0])
        optimizer.load_state_dict(saved[0][1])
        model.train(saved[1])
        return losses


class StateNotCopied(Mistake):
    """You keep `state_dict()` itself, whose tensors go on training with the model. Copy it: `copy.deepcopy`."""

    exercise = "early_stopping"

    class EarlyStopping(EarlyStopping):
        def update(self, loss, model):
            if loss < self.best - self.min_delta:
                self.best, self.state, self.waited = loss, model.state_dict(), 0
            else:
                self.waited += 1
            return self.waited >= self.patience


class NotInARow(Mistake):
    """You count all losses that were no improvement. Begin at 0 again after each improvement."""

    exercise = "early_stopping"

    class EarlyStopping(EarlyStopping):
        def update(self, loss, model):
            if loss < self.best - self.min_delta:
                self.best, self.state = loss, copy.deepcopy(model.state_dict())
            else:
                self.waited += 1
            return self.waited >= self.patience


class OneTooPatient(Mistake):
    """You wait once too often: stop when the count *reaches* `patience`."""

    exercise = "early_stopping"

    class EarlyStopping(EarlyStopping):
        def update(self, loss, model):
            return super().update(loss, model) and self.waited > self.patience


class MarginIgnored(Mistake):
    """You take every smaller loss for an improvement. It must be smaller by more than `min_delta`."""

    exercise = "early_stopping"

    class EarlyStopping(EarlyStopping):
        def __init__(self, patience, min_delta=0.0):
            super().__init__(patience, 0.0)


class ClonedTensors(Alternative):
    """Clones instead of a deep copy, and a history of losses."""

    exercise = "early_stopping"

    class EarlyStopping:
        def __init__(self, patience, min_delta=0.0):
            self.patience, self.min_delta, self.best, self.bad, self.kept = patience, min_delta, float("inf"), 0, None

        def update(self, loss, model):
            better = loss < self.best - self.min_delta
            self.bad = 0 if better else self.bad + 1
            if better:
                self.best = loss
                self.kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            return self.bad >= self.patience

        def restore(self, model):
            if not self.kept:
                raise RuntimeError("nothing has been kept")
            model.load_state_dict(self.kept)


class NoFinally(Mistake):
    """After an exception your generators stay where it left them. Put the states back in a `finally`."""

    exercise = "seeded"

    @contextmanager
    def seeded(seed):
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        yield
        random.setstate(before[0]), np.random.set_state(before[1]), torch.set_rng_state(before[2])


class TorchAlone(Mistake):
    """You seed torch alone. Python's `random` and NumPy have generators of their own."""

    exercise = "seeded"

    @contextmanager
    def seeded(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield


class NotPutBack(Mistake):
    """You seed and never put the old states back, so everything after the block repeats itself, too."""

    exercise = "seeded"

    @contextmanager
    def seeded(seed):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        yield


class ByForkRng(Alternative):
    """PyTorch's own for torch, and a class with two methods."""

    exercise = "seeded"

    class seeded:
        def __init__(self, seed):
            self.seed, self.fork = seed, torch.random.fork_rng(devices=[])

        def __enter__(self):
            self.states = random.getstate(), np.random.get_state()
            self.fork.__enter__()
            random.seed(self.seed), np.random.seed(self.seed), torch.manual_seed(self.seed)

        def __exit__(self, *details):
            self.fork.__exit__(*details)
            random.setstate(self.states[0]), np.random.set_state(self.states[1])


class StepsFromOne(Mistake):
    """Your steps count from 1. They count from 0."""

    exercise = "write_log"

    def write_log(folder, curves):
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(folder) as writer:
            for name, values in curves.items():
                for step, value in enumerate(values, start=1):
                    writer.add_scalar(name, value, step)


class StepForgottenInTheLog(Mistake):
    """You write all values at the same step, so the curve is a vertical line. Pass `global_step`."""

    exercise = "write_log"

    def write_log(folder, curves):
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(folder) as writer:
            for name, values in curves.items():
                for value in values:
                    writer.add_scalar(name, value, 0)


class Thinned(Mistake):
    """Your reader keeps a sample of 10,000 points. Say `size_guidance={"scalars": 0}`."""

    exercise = "write_log"

    def read_log(folder):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder))
        events.Reload()
        return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


class FlushedAndClosed(Alternative):
    """A writer that is closed by hand."""

    exercise = "write_log"

    def write_log(folder, curves):
        import torch.utils.tensorboard

        writer = torch.utils.tensorboard.SummaryWriter(log_dir=str(folder))
        for tag in curves:
            for i in range(len(curves[tag])):
                writer.add_scalar(tag, curves[tag][i], global_step=i)
        writer.flush()
        writer.close()

"""Checkers of Lab 6: image classification with CNNs."""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from grading.exercise import Exercise, forbid, guard, raises

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
CONVOLUTIONS = (
    "conv2d", "conv1d", "conv3d", "convolution", "_convolution", "conv_transpose2d", "convolution_overrideable",
    "mkldnn_convolution", "thnn_conv2d", "slow_conv2d_forward",
)  # fmt: skip


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng, dtype=dtype)


def filled(module: nn.Module, rng: torch.Generator) -> nn.Module:
    """`module` with random numbers in parameters and buffers, by sorted name; running variances positive."""
    with torch.no_grad():
        for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()]):
            if tensor.is_floating_point():
                numbers = normal(rng, *tensor.shape)
                tensor.copy_(numbers.abs() + 0.5 if "running_var" in name else numbers)
    return module


class TestOutputSize(Exercise):
    """Sizes before anything runs."""

    points = 2
    skills = ("convolution", "shapes")
    hints = (
        "How many places has a kernel of 3 in 5 pixels, without padding? And with a stride of 2?",
        "`//` rounds down. In the receptive field, which distance do a layer's taps have, in input pixels?",
        "`field += (kernel - 1) * jump`, and only then `jump *= stride`.",
    )

    def test_output_size(self, lab, rng):
        """gives the size that PyTorch's convolution has"""
        got, expected = [], []
        for size, kernel, stride, padding, dilation in itertools.product((7, 12), (1, 3, 4), (1, 2, 3), (0, 2), (1, 2)):
            if size + 2 * padding < dilation * (kernel - 1) + 1:
                continue
            x, weight = torch.empty(1, 1, size, device="meta"), torch.empty(1, 1, kernel, device="meta")
            expected.append(F.conv1d(x, weight, stride=stride, padding=padding, dilation=dilation).shape[-1])
            got.append(lab.output_size(size, kernel, stride, padding, dilation))
        assert_close(torch.tensor(got), torch.tensor(expected))
        assert_close(torch.tensor(lab.output_size(9, 3)), torch.tensor(7))

    def test_receptive_field(self, lab, rng):
        """counts the input pixels that one output sees, through any strides"""
        stacks = (
            [],
            [(3, 1)],
            [(3, 1), (3, 1)],
            [(3, 2), (3, 1), (5, 1)],
            [(7, 2), (3, 2), (3, 1), (1, 1)],
            [(2, 3), (4, 2)],
        )
        got, expected = [], []
        for layers in stacks:
            x = torch.zeros(1, 1, 200, dtype=torch.float64, requires_grad=True)
            y = x
            for kernel, stride in layers:
                y = F.conv1d(y, torch.ones(1, 1, kernel, dtype=torch.float64), stride=stride)
            (gradient,) = torch.autograd.grad(y[0, 0, 0], [x])
            expected.append(int(gradient[0, 0].nonzero().max()) + 1)
            got.append(lab.receptive_field(layers))
        assert_close(torch.tensor(got), torch.tensor(expected))

    @guard
    def test_refuses(self, lab, rng):
        """output_size raises ValueError where the kernel does not fit"""
        for arguments in ((2, 3), (5, 4, 2, 0, 2), (1, 6, 1, 2)):
            with raises(ValueError):
                lab.output_size(*arguments)


class TestConv2d(Exercise):
    """A convolution is a matrix product."""

    name = "conv2d"
    points = 4
    skills = ("convolution", "backpropagation")
    hints = (
        "What shape has `F.unfold(x, k)`, and how must the weight be flattened to meet it?",
        "Forward: `weight.flatten(1) @ patches + bias[:, None]`, then give the last axis its two sizes back.",
        "Backward, with grad flattened to `(batch, c_out, positions)`: `grad @ patches.mT` summed over the batch, "
        "`F.fold(weight.flatten(1).T @ grad, …)`, and the sum over batch and positions.",
    )

    SHAPES = ((2, 3, 7, 5, 4, 3, 1, 1), (1, 1, 4, 6, 2, 1, 1, 0), (3, 2, 8, 9, 5, 3, 2, 1), (2, 4, 5, 5, 1, 5, 1, 0),
              (1, 2, 6, 7, 3, 2, 3, 2))  # fmt: skip

    def cases(self, rng):
        """x, weight, bias, stride and padding of several convolutions."""
        for batch, c_in, h, w, c_out, k, stride, padding in self.SHAPES:
            x, weight, bias = normal(rng, batch, c_in, h, w), normal(rng, c_out, c_in, k, k), normal(rng, c_out)
            yield x, weight, bias, stride, padding

    def test_forward(self, lab, rng):
        """conv2d equals PyTorch's, also for wide pictures, strides and padding"""
        for x, weight, bias, stride, padding in self.cases(rng):
            got = lab.conv2d(x, weight, bias, stride, padding)
            assert_close(got, F.conv2d(x, weight, bias, stride, padding), **CLOSE)

    def test_gradients_of_weight_and_bias(self, lab, rng):
        """conv2d_backward gives the gradients of weight and bias"""
        for x, weight, bias, stride, padding in self.cases(rng):
            weight.requires_grad_()
            bias.requires_grad_()
            y = F.conv2d(x, weight, bias, stride, padding)
            upstream = normal(rng, *y.shape)
            expected = torch.autograd.grad(y, [weight, bias], upstream)
            got = lab.conv2d_backward(upstream, x, weight.detach(), stride, padding)
            assert_close(tuple(got)[1:], expected, **CLOSE)

    def test_gradient_of_x(self, lab, rng):
        """and that of x, where patches overlap and where they do not"""
        for x, weight, bias, stride, padding in self.cases(rng):
            leaf = x.clone().requires_grad_()
            y = F.conv2d(leaf, weight, bias, stride, padding)
            upstream = normal(rng, *y.shape)
            (expected,) = torch.autograd.grad(y, [leaf], upstream)
            assert_close(lab.conv2d_backward(upstream, x, weight, stride, padding)[0], expected, **CLOSE)

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own convolutions, and without autograd on the way back"""
        x, weight = normal(rng, 2, 3, 6, 6), normal(rng, 4, 3, 3, 3)
        with forbid(*CONVOLUTIONS):
            y = lab.conv2d(x, weight, torch.zeros(4), 1, 1)
        with forbid(*CONVOLUTIONS, "convolution_backward", "autograd"):
            lab.conv2d_backward(torch.ones_like(y), x, weight, 1, 1)

    @guard
    def test_default_arguments(self, lab, rng):
        """stride 1 and no padding are the defaults"""
        x, weight, bias = normal(rng, 1, 2, 5, 4), normal(rng, 3, 2, 2, 2), normal(rng, 3)
        y = lab.conv2d(x, weight, bias)
        assert_close(y, F.conv2d(x, weight, bias), **CLOSE)
        upstream = normal(rng, *y.shape)
        got, expected = (lab.conv2d_backward(upstream, x, weight, *given) for given in ((), (1, 0)))
        assert_close(tuple(got), tuple(expected))

    def workload(self, lab, size, rng):
        x, weight, bias = normal(rng, 2 * size, 4, 24, 24), normal(rng, 8, 4, 3, 3), normal(rng, 8)
        grad = normal(rng, 2 * size, 8, 24, 24)
        return lambda: (lab.conv2d(x, weight, bias, 1, 1), lab.conv2d_backward(grad, x, weight, 1, 1))


def residual(weights: dict[str, Tensor], x: Tensor, stride: int, training: bool) -> Tensor:
    """The block by functions; running averages are copied, not changed."""

    def norm(name: str, h: Tensor) -> Tensor:
        mean, var = (weights[f"{name}.running_{what}"].clone() for what in ("mean", "var"))
        return F.batch_norm(h, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"], training)

    h = torch.relu(norm("bn1", F.conv2d(x, weights["conv1.weight"], stride=stride, padding=1)))
    h = norm("bn2", F.conv2d(h, weights["conv2.weight"], padding=1))
    if "shortcut.0.weight" in weights:
        x = norm("shortcut.1", F.conv2d(x, weights["shortcut.0.weight"], stride=stride))
    return torch.relu(h + x)


class TestResidualBlock(Exercise):
    """A residual block."""

    points = 3
    skills = ("cnn", "residual", "modules")
    hints = (
        "When does the sum of branch and input not fit, and what makes it fit?",
        "`conv1` carries the stride, and so does the 1×1 convolution of the shortcut; `conv2` has stride 1.",
        "`torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))`.",
    )

    CASES = ((3, 3, 1, 6, 5), (2, 4, 1, 5, 5), (4, 4, 2, 7, 6), (3, 5, 2, 8, 4))

    def test_evaluation(self, lab, rng):
        """in evaluation mode it is the formula, with every kind of shortcut"""
        for c_in, c_out, stride, h, w in self.CASES:
            block = filled(lab.ResidualBlock(c_in, c_out, stride), rng).eval()
            x = normal(rng, 2, c_in, h, w)
            assert_close(block(x), residual(dict(block.state_dict()), x, stride, False), rtol=1e-3, atol=1e-3)

    def test_training(self, lab, rng):
        """in training mode too, with the statistics of the batch"""
        for c_in, c_out, stride, h, w in self.CASES:
            block = filled(lab.ResidualBlock(c_in, c_out, stride), rng).train()
            x = normal(rng, 3, c_in, h, w)
            expected = residual({n: t.clone() for n, t in block.state_dict().items()}, x, stride, True)
            assert_close(block(x), expected, rtol=1e-3, atol=1e-3)

    def test_gradients(self, lab, rng):
        """a gradient reaches every parameter and the input"""
        block = filled(lab.ResidualBlock(2, 4, 2), rng)
        x = normal(rng, 3, 2, 6, 6).requires_grad_()
        upstream = normal(rng, 3, 4, 3, 3)
        gradients = torch.autograd.grad(block(x), [x, *block.parameters()], upstream, allow_unused=True)
        missing = [n for n, g in zip(["x", *dict(block.named_parameters())], gradients, strict=True) if g is None]
        assert not missing, f"expected a gradient everywhere, got none for {', '.join(missing)}"
        leaf = x.detach().clone().requires_grad_()
        (expected,) = torch.autograd.grad(residual(dict(block.state_dict()), leaf, 2, True), [leaf], upstream)
        assert_close(gradients[0], expected, rtol=1e-3, atol=1e-3)

    @guard
    def test_names(self, lab, rng):
        """has the parameters that the text names, and no more"""
        for arguments, has_shortcut in (((3, 3), False), ((3, 4), True), ((3, 3, 2), True)):
            expected = {"conv1.weight", "conv2.weight", "bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias"}
            if has_shortcut:
                expected |= {"shortcut.0.weight", "shortcut.1.weight", "shortcut.1.bias"}
            got = {n for n, _ in lab.ResidualBlock(*arguments).named_parameters()}
            assert got == expected, f"expected {sorted(expected)} for ResidualBlock{arguments}, got {sorted(got)}"

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        block, x = lab.ResidualBlock(2, 2), normal(rng, 2, 2, 4, 4)
        before = x.clone()
        block(x)
        assert_close(x, before)

    def workload(self, lab, size, rng):
        block, x = lab.ResidualBlock(8, 16, 2), normal(rng, 4 * size, 8, 16, 16)
        return lambda: block(x).sum().backward()

    def architecture(self, lab, rng):
        return lab.SmallResNet(10), (normal(rng, 64, 1, 28, 28),)


def variants(image: Tensor, shift: int) -> dict[tuple[int, int, bool], Tensor]:
    """Every picture that `augment` may make of one: by rows moved down, columns moved right, and whether mirrored."""
    _, h, w = image.shape
    found = {}
    for down, right in itertools.product(range(-shift, shift + 1), repeat=2):
        moved = torch.zeros_like(image)
        moved[:, max(down, 0) : h + min(down, 0), max(right, 0) : w + min(right, 0)] = image[
            :, max(-down, 0) : h + min(-down, 0), max(-right, 0) : w + min(-right, 0)
        ]
        found[down, right, False], found[down, right, True] = moved, moved.flip(-1)
    return found


class TestAugment(Exercise):
    """Augmentation."""

    points = 2
    skills = ("augmentation",)
    hints = (
        "How could you get all shifted versions of a picture out of one padded picture?",
        "Draw a corner for each picture from 0 to 2 · shift, and cut a window of the old size out of the padded one.",
        "`torch.randint(0, 2 * shift + 1, (n, 2), generator=generator)`; `flip(-1)` where `torch.rand(n, …) < 0.5`.",
    )

    def drawn(self, lab, rng, shift, n):
        """What was done to each of `n` copies of one picture, as indices into all variants; -1 for none of them."""
        image = normal(rng, 2, 6, 5)
        results = lab.augment(image.expand(n, 2, 6, 5), shift, torch.Generator().manual_seed(7))
        assert results.shape == (n, 2, 6, 5), f"expected shape {(n, 2, 6, 5)}, got {tuple(results.shape)}"
        possible = torch.stack(list(variants(image, shift).values()))
        matches = (results[:, None] == possible).flatten(2).all(-1)
        return torch.where(matches.any(1), matches.int().argmax(1), -1)

    def test_only_shifts_and_mirrors(self, lab, rng):
        """every result is the picture, moved by up to shift pixels, zeros moving in, mirrored or not"""
        for shift in (1, 2):
            drawn = self.drawn(lab, rng, shift, 60)
            assert_close((drawn >= 0).float().mean(), torch.tensor(1.0))
            assert len(drawn.unique()) > 8, f"expected many variants among 60, got {len(drawn.unique())}"

    def test_all_equally_often(self, lab, rng):
        """each of the shifts and mirrors comes equally often, and by itself for each picture"""
        drawn = self.drawn(lab, rng, 1, 1800)
        counts = torch.bincount(drawn.clamp(min=0), minlength=18).double()
        # 100 of each are expected, with a deviation of about 10.
        assert_close(counts, torch.full((18,), 100.0).double(), rtol=0.0, atol=55.0)

    def test_no_shift(self, lab, rng):
        """with shift 0 there are only mirrors, about half of them"""
        drawn = self.drawn(lab, rng, 0, 400)
        assert_close((drawn == 1).double().mean(), torch.tensor(0.5).double(), rtol=0.0, atol=0.13)

    @guard
    def test_generator(self, lab, rng):
        """takes all randomness from the generator"""
        images = normal(rng, 30, 1, 6, 6)
        torch.manual_seed(1)
        first = lab.augment(images, 2, torch.Generator().manual_seed(5))
        torch.manual_seed(2)
        again = lab.augment(images, 2, torch.Generator().manual_seed(5))
        other = lab.augment(images, 2, torch.Generator().manual_seed(6))
        assert torch.equal(first, again), "expected the same result from the same generator, whatever the global seed"
        assert not torch.equal(first, other), "expected another result from another generator, got the same"

    @guard
    def test_leaves_input_alone(self, lab, rng):
        """does not change its input"""
        images = normal(rng, 10, 1, 4, 4)
        before = images.clone()
        lab.augment(images, 1, torch.Generator().manual_seed(0))
        assert_close(images, before)

    def workload(self, lab, size, rng):
        images, generator = normal(rng, 32 * size, 1, 28, 28), torch.Generator().manual_seed(1)
        return lambda: lab.augment(images, 2, generator)


class Tiny(nn.Module):
    """A classifier whose training mode is visible, with features and a head."""

    def __init__(self, rng: torch.Generator, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh())
        self.head = nn.Linear(4, classes)
        filled(self, rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class TestTrainEpoch(Exercise):
    """Train it."""

    points = 2
    skills = ("training-loop", "cnn")
    hints = (
        "In which order do the rows come, and how many are in the last batch?",
        "`torch.randperm(n, generator=generator).split(batch_size)` gives the rows of each batch.",
        "Add up `loss.item() * len(rows)`, and divide by the number of rows at the end.",
    )

    def run_both(self, lab, rng, batch_size, momentum=0.9):
        """Weights and loss after one epoch, ours and by the book."""
        ours = Tiny(rng).eval()
        theirs = copy.deepcopy(ours).train()
        images, labels = normal(rng, 11, 1, 5, 5), torch.randint(3, (11,), generator=rng)
        for p in ours.parameters():
            p.grad = torch.full_like(p, 3.0)
        seed, optimizer = 4, torch.optim.SGD(ours.parameters(), 0.05, momentum)
        loss = lab.train_epoch(ours, images, labels, optimizer, batch_size, torch.Generator().manual_seed(seed))
        optimizer, total = torch.optim.SGD(theirs.parameters(), 0.05, momentum), 0.0
        for rows in torch.randperm(11, generator=torch.Generator().manual_seed(seed)).split(batch_size):
            optimizer.zero_grad()
            batch_loss = F.cross_entropy(theirs(images[rows]), labels[rows])
            batch_loss.backward()
            optimizer.step()
            total += batch_loss.item() * len(rows)
        return ours, theirs, loss, total / 11

    def test_weights(self, lab, rng):
        """leaves the weights and running averages where the steps lead"""
        for batch_size in (4, 11, 3):
            ours, theirs, _, _ = self.run_both(lab, rng, batch_size)
            assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=1e-3, atol=1e-4)

    def test_loss(self, lab, rng):
        """returns the mean loss per row, a float"""
        for batch_size in (4, 8):
            _, _, loss, expected = self.run_both(lab, rng, batch_size)
            assert isinstance(loss, float), f"expected a float, got {type(loss).__name__}"
            assert_close(torch.tensor(loss), torch.tensor(expected), rtol=1e-4, atol=1e-4)

    @guard
    def test_each_row_once(self, lab, rng):
        """shows each row once, in training mode"""
        seen, model = [], Tiny(rng).eval()
        model.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, inputs[0][:, 0, 0, 0])))
        images = torch.arange(10.0)[:, None, None, None].expand(10, 1, 4, 4)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        lab.train_epoch(
            model, images, torch.zeros(10, dtype=torch.int64), optimizer, 4, torch.Generator().manual_seed(1)
        )
        rows = torch.cat([r for _, r in seen]).sort().values
        assert_close(rows, torch.arange(10.0))
        assert all(mode for mode, _ in seen), "expected training mode in every step"

    def workload(self, lab, size, rng):
        model, images = Tiny(rng), normal(rng, 32 * size, 1, 6, 6)
        labels, generator = torch.arange(len(images)) % 3, torch.Generator().manual_seed(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        return lambda: lab.train_epoch(model, images, labels, optimizer, 32, generator)


class TestConfusionMatrix(Exercise):
    """Where is it wrong?"""

    points = 2
    skills = ("evaluation",)
    hints = (
        "If each cell of the matrix had a number, which one would a row with true class i and prediction j fall into?",
        "`torch.bincount(labels * classes + predictions, minlength=classes**2)`. Which rows are mistakes?",
        "`wrong = (logits.argmax(1) != labels).nonzero()[:, 0]`; sort these by the cross-entropy of their row.",
    )

    def test_matrix(self, lab, rng):
        """counts true classes in rows and predictions in columns, also of classes that never occur"""
        for n, classes in ((50, 3), (7, 6), (1, 2)):
            labels, predictions = (torch.randint(classes - 1, (n,), generator=rng) for _ in range(2))
            expected = torch.zeros(classes, classes, dtype=torch.int64)
            for i, j in zip(labels.tolist(), predictions.tolist(), strict=True):
                expected[i, j] += 1
            assert_close(lab.confusion_matrix(labels, predictions, classes), expected)

    def test_worst_mistakes(self, lab, rng):
        """lists the mistakes with the least probable true class, the worst first"""
        logits, labels = 3 * normal(rng, 40, 4), torch.randint(4, (40,), generator=rng)
        probability = logits.double().softmax(1)[torch.arange(40), labels]
        wrong = [i for i in probability.argsort().tolist() if logits[i].argmax() != labels[i]]
        for k in (1, 5, len(wrong)):
            assert_close(lab.worst_mistakes(logits, labels, k), torch.tensor(wrong[:k]))

    def test_fewer_mistakes(self, lab, rng):
        """lists fewer where there are fewer, and only mistakes"""
        logits, labels = torch.eye(5) * 0.1, torch.arange(5)
        logits[3] = torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0])
        assert_close(lab.worst_mistakes(logits, labels, 4), torch.tensor([3]))

    @guard
    def test_no_loop(self, lab, rng):
        """confusion_matrix does not loop over rows"""
        from grading.exercise import count_calls

        counts = []
        for n in (10, 400):
            labels, predictions = (torch.randint(3, (n,), generator=rng) for _ in range(2))
            with count_calls() as calls:
                lab.confusion_matrix(labels, predictions, 3)
            counts.append(sum(calls.values()))
        assert counts[1] <= counts[0] + 5, (
            f"expected as many operations for 400 rows as for 10, got {counts[1]} and {counts[0]}"
        )

    def workload(self, lab, size, rng):
        logits, labels = normal(rng, 4096 * size, 10), torch.randint(0, 10, (4096 * size,), generator=rng)
        return lambda: (lab.confusion_matrix(labels, logits.argmax(1), 10), lab.worst_mistakes(logits, labels, 20))


class TestGradCam(Exercise):
    """What did it look at?"""

    points = 3
    skills = ("interpretability", "gradients", "cnn")
    hints = (
        "Of which tensor do you need the gradient, and which function gives it without touching any parameter?",
        "`torch.autograd.grad(score, [maps])`; average over height and width for one weight per channel.",
        "relu of the weighted sum of the maps over channels, divided by its maximum if that is above 0; detach.",
    )

    def expected(self, model, image, target):
        model = copy.deepcopy(model).eval()
        maps = model.features(image[None]).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(maps.mean((2, 3)))[0, target], [maps])
        cam = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0]).detach()
        return cam / cam.max() if cam.max() > 0 else cam

    def test_map(self, lab, rng):
        """is the map of the formula, from 0 to 1"""
        for h, w in ((5, 5), (4, 7)):
            model, image = Tiny(rng), normal(rng, 1, h, w)
            for target in (0, 2):
                assert_close(lab.grad_cam(model, image, target).detach(), self.expected(model, image, target), **CLOSE)

    def test_any_head(self, lab, rng):
        """uses gradients, so that a head that is not linear is right too"""
        model = Tiny(rng)
        model.head = filled(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), rng)
        image = normal(rng, 1, 5, 6)
        assert_close(lab.grad_cam(model, image, 1).detach(), self.expected(model, image, 1), **CLOSE)

    def test_nothing_speaks_for_it(self, lab, rng):
        """is all zeros where nothing speaks for the class, and works on a frozen network"""
        model = Tiny(rng).requires_grad_(False)
        model.features[2] = nn.Sigmoid()
        with torch.no_grad():
            model.head.weight[0] = -1.0
            model.head.weight[1] = 1.0
        image = normal(rng, 1, 4, 4)
        assert_close(lab.grad_cam(model, image, 0).detach(), torch.zeros(4, 4))
        assert_close(lab.grad_cam(model, image, 1).detach(), self.expected(model, image, 1), **CLOSE)

    @guard
    def test_leaves_no_trace(self, lab, rng):
        """is off the tape, and leaves gradients, mode, statistics and image as they were"""
        for training in (True, False):
            model, image = Tiny(rng).train(training), normal(rng, 1, 5, 5)
            before, pixels = copy.deepcopy(model.state_dict()), image.clone()
            cam = lab.grad_cam(model, image, 1)
            assert not cam.requires_grad, "expected a map off the tape, got one that requires grad"
            assert all(p.grad is None for p in model.parameters()), "expected no parameter to get a gradient"
            assert model.training is training, f"expected training={training} afterwards, got {model.training}"
            assert_close(dict(model.state_dict()), dict(before))
            assert_close(image, pixels)
            assert not image.requires_grad, "expected the image as it was, got one that requires grad"

    def workload(self, lab, size, rng):
        model, image = Tiny(rng), normal(rng, 1, 64 * size, 64)
        return lambda: lab.grad_cam(model, image, 1)


class TestAdapt(Exercise):
    """Use it again."""

    points = 2
    skills = ("transfer", "parameters", "normalisation")
    hints = (
        "Which parameters must not move, and which has a fresh `nn.Linear`?",
        "Freeze first with `model.requires_grad_(False)`, then replace the head. How many inputs has the old one?",
        "For each of `model.modules()`: own = `list(module.parameters(recurse=False))`; "
        "`module.training = not own or any(p.requires_grad for p in own)`.",
    )

    def test_adapt(self, lab, rng):
        """freezes all but a fresh head with the classes asked for"""
        model = Tiny(rng)
        features = copy.deepcopy(model.features.state_dict())
        old = model.head.weight.clone()
        returned = lab.adapt(model, 7)
        assert_close(torch.tensor(model.head.weight.shape), torch.tensor([7, 4]))
        learning = [n for n, p in model.named_parameters() if p.requires_grad]
        assert learning == ["head.weight", "head.bias"], f"expected the head alone to learn, got {learning}"
        assert {id(p) for p in returned} == {id(p) for p in model.head.parameters()}, "expected the head's parameters"
        assert_close(dict(model.features.state_dict()), dict(features))
        assert not torch.equal(model.head.weight[:3], old), "expected a fresh head, got the old one's weights"

    def test_train_mode(self, lab, rng):
        """train_mode keeps frozen parts in evaluation mode, and their running statistics as they are"""
        model = nn.Sequential(Tiny(rng), nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Linear(3, 3))
        model[0].requires_grad_(False)
        for start in (True, False):
            model.train(start)
            lab.train_mode(model)
            modes = {n: m.training for n, m in model.named_modules()}
            expected = {n: n not in {"0.features.0", "0.features.1", "0.head"} for n in modes}
            wrong = sorted(n or "the whole" for n in modes if modes[n] != expected[n])
            assert not wrong, f"expected frozen modules alone in evaluation mode, got the other mode for {wrong}"
        before = model[0].features[1].running_mean.clone()
        model(normal(rng, 4, 1, 5, 5) + 3)
        assert_close(model[0].features[1].running_mean, before)
        assert not torch.equal(model[2].running_mean, torch.zeros(3)), "expected the other norm to go on learning"

    @guard
    def test_partly_frozen(self, lab, rng):
        """a module of which one own parameter learns is in training mode"""
        layer = nn.BatchNorm1d(2)
        layer.weight.requires_grad_(False)
        model = nn.Sequential(layer)
        lab.train_mode(model.eval())
        assert layer.training, "expected training mode for a module of which a parameter still learns"

    @guard
    def test_device_and_dtype(self, lab, rng):
        """the new head has the device and the dtype of the old one"""
        model = Tiny(rng).to("meta")
        lab.adapt(model, 2)
        assert model.head.weight.device.type == "meta", f"expected the device meta, got {model.head.weight.device}"
        model = Tiny(rng).double()
        lab.adapt(model, 2)
        assert model.head.weight.dtype == torch.float64, f"expected torch.float64, got {model.head.weight.dtype}"


class TestMaxPool2d(Exercise):
    """Max pooling."""

    name = "max_pool2d"
    points = 2
    side_quest = True
    skills = ("pooling", "convolution")
    hints = (
        "`x.unfold(dim, size, step)` makes windows along one axis. How often do you need it?",
        "After two of them the shape is `(batch, c, h_out, w_out, kernel, kernel)`.",
        "Flatten the last two axes, and take the maximum over them.",
    )

    def test_values(self, lab, rng):
        """equals PyTorch's, with overlapping windows and leftovers too"""
        for h, w, kernel, stride in ((6, 6, 2, 2), (7, 5, 3, 1), (8, 9, 2, 3), (5, 4, 4, 4)):
            x = normal(rng, 2, 3, h, w) - 2
            assert_close(lab.max_pool2d(x, kernel, stride), F.max_pool2d(x, kernel, stride))

    def test_gradients(self, lab, rng):
        """gradients go to the largest elements"""
        for kernel, stride in ((2, 2), (3, 1)):
            x = normal(rng, 2, 2, 6, 7).requires_grad_()
            y = F.max_pool2d(x, kernel, stride)
            upstream = normal(rng, *y.shape)
            (expected,) = torch.autograd.grad(y, [x], upstream)
            (got,) = torch.autograd.grad(lab.max_pool2d(x, kernel, stride), [x], upstream)
            assert_close(got, expected)

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own pooling"""
        x = normal(rng, 1, 1, 4, 4)
        with forbid("max_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d", "max_pool1d", "max_pool3d"):
            lab.max_pool2d(x, 2, 2)

    def workload(self, lab, size, rng):
        x = normal(rng, 16 * size, 4, 28, 28)
        return lambda: lab.max_pool2d(x, 2, 2)

"""Checkers of Lab 4: custom loss functions."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator

import torch
from sklearn.metrics import average_precision_score, precision_recall_curve
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from grading.exercise import Exercise, forbid, guard

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
REDUCTIONS = ("none", "sum", "mean")


def normal(rng: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=rng, dtype=dtype)


def integers(rng: torch.Generator, high: int, *shape: int) -> Tensor:
    """Random integers from 0 to `high - 1`."""
    return torch.randint(high, shape, generator=rng)


def gradient(loss: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor | None = None) -> Tensor:
    """The gradient of `loss(x)` with respect to `x`."""
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf, upstream)[0]


def assert_same_gradient(ours: Callable, theirs: Callable, x: Tensor) -> None:
    """The gradient is that of the reference in float64, and agrees with finite differences."""
    assert_close(gradient(ours, x), gradient(theirs, x), rtol=1e-6, atol=1e-8)
    agrees = torch.autograd.gradcheck(ours, x.detach().clone().requires_grad_(), raise_exception=False)
    assert agrees, "expected the gradient to agree with finite differences (`torch.autograd.gradcheck`), it does not"


def assert_left_alone(call: Callable, *inputs: Tensor) -> None:
    """`call(*inputs)` changes none of its inputs."""
    before = [t.clone() for t in inputs]
    call(*inputs)
    assert_close(list(inputs), before)


class TestCrossEntropy(Exercise):
    """Cross-entropy, smoothed and weighted."""

    points = 3
    skills = ("losses", "numerics")
    hints = (
        "How large is the target of the true class with smoothing, if every class gets the same extra share?",
        "`(1 - smoothing) * F.one_hot(targets, classes) + smoothing / classes` is q. Where do the weights come in?",
        "`-(weight * q * logits.log_softmax(-1)).sum(-1)` are the losses; the mean is their sum over that of "
        "`weight[targets]`.",
    )

    SHAPES = ((5, 4), (1, 3), (9, 2), (4, 7))

    def test_plain(self, lab, rng):
        """without smoothing and weights it is the cross-entropy, for every reduction"""
        for batch, classes in self.SHAPES:
            logits, targets = 3 * normal(rng, batch, classes), integers(rng, classes, batch)
            for how in REDUCTIONS:
                expected = F.cross_entropy(logits, targets, reduction=how)
                assert_close(lab.cross_entropy(logits, targets, reduction=how), expected, **CLOSE)
            assert_close(lab.cross_entropy(logits, targets), F.cross_entropy(logits, targets), **CLOSE)

    def test_smoothing(self, lab, rng):
        """smoothing gives each class ε/K, and the true one 1 − ε on top"""
        for (batch, classes), smoothing in zip(self.SHAPES, (0.1, 0.5, 1.0, 0.3), strict=True):
            logits, targets = 3 * normal(rng, batch, classes), integers(rng, classes, batch)
            for how in REDUCTIONS:
                expected = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction=how)
                assert_close(lab.cross_entropy(logits, targets, None, smoothing, how), expected, **CLOSE)

    def test_weights(self, lab, rng):
        """class weights multiply each class's term, and the mean divides by the weights of the true classes"""
        for (batch, classes), smoothing in zip(self.SHAPES, (0.0, 0.2, 0.0, 0.6), strict=True):
            logits, targets = 3 * normal(rng, batch, classes), integers(rng, classes, batch)
            weight = torch.rand(classes, generator=rng) * 5 + 0.1
            for how in REDUCTIONS:
                expected = F.cross_entropy(logits, targets, weight, label_smoothing=smoothing, reduction=how)
                assert_close(lab.cross_entropy(logits, targets, weight, smoothing, how), expected, **CLOSE)

    def test_gradient(self, lab, rng):
        """its gradient is that of the formula, and agrees with finite differences"""
        logits, targets = normal(rng, 4, 5, dtype=torch.float64), integers(rng, 5, 4)
        weight = torch.rand(5, generator=rng, dtype=torch.float64) + 0.5
        assert_same_gradient(
            lambda x: lab.cross_entropy(x, targets, weight, 0.2),
            lambda x: F.cross_entropy(x, targets, weight, label_smoothing=0.2),
            logits,
        )

    def test_extreme(self, lab, rng):
        """stays finite for logits of ±10,000, in value and gradient"""
        logits, targets = 1e4 * normal(rng, 6, 4).sign(), integers(rng, 4, 6)
        expected = F.cross_entropy(logits, targets, label_smoothing=0.1)
        assert_close(lab.cross_entropy(logits, targets, smoothing=0.1), expected, **CLOSE)
        theirs = gradient(lambda x: F.cross_entropy(x, targets, label_smoothing=0.1), logits)
        found = gradient(lambda x: lab.cross_entropy(x, targets, smoothing=0.1), logits)
        assert_close(found, theirs, rtol=2e-3, atol=2e-3)  # float32 has steps of 0.001 at 10,000

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own"""
        logits, targets = normal(rng, 3, 4), integers(rng, 4, 3)
        with forbid("cross_entropy", "cross_entropy_loss", "nll_loss", "nll_loss_nd", "nll_loss_forward"):
            lab.cross_entropy(logits, targets, smoothing=0.1)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        inputs = normal(rng, 3, 4), integers(rng, 4, 3), normal(rng, 4).exp()
        assert_left_alone(lambda *i: lab.cross_entropy(*i, 0.1), *inputs)

    def workload(self, lab, size, rng):
        logits, targets = normal(rng, 128 * size, 512).requires_grad_(), integers(rng, 512, 128 * size)
        return lambda: lab.cross_entropy(logits, targets, smoothing=0.1).backward()


def focal(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """The focal loss of each element in float64, by the formula as it is written."""
    z, positive = logits.double(), targets.bool()
    p_t = torch.where(positive, z, -z).sigmoid()
    alpha_t = torch.where(positive, torch.tensor(alpha).double(), torch.tensor(1 - alpha).double())
    return -alpha_t * (1 - p_t) ** gamma * p_t.log()


class TestFocalLoss(Exercise):
    """Focal loss."""

    points = 2
    skills = ("losses", "imbalance", "numerics")
    hints = (
        "If p is the sigmoid of a logit, of what is 1 − p the sigmoid?",
        "Turn the sign of the logit for negatives: then p_t is its sigmoid, in both cases. `F.logsigmoid` is its log.",
        "(1 − p_t)^γ is `(gamma * F.logsigmoid(-logits_t)).exp()`: no power, and so no infinite slope.",
    )

    def targets(self, rng, *shape, dtype=torch.float32):
        return integers(rng, 2, *shape).to(dtype)

    def test_values(self, lab, rng):
        """is −α_t (1 − p_t)^γ log p_t, for any shape, α and γ"""
        for *shape, alpha, gamma in (
            (7, 0.25, 2.0),
            (3, 4, 0.9, 1.0),
            (1, 0.5, 0.0),
            (2, 3, 2, 0.6, 3.5),
            (6, 0.1, 0.5),
        ):
            logits, targets = 2 * normal(rng, *shape), self.targets(rng, *shape)
            expected = focal(logits, targets, alpha, gamma).float()
            assert_close(lab.focal_loss(logits, targets, alpha, gamma, reduction="none"), expected, **CLOSE)

    def test_reductions_and_defaults(self, lab, rng):
        """by default α is 0.25, γ is 2, and the mean is the plain one"""
        logits, targets = 2 * normal(rng, 5, 3), self.targets(rng, 5, 3)
        expected = focal(logits, targets, 0.25, 2.0).float()
        assert_close(lab.focal_loss(logits, targets), expected.mean(), **CLOSE)
        assert_close(lab.focal_loss(logits, targets, reduction="sum"), expected.sum(), **CLOSE)

    def test_gradient(self, lab, rng):
        """its gradient is that of the formula, and agrees with finite differences"""
        logits, targets = normal(rng, 3, 4, dtype=torch.float64), self.targets(rng, 3, 4, dtype=torch.float64)
        for alpha, gamma in ((0.3, 2.0), (0.8, 0.5)):
            assert_same_gradient(
                lambda x, a=alpha, g=gamma: lab.focal_loss(x, targets, a, g, "sum"),
                lambda x, a=alpha, g=gamma: focal(x, targets, a, g).sum(),
                logits,
            )

    def test_extreme(self, lab, rng):
        """stays finite for logits up to ±10,000, in value and gradient, also with γ below 1"""
        logits = torch.tensor([30.0, 200.0, 1e4, -30.0, -200.0, -1e4]).repeat(2)
        targets = torch.tensor([1.0, 0.0]).repeat_interleave(6)
        wrong = torch.where(targets.bool(), (-logits).clamp(min=0), logits.clamp(min=0))
        slope = torch.where(wrong > 0, 1 - 2 * targets, 0.0)
        for gamma in (0.0, 0.5, 2.0):
            assert_close(lab.focal_loss(logits, targets, 0.5, gamma, "none"), wrong / 2, **CLOSE)
            found = gradient(lambda x, g=gamma: lab.focal_loss(x, targets, 0.5, g, "sum"), logits)
            assert_close(found, slope / 2, **CLOSE)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        assert_left_alone(lab.focal_loss, normal(rng, 3, 4), self.targets(rng, 3, 4))

    def workload(self, lab, size, rng):
        logits, targets = normal(rng, 64 * size, 512).requires_grad_(), self.targets(rng, 64 * size, 512)
        return lambda: lab.focal_loss(logits, targets).backward()


def distillation(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float) -> Tensor:
    """The loss by PyTorch's own functions."""
    q, p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    soft = F.kl_div(q, p, reduction="batchmean", log_target=True)
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student, labels)


class TestDistillationLoss(Exercise):
    """Distillation."""

    points = 2
    needs = ("cross_entropy",)
    skills = ("losses", "distillation")
    hints = (
        "Which of the two distributions do you average over, and which logarithms appear inside?",
        "Take `log_softmax` of both logits divided by T; the divergence is summed over the classes, not averaged.",
        "`(p.exp() * (p - q)).sum(-1).mean()` with log-probabilities p of the detached teacher and q of the student.",
    )

    def case(self, rng, batch, classes, dtype=torch.float32):
        student, teacher = 2 * normal(rng, batch, classes, dtype=dtype), 3 * normal(rng, batch, classes, dtype=dtype)
        return student, teacher, integers(rng, classes, batch)

    def test_teacher_alone(self, lab, rng):
        """with alpha = 1 it is T² times the divergence of student from teacher, summed over classes"""
        for batch, classes, temperature in ((4, 5, 4.0), (1, 3, 1.0), (7, 2, 10.0)):
            case = self.case(rng, batch, classes)
            found = lab.distillation_loss(*case, temperature=temperature, alpha=1.0)
            assert_close(found, distillation(*case, temperature, 1.0), **CLOSE)

    def test_labels_alone(self, lab, rng):
        """with alpha = 0 it is the cross-entropy of the labels, at temperature 1"""
        for batch, classes in ((4, 5), (1, 3)):
            case = self.case(rng, batch, classes)
            assert_close(lab.distillation_loss(*case, alpha=0.0), F.cross_entropy(case[0], case[2]), **CLOSE)

    def test_both(self, lab, rng):
        """alpha is the share of the teacher; by default it is a half, at temperature 4"""
        case = self.case(rng, 6, 4)
        assert_close(lab.distillation_loss(*case, 2.5, 0.8), distillation(*case, 2.5, 0.8), **CLOSE)
        assert_close(lab.distillation_loss(*case), distillation(*case, 4.0, 0.5), **CLOSE)

    def test_gradient(self, lab, rng):
        """the student's gradient is that of the formula, and agrees with finite differences"""
        student, teacher, labels = self.case(rng, 3, 4, torch.float64)
        assert_same_gradient(
            lambda x: lab.distillation_loss(x, teacher, labels, 3.0, 0.7),
            lambda x: distillation(x, teacher, labels, 3.0, 0.7),
            student,
        )

    def test_extreme(self, lab, rng):
        """stays finite for logits of ±10,000, in value and gradient"""
        student, teacher, labels = self.case(rng, 5, 3)
        student, teacher = 1e4 * student.sign(), 1e4 * teacher.sign()
        assert_close(
            lab.distillation_loss(student, teacher, labels, 2.0),
            distillation(student, teacher, labels, 2.0, 0.5),
            **CLOSE,
        )
        found = gradient(lambda x: lab.distillation_loss(x, teacher, labels, 2.0), student)
        assert_close(found, gradient(lambda x: distillation(x, teacher, labels, 2.0, 0.5), student), **CLOSE)

    @guard
    def test_teacher_learns_nothing(self, lab, rng):
        """no gradient reaches the teacher"""
        student, teacher, labels = self.case(rng, 4, 3)
        student.requires_grad_()
        teacher.requires_grad_()
        lab.distillation_loss(student, teacher, labels).backward()
        pushed = 0.0 if teacher.grad is None else teacher.grad.abs().sum().item()
        assert pushed == 0, f"expected no gradient for the teacher, got one of sum {pushed:.3g}"

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        assert_left_alone(lab.distillation_loss, *self.case(rng, 4, 3))

    def workload(self, lab, size, rng):
        student, teacher, labels = self.case(rng, 64 * size, 512)
        student.requires_grad_()
        return lambda: lab.distillation_loss(student, teacher, labels).backward()


def contrastive(a: Tensor, b: Tensor, temperature: float | Tensor) -> Tensor:
    """Symmetric InfoNCE by PyTorch's own functions."""
    logits = F.cosine_similarity(a[:, None], b, dim=-1) / temperature
    partner = torch.arange(len(a))
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


class TestInfoNce(Exercise):
    """InfoNCE: find your partner."""

    points = 2
    needs = ("cross_entropy",)
    skills = ("losses", "contrastive")
    hints = (
        "Row i of the similarities has n entries, one of them right. Which one, and what loss is that?",
        "`F.normalize` makes cosines out of a matrix product; divide by the temperature; the target of row i is i.",
        "`(cross_entropy(s, partner) + cross_entropy(s.T, partner)) / 2` with `partner = torch.arange(n)`.",
    )

    def test_values(self, lab, rng):
        """is the mean of both directions, with cosines divided by the temperature"""
        for n, d, temperature in ((5, 3, 0.07), (4, 8, 0.5), (7, 2, 1.0), (3, 4, 2.0)):
            a, b = 3 * normal(rng, n, d), normal(rng, d, n).T
            found = lab.info_nce(a, b, temperature=temperature)
            assert_close(found, contrastive(a, b, temperature), rtol=1e-4, atol=1e-4)
        assert_close(lab.info_nce(a, b), contrastive(a, b, 0.07), rtol=1e-4, atol=1e-4)

    def test_one_sided(self, lab, rng):
        """left rows that share a favourite are punished in the other direction"""
        b = torch.eye(4)
        a = b + torch.tensor([0.0, 0.0, 0.0, 0.9]) * torch.rand(4, 1, generator=rng)
        assert_close(lab.info_nce(a, b, 0.1), contrastive(a, b, 0.1), rtol=1e-4, atol=1e-4)
        assert_close(lab.info_nce(b, a, 0.1), contrastive(a, b, 0.1), rtol=1e-4, atol=1e-4)

    def test_gradients(self, lab, rng):
        """gradients flow to both sides and to the temperature, and agree with finite differences"""
        a, b = normal(rng, 4, 3, dtype=torch.float64), normal(rng, 4, 3, dtype=torch.float64)
        assert_same_gradient(lambda x: lab.info_nce(x, b, 0.3), lambda x: contrastive(x, b, 0.3), a)
        assert_same_gradient(lambda x: lab.info_nce(a, x, 0.3), lambda x: contrastive(a, x, 0.3), b)
        temperature = torch.tensor(0.4, dtype=torch.float64)
        assert_same_gradient(lambda t: lab.info_nce(a, b, t), lambda t: contrastive(a, b, t), temperature)

    def test_extreme(self, lab, rng):
        """stays finite for a tiny temperature, a row of zeros, and a batch of one pair"""
        a, b = normal(rng, 5, 3), normal(rng, 5, 3)
        a[2] = 0
        for temperature in (0.07, 1e-3):
            found = lab.info_nce(a, b, temperature)
            assert_close(found, contrastive(a, b, temperature), rtol=1e-3, atol=1e-3)
            slope = gradient(lambda x, t=temperature: lab.info_nce(x, b, t), a)
            assert slope.isfinite().all(), f"expected finite gradients with a row of zeros, got {slope.tolist()}"
        assert_close(lab.info_nce(a[:1], b[:1]), torch.tensor(0.0), **CLOSE)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        assert_left_alone(lab.info_nce, normal(rng, 4, 3), normal(rng, 4, 3))

    def workload(self, lab, size, rng):
        a, b = normal(rng, 64 * size, 64).requires_grad_(), normal(rng, 64 * size, 64).requires_grad_()
        return lambda: lab.info_nce(a, b).backward()


def triplets_of(distances: Tensor, labels: Tensor, margin: float) -> Iterator[tuple[int, int, int]]:
    """Semi-hard triplets, one pair after the other."""
    n = len(labels)
    for a, p in itertools.permutations(range(n), 2):
        if labels[a] == labels[p]:
            near, far = distances[a, p], distances[a, p] + margin
            fitting = [i for i in range(n) if labels[i] != labels[a] and near < distances[a, i] < far]
            if fitting:
                yield a, p, min(fitting, key=lambda i: distances[a, i].item())


def mean_over_triplets(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """The triplet loss, one triplet after the other."""
    chosen = list(triplets_of(torch.cdist(embeddings.detach(), embeddings.detach()), labels, margin))
    losses = [
        (embeddings[a] - embeddings[p]).norm() - (embeddings[a] - embeddings[n]).norm() + margin for a, p, n in chosen
    ]
    return torch.stack(losses).mean() if losses else embeddings.sum() * 0


class TestSemiHard(Exercise):
    """Triplets that are worth the trouble."""

    points = 3
    skills = ("losses", "contrastive", "masks")
    hints = (
        "How do you list all ordered pairs of different rows with the same label, as two index tensors?",
        "For pairs `(a, p)`, `distances[a]` is `(pairs, n)`: mask what is semi-hard, and put the rest at infinity.",
        "`to_others.masked_fill(~fits, torch.inf).argmin(1)`, and keep the pairs with `fits.any(1)`. The loss is a sum "
        "divided by `max(len(a), 1)`.",
    )

    def test_mining(self, lab, rng):
        """finds the nearest semi-hard negative of every ordered pair"""
        for n, classes, margin in ((9, 3, 0.5), (12, 2, 1.0), (7, 4, 5.0), (8, 2, 0.2)):
            labels, points = integers(rng, classes, n), normal(rng, n, 2, dtype=torch.float64)
            distances = torch.cdist(points, points)
            found = lab.semi_hard(distances, labels, margin)
            assert found.shape[1:] == (3,), f"expected shape (triplets, 3), got {tuple(found.shape)}"
            expected = torch.tensor(list(triplets_of(distances, labels, margin)), dtype=torch.int64).reshape(-1, 3)
            assert_close(torch.tensor(sorted(found.tolist()), dtype=found.dtype).reshape(-1, 3), expected)

    def test_strict(self, lab, rng):
        """takes both inequalities strictly, and leaves out pairs without a semi-hard negative"""
        # From 0, with the positive at 2: negatives at 1 (hard), 2 (a tie), 5 (on the margin), 4 (semi-hard).
        line = torch.tensor([[0.0], [2.0], [-1.0], [-2.0], [-5.0], [-4.0]])
        for kept, expected in (([0, 1, 2, 3, 4], None), ([0, 1, 2, 3, 4, 5], [0, 1, 5])):
            distances = torch.cdist(line[kept], line[kept])
            labels = torch.tensor([0, 0, 1, 2, 3, 4])[: len(kept)]
            found = [row for row in lab.semi_hard(distances, labels, 3.0).tolist() if row[0] == 0]
            wanted = [] if expected is None else [expected]
            assert found == wanted, f"expected the triplets {wanted} with anchor 0, got {found}"

    def test_loss(self, lab, rng):
        """the loss is the mean over the triplets, with distances that are not squared"""
        for n, d, classes, margin in ((10, 3, 3, 0.7), (8, 2, 2, 0.2), (6, 4, 2, 3.0)):
            embeddings, labels = 2 * normal(rng, n, d, dtype=torch.float64), torch.arange(n) % classes
            found = lab.triplet_loss(embeddings, labels, margin)
            assert_close(found, mean_over_triplets(embeddings, labels, margin), rtol=1e-6, atol=1e-7)
        assert_close(lab.triplet_loss(embeddings, labels), mean_over_triplets(embeddings, labels, 0.2))

    def test_gradient(self, lab, rng):
        """its gradient is that of the formula, and agrees with finite differences"""
        embeddings, labels = normal(rng, 7, 3, dtype=torch.float64), torch.arange(7) % 3
        assert_same_gradient(
            lambda x: lab.triplet_loss(x, labels, 2.0), lambda x: mean_over_triplets(x, labels, 2.0), embeddings
        )

    def test_extreme(self, lab, rng):
        """rows that coincide give finite gradients; without a triplet the loss is 0 and so are all gradients"""
        embeddings, labels = normal(rng, 6, 3, dtype=torch.float64), torch.tensor([0, 0, 1, 1, 1, 0])
        embeddings[1] = embeddings[0]
        margin = 4.0
        found = gradient(lambda x: lab.triplet_loss(x, labels, margin), embeddings)
        assert_close(found, gradient(lambda x: mean_over_triplets(x, labels, margin), embeddings))
        for none in (torch.zeros(6, 3, dtype=torch.float64), embeddings):
            ids = labels if none is not embeddings else torch.arange(6)
            assert_close(lab.triplet_loss(none, ids, 1.0), torch.tensor(0.0).double())
            assert_close(gradient(lambda x, i=ids: lab.triplet_loss(x, i, 1.0), none), torch.zeros_like(none))

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        points, labels = normal(rng, 6, 2), torch.arange(6) % 2
        assert_left_alone(lambda *i: lab.semi_hard(*i, 1.0), torch.cdist(points, points), labels)
        assert_left_alone(lambda *i: lab.triplet_loss(*i, 1.0), points, labels)

    def workload(self, lab, size, rng):
        embeddings, labels = normal(rng, 24 * size, 32).requires_grad_(), integers(rng, 4, 24 * size)
        return lambda: lab.triplet_loss(embeddings, labels, 1.0).backward()


def read(path: tuple[int, ...], blank: int) -> list[int]:
    """How a path reads, one step after the other."""
    merged = [c for i, c in enumerate(path) if i == 0 or c != path[i - 1]]
    return [c for c in merged if c != blank]


def by_all_paths(logits: Tensor, target: list[int], blank: int) -> Tensor:
    """The CTC loss of one row `(time, classes)` as the sum over every path that reads as `target`."""
    log_p, time = logits.log_softmax(-1), torch.arange(len(logits))
    paths = [p for p in itertools.product(range(logits.shape[1]), repeat=len(logits)) if read(p, blank) == target]
    return -torch.stack([log_p[time, list(p)].sum() for p in paths]).logsumexp(0)


def torch_ctc(logits: Tensor, targets: Tensor, *lengths: Tensor, **options: object) -> Tensor:
    """PyTorch's own, batch first and from logits."""
    return F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), targets, *lengths, **options)


class TestCtcLoss(Exercise):
    """CTC: all alignments at once."""

    points = 4
    skills = ("losses", "numerics", "seq2seq")
    hints = (
        "After step t, from which positions of the labels with blanks can a path have come to position s?",
        "Shift α by one and by two with `NEVER` moving in; mask the second where the label is blank or equals the one "
        "two before; `logsumexp` of the three, plus the log-probability of the label at s.",
        "`F.pad(alpha, (1, -1), value=NEVER)` shifts. `torch.where((t < input_lengths)[:, None], new, alpha)` ends "
        "rows. At the end, `logsumexp` over positions `2 * target_lengths` and the one before.",
    )

    def case(self, rng, batch, time, classes, most, dtype=torch.float32, blank=0):
        """Logits, targets without blanks and with many repeats, and lengths that fit."""
        logits = 2 * normal(rng, batch, time, classes, dtype=dtype)
        targets = integers(rng, min(classes - 1, 2), batch, most)
        targets = targets + (targets >= blank)
        target_lengths = integers(rng, most + 1, batch)
        repeats = [(row[1:n] == row[: max(n - 1, 0)]).sum() for row, n in zip(targets, target_lengths, strict=True)]
        needed = (target_lengths + torch.stack(repeats)).clamp(min=1)
        input_lengths = needed + (torch.rand(batch, generator=rng) * (time - needed + 1)).long()
        return logits, targets, input_lengths, target_lengths

    def test_collapse(self, lab, rng):
        """a path reads with repeats merged first and blanks dropped then"""
        for blank in (0, 2):
            for length in (0, 1, 8, 15):
                path = integers(rng, 3, length).tolist()
                found = lab.collapse(path, blank)
                assert list(found) == read(tuple(path), blank), (
                    f"expected {path} with blank {blank} to read as {read(tuple(path), blank)}, got {found}"
                )
        found = lab.collapse([1, 1, 0, 1, 0, 0, 2, 2])
        assert list(found) == [1, 1, 2], f"expected [1, 1, 0, 1, 0, 0, 2, 2] to read as [1, 1, 2], got {found}"

    def test_every_path(self, lab, rng):
        """the loss of one row is that of all paths that read as its target, listed one by one"""
        for target in ([1], [1, 2], [1, 1], [2, 2, 1], []):
            logits = normal(rng, 1, 5, 3, dtype=torch.float64)
            targets = torch.tensor([target + [1] * (3 - len(target))])
            found = lab.ctc_loss(logits, targets, torch.tensor([5]), torch.tensor([len(target)]), reduction="sum")
            assert_close(found, by_all_paths(logits[0], target, 0))

    def test_reductions(self, lab, rng):
        """equals F.ctc_loss for any lengths, blanks and reductions; the mean divides by the targets' lengths first"""
        for shape, blank in (((5, 9, 4, 3), 0), ((4, 12, 6, 5), 5), ((1, 7, 3, 2), 1), ((6, 8, 3, 4), 2)):
            case = self.case(rng, *shape, blank=blank)
            for how in REDUCTIONS:
                expected = torch_ctc(*case, blank=blank, reduction=how)
                assert_close(lab.ctc_loss(*case, blank=blank, reduction=how), expected, **CLOSE)
        case = self.case(rng, 3, 8, 4, 3)
        assert_close(lab.ctc_loss(*case), torch_ctc(*case), **CLOSE)

    def test_gradient(self, lab, rng):
        """its gradient with respect to the logits is that of F.ctc_loss, and agrees with finite differences"""
        logits, *rest = self.case(rng, 3, 7, 4, 3, torch.float64)
        for how in ("mean", "sum"):
            assert_same_gradient(
                lambda x, h=how: lab.ctc_loss(x, *rest, reduction=h), lambda x, h=how: torch_ctc(x, *rest, reduction=h),
                logits,
            )  # fmt: skip

    def test_too_short(self, lab, rng):
        """a row that is too short has an infinite loss, or with zero_infinity none, and does not hurt the others"""
        logits = normal(rng, 4, 4, 3, dtype=torch.float64)
        targets = torch.tensor([[1, 1, 1], [1, 2, 1], [2, 2, 1], [1, 1, 2]])
        lengths = torch.tensor([4, 2, 4, 2]), torch.tensor([3, 3, 3, 2])
        expected = torch_ctc(logits, targets, *lengths, reduction="none")
        found = lab.ctc_loss(logits, targets, *lengths, reduction="none")
        assert_close(found.isinf(), expected.isinf())
        assert_close(found[2], expected[2])
        expected = torch_ctc(logits, targets, *lengths, reduction="none", zero_infinity=True)
        assert_close(lab.ctc_loss(logits, targets, *lengths, reduction="none", zero_infinity=True), expected)
        slopes = (
            gradient(lambda x, f=f: f(x, targets, *lengths, reduction="sum", zero_infinity=True), logits)
            for f in (lab.ctc_loss, torch_ctc)
        )
        assert_close(*slopes)

    def test_extreme(self, lab, rng):
        """stays finite for logits of ±10,000 and for 300 steps, in value and gradient"""
        for logits in (1e4 * normal(rng, 2, 6, 4).sign(), 3 * normal(rng, 2, 300, 4)):
            time = logits.shape[1]
            rest = torch.tensor([[1, 1, 2], [3, 2, 0]]), torch.tensor([time, time - 1]), torch.tensor([3, 2])
            assert_close(lab.ctc_loss(logits, *rest), torch_ctc(logits, *rest), rtol=1e-4, atol=1e-3)
            found = gradient(lambda x, r=rest: lab.ctc_loss(x, *r), logits)
            expected = gradient(lambda x, r=rest: torch_ctc(x.double(), *r), logits)
            assert_close(found, expected, rtol=1e-3, atol=1e-3)

    @guard
    def test_no_builtin(self, lab, rng):
        """does without F.ctc_loss"""
        case = self.case(rng, 2, 6, 3, 2)
        with forbid("ctc_loss", "cudnn_ctc_loss"):
            lab.ctc_loss(*case)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        assert_left_alone(lab.ctc_loss, *self.case(rng, 3, 6, 3, 2))

    def workload(self, lab, size, rng):
        logits, *rest = self.case(rng, 8, 16 * size, 20, 4)
        logits.requires_grad_()
        return lambda: lab.ctc_loss(logits, *rest, zero_infinity=True).backward()


class Mixed(nn.Module):
    """Parameters of every kind: a kernel, matrices, an embedding, norms, a scale, a scalar, one shared, one frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(2, 3, 3)
        self.norm = nn.LayerNorm(3)
        self.batch_norm = nn.BatchNorm1d(3)
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embedding.weight
        self.scale = nn.Parameter(torch.ones(3))
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.bias_table = nn.Parameter(torch.ones(3, 3))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


class TestParameterGroups(Exercise):
    """Who is decayed?"""

    points = 1
    skills = ("optimizers", "parameters")
    hints = (
        "What do biases, gains of norms and scales have in common that matrices, kernels and embeddings have not?",
        "`p.dim()` counts axes. Which parameters should an optimizer never see at all?",
        'Two list comprehensions over the parameters that require grad: `{"params": [...], "weight_decay": ...}` each.',
    )

    DECAYED = ("bias_table", "convolution.weight", "embedding.weight")
    FREE = (
        "batch_norm.bias", "batch_norm.weight", "convolution.bias", "head.bias", "norm.bias", "norm.weight", "scale",
        "temperature",
    )  # fmt: skip

    def names(self, model: nn.Module, group: dict) -> list[str]:
        known = {id(p): name for name, p in model.named_parameters()}
        return sorted(known.get(id(p), "something else") for p in group["params"])

    def test_groups(self, lab, rng):
        """the first group has what has two axes or more, the second the rest, each once, nothing frozen"""
        model = Mixed()
        groups = lab.parameter_groups(model, 0.1)
        assert len(groups) == 2, f"expected two groups, got {len(groups)}"
        for group, expected in zip(groups, (self.DECAYED, self.FREE), strict=True):
            found = self.names(model, group)
            assert found == list(expected), f"expected {list(expected)}, got {found}"

    def test_decay(self, lab, rng):
        """the first group has the decay that is asked for, the second 0"""
        for decay in (0.1, 0.03):
            found = [group["weight_decay"] for group in lab.parameter_groups(Mixed(), decay)]
            assert_close(torch.tensor(found), torch.tensor([decay, 0.0]))

    def test_step(self, lab, rng):
        """under AdamW with zero gradients only the first group shrinks"""
        model = Mixed()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer = torch.optim.AdamW(lab.parameter_groups(model, 0.5), lr=0.1)
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        expected = {name: p * 0.95 if name in self.DECAYED else p for name, p in before.items()}
        assert_close({name: p.detach() for name, p in model.named_parameters()}, expected)


class TestPrecisionRecall(Exercise):
    """The payoff: one coat in a hundred."""

    points = 3
    skills = ("imbalance", "evaluation")
    hints = (
        "If the rows are sorted by score, how many hits are among the first k, for all k at once?",
        "`labels[order].cumsum(0)` counts hits; divide by k for precision, by the last for recall. Of equal scores "
        "only the last entry counts.",
        "`last[:-1] = scores[:-1] != scores[1:]` keeps one entry for each score. F1 where precision and recall are 0 "
        "is NaN: `nan_to_num`.",
    )

    def case(self, rng, n, levels=None, dtype=torch.float32):
        """Scores, with few levels many of them equal, and labels that include a 1."""
        scores = normal(rng, n, dtype=dtype) if levels is None else integers(rng, levels, n).to(dtype) - 1.0
        labels = (torch.rand(n, generator=rng) < 0.3).long()
        labels[integers(rng, n)] = 1
        return scores, labels

    def expected(self, scores: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """scikit-learn's curve, the highest threshold first, without the point that it adds at recall 0."""
        precision, recall, thresholds = precision_recall_curve(labels.numpy(), scores.double().numpy())
        curve = (precision[:-1], recall[:-1], thresholds)
        return tuple(torch.from_numpy(column[::-1].copy()).to(scores.dtype) for column in curve)

    def test_curve(self, lab, rng):
        """gives precision and recall for each score as a threshold, the highest first"""
        for n in (12, 1, 30, 5):
            case = self.case(rng, n)
            assert_close(tuple(lab.precision_recall(*case)), self.expected(*case), **CLOSE)

    def test_ties(self, lab, rng):
        """rows with equal scores are reported together"""
        for n, levels in ((20, 4), (9, 2), (6, 1)):
            case = self.case(rng, n, levels, torch.float64)
            assert_close(tuple(lab.precision_recall(*case)), self.expected(*case), **CLOSE)

    def test_average_precision(self, lab, rng):
        """the average precision is a sum of steps"""
        for n, levels in ((25, None), (40, 6), (3, None)):
            scores, labels = self.case(rng, n, levels)
            precision, recall, _ = self.expected(scores, labels)
            found = lab.average_precision(precision, recall)
            assert isinstance(found, float), f"expected a float, got {type(found).__name__}"
            expected = average_precision_score(labels.numpy(), scores.numpy())
            assert_close(torch.tensor(found), torch.tensor(float(expected)), **CLOSE)

    def test_best_threshold(self, lab, rng):
        """the best threshold has the largest F1, and of equals it is the highest"""
        for n, levels in ((25, None), (40, 6), (8, 3)):
            scores, labels = self.case(rng, n, levels)
            best, most = 0.0, -1.0
            for threshold in sorted(set(scores.tolist()), reverse=True):
                reported = scores >= threshold
                f1 = 2 * (reported & (labels == 1)).sum().item() / (reported.sum() + labels.sum()).item()
                if f1 > most + 1e-9:
                    best, most = threshold, f1
            found = lab.best_threshold(scores, labels)
            assert isinstance(found, float), f"expected a float, got {type(found).__name__}"
            assert_close(torch.tensor(found), torch.tensor(best))

    def test_wrong_on_top(self, lab, rng):
        """the best threshold is found also where the highest scores are wrong"""
        scores = torch.tensor([0.9, 0.7, 0.8, 0.2, 0.5, 0.1]) + torch.rand((), generator=rng)
        for labels, expected in (([0, 1, 0, 0, 1, 0], 4), ([0, 0, 0, 1, 0, 0], 3)):
            found = lab.best_threshold(scores, torch.tensor(labels))
            assert_close(torch.tensor(found), scores[expected])

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        assert_left_alone(lab.precision_recall, *self.case(rng, 10, 3))
        assert_left_alone(lab.best_threshold, *self.case(rng, 10, 3))

    def workload(self, lab, size, rng):
        scores, labels = self.case(rng, 20_000 * size)
        return lambda: lab.average_precision(*lab.precision_recall(scores, labels)[:2])


class TestHuber(Exercise):
    """Huber."""

    points = 2
    side_quest = True
    skills = ("losses", "numerics")
    hints = (
        "At which residual do the two pieces meet, and do their values and slopes agree there?",
        "Both branches of `torch.where` are computed, also the one that is not chosen. Can you avoid the large square?",
        "With `near = size.clamp(max=delta)` both cases are `near * (size - near / 2)`.",
    )

    def test_values(self, lab, rng):
        """is quadratic up to δ and linear beyond, for every reduction"""
        for *shape, delta in ((7, 1.0), (3, 4, 0.3), (1, 2.5)):
            prediction, target = 2 * normal(rng, *shape), 2 * normal(rng, *shape)
            for how in REDUCTIONS:
                expected = F.huber_loss(prediction, target, reduction=how, delta=delta)
                assert_close(lab.huber(prediction, target, delta, how), expected, **CLOSE)
            assert_close(lab.huber(prediction, target), F.huber_loss(prediction, target), **CLOSE)

    def test_gradient(self, lab, rng):
        """its gradient is that of the formula, to both arguments, and agrees with finite differences"""
        prediction, target = 2 * normal(rng, 5, 3, dtype=torch.float64), 2 * normal(rng, 5, 3, dtype=torch.float64)
        assert_same_gradient(
            lambda x: lab.huber(x, target, 0.7), lambda x: F.huber_loss(x, target, delta=0.7), prediction
        )
        assert_same_gradient(
            lambda x: lab.huber(prediction, x, 0.7), lambda x: F.huber_loss(prediction, x, delta=0.7), target
        )

    def test_extreme(self, lab, rng):
        """stays finite for residuals of 10³⁰, in value and gradient, and at 0"""
        residuals = torch.tensor([1e30, -1e30, 0.0, 1.5, -1.5])
        expected = torch.tensor([2e30, 2e30, 0.0, 1.125, 1.125])
        assert_close(lab.huber(residuals, torch.zeros(5), 2.0, "none"), expected)
        found = gradient(lambda x: lab.huber(x, torch.zeros(5), 2.0, "sum"), residuals)
        assert_close(found, torch.tensor([2.0, -2.0, 0.0, 1.5, -1.5]))

    @guard
    def test_no_builtin(self, lab, rng):
        """does without PyTorch's own"""
        prediction, target = normal(rng, 4), normal(rng, 4)
        with forbid("huber_loss", "smooth_l1_loss"):
            lab.huber(prediction, target)

    @guard
    def test_leaves_inputs_alone(self, lab, rng):
        """does not change its inputs"""
        assert_left_alone(lab.huber, normal(rng, 4), normal(rng, 4))

    def workload(self, lab, size, rng):
        prediction, target = normal(rng, 128 * size, 512).requires_grad_(), normal(rng, 128 * size, 512)
        return lambda: lab.huber(prediction, target).backward()


class TestUncertaintyWeighting(Exercise):
    """Several losses, and who sets their weights."""

    points = 2
    side_quest = True
    skills = ("losses", "modules")
    hints = (
        "Why is the logarithm of the variance learned, and not the variance?",
        "`log_variance` is an `nn.Parameter` of zeros; a loss is multiplied by `exp(-log_variance)`.",
        "`(losses * (-self.log_variance).exp() + self.log_variance).sum() / 2`.",
    )

    def module(self, lab, rng, n, dtype=torch.float64):
        weighting = lab.UncertaintyWeighting(n).to(dtype)
        with torch.no_grad():
            weighting.log_variance.copy_(normal(rng, n, dtype=dtype))
        return weighting

    def formula(self, losses: Tensor, s: Tensor) -> Tensor:
        return sum((losses[i] / s[i].exp() + s[i]) / 2 for i in range(len(losses)))

    def test_values(self, lab, rng):
        """divides each loss by twice its variance, and adds half the logarithm"""
        for n in (3, 1, 5):
            weighting, losses = self.module(lab, rng, n), normal(rng, n, dtype=torch.float64).exp()
            assert_close(weighting(losses), self.formula(losses, weighting.log_variance))

    def test_gradients(self, lab, rng):
        """gradients flow to the losses and to the variances"""
        weighting, losses = self.module(lab, rng, 4), normal(rng, 4, dtype=torch.float64).exp().requires_grad_()
        found = torch.autograd.grad(weighting(losses), [losses, weighting.log_variance])
        s = weighting.log_variance.detach()
        assert_close(list(found), [(-s).exp() / 2, (1 - losses.detach() * (-s).exp()) / 2])

    def test_start(self, lab, rng):
        """at the start every variance is 1, so it is half the sum of the losses"""
        losses = normal(rng, 3).exp()
        assert_close(lab.UncertaintyWeighting(3)(losses), losses.sum() / 2)

    @guard
    def test_registered(self, lab, rng):
        """log_variance is its one parameter"""
        found = {name: tuple(p.shape) for name, p in lab.UncertaintyWeighting(3).named_parameters()}
        assert found == {"log_variance": (3,)}, f"expected log_variance (3,) alone, got {found}"


class TestLayerwiseGroups(Exercise):
    """Rates by layer."""

    points = 2
    side_quest = True
    skills = ("optimizers", "parameters")
    hints = (
        "Which layer has the full rate, and from which end do you count?",
        "First keep only the layers with parameters that require grad; then number them.",
        "Of n such layers, number i has `lr * decay ** (n - 1 - i)`.",
    )

    def layers(self) -> list[nn.Module]:
        frozen = nn.Linear(2, 2).requires_grad_(False)
        half = nn.Linear(2, 3)
        half.bias.requires_grad_(False)
        return [nn.Linear(4, 2), nn.ReLU(), frozen, nn.Sequential(half, nn.Tanh()), nn.LayerNorm(3), nn.Dropout(0.1)]

    def test_rates(self, lab, rng):
        """rates fall by the factor from each layer to the one before; what does not learn does not count"""
        for lr, decay in ((1e-2, 0.5), (0.3, 0.8)):
            groups = lab.layerwise_groups(self.layers(), lr, decay)
            assert_close(torch.tensor([g["lr"] for g in groups]), torch.tensor([lr * decay**2, lr * decay, lr]))
        alone = lab.layerwise_groups([nn.Linear(2, 1)], 0.1, 0.5)
        assert_close(torch.tensor([g["lr"] for g in alone]), torch.tensor([0.1]))

    def test_parameters(self, lab, rng):
        """each group has the parameters of its layer that require grad"""
        layers = self.layers()
        groups = lab.layerwise_groups(layers, 0.1, 0.5)
        found = [{id(p) for p in group["params"]} for group in groups]
        expected = [{id(p) for p in layers[i].parameters() if p.requires_grad} for i in (0, 3, 4)]
        sizes = [len(ids) for ids in found]
        assert sizes == [2, 1, 2], f"expected groups of 2, 1 and 2 parameters, got {sizes}"
        assert found == expected, "expected the parameters of the layers in their order, got others"

    def test_step(self, lab, rng):
        """an optimizer moves each layer by its rate"""
        layers = [nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)]
        before = [layers[i].weight.detach().clone() for i in (0, 2)]
        optimizer = torch.optim.SGD(lab.layerwise_groups(layers, 0.1, 0.25), lr=9.0)
        for layer in (layers[0], layers[2]):
            layer.weight.grad = torch.ones_like(layer.weight)
        optimizer.step()
        found = [layers[i].weight.detach() for i in (0, 2)]
        assert_close(found, [before[0] - 0.025, before[1] - 0.1])


class Tracked(nn.Module):
    """A tied weight, a running average and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)


class TestEma(Exercise):
    """A slow copy."""

    name = "ema"
    points = 2
    side_quest = True
    skills = ("optimizers", "parameters", "buffers")
    hints = (
        "What must the copy not share with the model, and what must it not do when a gradient flows?",
        "`copy.deepcopy(model)`, `requires_grad_(False)`, `eval()`. Parameters are averaged, buffers copied.",
        "Under `no_grad`: `average.lerp_(parameter, 1 - decay)` for pairs of parameters, `copy_` for pairs of buffers.",
    )

    def moved(self, model: nn.Module, rng: torch.Generator) -> None:
        """Other numbers in every parameter and buffer of `model`."""
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.copy_(normal(rng, *tensor.shape) if tensor.is_floating_point() else tensor + 3)

    def test_average(self, lab, rng):
        """the average of the parameters follows with the decay, also that of a shared one"""
        for decay in (0.9, 0.5):
            model = Tracked()
            ema = lab.EMA(model, decay)
            expected = [p.detach().clone() for p in model.parameters()]
            for _ in range(3):
                self.moved(model, rng)
                ema.update(model)
                pairs = zip(expected, model.parameters(), strict=True)
                expected = [decay * e + (1 - decay) * p.detach() for e, p in pairs]
            assert_close([p.detach() for p in ema.module.parameters()], expected)

    def test_buffers(self, lab, rng):
        """buffers are copied as they are"""
        model = Tracked()
        ema = lab.EMA(model, 0.9)
        for _ in range(2):
            self.moved(model, rng)
            ema.update(model)
        assert_close(dict(ema.module.named_buffers()), dict(model.named_buffers()))

    def test_default_and_start(self, lab, rng):
        """starts as the model, and follows with a decay of 0.999 by default"""
        model = nn.Linear(3, 2).double()
        ema = lab.EMA(model)
        start = model.weight.detach().clone()
        assert_close(ema.module.weight.detach(), start)
        self.moved(model, rng)
        ema.update(model)
        assert_close(ema.module.weight.detach(), 0.999 * start + 0.001 * model.weight.detach())

    @guard
    def test_copy(self, lab, rng):
        """the copy is in evaluation mode, requires no grad and keeps its memory; the model is as it was"""
        model = Tracked().train()
        ema = lab.EMA(model, 0.9)
        pointers = [t.data_ptr() for t in ema.module.state_dict().values()]
        self.moved(model, rng)
        before = copy.deepcopy(model.state_dict())
        ema.update(model)
        assert_close(dict(model.state_dict()), dict(before))
        assert [t.data_ptr() for t in ema.module.state_dict().values()] == pointers, "expected averages in place"
        shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in ema.module.parameters()}
        assert not shared, "expected no memory shared with the model"
        assert not any(m.training for m in ema.module.modules()), "expected the copy in evaluation mode"
        assert all(m.training for m in model.modules()), "expected the model to stay in training mode"
        assert not any(p.requires_grad for p in ema.module.parameters()), "expected a copy that requires no grad"
        assert all(p.requires_grad for p in model.parameters()), "expected the model still to require grad"


class TestSamStep(Exercise):
    """Sharpness-aware steps."""

    points = 3
    side_quest = True
    skills = ("optimizers", "gradients")
    hints = (
        "At which weights is the gradient taken that the optimizer uses, and at which weights does it start its step?",
        "Clone the weights, climb by `rho * p.grad / norm`, zero the gradients, backward again, copy back, step.",
        "The norm over everything: `torch.stack([p.grad.norm() for p in moved]).norm()`, plus a tiny number for zeros.",
    )

    def problem(self, rng):
        """A loss of two parameters that bends, and one that it does not know."""
        w, b, unused = (normal(rng, *shape, dtype=torch.float64).requires_grad_() for shape in ((3, 2), (2,), (2,)))
        x, y = normal(rng, 5, 3, dtype=torch.float64), normal(rng, 5, 2, dtype=torch.float64)
        return [w, b, unused], lambda: (torch.tanh(x @ w + b) - y).square().mean()

    def expected(self, parameters: list[Tensor], loss_of: Callable, rho: float) -> list[Tensor]:
        """The gradients at the top of the climb; the parameters are restored."""
        used = parameters[:2]
        first = torch.autograd.grad(loss_of(), used)
        norm = math.sqrt(sum(g.square().sum().item() for g in first))
        origin = [p.detach().clone() for p in used]
        with torch.no_grad():
            for p, g in zip(used, first, strict=True):
                p += rho * g / norm
        second = torch.autograd.grad(loss_of(), used)
        with torch.no_grad():
            for p, o in zip(used, origin, strict=True):
                p.copy_(o)
        return list(second)

    def test_step(self, lab, rng):
        """steps from where it was, with the gradient from the top of the climb"""
        for rho, rate in ((0.05, 0.1), (0.5, 0.3)):
            parameters, loss_of = self.problem(rng)
            second = self.expected(parameters, loss_of, rho)
            wanted = [p.detach() - rate * g for p, g in zip(parameters[:2], second, strict=True)]
            optimizer = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=rate)
            lab.sam_step(optimizer, loss_of, rho)
            assert_close([p.detach() for p in parameters[:2]], wanted)

    def test_several_steps(self, lab, rng):
        """gradients are fresh each time, and the optimizer keeps its momentum"""
        parameters, loss_of = self.problem(rng)
        twins = [p.detach().clone().requires_grad_() for p in parameters]
        velocity = [torch.zeros_like(p) for p in parameters[:2]]
        for p in parameters[:2]:
            p.grad = torch.ones_like(p)
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        for _ in range(3):
            second = self.expected(parameters, loss_of, 0.05)
            velocity = [0.9 * v + g for v, g in zip(velocity, second, strict=True)]
            wanted = [p.detach() - 0.1 * v for p, v in zip(parameters[:2], velocity, strict=True)]
            lab.sam_step(optimizer, loss_of)
            assert_close([p.detach() for p in parameters[:2]], wanted)
        assert_close(parameters[2].detach(), twins[2].detach())

    def test_returned_loss(self, lab, rng):
        """returns the loss before the step, detached"""
        parameters, loss_of = self.problem(rng)
        before = loss_of().detach()
        found = lab.sam_step(torch.optim.SGD(parameters, lr=0.1), loss_of, 0.1)
        assert_close(found, before)
        assert not found.requires_grad, "expected a detached loss, got one that requires grad"

    def test_zero_gradient(self, lab, rng):
        """a gradient of zero gives no NaN"""
        w = normal(rng, 4).requires_grad_()
        before = w.detach().clone()
        lab.sam_step(torch.optim.SGD([w], lr=0.1), lambda: (w - before).square().sum() ** 2, 0.1)
        assert_close(w.detach(), before)

    @guard
    def test_exactly_back(self, lab, rng):
        """the weights return exactly to where they were before the optimizer steps"""
        w = normal(rng, 300).requires_grad_()
        before = w.detach().clone()
        lab.sam_step(torch.optim.SGD([w], lr=0.0), lambda: w.sin().sum(), 0.3)
        assert_close(w.detach(), before, rtol=0.0, atol=0.0)

    @guard
    def test_calls(self, lab, rng):
        """computes the loss twice"""
        parameters, loss_of = self.problem(rng)
        calls = []
        lab.sam_step(torch.optim.SGD(parameters, lr=0.1), lambda: (calls.append(1), loss_of())[1], 0.1)
        assert len(calls) == 2, f"expected two calls of the loss, got {len(calls)}"

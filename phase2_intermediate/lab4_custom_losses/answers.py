"""Known answers to Lab 4: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · cross_entropy -----------------------------------------------------------------------------------------------


class TrueClassGetsTooLittle(Mistake):
    """You spread ε over the other K − 1 classes, so the true class has a target of 1 − ε. Every class gets ε/K, the
    true one too: 1 − ε + ε/K."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        classes = logits.shape[-1]
        weight = logits.new_ones(classes) if weight is None else weight
        onehot = F.one_hot(targets, classes)
        q = (1 - smoothing) * onehot + smoothing / (classes - 1) * (1 - onehot)
        losses = -(weight * q * logits.log_softmax(-1)).sum(-1)
        return losses.sum() / weight[targets].sum() if reduction == "mean" else reduced(losses, reduction)


class MeanOverRows(Mistake):
    """You divide by the number of rows. With class weights, the mean divides by the sum of the weights of the true
    classes."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        classes = logits.shape[-1]
        weight = logits.new_ones(classes) if weight is None else weight
        q = (1 - smoothing) * F.one_hot(targets, classes) + smoothing / classes
        return reduced(-(weight * q * logits.log_softmax(-1)).sum(-1), reduction)


class WeightOfTheTrueClass(Mistake):
    """You multiply a row's whole loss by the weight of its true class. Each class's term has the weight of that class,
    which shows as soon as there is smoothing."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        classes = logits.shape[-1]
        weight = logits.new_ones(classes) if weight is None else weight
        q = (1 - smoothing) * F.one_hot(targets, classes) + smoothing / classes
        losses = -(q * logits.log_softmax(-1)).sum(-1) * weight[targets]
        return losses.sum() / weight[targets].sum() if reduction == "mean" else reduced(losses, reduction)


class LogOfSoftmax(Mistake):
    """You take the logarithm of the softmax, and a probability that underflows to 0 gives −∞. `log_softmax` never
    forms it."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        classes = logits.shape[-1]
        weight = logits.new_ones(classes) if weight is None else weight
        q = (1 - smoothing) * F.one_hot(targets, classes) + smoothing / classes
        losses = -(weight * q * logits.softmax(-1).log()).sum(-1)
        return losses.sum() / weight[targets].sum() if reduction == "mean" else reduced(losses, reduction)


class SoftmaxTwice(Mistake):
    """You take the softmax of a softmax: it flattens everything, and the loss can hardly fall. `log_softmax` wants the
    logits."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        classes = logits.shape[-1]
        weight = logits.new_ones(classes) if weight is None else weight
        q = (1 - smoothing) * F.one_hot(targets, classes) + smoothing / classes
        losses = -(weight * q * logits.softmax(-1).log_softmax(-1)).sum(-1)
        return losses.sum() / weight[targets].sum() if reduction == "mean" else reduced(losses, reduction)


class SmoothingAddedOnTop(Mistake):
    """You add ε/K and keep a full 1 on the true class, so the targets add up to 1 + ε. What is spread must be taken
    away first: (1 − ε) · onehot."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        classes = logits.shape[-1]
        weight = logits.new_ones(classes) if weight is None else weight
        q = F.one_hot(targets, classes) + smoothing / classes
        losses = -(weight * q * logits.log_softmax(-1)).sum(-1)
        return losses.sum() / weight[targets].sum() if reduction == "mean" else reduced(losses, reduction)


class SoftmaxOverTheBatch(Mistake):
    """Your softmax runs over the batch. The classes are the last axis."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        classes = logits.shape[-1]
        weight = logits.new_ones(classes) if weight is None else weight
        q = (1 - smoothing) * F.one_hot(targets, classes) + smoothing / classes
        losses = -(weight * q * logits.log_softmax(0)).sum(-1)
        return losses.sum() / weight[targets].sum() if reduction == "mean" else reduced(losses, reduction)


class BuiltinCrossEntropy(Mistake):
    """You call PyTorch's own. Build it from `log_softmax` and the target q."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        return F.cross_entropy(logits, targets, weight, label_smoothing=smoothing, reduction=reduction)


class ByGathering(Alternative):
    """The true class gathered, all classes summed; no q as large as the logits."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        scores = logits - logits.logsumexp(dim=1, keepdim=True)
        weights = torch.ones_like(logits) if weight is None else weight.expand_as(logits)
        terms = -weights * scores
        true = terms.gather(1, targets[:, None]).squeeze(1)
        losses = (1 - smoothing) * true + smoothing * terms.mean(1)
        if reduction == "none":
            return losses
        if reduction == "sum":
            return losses.sum()
        return losses.sum() / weights.gather(1, targets[:, None]).sum()


class ByEinsum(Alternative):
    """Fancy indices for the targets, an einsum for the sum."""

    exercise = "cross_entropy"

    def cross_entropy(logits, targets, weight=None, smoothing=0.0, reduction="mean"):
        n, k = logits.shape
        q = torch.full_like(logits, smoothing / k)
        q[torch.arange(n), targets] += 1 - smoothing
        w = torch.ones_like(logits[0]) if weight is None else weight
        losses = torch.einsum("nk,nk,k->n", q, -torch.log_softmax(logits, 1), w)
        return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / w[targets].sum()}[reduction]


# --- 2 · focal_loss --------------------------------------------------------------------------------------------------


class SameAlphaForBoth(Mistake):
    """You multiply everything by α. Positives have α, negatives 1 − α."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        logits_t = (2 * targets - 1) * logits
        return reduced(-alpha * (gamma * F.logsigmoid(-logits_t)).exp() * F.logsigmoid(logits_t), reduction)


class PowerOfZero(Mistake):
    """You compute `(1 - p_t) ** gamma`. For a sure logit 1 − p_t is 0, and with γ below 1 the slope of its power is
    infinite: NaN. Exponentiate γ times the log-sigmoid of −logit instead."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        logits_t = (2 * targets - 1) * logits
        alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
        return reduced(-alpha_t * (1 - logits_t.sigmoid()) ** gamma * F.logsigmoid(logits_t), reduction)


class FocusOnTheEasy(Mistake):
    """You weigh by p_t^γ, so the easy examples count most. The factor is (1 − p_t)^γ."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        logits_t = (2 * targets - 1) * logits
        alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
        log_p = F.logsigmoid(logits_t)
        return reduced(-alpha_t * (gamma * log_p).exp() * log_p, reduction)


class PositiveProbabilityForBoth(Mistake):
    """Your factor is (1 − p)^γ with the probability of a positive for all. p_t is the probability of what is true: p
    for a positive, 1 − p for a negative."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
        log_p = F.logsigmoid((2 * targets - 1) * logits)
        return reduced(-alpha_t * (gamma * F.logsigmoid(-logits)).exp() * log_p, reduction)


class AlphaForNegatives(Mistake):
    """You give α to the negatives and 1 − α to the positives. It is the other way round."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        logits_t = (2 * targets - 1) * logits
        alpha_t = alpha * (1 - targets) + (1 - alpha) * targets
        return reduced(-alpha_t * (gamma * F.logsigmoid(-logits_t)).exp() * F.logsigmoid(logits_t), reduction)


class LogOfSigmoid(Mistake):
    """You take the logarithm of a sigmoid, and a probability that underflows to 0 gives −∞. `F.logsigmoid` never forms
    it."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        p_t = ((2 * targets - 1) * logits).sigmoid()
        alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
        return reduced(-alpha_t * (1 - p_t) ** gamma * p_t.log(), reduction)


class ModulationDetached(Mistake):
    """You detach the factor (1 − p_t)^γ. The values are right, but the gradient flows through it, too."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        logits_t = (2 * targets - 1) * logits
        alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
        factor = (gamma * F.logsigmoid(-logits_t)).exp().detach()
        return reduced(-alpha_t * factor * F.logsigmoid(logits_t), reduction)


class PerPositive(Mistake):
    """You divide by the number of positives, as detectors do. Here the mean is the plain one, over all elements."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        logits_t = (2 * targets - 1) * logits
        alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
        losses = -alpha_t * (gamma * F.logsigmoid(-logits_t)).exp() * F.logsigmoid(logits_t)
        return losses.sum() / targets.sum().clamp(min=1) if reduction == "mean" else reduced(losses, reduction)


class BySoftplus(Alternative):
    """Softplus, and `where` for the two cases."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        positive = targets > 0.5
        for_positives = alpha * torch.exp(-gamma * F.softplus(logits)) * F.softplus(-logits)
        for_negatives = (1 - alpha) * torch.exp(-gamma * F.softplus(-logits)) * F.softplus(logits)
        losses = torch.where(positive, for_positives, for_negatives)
        return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


class ByBinaryCrossEntropy(Alternative):
    """PyTorch's binary cross-entropy, which is −log p_t, and its complement."""

    exercise = "focal_loss"

    def focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="mean"):
        wrong = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        right = F.binary_cross_entropy_with_logits(logits, 1 - targets, reduction="none")
        alpha_t = torch.where(targets == 1, torch.full_like(logits, alpha), torch.full_like(logits, 1 - alpha))
        return reduced(alpha_t * torch.exp(-gamma * right) * wrong, reduction)


# --- 3 · distillation_loss -------------------------------------------------------------------------------------------


class NoSquaredTemperature(Mistake):
    """You leave out T². Softening divides the gradient by about T²; without the factor a higher temperature turns the
    teacher off."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = (teacher_logits.detach() / temperature).log_softmax(-1)
        q = (student_logits / temperature).log_softmax(-1)
        soft = (p.exp() * (p - q)).sum(-1).mean()
        return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


class MeanOverClasses(Mistake):
    """Your divergence is a mean over classes as well, which is what the default reduction of `F.kl_div` does. Sum over
    the classes, and average over the rows: "batchmean"."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = (teacher_logits.detach() / temperature).softmax(-1)
        q = (student_logits / temperature).log_softmax(-1)
        soft = (torch.xlogy(p, p) - p * q).mean()
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


class StudentAsReference(Mistake):
    """You compute KL(student ‖ teacher). It is the teacher's probabilities that the logarithms are averaged with:
    KL(teacher ‖ student)."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = (teacher_logits.detach() / temperature).log_softmax(-1)
        q = (student_logits / temperature).log_softmax(-1)
        soft = (q.exp() * (q - p)).sum(-1).mean()
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


class TeacherLearns(Mistake):
    """Your loss has a gradient for the teacher, who would come to meet the student half way. Detach its logits."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = (teacher_logits / temperature).log_softmax(-1)
        q = (student_logits / temperature).log_softmax(-1)
        soft = (p.exp() * (p - q)).sum(-1).mean()
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


class LabelsSoftened(Mistake):
    """You soften the student's logits for the labels, too. Their cross-entropy is taken at temperature 1."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = (teacher_logits.detach() / temperature).log_softmax(-1)
        q = (student_logits / temperature).log_softmax(-1)
        soft = (p.exp() * (p - q)).sum(-1).mean()
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits / temperature, labels)


class TeacherNotSoftened(Mistake):
    """You soften the student only. Both distributions are at temperature T, or the student cannot match the teacher."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = teacher_logits.detach().log_softmax(-1)
        q = (student_logits / temperature).log_softmax(-1)
        soft = (p.exp() * (p - q)).sum(-1).mean()
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


class AlphaForTheLabels(Mistake):
    """You give α to the labels. It is the share of the teacher."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = (teacher_logits.detach() / temperature).log_softmax(-1)
        q = (student_logits / temperature).log_softmax(-1)
        soft = (p.exp() * (p - q)).sum(-1).mean()
        return (1 - alpha) * temperature**2 * soft + alpha * F.cross_entropy(student_logits, labels)


class LogOfProbabilities(Mistake):
    """You take logarithms of probabilities, and where one underflows to 0 there is 0 · −∞. Take `log_softmax` of both
    logits."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = (teacher_logits.detach() / temperature).softmax(-1)
        q = (student_logits / temperature).softmax(-1)
        soft = (p * (p / q).log()).sum(-1).mean()
        return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


class ByKlDiv(Alternative):
    """PyTorch's divergence, with its own conventions."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        with torch.no_grad():
            teacher = F.softmax(teacher_logits / temperature, dim=-1)
        soft = F.kl_div(F.log_softmax(student_logits / temperature, dim=-1), teacher, reduction="batchmean")
        return temperature**2 * soft * alpha + F.cross_entropy(student_logits, labels) * (1 - alpha)


class BySoftCrossEntropy(Alternative):
    """Cross-entropy against the teacher minus the teacher's entropy."""

    exercise = "distillation_loss"

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.5):
        p = torch.softmax(teacher_logits.detach() / temperature, -1)
        crossed = F.cross_entropy(student_logits / temperature, p)
        entropy = -torch.xlogy(p, p).sum(-1).mean()
        return torch.lerp(F.cross_entropy(student_logits, labels), temperature**2 * (crossed - entropy), alpha)


# --- 4 · info_nce ----------------------------------------------------------------------------------------------------


class OneDirection(Mistake):
    """You ask in one direction only. Each right one must find its left one, too: the same loss of the transpose, and
    the mean of both."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        s = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature
        return F.cross_entropy(s, torch.arange(len(a)))


class TemperatureMultiplied(Mistake):
    """You multiply by the temperature, which flattens the softmax almost completely. The cosines are divided by it."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        s = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T * temperature
        y = torch.arange(len(a))
        return (F.cross_entropy(s, y) + F.cross_entropy(s.T, y)) / 2


class NotNormalised(Mistake):
    """You take plain products. A cosine needs rows of length 1: `F.normalize` both sides first."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        s = a @ b.T / temperature
        y = torch.arange(len(a))
        return (F.cross_entropy(s, y) + F.cross_entropy(s.T, y)) / 2


class SumOfDirections(Mistake):
    """You add the two directions. The loss is their mean."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        s = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature
        y = torch.arange(len(a))
        return F.cross_entropy(s, y) + F.cross_entropy(s.T, y)


class NormalisedOverTheBatch(Mistake):
    """You normalise columns. Each row is an embedding: normalise over the last axis."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        s = F.normalize(a, dim=0) @ F.normalize(b, dim=0).T / temperature
        y = torch.arange(len(a))
        return (F.cross_entropy(s, y) + F.cross_entropy(s.T, y)) / 2


class ZeroRowDivided(Mistake):
    """You divide by a norm that may be 0, and a row of zeros becomes NaN. `F.normalize` divides by at least a tiny
    number."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        s = (a / a.norm(dim=-1, keepdim=True)) @ (b / b.norm(dim=-1, keepdim=True)).T / temperature
        y = torch.arange(len(a))
        return (F.cross_entropy(s, y) + F.cross_entropy(s.T, y)) / 2


class TargetsDetached(Mistake):
    """You detach `b`, so only one side learns. Gradients flow to both."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        s = F.normalize(a, dim=-1) @ F.normalize(b.detach(), dim=-1).T / temperature
        y = torch.arange(len(a))
        return (F.cross_entropy(s, y) + F.cross_entropy(s.T, y)) / 2


class ByDiagonal(Alternative):
    """Log-sum-exps of rows and columns, minus the diagonal."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        s = F.cosine_similarity(a.unsqueeze(1), b.unsqueeze(0), dim=2) / temperature
        partners = torch.diagonal(s)
        return 0.5 * (s.logsumexp(0) + s.logsumexp(1) - 2 * partners).mean()


class ByBothLogSoftmaxes(Alternative):
    """Two log-softmaxes and a trace; norms clamped by hand."""

    exercise = "info_nce"

    def info_nce(a, b, temperature=0.07):
        a, b = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-8) for x in (a, b))
        s = torch.einsum("id,jd->ij", a, b) / temperature
        return -(s.log_softmax(0).trace() + s.log_softmax(1).trace()) / (2 * len(s))


# --- 5 · semi_hard ---------------------------------------------------------------------------------------------------


class HardestNegatives(Mistake):
    """You take the nearest of all negatives, also one that is nearer than the positive. Semi-hard ones are further
    away than the positive."""

    exercise = "semi_hard"

    def semi_hard(distances, labels, margin):
        same = labels[:, None] == labels
        anchors, positives = (same & ~torch.eye(len(labels), dtype=torch.bool)).nonzero().T
        ap, an = distances[anchors, positives][:, None], distances[anchors]
        fits = ~same[anchors] & (an < ap + margin)
        negatives = an.masked_fill(~fits, torch.inf).argmin(1)
        return torch.stack([anchors, positives, negatives], 1)[fits.any(1)]


class EasyOnesToo(Mistake):
    """You keep negatives that are further away than the margin. They have nothing to teach, and do not belong to the
    mean."""

    exercise = "semi_hard"

    def semi_hard(distances, labels, margin):
        same = labels[:, None] == labels
        anchors, positives = (same & ~torch.eye(len(labels), dtype=torch.bool)).nonzero().T
        ap, an = distances[anchors, positives][:, None], distances[anchors]
        fits = ~same[anchors] & (an > ap)
        negatives = an.masked_fill(~fits, torch.inf).argmin(1)
        return torch.stack([anchors, positives, negatives], 1)[fits.any(1)]


class SquaredDistances(Mistake):
    """Your distances are squared. They are Euclidean here, and the margin is measured in their unit."""

    exercise = "semi_hard"

    def triplet_loss(embeddings, labels, margin=0.2):
        distances = (embeddings[:, None] - embeddings).square().sum(-1)
        a, p, n = semi_hard(distances.detach(), labels, margin).T
        return (distances[a, p] - distances[a, n] + margin).sum() / max(len(a), 1)


class NanAtZero(Mistake):
    """You take the root of a sum of squares, whose slope at 0 is infinite: the diagonal alone makes all gradients NaN.
    `norm` and `cdist` have the gradient 0 there."""

    exercise = "semi_hard"

    def triplet_loss(embeddings, labels, margin=0.2):
        distances = (embeddings[:, None] - embeddings).square().sum(-1).sqrt()
        a, p, n = semi_hard(distances.detach(), labels, margin).T
        return (distances[a, p] - distances[a, n] + margin).sum() / max(len(a), 1)


class MeanOfNothing(Mistake):
    """Without a triplet you take the mean of nothing, which is NaN. Sum, and divide by at least 1."""

    exercise = "semi_hard"

    def triplet_loss(embeddings, labels, margin=0.2):
        distances = (embeddings[:, None] - embeddings).norm(dim=-1)
        a, p, n = semi_hard(distances.detach(), labels, margin).T
        return (distances[a, p] - distances[a, n] + margin).mean()


class FurthestSemiHard(Mistake):
    """You take the furthest of the semi-hard negatives. The nearest one teaches most."""

    exercise = "semi_hard"

    def semi_hard(distances, labels, margin):
        same = labels[:, None] == labels
        anchors, positives = (same & ~torch.eye(len(labels), dtype=torch.bool)).nonzero().T
        ap, an = distances[anchors, positives][:, None], distances[anchors]
        fits = ~same[anchors] & (an > ap) & (an < ap + margin)
        negatives = an.masked_fill(~fits, -torch.inf).argmax(1)
        return torch.stack([anchors, positives, negatives], 1)[fits.any(1)]


class EachPairOnce(Mistake):
    """You take each pair once. With the roles of anchor and positive exchanged it is another triplet: ordered pairs."""

    exercise = "semi_hard"

    def semi_hard(distances, labels, margin):
        same = labels[:, None] == labels
        anchors, positives = same.triu(1).nonzero().T
        ap, an = distances[anchors, positives][:, None], distances[anchors]
        fits = ~same[anchors] & (an > ap) & (an < ap + margin)
        negatives = an.masked_fill(~fits, torch.inf).argmin(1)
        return torch.stack([anchors, positives, negatives], 1)[fits.any(1)]


class OwnPositive(Mistake):
    """You let a row be its own positive, at distance 0. Anchor and positive are two different rows."""

    exercise = "semi_hard"

    def semi_hard(distances, labels, margin):
        same = labels[:, None] == labels
        anchors, positives = same.nonzero().T
        ap, an = distances[anchors, positives][:, None], distances[anchors]
        fits = ~same[anchors] & (an > ap) & (an < ap + margin)
        negatives = an.masked_fill(~fits, torch.inf).argmin(1)
        return torch.stack([anchors, positives, negatives], 1)[fits.any(1)]


class NotStrict(Mistake):
    """You admit negatives exactly as far away as the positive, or exactly at the margin. Both inequalities are
    strict."""

    exercise = "semi_hard"

    def semi_hard(distances, labels, margin):
        same = labels[:, None] == labels
        anchors, positives = (same & ~torch.eye(len(labels), dtype=torch.bool)).nonzero().T
        ap, an = distances[anchors, positives][:, None], distances[anchors]
        fits = ~same[anchors] & (an >= ap) & (an <= ap + margin)
        negatives = an.masked_fill(~fits, torch.inf).argmin(1)
        return torch.stack([anchors, positives, negatives], 1)[fits.any(1)]


class ByLoops(Alternative):
    """Loops over anchors and positives, and `cdist`."""

    exercise = "semi_hard"

    def semi_hard(distances, labels, margin):
        found = []
        for a in range(len(labels)):
            for p in range(len(labels)):
                if a == p or labels[a] != labels[p]:
                    continue
                row = distances[a].clone()
                row[(labels == labels[a]) | (row <= distances[a, p]) | (row >= distances[a, p] + margin)] = float("inf")
                if row.min() < float("inf"):
                    found.append((a, p, int(row.argmin())))
        return torch.tensor(found, dtype=torch.int64).view(-1, 3)

    def triplet_loss(embeddings, labels, margin=0.2):
        distances = torch.cdist(embeddings, embeddings)
        triplets = semi_hard(distances, labels, margin)
        if not len(triplets):
            return (embeddings * 0).sum()
        a, p, n = triplets.unbind(1)
        return F.relu(distances[a, p] - distances[a, n] + margin).mean()


class ByCube(Alternative):
    """One mask over all triples, and vectors instead of a matrix of distances."""

    exercise = "semi_hard"

    def semi_hard(distances, labels, margin):
        n = len(labels)
        same = labels.view(-1, 1) == labels.view(1, -1)
        gap = distances[:, None, :] - distances[:, :, None]
        mask = (
            (same & ~torch.eye(n, dtype=torch.bool, device=labels.device))[:, :, None] & ~same[:, None, :] & (gap > 0)
        )
        mask &= distances[:, None, :] < distances[:, :, None] + margin
        nearest = torch.where(mask, gap, torch.inf).min(-1)
        a, p = torch.where(mask.any(-1))
        return torch.stack((a, p, nearest.indices[a, p]), -1)

    def triplet_loss(embeddings, labels, margin=0.2):
        with torch.no_grad():
            a, p, n = semi_hard(torch.cdist(embeddings, embeddings), labels, margin).unbind(1)
        near = torch.linalg.vector_norm(embeddings[a] - embeddings[p], dim=1)
        far = torch.linalg.vector_norm(embeddings[a] - embeddings[n], dim=1)
        total = (near - far + margin).sum() + 0 * embeddings.sum()
        return total / len(a) if len(a) else total


# --- 6 · ctc_loss ----------------------------------------------------------------------------------------------------


class RepeatsMergedAcrossBlanks(Mistake):
    """You skip the blank between two equal labels. Then "aa" is found in paths that read "a": without a blank in
    between, repeats merge. Skip only if the label also differs from the one two before."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        batch, time, _ = logits.shape
        labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
        labels[:, 1::2] = targets
        may_skip = labels != blank
        log_p = logits.log_softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))
        alpha = F.pad(log_p[:, 0, :2], (0, labels.shape[1] - 2), value=NEVER)
        for t in range(1, time):
            step, skip = F.pad(alpha, (1, -1), value=NEVER), F.pad(alpha, (2, -2), value=NEVER)
            arrived = torch.stack([alpha, step, skip.masked_fill(~may_skip, NEVER)]).logsumexp(0)
            alpha = torch.where((t < input_lengths)[:, None], arrived + log_p[:, t], alpha)
        last, position = 2 * target_lengths[:, None], torch.arange(labels.shape[1])
        losses = -alpha.masked_fill((position != last) & (position != last - 1), NEVER).logsumexp(1)
        losses = losses.masked_fill(losses > -NEVER / 2, 0.0 if zero_infinity else torch.inf)
        return reduced(losses / target_lengths.clamp(min=1) if reduction == "mean" else losses, reduction)

    def collapse(path, blank=0):
        return [label for label, _ in itertools.groupby(c for c in path if c != blank)]


class InfiniteLogarithms(Mistake):
    """You begin with −∞ for the logarithm of zero. Where three of them meet, `logsumexp` gives −∞, and its gradient is
    NaN. Use `NEVER`, which is finite."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        batch, time, _ = logits.shape
        labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
        labels[:, 1::2] = targets
        may_skip = F.pad((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), (2, 0))
        log_p = logits.log_softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))
        alpha = F.pad(log_p[:, 0, :2], (0, labels.shape[1] - 2), value=-torch.inf)
        for t in range(1, time):
            step, skip = F.pad(alpha, (1, -1), value=-torch.inf), F.pad(alpha, (2, -2), value=-torch.inf)
            arrived = torch.stack([alpha, step, skip.masked_fill(~may_skip, -torch.inf)]).logsumexp(0)
            alpha = torch.where((t < input_lengths)[:, None], arrived + log_p[:, t], alpha)
        last, position = 2 * target_lengths[:, None], torch.arange(labels.shape[1])
        losses = -alpha.masked_fill((position != last) & (position != last - 1), -torch.inf).logsumexp(1)
        if zero_infinity:
            losses = losses.masked_fill(losses.isinf(), 0.0)
        return reduced(losses / target_lengths.clamp(min=1) if reduction == "mean" else losses, reduction)


class MeanNotPerLabel(Mistake):
    """Your mean does not divide by the lengths of the targets. Each loss is divided by its own target's length, and
    then the mean over the batch is taken."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        batch, time, _ = logits.shape
        labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
        labels[:, 1::2] = targets
        may_skip = F.pad((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), (2, 0))
        log_p = logits.log_softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))
        alpha = F.pad(log_p[:, 0, :2], (0, labels.shape[1] - 2), value=NEVER)
        for t in range(1, time):
            step, skip = F.pad(alpha, (1, -1), value=NEVER), F.pad(alpha, (2, -2), value=NEVER)
            arrived = torch.stack([alpha, step, skip.masked_fill(~may_skip, NEVER)]).logsumexp(0)
            alpha = torch.where((t < input_lengths)[:, None], arrived + log_p[:, t], alpha)
        last, position = 2 * target_lengths[:, None], torch.arange(labels.shape[1])
        losses = -alpha.masked_fill((position != last) & (position != last - 1), NEVER).logsumexp(1)
        return reduced(losses.masked_fill(losses > -NEVER / 2, 0.0 if zero_infinity else torch.inf), reduction)


class InputLengthsIgnored(Mistake):
    """You run to the last step for every row. From its input length on a row does not exist: keep its α as it is."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        batch, time, _ = logits.shape
        labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
        labels[:, 1::2] = targets
        may_skip = F.pad((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), (2, 0))
        log_p = logits.log_softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))
        alpha = F.pad(log_p[:, 0, :2], (0, labels.shape[1] - 2), value=NEVER)
        for t in range(1, time):
            step, skip = F.pad(alpha, (1, -1), value=NEVER), F.pad(alpha, (2, -2), value=NEVER)
            alpha = torch.stack([alpha, step, skip.masked_fill(~may_skip, NEVER)]).logsumexp(0) + log_p[:, t]
        last, position = 2 * target_lengths[:, None], torch.arange(labels.shape[1])
        losses = -alpha.masked_fill((position != last) & (position != last - 1), NEVER).logsumexp(1)
        losses = losses.masked_fill(losses > -NEVER / 2, 0.0 if zero_infinity else torch.inf)
        return reduced(losses / target_lengths.clamp(min=1) if reduction == "mean" else losses, reduction)


class EndsOnTheLastLabelOnly(Mistake):
    """Your paths must end on the last label. They may also end on the blank behind it: add both."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        batch, time, _ = logits.shape
        labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
        labels[:, 1::2] = targets
        may_skip = F.pad((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), (2, 0))
        log_p = logits.log_softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))
        alpha = F.pad(log_p[:, 0, :2], (0, labels.shape[1] - 2), value=NEVER)
        for t in range(1, time):
            step, skip = F.pad(alpha, (1, -1), value=NEVER), F.pad(alpha, (2, -2), value=NEVER)
            arrived = torch.stack([alpha, step, skip.masked_fill(~may_skip, NEVER)]).logsumexp(0)
            alpha = torch.where((t < input_lengths)[:, None], arrived + log_p[:, t], alpha)
        last, position = (2 * target_lengths[:, None] - 1).clamp(min=0), torch.arange(labels.shape[1])
        losses = -alpha.masked_fill(position != last, NEVER).logsumexp(1)
        losses = losses.masked_fill(losses > -NEVER / 2, 0.0 if zero_infinity else torch.inf)
        return reduced(losses / target_lengths.clamp(min=1) if reduction == "mean" else losses, reduction)


class NoBlankInFront(Mistake):
    """Your paths must begin with the first label. They may also begin with the blank in front of it."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        batch, time, _ = logits.shape
        labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
        labels[:, 1::2] = targets
        may_skip = F.pad((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), (2, 0))
        log_p = logits.log_softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))
        alpha = F.pad(log_p[:, 0, 1:2], (1, labels.shape[1] - 2), value=NEVER)
        for t in range(1, time):
            step, skip = F.pad(alpha, (1, -1), value=NEVER), F.pad(alpha, (2, -2), value=NEVER)
            arrived = torch.stack([alpha, step, skip.masked_fill(~may_skip, NEVER)]).logsumexp(0)
            alpha = torch.where((t < input_lengths)[:, None], arrived + log_p[:, t], alpha)
        last, position = 2 * target_lengths[:, None], torch.arange(labels.shape[1])
        losses = -alpha.masked_fill((position != last) & (position != last - 1), NEVER).logsumexp(1)
        losses = losses.masked_fill(losses > -NEVER / 2, 0.0 if zero_infinity else torch.inf)
        return reduced(losses / target_lengths.clamp(min=1) if reduction == "mean" else losses, reduction)


class ProbabilitiesUnderflow(Mistake):
    """You add and multiply probabilities. Those of a hundred steps underflow to 0, whose logarithm is −∞: compute with
    logarithms throughout."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        batch, time, _ = logits.shape
        labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
        labels[:, 1::2] = targets
        may_skip = F.pad((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), (2, 0))
        p = logits.softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))
        alpha = F.pad(p[:, 0, :2], (0, labels.shape[1] - 2))
        for t in range(1, time):
            arrived = alpha + F.pad(alpha, (1, -1)) + F.pad(alpha, (2, -2)) * may_skip
            alpha = torch.where((t < input_lengths)[:, None], arrived * p[:, t], alpha)
        last, position = 2 * target_lengths[:, None], torch.arange(labels.shape[1])
        total = (alpha * ((position == last) | (position == last - 1))).sum(1)
        impossible = total == 0
        losses = -torch.where(impossible, 1.0, total).log()
        losses = losses.masked_fill(impossible, 0.0 if zero_infinity else torch.inf)
        return reduced(losses / target_lengths.clamp(min=1) if reduction == "mean" else losses, reduction)


class TooShortIsHuge(Mistake):
    """A row that is too short gets your stand-in for infinity, about 10³⁰. Its loss is infinite, or with
    `zero_infinity` it is 0: look for rows that no path can reach."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        batch, time, _ = logits.shape
        labels = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)
        labels[:, 1::2] = targets
        may_skip = F.pad((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]), (2, 0))
        log_p = logits.log_softmax(-1).gather(2, labels[:, None].expand(-1, time, -1))
        alpha = F.pad(log_p[:, 0, :2], (0, labels.shape[1] - 2), value=NEVER)
        for t in range(1, time):
            step, skip = F.pad(alpha, (1, -1), value=NEVER), F.pad(alpha, (2, -2), value=NEVER)
            arrived = torch.stack([alpha, step, skip.masked_fill(~may_skip, NEVER)]).logsumexp(0)
            alpha = torch.where((t < input_lengths)[:, None], arrived + log_p[:, t], alpha)
        last, position = 2 * target_lengths[:, None], torch.arange(labels.shape[1])
        losses = -alpha.masked_fill((position != last) & (position != last - 1), NEVER).logsumexp(1)
        if zero_infinity:
            losses = losses.masked_fill(losses.isinf(), 0.0)
        return reduced(losses / target_lengths.clamp(min=1) if reduction == "mean" else losses, reduction)


class BuiltinCtc(Mistake):
    """You call PyTorch's own. Write the recursion over time."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        return F.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1), targets, input_lengths, target_lengths, blank, reduction,
            zero_infinity,
        )  # fmt: skip


class RowByRow(Alternative):
    """One row after the other, positions in a Python list, impossible rows found by counting."""

    exercise = "ctc_loss"

    def collapse(path, blank=0):
        read, before = [], None
        for c in path:
            if c != before and c != blank:
                read.append(c)
            before = c
        return read

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        losses = []
        for row, target, t_in, t_out in zip(logits, targets, input_lengths.tolist(), target_lengths.tolist()):
            target = target[:t_out].tolist()
            repeats = sum(x == y for x, y in itertools.pairwise(target))
            if t_in < t_out + repeats:
                losses.append(row.sum() * 0 if zero_infinity else row.new_tensor(float("inf")))
                continue
            extended = [blank]
            for label in target:
                extended += [label, blank]
            log_p = row[:t_in].log_softmax(-1)
            never = row.new_tensor(-1e20)
            alpha = [log_p[0, extended[s]] if s < 2 else never for s in range(len(extended))]
            for t in range(1, t_in):
                new = []
                for s, label in enumerate(extended):
                    sources = [alpha[s]]
                    if s >= 1:
                        sources.append(alpha[s - 1])
                    if s >= 2 and label != blank and label != extended[s - 2]:
                        sources.append(alpha[s - 2])
                    new.append(torch.stack(sources).logsumexp(0) + log_p[t, label])
                alpha = new
            losses.append(-torch.stack(alpha[-2:]).logsumexp(0))
        losses = torch.stack(losses)
        if reduction == "none":
            return losses
        if reduction == "sum":
            return losses.sum()
        return (losses / target_lengths.clamp(min=1)).mean()


class ByGatheredEnds(Alternative):
    """All α kept, then those at the ends gathered; `logaddexp` in pairs."""

    exercise = "ctc_loss"

    def ctc_loss(logits, targets, input_lengths, target_lengths, blank=0, zero_infinity=False, reduction="mean"):
        n, steps, _ = logits.shape
        log_p = F.log_softmax(logits, dim=2)
        z = torch.stack([torch.full_like(targets, blank), targets], 2).flatten(1)
        z = torch.cat([z, torch.full_like(z[:, :1], blank)], 1)
        size = z.shape[1]
        skip = torch.zeros_like(z, dtype=torch.bool)
        skip[:, 2:] = (z[:, 2:] != blank) & (z[:, 2:] != z[:, :-2])
        alpha = log_p.new_full((n, size), NEVER)
        alpha = torch.cat([log_p[:, 0].gather(1, z[:, :2]), alpha[:, 2:]], 1)
        kept = [alpha]
        wall = log_p.new_full((n, 2), NEVER)
        for t in range(1, steps):
            padded = torch.cat([wall, alpha], 1)
            two = torch.where(skip, padded[:, :size], NEVER)
            alpha = torch.logaddexp(torch.logaddexp(alpha, padded[:, 1 : size + 1]), two) + log_p[:, t].gather(1, z)
            kept.append(alpha)
        final = torch.stack(kept, 1)[torch.arange(n), input_lengths - 1]
        blank_end = final.gather(1, 2 * target_lengths[:, None])[:, 0]
        label_end = final.gather(1, (2 * target_lengths[:, None] - 1).clamp(min=0))[:, 0]
        loss = -torch.where(target_lengths > 0, torch.logaddexp(blank_end, label_end), blank_end)
        fine = loss < 1e25
        loss = torch.where(fine, loss, 0.0 if zero_infinity else float("inf"))
        return {
            "none": loss, "sum": loss.sum(), "mean": (loss / target_lengths.clamp(min=1)).mean()
        }[reduction]  # fmt: skip


# --- 7 · parameter_groups --------------------------------------------------------------------------------------------


class BiasesByName(Mistake):
    """You go by the name "bias", so gains of norms and scales are decayed, and a matrix whose name holds the word is
    not. Count axes: `p.dim()`."""

    exercise = "parameter_groups"

    def parameter_groups(model, weight_decay):
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        return [
            {"params": [p for name, p in named if "bias" not in name], "weight_decay": weight_decay},
            {"params": [p for name, p in named if "bias" in name], "weight_decay": 0.0},
        ]


class FrozenToo(Mistake):
    """You list frozen parameters as well. Leave out what does not require grad."""

    exercise = "parameter_groups"

    def parameter_groups(model, weight_decay):
        everything = list(model.parameters())
        return [
            {"params": [p for p in everything if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in everything if p.dim() < 2], "weight_decay": 0.0},
        ]


class LinearLayersOnly(Mistake):
    """You decay the weights of linear layers only. Kernels, embeddings and all else with two axes or more belong to the
    first group, too."""

    exercise = "parameter_groups"

    def parameter_groups(model, weight_decay):
        chosen = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
        learning = [p for p in model.parameters() if p.requires_grad]
        return [
            {"params": [p for p in learning if id(p) in chosen], "weight_decay": weight_decay},
            {"params": [p for p in learning if id(p) not in chosen], "weight_decay": 0.0},
        ]


class RestForgotten(Mistake):
    """Your groups leave some parameters out, and what no group lists is never trained. Whatever is not in the first is
    in the second."""

    exercise = "parameter_groups"

    def parameter_groups(model, weight_decay):
        learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        return [
            {"params": [p for name, p in learning if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for name, p in learning if name.endswith("bias")], "weight_decay": 0.0},
        ]


class SharedTwice(Mistake):
    """You walk over the modules and list a shared parameter twice. `model.parameters()` leaves repetitions out."""

    exercise = "parameter_groups"

    def parameter_groups(model, weight_decay):
        learning = [p for m in model.modules() for p in m.parameters(recurse=False) if p.requires_grad]
        return [
            {"params": [p for p in learning if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in learning if p.dim() < 2], "weight_decay": 0.0},
        ]


class TheOtherWayRound(Mistake):
    """You decay biases and norms, and spare the matrices. It is the other way round."""

    exercise = "parameter_groups"

    def parameter_groups(model, weight_decay):
        learning = [p for p in model.parameters() if p.requires_grad]
        return [
            {"params": [p for p in learning if p.dim() < 2], "weight_decay": weight_decay},
            {"params": [p for p in learning if p.dim() >= 2], "weight_decay": 0.0},
        ]


class BySorting(Alternative):
    """One pass with two lists, and a set against repetitions."""

    exercise = "parameter_groups"

    def parameter_groups(model, weight_decay):
        seen, decayed, free = set(), [], []
        for module in model.modules():
            for p in module._parameters.values():
                if p is None or not p.requires_grad or p in seen:
                    continue
                seen.add(p)
                (decayed if p.ndim > 1 else free).append(p)
        return [dict(params=decayed, weight_decay=weight_decay), dict(params=free, weight_decay=0)]


# --- 8 · precision_recall --------------------------------------------------------------------------------------------


class TiesOneByOne(Mistake):
    """You have an entry for each row, so rows with equal scores are reported one by one, in an order that means
    nothing. Keep the last entry of each score."""

    exercise = "precision_recall"

    def precision_recall(scores, labels):
        scores, order = scores.sort(descending=True)
        found = labels[order].cumsum(0).to(scores.dtype)
        return found / torch.arange(1, len(scores) + 1), found / found[-1], scores


class Trapezoids(Mistake):
    """Your area interpolates between the points. No threshold reaches what lies between: sum steps, R_i − R_{i−1} times
    P_i."""

    exercise = "precision_recall"

    def average_precision(precision, recall):
        recall = torch.cat([recall.new_zeros(1), recall])
        precision = torch.cat([precision[:1], precision])
        return torch.trapezoid(precision, recall).item()


class NothingRightIsNan(Mistake):
    """Where nothing reported is right, your F1 is 0/0, and `argmax` takes NaN for the largest number. Count it as 0."""

    exercise = "precision_recall"

    def best_threshold(scores, labels):
        precision, recall, thresholds = precision_recall(scores, labels)
        f1 = 2 * precision * recall / (precision + recall)
        return thresholds[f1.argmax()].item()


class FirstStepForgotten(Mistake):
    """Your sum begins with the second threshold: the first step goes from recall 0 to the first recall."""

    exercise = "precision_recall"

    def average_precision(precision, recall):
        return (recall.diff() * precision[1:]).sum().item()


class PrecisionAndRecallSwapped(Mistake):
    """You exchange precision and recall. Precision divides by what was reported, recall by what there was."""

    exercise = "precision_recall"

    def precision_recall(scores, labels):
        scores, order = scores.sort(descending=True)
        found = labels[order].cumsum(0).to(scores.dtype)
        last = torch.cat([scores[:-1] != scores[1:], torch.ones(1, dtype=torch.bool)])
        return (found / found[-1])[last], (found / torch.arange(1, len(scores) + 1))[last], scores[last]


class LowestFirst(Mistake):
    """Your curve begins with the lowest threshold. The highest comes first, and recall grows."""

    exercise = "precision_recall"

    def precision_recall(scores, labels):
        thresholds = scores.unique()
        reported = scores >= thresholds[:, None]
        found = (reported & (labels == 1)).sum(1).to(scores.dtype)
        return found / reported.sum(1), found / labels.sum(), thresholds


class BestAccuracy(Mistake):
    """You look for the best accuracy, which for rare positives is mostly to report nothing. Look for the largest F1."""

    exercise = "precision_recall"

    def best_threshold(scores, labels):
        thresholds = scores.unique().flip(0)
        accuracy = ((scores >= thresholds[:, None]) == (labels == 1)).float().mean(1)
        return thresholds[accuracy.argmax()].item()


class ByAllPairs(Alternative):
    """Every score against every threshold; F1 from counts."""

    exercise = "precision_recall"

    def precision_recall(scores, labels):
        thresholds = scores.unique(sorted=True).flip(0)
        reported = scores[None] >= thresholds[:, None]
        hits = (reported & labels.bool()).sum(1)
        dtype = scores.dtype
        return hits.to(dtype) / reported.sum(1).to(dtype), hits.to(dtype) / labels.sum().to(dtype), thresholds

    def average_precision(precision, recall):
        total, before = 0.0, 0.0
        for p, r in zip(precision.tolist(), recall.tolist()):
            total, before = total + p * (r - before), r
        return total

    def best_threshold(scores, labels):
        thresholds = scores.unique(sorted=True).flip(0)
        reported = scores[None] >= thresholds[:, None]
        f1 = 2 * (reported & labels.bool()).sum(1).double() / (reported.sum(1) + labels.sum()).double()
        return float(thresholds[f1.argmax()])


class ByConsecutive(Alternative):
    """`unique_consecutive` finds the ends of ties; a tiny number keeps F1 from 0/0."""

    exercise = "precision_recall"

    def precision_recall(scores, labels):
        order = torch.argsort(scores, descending=True, stable=True)
        thresholds, counts = scores[order].unique_consecutive(return_counts=True)
        reported = counts.cumsum(0)
        hits = labels[order].cumsum(0)[reported - 1].to(scores.dtype)
        return hits / reported, hits / hits[-1], thresholds

    def average_precision(precision, recall):
        steps = recall - torch.cat([torch.zeros_like(recall[:1]), recall[:-1]])
        return float(steps @ precision)

    def best_threshold(scores, labels):
        p, r, t = precision_recall(scores, labels)
        return t[torch.argmax(2 * p * r / (p + r + 1e-12))].item()


# --- Side quest A · huber --------------------------------------------------------------------------------------------


class KinkMissing(Mistake):
    """Your linear part is δ|r|, so the two pieces do not meet at δ. It is δ(|r| − δ/2)."""

    exercise = "huber"

    def huber(prediction, target, delta=1.0, reduction="mean"):
        size = (prediction - target).abs()
        return reduced(torch.where(size <= delta, size.clamp(max=delta) ** 2 / 2, delta * size), reduction)


class SmoothL1(Mistake):
    """You divide by δ: that is the smooth L1 loss. Huber's quadratic part is r²/2 for every δ."""

    exercise = "huber"

    def huber(prediction, target, delta=1.0, reduction="mean"):
        size = (prediction - target).abs()
        near = size.clamp(max=delta)
        return reduced(near * (size - near / 2) / delta, reduction)


class HalfForgotten(Mistake):
    """Your quadratic part is r² instead of r²/2, and jumps at δ."""

    exercise = "huber"

    def huber(prediction, target, delta=1.0, reduction="mean"):
        size = (prediction - target).abs()
        return reduced(torch.where(size <= delta, size.clamp(max=delta) ** 2, delta * (size - delta / 2)), reduction)


class SquareByMask(Mistake):
    """You multiply by masks, and 0 times an infinite square is NaN. Choose before you square: clamp the residual."""

    exercise = "huber"

    def huber(prediction, target, delta=1.0, reduction="mean"):
        size = (prediction - target).abs()
        near = (size <= delta).to(size.dtype)
        return reduced(near * size**2 / 2 + (1 - near) * delta * (size - delta / 2), reduction)


class BuiltinHuber(Mistake):
    """You call PyTorch's own. Two pieces and a clamp will do."""

    exercise = "huber"

    def huber(prediction, target, delta=1.0, reduction="mean"):
        return F.huber_loss(prediction, target, delta=delta, reduction=reduction)


class ByWhere(Alternative):
    """Both pieces and `where`, with the square of a clamped residual."""

    exercise = "huber"

    def huber(prediction, target, delta=1.0, reduction="mean"):
        r = prediction - target
        quadratic = 0.5 * r.clamp(-delta, delta).square()
        losses = torch.where(r.abs() <= delta, quadratic, delta * (r.abs() - 0.5 * delta))
        return losses if reduction == "none" else getattr(losses, reduction)()


# --- Side quest B · uncertainty_weighting ----------------------------------------------------------------------------


class PriceForgotten(Mistake):
    """You leave out s/2. Without a price for being uncertain all variances grow for ever, and all losses vanish."""

    exercise = "uncertainty_weighting"

    class UncertaintyWeighting(UncertaintyWeighting):
        def forward(self, losses):
            return (losses * (-self.log_variance).exp()).sum() / 2


class SignTurned(Mistake):
    """You multiply by the variance. An uncertain task counts less: exp(−s)."""

    exercise = "uncertainty_weighting"

    class UncertaintyWeighting(UncertaintyWeighting):
        def forward(self, losses):
            return (losses * self.log_variance.exp() + self.log_variance).sum() / 2


class DeviationForVariance(Mistake):
    """You take s for the logarithm of the deviation, exp(−2s). It is that of the variance."""

    exercise = "uncertainty_weighting"

    class UncertaintyWeighting(UncertaintyWeighting):
        def forward(self, losses):
            return (losses * (-2 * self.log_variance).exp() / 2 + self.log_variance).sum()


class LossesDetached(Mistake):
    """You detach the losses, so the weights learn and the model does not. Gradients flow to both."""

    exercise = "uncertainty_weighting"

    class UncertaintyWeighting(UncertaintyWeighting):
        def forward(self, losses):
            return (losses.detach() * (-self.log_variance).exp() + self.log_variance).sum() / 2


class NotAParameter(Mistake):
    """Your `log_variance` is a plain tensor, and no optimizer will find it. Wrap it in `nn.Parameter`."""

    exercise = "uncertainty_weighting"

    class UncertaintyWeighting(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.log_variance = torch.zeros(n, requires_grad=True)

        def forward(self, losses):
            return (losses * (-self.log_variance).exp() + self.log_variance).sum() / 2


class ByDotProduct(Alternative):
    """A dot product with the precisions."""

    exercise = "uncertainty_weighting"

    class UncertaintyWeighting(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.register_parameter("log_variance", nn.Parameter(torch.full((n,), 0.0)))

        def forward(self, losses):
            precision = torch.exp(-self.log_variance)
            return 0.5 * torch.dot(precision, losses) + 0.5 * torch.sum(self.log_variance)


# --- Side quest C · layerwise_groups ---------------------------------------------------------------------------------


class CountedFromTheInput(Mistake):
    """Your rates fall towards the output. The last layer has the full rate, the first the smallest."""

    exercise = "layerwise_groups"

    def layerwise_groups(layers, lr, decay):
        learning = [[p for p in layer.parameters() if p.requires_grad] for layer in layers]
        return [{"params": ps, "lr": lr * decay**i} for i, ps in enumerate([ps for ps in learning if ps])]


class ActivationsCount(Mistake):
    """You count layers without parameters, so the rates fall twice as fast. Only layers that learn count."""

    exercise = "layerwise_groups"

    def layerwise_groups(layers, lr, decay):
        groups = []
        for i, layer in enumerate(layers):
            params = [p for p in layer.parameters() if p.requires_grad]
            if params:
                groups.append({"params": params, "lr": lr * decay ** (len(layers) - 1 - i)})
        return groups


class OffByOne(Mistake):
    """Your last layer is already decayed once. It has the full rate, lr."""

    exercise = "layerwise_groups"

    def layerwise_groups(layers, lr, decay):
        learning = [[p for p in layer.parameters() if p.requires_grad] for layer in layers]
        learning = [ps for ps in learning if ps]
        return [{"params": ps, "lr": lr * decay ** (len(learning) - i)} for i, ps in enumerate(learning)]


class FrozenListed(Mistake):
    """You list frozen parameters. A layer's group holds those that require grad, and a frozen layer makes none."""

    exercise = "layerwise_groups"

    def layerwise_groups(layers, lr, decay):
        learning = [ps for ps in (list(layer.parameters()) for layer in layers) if ps]
        return [{"params": ps, "lr": lr * decay ** (len(learning) - 1 - i)} for i, ps in enumerate(learning)]


class ByMultiplying(Alternative):
    """From the output backwards, with a rate that shrinks."""

    exercise = "layerwise_groups"

    def layerwise_groups(layers, lr, decay):
        groups = []
        for layer in reversed(list(layers)):
            params = [p for p in layer.parameters() if p.requires_grad]
            if params:
                groups.insert(0, {"params": params, "lr": lr})
                lr = lr * decay
        return groups


# --- Side quest D · ema ----------------------------------------------------------------------------------------------


class DecayForTheNew(Mistake):
    """You give the decay to the new parameter. It is the share of the average that stays."""

    exercise = "ema"

    class EMA(EMA):
        def update(self, model):
            with torch.no_grad():
                for average, parameter in zip(self.module.parameters(), model.parameters()):
                    average.lerp_(parameter, self.decay)
                for ours, theirs in zip(self.module.buffers(), model.buffers()):
                    ours.copy_(theirs)


class BuffersForgotten(Mistake):
    """You leave the buffers behind: averaged weights with the running statistics of the first step. Copy them."""

    exercise = "ema"

    class EMA(EMA):
        def update(self, model):
            with torch.no_grad():
                for average, parameter in zip(self.module.parameters(), model.parameters()):
                    average.lerp_(parameter, 1 - self.decay)


class OverTheStateDict(Mistake):
    """You average everything in the `state_dict`: buffers, which are to be copied, and a shared weight twice. Go
    through parameters and buffers."""

    exercise = "ema"

    class EMA(EMA):
        def update(self, model):
            with torch.no_grad():
                for ours, theirs in zip(self.module.state_dict().values(), model.state_dict().values()):
                    ours.copy_(self.decay * ours + (1 - self.decay) * theirs)


class NoCopy(Mistake):
    """Your average is the model itself, not a copy: it follows every step at once. Use `copy.deepcopy`."""

    exercise = "ema"

    class EMA(EMA):
        def __init__(self, model, decay=0.999):
            self.module, self.decay = model, decay


class StillTraining(Mistake):
    """Your copy is in training mode: dropout is on, and its running statistics would move. Switch it to evaluation
    mode."""

    exercise = "ema"

    class EMA(EMA):
        def __init__(self, model, decay=0.999):
            self.module, self.decay = copy.deepcopy(model).requires_grad_(False), decay


class ByDicts(Alternative):
    """By name, with explicit products, off the tape by a decorator."""

    exercise = "ema"

    class EMA:
        def __init__(self, model, decay=0.999):
            self.alpha = decay
            self.module = copy.deepcopy(model)
            self.module.eval()
            for p in self.module.parameters():
                p.requires_grad = False

        @torch.no_grad()
        def update(self, model):
            theirs, buffers = dict(model.named_parameters()), dict(model.named_buffers())
            for name, p in self.module.named_parameters():
                p.mul_(self.alpha).add_(theirs[name], alpha=1 - self.alpha)
            for name, b in self.module.named_buffers():
                b.copy_(buffers[name])


# --- Side quest E · sam_step -----------------------------------------------------------------------------------------


class StepFromTheTop(Mistake):
    """You step from the top of the climb. Copy the weights back before the optimizer steps."""

    exercise = "sam_step"

    def sam_step(optimizer, loss_of, rho=0.05):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        moved = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in moved]).norm()
            for p in moved:
                p.add_(rho * p.grad / (norm + 1e-12))
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()
        return loss.detach()


class GradientsAddedUp(Mistake):
    """You do not clear the gradient of the first pass, so the optimizer gets the sum of both. It wants the second
    alone."""

    exercise = "sam_step"

    def sam_step(optimizer, loss_of, rho=0.05):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        moved = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        with torch.no_grad():
            origin = [p.clone() for p in moved]
            norm = torch.stack([p.grad.norm() for p in moved]).norm()
            for p in moved:
                p.add_(rho * p.grad / (norm + 1e-12))
        loss_of().backward()
        with torch.no_grad():
            for p, start in zip(moved, origin):
                p.copy_(start)
        optimizer.step()
        return loss.detach()


class NormPerParameter(Mistake):
    """You divide each gradient by its own norm. The norm is taken over all parameters together."""

    exercise = "sam_step"

    def sam_step(optimizer, loss_of, rho=0.05):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        moved = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        with torch.no_grad():
            origin = [p.clone() for p in moved]
            for p in moved:
                p.add_(rho * p.grad / (p.grad.norm() + 1e-12))
        optimizer.zero_grad()
        loss_of().backward()
        with torch.no_grad():
            for p, start in zip(moved, origin):
                p.copy_(start)
        optimizer.step()
        return loss.detach()


class Descends(Mistake):
    """You go down to look for the worst point nearby. Climb: add ρ times the gradient's direction."""

    exercise = "sam_step"

    def sam_step(optimizer, loss_of, rho=0.05):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        moved = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        with torch.no_grad():
            origin = [p.clone() for p in moved]
            norm = torch.stack([p.grad.norm() for p in moved]).norm()
            for p in moved:
                p.sub_(rho * p.grad / (norm + 1e-12))
        optimizer.zero_grad()
        loss_of().backward()
        with torch.no_grad():
            for p, start in zip(moved, origin):
                p.copy_(start)
        optimizer.step()
        return loss.detach()


class NotNormalisedClimb(Mistake):
    """You climb by ρ times the gradient itself. Its direction counts, not its length: divide by the norm."""

    exercise = "sam_step"

    def sam_step(optimizer, loss_of, rho=0.05):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        moved = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        with torch.no_grad():
            origin = [p.clone() for p in moved]
            for p in moved:
                p.add_(rho * p.grad)
        optimizer.zero_grad()
        loss_of().backward()
        with torch.no_grad():
            for p, start in zip(moved, origin):
                p.copy_(start)
        optimizer.step()
        return loss.detach()


class BackBySubtraction(Mistake):
    """You come back by subtracting what you added, and in floating point that is not where you were. Keep copies of the
    weights."""

    exercise = "sam_step"

    def sam_step(optimizer, loss_of, rho=0.05):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        moved = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in moved]).norm()
            steps = [rho * p.grad / (norm + 1e-12) for p in moved]
            for p, step in zip(moved, steps):
                p.add_(step)
        optimizer.zero_grad()
        loss_of().backward()
        with torch.no_grad():
            for p, step in zip(moved, steps):
                p.sub_(step)
        optimizer.step()
        return loss.detach()


class ZeroNorm(Mistake):
    """You divide by a norm that may be 0, and the weights become NaN. Add a tiny number to it."""

    exercise = "sam_step"

    def sam_step(optimizer, loss_of, rho=0.05):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        moved = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        with torch.no_grad():
            origin = [p.clone() for p in moved]
            norm = torch.stack([p.grad.norm() for p in moved]).norm()
            for p in moved:
                p.add_(rho * p.grad / norm)
        optimizer.zero_grad()
        loss_of().backward()
        with torch.no_grad():
            for p, start in zip(moved, origin):
                p.copy_(start)
        optimizer.step()
        return loss.detach()


class ByAutogradGrad(Alternative):
    """Gradients asked for directly, weights kept in a list, the last gradient handed to the optimizer."""

    exercise = "sam_step"

    def sam_step(optimizer, loss_of, rho=0.05):
        params = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
        loss = loss_of()
        grads = torch.autograd.grad(loss, params, allow_unused=True)
        norm = sum(g.square().sum() for g in grads if g is not None).sqrt().clamp(min=1e-12)
        kept = [p.detach().clone() for p in params]
        with torch.no_grad():
            for p, g in zip(params, grads):
                if g is not None:
                    p += g * (rho / norm)
        grads = torch.autograd.grad(loss_of(), params, allow_unused=True)
        with torch.no_grad():
            for p, start, g in zip(params, kept, grads):
                p.copy_(start)
                p.grad = g
        optimizer.step()
        return loss.detach()

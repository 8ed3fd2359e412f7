"""Snippets for `softmax-before-cross-entropy`, written apart from the rule."""

# faulty

# ---
class Classifier(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Tensor:
        return F.softmax(self.body(features), dim=1)


def objective(net: Classifier, features: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(net(features), targets)  # here

# ---
def joint_loss(scores: Tensor, labels: Tensor) -> Tensor:
    scores = torch.log_softmax(scores, dim=-1)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    return criterion(scores, labels)  # here

# ---
def spam_loss(mail_scores: Tensor, is_spam: Tensor) -> Tensor:
    chance = torch.sigmoid(mail_scores)
    return F.binary_cross_entropy_with_logits(chance, is_spam.float())  # here

# clean

# ---
def distil(student_scores: Tensor, teacher_scores: Tensor, heat: float) -> Tensor:
    log_student = F.log_softmax(student_scores / heat, dim=-1)
    teacher = F.softmax(teacher_scores / heat, dim=-1)
    return F.kl_div(log_student, teacher, reduction="batchmean") * heat**2

# ---
def likelihood(scores: Tensor, labels: Tensor) -> Tensor:
    return F.nll_loss(scores.log_softmax(dim=1), labels)

# ---
def loss_and_confidence(net: nn.Module, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    scores = net(features)
    confidence = scores.softmax(-1).amax(-1)
    return F.cross_entropy(scores, labels), confidence

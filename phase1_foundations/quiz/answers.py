"""Known answers to the Phase 1 quiz. Each review ships the first mistake of its exercise."""

from grading.answers import Alternative, Mistake

# --- Challenges ------------------------------------------------------------------------------------------------------


class PaddingCounted(Mistake):
    """You divide by the length of the axis, so positions that the mask leaves out count as zeros. Divide by the number
    of True positions."""

    exercise = "masked_mean"

    def masked_mean(x, mask, dim):
        return torch.where(mask, x, 0).mean(dim)


class MaskMultiplied(Mistake):
    """You multiply by the mask, but 0 · inf and 0 · NaN are NaN. Choose with `torch.where`."""

    exercise = "masked_mean"

    def masked_mean(x, mask, dim):
        return (x * mask).sum(dim) / mask.sum(dim).clamp(min=1)


class NothingKeptDivided(Mistake):
    """Where nothing is kept you divide 0 by 0. Clamp the count to at least 1."""

    exercise = "masked_mean"

    def masked_mean(x, mask, dim):
        return torch.where(mask, x, 0).sum(dim) / mask.sum(dim)


class ByMaskedFill(Alternative):
    """`masked_fill`, and the empty slices set to 0 by the count."""

    exercise = "masked_mean"

    def masked_mean(x, mask, dim):
        count = mask.sum(dim)
        return x.masked_fill(~mask, 0.0).sum(dim) / torch.where(count == 0, 1, count)


class PlainTensors(Mistake):
    """Your `mean` and `std` are plain attributes: they are not saved in the `state_dict` and do not move with the
    module. Use `register_buffer`."""

    exercise = "standardise"

    class Standardise(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.mean, self.std = torch.zeros(d), torch.ones(d)

        def fit(self, rows):
            std = rows.std(dim=0, correction=0)
            self.mean, self.std = rows.mean(dim=0), torch.where(rows.amax(0) == rows.amin(0), 1.0, std)
            return self

        def forward(self, x):
            return (x - self.mean) / self.std


class SampleDeviation(Mistake):
    """You divide by n − 1, PyTorch's default. Here it is n: `correction=0`."""

    exercise = "standardise"

    class Standardise(Standardise):
        def fit(self, rows):
            self.mean.copy_(rows.mean(dim=0))
            self.std.copy_(torch.where(rows.amax(0) == rows.amin(0), 1.0, rows.std(dim=0)))
            return self


class ConstantColumnDivided(Mistake):
    """A column that never changes has the standard deviation 0, and you divide by it. Use 1 there."""

    exercise = "standardise"

    class Standardise(Standardise):
        def fit(self, rows):
            self.mean.copy_(rows.mean(dim=0))
            self.std.copy_(rows.std(dim=0, correction=0))
            return self


class OwnNames(Alternative):
    """The buffers replaced instead of filled."""

    exercise = "standardise"

    class Standardise(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.register_buffer("std", torch.ones(d))
            self.register_buffer("mean", torch.zeros(d))

        def fit(self, rows):
            centred = rows - rows.mean(0)
            std = centred.square().mean(0).sqrt()
            std[(rows == rows[0]).all(0)] = 1
            self.mean, self.std = rows.mean(0), std
            return self

        def forward(self, x):
            return x.sub(self.mean).div(self.std)


class GradientsPileUp(Mistake):
    """You never clear the gradients, so each step adds to those before it. Call `optimizer.zero_grad()` in each."""

    exercise = "train_epoch"

    def train_epoch(model, batches, optimizer, max_norm):
        model.train()
        total, rows = 0.0, 0
        for x, target in batches:
            loss = F.mse_loss(model(x), target)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            total += loss.item() * len(x)
            rows += len(x)
        return total / rows


class ClippedTooLate(Mistake):
    """You clip after the step, when the gradient has done its work. Clip between `backward` and `step`."""

    exercise = "train_epoch"

    def train_epoch(model, batches, optimizer, max_norm):
        model.train()
        total, rows = 0.0, 0
        for x, target in batches:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), target)
            loss.backward()
            optimizer.step()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            total += loss.item() * len(x)
            rows += len(x)
        return total / rows


class BatchesAveraged(Mistake):
    """You average the losses of the batches as if they were of one size. Weight each by its rows."""

    exercise = "train_epoch"

    def train_epoch(model, batches, optimizer, max_norm):
        model.train()
        losses = []
        for x, target in batches:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), target)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)


class BySquaredErrors(Alternative):
    """Sums of squares, divided once at the end; gradients cleared after each step."""

    exercise = "train_epoch"

    def train_epoch(model, batches, optimizer, max_norm):
        model.train()
        model.zero_grad()
        squares = elements = 0
        for x, target in batches:
            error = (model(x) - target).pow(2)
            error.mean().backward()
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), max_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            squares += float(error.detach().sum())
            elements += error.numel()
        return squares / elements


# --- Reviews: the first mistake of each is what the paper shows -----------------------------------------------------


class BatchMeansAveraged(Mistake):
    """You average the accuracies of the batches, so a row in a small batch counts more. Count rows."""

    exercise = "accuracy"

    def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """The share of rows that `model`, in evaluation mode, classifies rightly; x `(rows, d)`, labels `(rows,)`."""
        was_training = model.training
        model.eval()
        shares = []
        with torch.no_grad():
            for x, labels in batches:
                predicted = model(x).argmax(dim=1)
                shares.append((predicted == labels).float().mean().item())
        model.train(was_training)
        return sum(shares) / len(shares)


class ModeForgotten(Mistake):
    """You leave the model in the mode it came in, so dropout and batch norm disturb the measurement. Call
    `model.eval()` first."""

    exercise = "accuracy"

    def accuracy(model, batches):
        right = count = 0
        with torch.no_grad():
            for x, labels in batches:
                right += (model(x).argmax(dim=1) == labels).sum().item()
                count += len(labels)
        return right / count


class Concatenated(Alternative):
    """All predictions first, one mean at the end."""

    exercise = "accuracy"

    @torch.no_grad()
    def accuracy(model, batches):
        before = model.training
        model.eval()
        hits = torch.cat([model(x).argmax(1) == y for x, y in batches])
        model.train(before)
        return hits.double().mean().item()


class AlwaysDropping(Mistake):
    """`F.dropout` drops unless it is told not to: its `training` is True by default. Pass `self.training`."""

    exercise = "head"

    class Head(nn.Module):
        """`second(dropout(relu(first(x))))`; x `(batch, d_in)`, result `(batch, classes)`."""

        def __init__(self, d_in: int, d_hidden: int, classes: int, p: float = 0.1) -> None:
            super().__init__()
            self.first = nn.Linear(d_in, d_hidden)
            self.second = nn.Linear(d_hidden, classes)
            self.p = p

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.first(x))
            hidden = F.dropout(hidden, self.p)
            return self.second(hidden)


class DropoutLeftOut(Mistake):
    """You have taken the dropout out altogether. In training mode it belongs there."""

    exercise = "head"

    class Head(Head):
        def forward(self, x):
            return self.second(torch.relu(self.first(x)))


class ByModule(Alternative):
    """`nn.Dropout`, which knows its mode."""

    exercise = "head"

    class Head(nn.Module):
        def __init__(self, d_in, d_hidden, classes, p=0.1):
            super().__init__()
            self.first, self.second = nn.Linear(d_in, d_hidden), nn.Linear(d_hidden, classes)
            self.dropout = nn.Dropout(p)

        def forward(self, x):
            return self.second(self.dropout(self.first(x).relu()))


class OneTooMany(Mistake):
    """Positions count from 0, so those below the length are data. `<=` takes one more."""

    exercise = "pad"

    def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Sequences `(length,)` as a padded batch `(batch, longest)` and its mask, True where there is data."""
        lengths = torch.tensor([len(s) for s in sequences])
        batch = torch.zeros(len(sequences), int(lengths.max()), dtype=sequences[0].dtype)
        for row, sequence in zip(batch, sequences, strict=True):
            row[: len(sequence)] = sequence
        positions = torch.arange(batch.shape[1])
        mask = positions <= lengths[:, None]
        return batch, mask


class MaskInverted(Mistake):
    """Your mask is True where there is padding. It is to be True where there is data."""

    exercise = "pad"

    def pad(sequences):
        batch = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        mask = torch.arange(batch.shape[1]) < torch.tensor([len(s) for s in sequences])[:, None]
        return batch, ~mask


class ByPadSequence(Alternative):
    """The library's padding, and a mask padded the same way."""

    exercise = "pad"

    def pad(sequences):
        padded = nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
        ones = [torch.ones(len(s), dtype=torch.bool) for s in sequences]
        return padded, nn.utils.rnn.pad_sequence(ones, batch_first=True)

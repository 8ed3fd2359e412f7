"""Known answers to the Phase 2 quiz. Each review ships the first mistake of its exercise."""

from grading.answers import Alternative, Mistake

# --- Challenges ------------------------------------------------------------------------------------------------------


class OneTooFar(Mistake):
    """Your window is one position too long: with itself, a query sees `window` keys, so the distance is below
    `window`."""

    exercise = "window_attention"

    def window_attention(q, k, v, window):
        positions = torch.arange(q.shape[-2])
        distance = positions[:, None] - positions
        allowed = (distance >= 0) & (distance <= window)
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~allowed, -torch.inf).softmax(-1) @ v


class BothSides(Mistake):
    """Your window reaches into the future too. Allow distances from 0 up, without their absolute value."""

    exercise = "window_attention"

    def window_attention(q, k, v, window):
        positions = torch.arange(q.shape[-2])
        allowed = (positions[:, None] - positions).abs() < window
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~allowed, -torch.inf).softmax(-1) @ v


class NotScaled(Mistake):
    """Your scores are not divided by √d."""

    exercise = "window_attention"

    def window_attention(q, k, v, window):
        positions = torch.arange(q.shape[-2])
        distance = positions[:, None] - positions
        allowed = (distance >= 0) & (distance < window)
        return (q @ k.mT).masked_fill(~allowed, -torch.inf).softmax(-1) @ v


class MaskedAfterwards(Mistake):
    """You mask after the softmax, so the weights that are left sum to less than 1. Mask the scores with −∞."""

    exercise = "window_attention"

    def window_attention(q, k, v, window):
        positions = torch.arange(q.shape[-2])
        distance = positions[:, None] - positions
        allowed = (distance >= 0) & (distance < window)
        return ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * allowed) @ v


class ByTriangles(Alternative):
    """Two triangles cut out the band, and PyTorch's own attention does the rest."""

    exercise = "window_attention"

    def window_attention(q, k, v, window):
        n = q.shape[-2]
        band = torch.ones(n, n, dtype=torch.bool, device=q.device).tril().triu(1 - window)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=band)


class DividedByParts(Mistake):
    """You average the parts as if they were of one size. Weight each part's loss by its share of the rows."""

    exercise = "accumulated_step"

    def accumulated_step(model, parts, optimizer):
        optimizer.zero_grad()
        total = 0.0
        for x, target in parts:
            loss = F.mse_loss(model(x), target) / len(parts)
            loss.backward()
            total += loss.item()
        optimizer.step()
        return total


class NeverDivided(Mistake):
    """You add up the means of the parts, so the gradient grows with their number. Weight each by its share of the
    rows."""

    exercise = "accumulated_step"

    def accumulated_step(model, parts, optimizer):
        optimizer.zero_grad()
        total = 0.0
        for x, target in parts:
            loss = F.mse_loss(model(x), target)
            loss.backward()
            total += loss.item()
        optimizer.step()
        return total


class SteppedEachTime(Mistake):
    """You step after each part, so later parts meet other weights. Step once, at the end."""

    exercise = "accumulated_step"

    def accumulated_step(model, parts, optimizer):
        rows = sum(len(x) for x, _ in parts)
        total = 0.0
        for x, target in parts:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x), target) * len(x) / rows
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total


class GradientsLeftOver(Mistake):
    """You do not clear the gradients first, so those from before are in your step."""

    exercise = "accumulated_step"

    def accumulated_step(model, parts, optimizer):
        rows = sum(len(x) for x, _ in parts)
        total = 0.0
        for x, target in parts:
            loss = F.mse_loss(model(x), target) * len(x) / rows
            loss.backward()
            total += loss.item()
        optimizer.step()
        return total


class BySums(Alternative):
    """Sums of squares, divided by all elements."""

    exercise = "accumulated_step"

    def accumulated_step(model, parts, optimizer):
        model.zero_grad()
        elements = sum(target.numel() for _, target in parts)
        losses = []
        for x, target in parts:
            loss = F.mse_loss(model(x), target, reduction="sum") / elements
            loss.backward()
            losses.append(loss.detach())
        optimizer.step()
        return torch.stack(losses).sum().item()


class OneScale(Mistake):
    """You use one scale for the whole matrix, so small rows lose their resolution. Take the maximum of each row."""

    exercise = "quantize_rows"

    def quantize_rows(weight):
        scale = (weight.abs().max() / 127).expand(len(weight)).clone()
        return (weight / scale[:, None]).round().to(torch.int8), scale


class Truncated(Mistake):
    """You convert to int8 without rounding, which cuts towards zero. Call `round()` first."""

    exercise = "quantize_rows"

    def quantize_rows(weight):
        largest = weight.abs().amax(1)
        scale = torch.where(largest > 0, largest / 127, 1)
        return (weight / scale[:, None]).to(torch.int8), scale


class ZeroRowsDivided(Mistake):
    """A row of zeros gets the scale 0, and 0 / 0 is NaN. Use the scale 1 there."""

    exercise = "quantize_rows"

    def quantize_rows(weight):
        scale = weight.abs().amax(1) / 127
        return (weight / scale[:, None]).round().to(torch.int8), scale


class DividedBy128(Mistake):
    """Your scale divides by 128: the largest value becomes 128, which int8 has not. The range is −127 to 127."""

    exercise = "quantize_rows"

    def quantize_rows(weight):
        largest = weight.abs().amax(1)
        scale = torch.where(largest > 0, largest / 128, 1)
        return (weight / scale[:, None]).round().clamp(-128, 127).to(torch.int8), scale


class RowByRow(Alternative):
    """A loop over the rows."""

    exercise = "quantize_rows"

    def quantize_rows(weight):
        integers, scales = [], []
        for row in weight:
            scale = row.abs().max() / 127 if row.any() else weight.new_ones(())
            scales.append(scale)
            integers.append(torch.round(row / scale).char())
        return torch.stack(integers), torch.stack(scales)


# --- Reviews: the first mistake of each is what the paper shows -----------------------------------------------------


class CrossingTokenDropped(Mistake):
    """You drop the token that crosses p, and all tokens where the first has more. Compare the sum before each token."""

    exercise = "nucleus"

    def nucleus(logits: Tensor, p: float) -> Tensor:
        """`logits` `(batch, vocabulary)` with −∞ for all tokens outside the nucleus of mass `p`, 0 < p < 1."""
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        ordered = ordered.masked_fill(probabilities.cumsum(-1) >= p, -torch.inf)
        return torch.empty_like(ordered).scatter(-1, order, ordered)


class NotPutBack(Mistake):
    """Your logits come back in the order of their size, so they belong to other tokens. Scatter them back."""

    exercise = "nucleus"

    def nucleus(logits, p):
        ordered = logits.sort(dim=-1, descending=True).values
        probabilities = ordered.softmax(-1)
        return ordered.masked_fill(probabilities.cumsum(-1) - probabilities >= p, -torch.inf)


class ByTheInverse(Alternative):
    """The mask is brought back by the inverse of the order."""

    exercise = "nucleus"

    def nucleus(logits, p):
        order = logits.argsort(dim=-1, descending=True)
        sums = logits.softmax(-1).gather(-1, order).cumsum(-1)
        outside = F.pad(sums, (1, 0))[:, :-1] >= p
        return logits.masked_fill(outside.gather(-1, order.argsort(-1)), -torch.inf)


class OneDirection(Mistake):
    """Both of your terms ask images for their text. The second is the cross-entropy of `logits.T`."""

    exercise = "matched_pairs"

    def matched_pairs(images: Tensor, texts: Tensor, temperature: float = 0.07) -> Tensor:
        """Symmetric InfoNCE of embeddings `(batch, d)`, of any length; a scalar."""
        images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
        logits = images @ texts.T / temperature
        targets = torch.arange(len(images), device=images.device)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits, targets)) / 2


class TemperatureMultiplied(Mistake):
    """You multiply by the temperature; logits are divided by it."""

    exercise = "matched_pairs"

    def matched_pairs(images, texts, temperature=0.07):
        logits = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T * temperature
        targets = torch.arange(len(images))
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


class NotNormalised(Mistake):
    """You take plain dot products, so long embeddings win. Normalise both first: the similarity is the cosine."""

    exercise = "matched_pairs"

    def matched_pairs(images, texts, temperature=0.07):
        logits = images @ texts.T / temperature
        targets = torch.arange(len(images))
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


class ByLogSoftmax(Alternative):
    """The diagonals of two log-softmaxes."""

    exercise = "matched_pairs"

    def matched_pairs(images, texts, temperature=0.07):
        cosines = F.cosine_similarity(images[:, None], texts[None], dim=-1) / temperature
        return -(cosines.log_softmax(0) + cosines.log_softmax(1)).diagonal().mean() / 2


class ReplacedAnywhere(Mistake):
    """`replace` removes the prefix wherever it stands in a name. Remove it from the beginning: `removeprefix`."""

    exercise = "load_portable"

    def load_portable(model: nn.Module, state: Mapping[str, Tensor], prefix: str = "module.") -> nn.Module:
        """Load `state`, with `prefix` before each name or without, into `model`, strictly, and return the model."""
        portable = {}
        for name, value in state.items():
            portable[name.replace(prefix, "")] = value
        model.load_state_dict(portable)
        return model


class LenientLoading(Mistake):
    """With `strict=False` the names that do not match are passed over, and the model keeps its random weights."""

    exercise = "load_portable"

    def load_portable(model, state, prefix="module."):
        model.load_state_dict(state, strict=False)
        return model


class AlwaysCut(Mistake):
    """You cut the prefix's length off every name, also where there is no prefix."""

    exercise = "load_portable"

    def load_portable(model, state, prefix="module."):
        model.load_state_dict({name[len(prefix) :]: value for name, value in state.items()})
        return model


class ConsumedInPlace(Alternative):
    """PyTorch's own helper, on a copy."""

    exercise = "load_portable"

    def load_portable(model, state, prefix="module."):
        state = dict(state)
        nn.modules.utils.consume_prefix_in_state_dict_if_present(state, prefix)
        model.load_state_dict(state)
        return model

"""Known answers to Lab 3: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · causal_mask -------------------------------------------------------------------------------------------------


class PastForgotten(Mistake):
    """Your mask is a triangle from the first column on, whatever came before. With `past` tokens there already, the
    first new one sees past + 1 positions: move the diagonal, `tril(past)`."""

    exercise = "causal_mask"

    def causal_mask(length, past=0):
        return torch.ones(length, past + length, dtype=torch.bool).tril()


class NotItself(Mistake):
    """Your tokens may not attend to themselves. A token knows what it is; the one it must not see is the next."""

    exercise = "causal_mask"

    def causal_mask(length, past=0):
        return torch.ones(length, past + length, dtype=torch.bool).tril(past - 1)


class PlainSum(Mistake):
    """You add the features of an output up as they are, and gradients can cancel: the outputs of a layer norm always
    have the same sum. Weigh them with random numbers first."""

    exercise = "causal_mask"

    def dependence(f, x):
        x = x.detach().requires_grad_()
        rows = [torch.autograd.grad(row, x, retain_graph=True)[0][0] for row in f(x)[0].sum(-1)]
        return (torch.stack(rows) != 0).any(-1)


class OtherPolarity(Mistake):
    """Your mask is True where one must *not* attend. Here True means may attend."""

    exercise = "causal_mask"

    def causal_mask(length, past=0):
        return torch.ones(length, past + length, dtype=torch.bool).triu(past + 1)


class GradientsLeft(Mistake):
    """You call `backward`, which adds to the `.grad` of every parameter on its way. `torch.autograd.grad` returns
    gradients and leaves nothing behind."""

    exercise = "causal_mask"

    def dependence(f, x):
        x = x.detach().clone().requires_grad_()
        outputs, rows = f(x)[0], []
        for row in (outputs * torch.randn_like(outputs)).sum(-1):
            x.grad = None
            row.backward(retain_graph=True)
            rows.append(x.grad[0])
        return (torch.stack(rows) != 0).any(-1)


class EveryFeature(Mistake):
    """You ask that all features of the input matter. One is enough: `.any(-1)`."""

    exercise = "causal_mask"

    def dependence(f, x):
        x = x.detach().requires_grad_()
        outputs = f(x)[0]
        weighted = (outputs * torch.randn_like(outputs)).sum(-1)
        rows = [torch.autograd.grad(row, x, retain_graph=True)[0][0] for row in weighted]
        return (torch.stack(rows) != 0).all(-1)


class InputsByOutputs(Mistake):
    """Your table has inputs in its rows. Row i, column j is True where *output* i depends on *input* j."""

    exercise = "causal_mask"

    def dependence(f, x):
        x = x.detach().requires_grad_()
        outputs = f(x)[0]
        weighted = (outputs * torch.randn_like(outputs)).sum(-1)
        rows = [torch.autograd.grad(row, x, retain_graph=True)[0][0] for row in weighted]
        return (torch.stack(rows) != 0).any(-1).T


class ByJacobian(Alternative):
    """The whole Jacobian, and positions compared."""

    exercise = "causal_mask"

    def causal_mask(length, past=0):
        return torch.arange(past + length)[None] <= torch.arange(past, past + length)[:, None]

    def dependence(f, x):
        jacobian = torch.autograd.functional.jacobian(f, x.detach())  # (1, U, e, 1, T, d)
        return (jacobian[0, :, :, 0] != 0).any(-1).any(1)


# --- 2 · decoder_block -----------------------------------------------------------------------------------------------


class KeysNotNormed(Mistake):
    """In the self-attention you normalise the queries alone. Keys and values come from the same normalised stream:
    compute `h = self.norm1(x)` once and pass it twice."""

    exercise = "decoder_block"

    class DecoderBlock(DecoderBlock):
        def forward(self, x, memory, mask=None, memory_mask=None):
            x = x + self.attention(self.norm1(x), x, mask)
            x = x + self.cross(self.norm2(x), memory, memory_mask)
            return x + self.feed_forward(self.norm3(x))


class PostNorm(Mistake):
    """You normalise after each sum: that is post-norm. Here the norm comes before each part, and the residual stream
    is never normalised."""

    exercise = "decoder_block"

    class DecoderBlock(DecoderBlock):
        def forward(self, x, memory, mask=None, memory_mask=None):
            x = self.norm1(x + self.attention(x, x, mask))
            x = self.norm2(x + self.cross(x, memory, memory_mask))
            return self.norm3(x + self.feed_forward(x))


class ResidualOfNorm(Mistake):
    """You add to the *normalised* input. The residual goes round the norm too: x + part(norm(x))."""

    exercise = "decoder_block"

    class DecoderBlock(DecoderBlock):
        def forward(self, x, memory, mask=None, memory_mask=None):
            x = self.norm1(x)
            x = x + self.attention(x, x, mask)
            x = self.norm2(x)
            x = x + self.cross(x, memory, memory_mask)
            x = self.norm3(x)
            return x + self.feed_forward(x)


class MemoryNormed(Mistake):
    """You normalise the memory as well. The encoder has done so at its end; norm2 belongs to what asks."""

    exercise = "decoder_block"

    class DecoderBlock(DecoderBlock):
        def forward(self, x, memory, mask=None, memory_mask=None):
            h = self.norm1(x)
            x = x + self.attention(h, h, mask)
            x = x + self.cross(self.norm2(x), self.norm2(memory), memory_mask)
            return x + self.feed_forward(self.norm3(x))


class MemoryUnmasked(Mistake):
    """You do not pass `memory_mask` on: the decoder reads the source's padding."""

    exercise = "decoder_block"

    class DecoderBlock(DecoderBlock):
        def forward(self, x, memory, mask=None, memory_mask=None):
            h = self.norm1(x)
            x = x + self.attention(h, h, mask)
            x = x + self.cross(self.norm2(x), memory)
            return x + self.feed_forward(self.norm3(x))


class CrossFirst(Mistake):
    """You look at the source before the sentence has looked at itself. First self-attention, then the memory."""

    exercise = "decoder_block"

    class DecoderBlock(DecoderBlock):
        def forward(self, x, memory, mask=None, memory_mask=None):
            x = x + self.cross(self.norm2(x), memory, memory_mask)
            h = self.norm1(x)
            x = x + self.attention(h, h, mask)
            return x + self.feed_forward(self.norm3(x))


class OneAttention(Mistake):
    """You use one attention for both. Looking at oneself and looking at the source need weights of their own:
    `attention` and `cross`."""

    exercise = "decoder_block"

    class DecoderBlock(DecoderBlock):
        def __init__(self, d_model, n_heads):
            super().__init__(d_model, n_heads)
            self.cross = self.attention


class ByKeysAndValues(Alternative):
    """The two halves of attention, one after the other."""

    exercise = "decoder_block"

    class DecoderBlock(nn.Module):
        def __init__(self, d_model, n_heads):
            super().__init__()
            self.attention, self.cross = Attention(d_model, n_heads), Attention(d_model, n_heads)
            self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d_model) for _ in range(3))
            self.feed_forward = feed_forward(d_model)

        def forward(self, x, memory, mask=None, memory_mask=None):
            asked = self.norm1(x)
            keys, values = self.attention.keys_values(asked)
            after_self = self.attention.attend(asked, keys, values, mask) + x
            keys, values = self.cross.keys_values(memory)
            after_cross = self.cross.attend(self.norm2(after_self), keys, values, memory_mask) + after_self
            return self.feed_forward(self.norm3(after_cross)) + after_cross


# --- 3 · translator --------------------------------------------------------------------------------------------------


class PaddingRead(Mistake):
    """Your decoder attends to the padding of the source: pass `source_mask[:, None, None]` to each block."""

    exercise = "translator"

    class Translator(Translator):
        def decode(self, target, memory, source_mask):
            x, mask = self.embedded(target), causal_mask(target.shape[1]).to(target.device)
            for block in self.decoder:
                x = block(x, memory, mask)
            return self.decoder_norm(x) @ self.embed.weight.T


class NotCausal(Mistake):
    """Your decoder has no causal mask: each position sees the very token that it is asked for."""

    exercise = "translator"

    class Translator(Translator):
        def decode(self, target, memory, source_mask):
            x = self.embedded(target)
            for block in self.decoder:
                x = block(x, memory, None, source_mask[:, None, None])
            return self.decoder_norm(x) @ self.embed.weight.T


class NotScaled(Mistake):
    """You add positions to embeddings that have not been multiplied by √d_model."""

    exercise = "translator"

    class Translator(Translator):
        def embedded(self, tokens, past=0):
            return self.embed(tokens) + self.positions(torch.arange(past, past + tokens.shape[1]))


class PositionsFromZero(Mistake):
    """Your positions always begin at 0. The first of these tokens stands at position `past`."""

    exercise = "translator"

    class Translator(Translator):
        def embedded(self, tokens, past=0):
            return self.embed(tokens) * math.sqrt(self.embed.embedding_dim) + self.positions.weight[: tokens.shape[1]]


class NoLastNorm(Mistake):
    """You leave `encoder_norm` out. With pre-norm blocks the residual stream itself is never normalised, so it has to
    be done once at the end."""

    exercise = "translator"

    class Translator(Translator):
        def encode(self, source, source_mask):
            x = self.embedded(source)
            for block in self.encoder:
                x = block(x, source_mask[:, None, None])
            return x


class NoNormBeforeLogits(Mistake):
    """You leave `decoder_norm` out. With pre-norm blocks the stream is normalised once at the end, before the
    logits."""

    exercise = "translator"

    class Translator(Translator):
        def decode(self, target, memory, source_mask):
            x, mask = self.embedded(target), causal_mask(target.shape[1]).to(target.device)
            for block in self.decoder:
                x = block(x, memory, mask, source_mask[:, None, None])
            return x @ self.embed.weight.T


class HeadOfItsOwn(Mistake):
    """Your logits come from a layer of its own. The table of embeddings is to serve twice: `h @
    self.embed.weight.T`."""

    exercise = "translator"

    class Translator(Translator):
        def __init__(self, vocabulary, d_model, n_heads, n_layers, longest):
            super().__init__(vocabulary, d_model, n_heads, n_layers, longest)
            self.head = nn.Linear(d_model, vocabulary)

        def decode(self, target, memory, source_mask):
            x, mask = self.embedded(target), causal_mask(target.shape[1]).to(target.device)
            for block in self.decoder:
                x = block(x, memory, mask, source_mask[:, None, None])
            return self.head(self.decoder_norm(x))


class TableDetached(Mistake):
    """Your logits use a detached copy of the table: it learns from its first use alone."""

    exercise = "translator"

    class Translator(Translator):
        def decode(self, target, memory, source_mask):
            x, mask = self.embedded(target), causal_mask(target.shape[1]).to(target.device)
            for block in self.decoder:
                x = block(x, memory, mask, source_mask[:, None, None])
            return self.decoder_norm(x) @ self.embed.weight.detach().T


class QueriesMasked(Mistake):
    """In the encoder you mask the padded *queries*, with `source_mask[:, None, :, None]`. It is the keys that must
    not be seen: `source_mask[:, None, None]`."""

    exercise = "translator"

    class Translator(Translator):
        def encode(self, source, source_mask):
            x = self.embedded(source)
            for block in self.encoder:
                x = block(x, source_mask[:, None, :, None])
            return self.encoder_norm(x)


class WholeMasks(Alternative):
    """Masks spelt out in full, and `F.linear`."""

    exercise = "translator"

    class Translator(Translator):
        def embedded(self, tokens, past=0):
            positions = self.positions.weight[past : past + tokens.shape[1]]
            return self.embed.weight[tokens] * self.embed.weight.shape[1] ** 0.5 + positions

        def encode(self, source, source_mask):
            x, (batch, length) = self.embedded(source), source.shape
            for block in self.encoder:
                x = block(x, source_mask.view(batch, 1, 1, length).expand(batch, 1, length, length))
            return self.encoder_norm(x)

        def decode(self, target, memory, source_mask):
            x, (batch, length) = self.embedded(target), target.shape
            mask = torch.ones(batch, 1, length, length, dtype=torch.bool, device=target.device).tril()
            for block in self.decoder:
                x = block(x, memory, mask, source_mask[:, None, None, :].expand(-1, 1, length, -1))
            return F.linear(self.decoder_norm(x), self.embed.weight)


# --- 4 · teacher_inputs ----------------------------------------------------------------------------------------------


class NotShifted(Mistake):
    """You give the decoder the target itself: at each position it sees the token it is asked for. Put `begin` in
    front and leave the last one out."""

    exercise = "teacher_inputs"

    def teacher_inputs(target, begin):
        return target.clone()


class PaddingCounted(Mistake):
    """Padding counts in your mean. Leave it out of the sum and of what you divide by: `ignore_index=pad`."""

    exercise = "teacher_inputs"

    def sequence_loss(logits, target, pad, smoothing=0.0):
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), label_smoothing=smoothing)


class RolledRound(Mistake):
    """You roll the target by one, and its last token comes round to the front. There belongs `begin`."""

    exercise = "teacher_inputs"

    def teacher_inputs(target, begin):
        return target.roll(1, 1)


class DividedByAll(Mistake):
    """You leave padding out of the sum and still divide by all positions."""

    exercise = "teacher_inputs"

    def sequence_loss(logits, target, pad, smoothing=0.0):
        total = F.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=pad, label_smoothing=smoothing, reduction="sum"
        )
        return total / target.numel()


class MeanOfSentences(Mistake):
    """You average within each sentence first. The mean is over all tokens of the batch: a long sentence counts more."""

    exercise = "teacher_inputs"

    def sequence_loss(logits, target, pad, smoothing=0.0):
        each = F.cross_entropy(logits.mT, target, ignore_index=pad, label_smoothing=smoothing, reduction="none")
        counts = (target != pad).sum(1)
        return (each.sum(1) / counts.clamp(min=1))[counts > 0].mean()


class SmoothedOverOthers(Mistake):
    """You share ε among the *other* tokens. Here the uniform part goes to all K, the right one included."""

    exercise = "teacher_inputs"

    def sequence_loss(logits, target, pad, smoothing=0.0):
        k = logits.shape[-1]
        wanted = torch.full_like(logits, smoothing / (k - 1)).scatter(-1, target[..., None], 1 - smoothing)
        return -(wanted * logits.log_softmax(-1)).sum(-1)[target != pad].mean()


class NotSmoothed(Mistake):
    """You do not use `smoothing`."""

    exercise = "teacher_inputs"

    def sequence_loss(logits, target, pad, smoothing=0.0):
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad)


class TargetOverwritten(Mistake):
    """You shift the target in place, and the loss is then computed with what is left of it. Make a new tensor."""

    exercise = "teacher_inputs"

    def teacher_inputs(target, begin):
        target[:, 1:] = target[:, :-1].clone()
        target[:, 0] = begin
        return target


class ByHand(Alternative):
    """Log-probabilities gathered and smoothed by hand."""

    exercise = "teacher_inputs"

    def teacher_inputs(target, begin):
        return F.pad(target, (1, -1), value=begin)

    def sequence_loss(logits, target, pad, smoothing=0.0):
        logp, there = logits.log_softmax(-1), target != pad
        right = logp.gather(-1, target[..., None]).squeeze(-1)
        each = -(1 - smoothing) * right - smoothing * logp.mean(-1)
        return (each * there).sum() / there.sum()


# --- 5 · greedy ------------------------------------------------------------------------------------------------------


class EndedWritesOn(Mistake):
    """A row that has written `end` goes on writing. Fill it with `end` from then on."""

    exercise = "greedy"

    def greedy(next_logits, start, end, most):
        tokens, ended = start, torch.zeros(len(start), dtype=torch.bool)
        for _ in range(most):
            best = next_logits(tokens).argmax(-1)
            tokens, ended = torch.cat((tokens, best[:, None]), 1), ended | (best == end)
            if ended.all():
                break
        return tokens


class LogitsSummed(Mistake):
    """Your beam adds up logits. They are log-probabilities only after a `log_softmax`: before, one beginning's may
    all be larger than another's."""

    exercise = "greedy"

    def beam_search(next_logits, start, end, width, most, alpha=0.0):
        live, scores, finished = start[None], torch.zeros(1), []
        for n in range(1, most + 1):
            candidates = scores[:, None] + next_logits(live)
            scores, chosen = candidates.flatten().topk(min(width, candidates.numel()))
            live = torch.cat((live[chosen // candidates.shape[1]], (chosen % candidates.shape[1])[:, None]), 1)
            done = (live[:, -1] == end) | (n == most)
            finished += [(t, s.item() / n**alpha) for t, s in zip(live[done], scores[done])]
            live, scores = live[~done], scores[~done]
            if not len(live):
                break
        return max(finished, key=lambda found: found[1])


class EachItsBest(Mistake):
    """After the first step each of your beginnings keeps its own best continuation. All continuations of all beginnings
    compete: the best `width` of them may come from one."""

    exercise = "greedy"

    def beam_search(next_logits, start, end, width, most, alpha=0.0):
        live, scores, finished = start[None], torch.zeros(1), []
        for n in range(1, most + 1):
            candidates = scores[:, None] + next_logits(live).log_softmax(-1)
            if n == 1:
                scores, token = candidates[0].topk(min(width, candidates.shape[1]))
                live = live.expand(len(token), -1)
            else:
                scores, token = candidates.max(-1)
            live = torch.cat((live, token[:, None]), 1)
            done = (token == end) | (n == most)
            finished += [(t, s.item() / n**alpha) for t, s in zip(live[done], scores[done])]
            live, scores = live[~done], scores[~done]
            if not len(live):
                break
        return max(finished, key=lambda found: found[1])


class LengthForgotten(Mistake):
    """You do not divide by the length: `alpha` has no effect, and short answers win."""

    exercise = "greedy"

    def beam_search(next_logits, start, end, width, most, alpha=0.0):
        live, scores, finished = start[None], torch.zeros(1), []
        for n in range(1, most + 1):
            candidates = scores[:, None] + next_logits(live).log_softmax(-1)
            scores, chosen = candidates.flatten().topk(min(width, candidates.numel()))
            live = torch.cat((live[chosen // candidates.shape[1]], (chosen % candidates.shape[1])[:, None]), 1)
            done = (live[:, -1] == end) | (n == most)
            finished += [(t, s.item()) for t, s in zip(live[done], scores[done])]
            live, scores = live[~done], scores[~done]
            if not len(live):
                break
        return max(finished, key=lambda found: found[1])


class StartCounted(Mistake):
    """You divide by the length of the whole sequence. Only the tokens that were written count."""

    exercise = "greedy"

    def beam_search(next_logits, start, end, width, most, alpha=0.0):
        live, scores, finished = start[None], torch.zeros(1), []
        for n in range(1, most + 1):
            candidates = scores[:, None] + next_logits(live).log_softmax(-1)
            scores, chosen = candidates.flatten().topk(min(width, candidates.numel()))
            live = torch.cat((live[chosen // candidates.shape[1]], (chosen % candidates.shape[1])[:, None]), 1)
            done = (live[:, -1] == end) | (n == most)
            finished += [(t, s.item() / len(t) ** alpha) for t, s in zip(live[done], scores[done])]
            live, scores = live[~done], scores[~done]
            if not len(live):
                break
        return max(finished, key=lambda found: found[1])


class StopsAtTheFirst(Mistake):
    """Your greedy search stops when the first row has ended. The others have not finished: stop when all have."""

    exercise = "greedy"

    def greedy(next_logits, start, end, most):
        tokens, ended = start, torch.zeros(len(start), dtype=torch.bool)
        for _ in range(most):
            best = next_logits(tokens).argmax(-1).masked_fill(ended, end)
            tokens, ended = torch.cat((tokens, best[:, None]), 1), ended | (best == end)
            if ended.any():
                break
        return tokens


class EndInTheStart(Mistake):
    """You take an `end` in `start` for the end of what was written. Only what the search writes can end a row."""

    exercise = "greedy"

    def greedy(next_logits, start, end, most):
        tokens = start
        for _ in range(most):
            ended = (tokens == end).any(1)
            if ended.all():
                break
            best = next_logits(tokens).argmax(-1).masked_fill(ended, end)
            tokens = torch.cat((tokens, best[:, None]), 1)
        return tokens


class NeverStops(Mistake):
    """Your greedy search asks the model `most` times, also when every row has ended long ago."""

    exercise = "greedy"

    def greedy(next_logits, start, end, most):
        tokens, ended = start, torch.zeros(len(start), dtype=torch.bool)
        for _ in range(most):
            best = next_logits(tokens).argmax(-1).masked_fill(ended, end)
            tokens, ended = torch.cat((tokens, best[:, None]), 1), ended | (best == end)
        return tokens


class FirstFinished(Mistake):
    """You return the first sequence that ends. A better one may still be alive."""

    exercise = "greedy"

    def beam_search(next_logits, start, end, width, most, alpha=0.0):
        live, scores = start[None], torch.zeros(1)
        for n in range(1, most + 1):
            candidates = scores[:, None] + next_logits(live).log_softmax(-1)
            scores, chosen = candidates.flatten().topk(min(width, candidates.numel()))
            live = torch.cat((live[chosen // candidates.shape[1]], (chosen % candidates.shape[1])[:, None]), 1)
            done = (live[:, -1] == end) | (n == most)
            if done.any():
                return live[done][0], scores[done][0].item() / n**alpha


class ListsAndHeaps(Alternative):
    """One hypothesis at a time, in Python lists."""

    exercise = "greedy"

    def greedy(next_logits, start, end, most):
        rows, open_rows = [row.tolist() for row in start], set(range(len(start)))
        for _ in range(most):
            if not open_rows:
                break
            best = next_logits(torch.tensor(rows)).argmax(-1).tolist()
            for r, token in enumerate(best):
                rows[r].append(token if r in open_rows else end)
                if token == end:
                    open_rows.discard(r)
        return torch.tensor(rows)

    def beam_search(next_logits, start, end, width, most, alpha=0.0):
        live, finished = [(0.0, start.tolist())], []
        for n in range(1, most + 1):
            logp = next_logits(torch.tensor([tokens for _, tokens in live])).double().log_softmax(-1)
            grown = [
                (score + step.item(), [*tokens, token])
                for (score, tokens), row in zip(live, logp)
                for token, step in enumerate(row)
            ]
            best = sorted(grown, key=lambda found: -found[0])[:width]
            over = [found for found in best if found[1][-1] == end or n == most]
            finished += [(score / n**alpha, tokens) for score, tokens in over]
            live = [found for found in best if found[1][-1] != end]
            if not live:
                break
        score, tokens = max(finished)
        return torch.tensor(tokens), score


# --- 6 · train_step --------------------------------------------------------------------------------------------------


class TargetGiven(Mistake):
    """You give the decoder the target as it is. It must lag behind: `teacher_inputs(target, BEGIN)`."""

    exercise = "train_step"

    def train_step(model, optimizer, source, target):
        optimizer.zero_grad()
        loss = sequence_loss(model(source, target, source != PAD), target, PAD, smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()


class GradientsAddUp(Mistake):
    """You never clear the gradients: each step also takes all earlier ones again."""

    exercise = "train_step"

    def train_step(model, optimizer, source, target):
        loss = sequence_loss(model(source, teacher_inputs(target, BEGIN), source != PAD), target, PAD, smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()


class SharesOfTokens(Mistake):
    """You count tokens that are right. A row is right as a whole, or not at all."""

    exercise = "train_step"

    def exact_match(predicted, target):
        predicted = F.pad(predicted, (0, max(target.shape[1] - predicted.shape[1], 0)), value=-1)[:, : target.shape[1]]
        return (predicted == target)[target != PAD].double().mean().item()


class MaskTurnedRound(Mistake):
    """Your source mask is True for the padding. True means may attend: `source != PAD`."""

    exercise = "train_step"

    def train_step(model, optimizer, source, target):
        optimizer.zero_grad()
        loss = sequence_loss(model(source, teacher_inputs(target, BEGIN), source == PAD), target, PAD, smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()


class NotClipped(Mistake):
    """You do not clip the gradient: its norm over all parameters must be at most 1.0 when the step is taken."""

    exercise = "train_step"

    def train_step(model, optimizer, source, target):
        optimizer.zero_grad()
        loss = sequence_loss(model(source, teacher_inputs(target, BEGIN), source != PAD), target, PAD, smoothing=0.1)
        loss.backward()
        optimizer.step()
        return loss.item()


class ClippedOneByOne(Mistake):
    """You clip each parameter's gradient by itself, which turns the direction of the step. The norm is over all
    together."""

    exercise = "train_step"

    def train_step(model, optimizer, source, target):
        optimizer.zero_grad()
        loss = sequence_loss(model(source, teacher_inputs(target, BEGIN), source != PAD), target, PAD, smoothing=0.1)
        loss.backward()
        for parameter in model.parameters():
            nn.utils.clip_grad_norm_(parameter, 1.0)
        optimizer.step()
        return loss.item()


class WithoutSmoothing(Mistake):
    """Your loss has no smoothing. It is 0.1 here."""

    exercise = "train_step"

    def train_step(model, optimizer, source, target):
        optimizer.zero_grad()
        loss = sequence_loss(model(source, teacher_inputs(target, BEGIN), source != PAD), target, PAD)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()


class GraphKept(Mistake):
    """You return the loss as a tensor, and whoever keeps it keeps the graph. Return `loss.item()`."""

    exercise = "train_step"

    def train_step(model, optimizer, source, target):
        optimizer.zero_grad()
        loss = sequence_loss(model(source, teacher_inputs(target, BEGIN), source != PAD), target, PAD, smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss


class WhatFollowsCounts(Mistake):
    """You compare what follows the target's `END` too. It is no part of the answer."""

    exercise = "train_step"

    def exact_match(predicted, target):
        predicted = F.pad(predicted, (0, max(target.shape[1] - predicted.shape[1], 0)), value=-1)[:, : target.shape[1]]
        return (predicted == target).all(1).double().mean().item()


class EndNotCompared(Mistake):
    """You compare up to the target's `END` and not with it: an answer that goes on is taken for right."""

    exercise = "train_step"

    def exact_match(predicted, target):
        predicted = F.pad(predicted, (0, max(target.shape[1] - predicted.shape[1], 0)), value=-1)[:, : target.shape[1]]
        return ((predicted == target) | ((target == END).cumsum(1) > 0)).all(1).double().mean().item()


class RowByRow(Alternative):
    """Rows compared as lists, gradients cleared at the end, and the norm by hand."""

    exercise = "train_step"

    def train_step(model, optimizer, source, target):
        for parameter in model.parameters():
            parameter.grad = None
        logits = model(source, F.pad(target, (1, -1), value=BEGIN), source.ne(PAD))
        loss = F.cross_entropy(logits.mT, target, ignore_index=PAD, label_smoothing=0.1)
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
        for parameter in model.parameters():
            if parameter.grad is not None and norm > 1:
                parameter.grad /= norm
        optimizer.step()
        return float(loss)

    def exact_match(predicted, target):
        rows = [(p.tolist(), t.tolist()) for p, t in zip(predicted, target)]
        return sum(p[: t.index(END) + 1] == t[: t.index(END) + 1] for p, t in rows) / len(rows)


# --- 7 · nucleus -----------------------------------------------------------------------------------------------------


class CrossingDropped(Mistake):
    """You drop the token with which the sum crosses `p`. It belongs to the nucleus: without it `p` is not reached,
    and a sure model is left with nothing."""

    exercise = "nucleus"

    def nucleus(logits, p, temperature=1.0):
        if not (0 < p < 1 and temperature > 0):
            raise ValueError("p between 0 and 1, temperature above 0")
        logits = logits / temperature
        ordered, order = logits.sort(-1, descending=True)
        dropped = ordered.softmax(-1).cumsum(-1) > p
        return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


class OrderForgotten(Mistake):
    """You decide in sorted order and apply the decision to the vocabulary's order. Carry it back with `scatter`."""

    exercise = "nucleus"

    def nucleus(logits, p, temperature=1.0):
        if not (0 < p < 1 and temperature > 0):
            raise ValueError("p between 0 and 1, temperature above 0")
        logits = logits / temperature
        probabilities = logits.sort(-1, descending=True).values.softmax(-1)
        return logits.masked_fill(probabilities.cumsum(-1) - probabilities >= p, -torch.inf)


class TemperatureLast(Mistake):
    """You measure the nucleus before the temperature is applied. It comes first, and changes the probabilities."""

    exercise = "nucleus"

    def nucleus(logits, p, temperature=1.0):
        if not (0 < p < 1 and temperature > 0):
            raise ValueError("p between 0 and 1, temperature above 0")
        ordered, order = logits.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        dropped = probabilities.cumsum(-1) - probabilities >= p
        return (logits / temperature).masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


class TemperatureMultiplied(Mistake):
    """You multiply by the temperature. Dividing is what makes a high one bold and a low one careful."""

    exercise = "nucleus"

    def nucleus(logits, p, temperature=1.0):
        if not (0 < p < 1 and temperature > 0):
            raise ValueError("p between 0 and 1, temperature above 0")
        logits = logits * temperature
        ordered, order = logits.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        dropped = probabilities.cumsum(-1) - probabilities >= p
        return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


class ProbabilitiesReturned(Mistake):
    """You return probabilities. What is asked for are logits, divided by the temperature, with −inf where a token is
    cut."""

    exercise = "nucleus"

    def nucleus(logits, p, temperature=1.0):
        if not (0 < p < 1 and temperature > 0):
            raise ValueError("p between 0 and 1, temperature above 0")
        logits = logits / temperature
        ordered, order = logits.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        dropped = probabilities.cumsum(-1) - probabilities >= p
        return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf).softmax(-1)


class LogitsOverwritten(Mistake):
    """You divide the caller's logits in place."""

    exercise = "nucleus"

    def nucleus(logits, p, temperature=1.0):
        if not (0 < p < 1 and temperature > 0):
            raise ValueError("p between 0 and 1, temperature above 0")
        logits /= temperature
        ordered, order = logits.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        dropped = probabilities.cumsum(-1) - probabilities >= p
        return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


class AnythingGoes(Mistake):
    """You accept any `p` and any temperature. Raise ValueError unless 0 < p < 1 and the temperature is positive."""

    exercise = "nucleus"

    def nucleus(logits, p, temperature=1.0):
        logits = logits / temperature
        ordered, order = logits.sort(-1, descending=True)
        probabilities = ordered.softmax(-1)
        dropped = probabilities.cumsum(-1) - probabilities >= p
        return logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)


class ByRanks(Alternative):
    """Ranks by a double argsort, and a large finite number first."""

    exercise = "nucleus"

    def nucleus(logits, p, temperature=1.0):
        if not 0 < p < 1 or temperature <= 0:
            raise ValueError("out of range")
        scaled = logits.div(temperature)
        probabilities = torch.softmax(scaled, -1)
        order = probabilities.argsort(-1, descending=True)
        sums = probabilities.gather(-1, order).cumsum(-1)
        kept = 1 + (sums < p).sum(-1, keepdim=True)
        return torch.where(order.argsort(-1) < kept, scaled, torch.tensor(float("-inf")))


# --- 8 · decode_cached -----------------------------------------------------------------------------------------------


class PositionsRestart(Mistake):
    """Your positions begin at 0 in each call. The new tokens stand behind what is cached: `model.embedded(tokens,
    past)`."""

    exercise = "decode_cached"

    def decode_cached(model, tokens, memory, source_mask, cache):
        past = cache[0]["keys"].shape[2] if cache[0] else 0
        x, mask = model.embedded(tokens), causal_mask(tokens.shape[1], past).to(tokens.device)
        for block, kept in zip(model.decoder, cache):
            h = block.norm1(x)
            keys, values = block.attention.keys_values(h)
            if kept:
                keys, values = torch.cat((kept["keys"], keys), 2), torch.cat((kept["values"], values), 2)
            else:
                kept["memory"] = block.cross.keys_values(memory)
            kept["keys"], kept["values"] = keys, values
            x = x + block.attention.attend(h, keys, values, mask)
            x = x + block.cross.attend(block.norm2(x), *kept["memory"], source_mask[:, None, None])
            x = x + block.feed_forward(block.norm3(x))
        return model.decoder_norm(x) @ model.embed.weight.T


class AllOverAgain(Mistake):
    """You keep the tokens and compute everything again: the result is right and nothing is saved. Keep keys and
    values."""

    exercise = "decode_cached"

    def decode_cached(model, tokens, memory, source_mask, cache):
        cache[0]["tokens"] = torch.cat((cache[0]["tokens"], tokens), 1) if cache[0] else tokens
        return model.decode(cache[0]["tokens"], memory, source_mask)[:, -tokens.shape[1] :]


class MaskWithoutPast(Mistake):
    """Your mask does not know of what is cached. `causal_mask(n, past)` has a column for each token, old and new."""

    exercise = "decode_cached"

    def decode_cached(model, tokens, memory, source_mask, cache):
        past = cache[0]["keys"].shape[2] if cache[0] else 0
        x, mask = model.embedded(tokens, past), causal_mask(tokens.shape[1]).to(tokens.device)
        for block, kept in zip(model.decoder, cache):
            h = block.norm1(x)
            keys, values = block.attention.keys_values(h)
            if kept:
                keys, values = torch.cat((kept["keys"], keys), 2), torch.cat((kept["values"], values), 2)
            else:
                kept["memory"] = block.cross.keys_values(memory)
            kept["keys"], kept["values"] = keys, values
            x = x + block.attention.attend(h, keys, values, mask)
            x = x + block.cross.attend(block.norm2(x), *kept["memory"], source_mask[:, None, None])
            x = x + block.feed_forward(block.norm3(x))
        return model.decoder_norm(x) @ model.embed.weight.T


class NoMaskAtAll(Mistake):
    """You use no mask. One new token may see everything, but of several the first must not see the last."""

    exercise = "decode_cached"

    def decode_cached(model, tokens, memory, source_mask, cache):
        past = cache[0]["keys"].shape[2] if cache[0] else 0
        x = model.embedded(tokens, past)
        for block, kept in zip(model.decoder, cache):
            h = block.norm1(x)
            keys, values = block.attention.keys_values(h)
            if kept:
                keys, values = torch.cat((kept["keys"], keys), 2), torch.cat((kept["values"], values), 2)
            else:
                kept["memory"] = block.cross.keys_values(memory)
            kept["keys"], kept["values"] = keys, values
            x = x + block.attention.attend(h, keys, values)
            x = x + block.cross.attend(block.norm2(x), *kept["memory"], source_mask[:, None, None])
            x = x + block.feed_forward(block.norm3(x))
        return model.decoder_norm(x) @ model.embed.weight.T


class MemoryAgain(Mistake):
    """You compute the memory's keys and values in each call. They never change: keep those of the first."""

    exercise = "decode_cached"

    def decode_cached(model, tokens, memory, source_mask, cache):
        past = cache[0]["keys"].shape[2] if cache[0] else 0
        x, mask = model.embedded(tokens, past), causal_mask(tokens.shape[1], past).to(tokens.device)
        for block, kept in zip(model.decoder, cache):
            h = block.norm1(x)
            keys, values = block.attention.keys_values(h)
            if kept:
                keys, values = torch.cat((kept["keys"], keys), 2), torch.cat((kept["values"], values), 2)
            kept["keys"], kept["values"] = keys, values
            x = x + block.attention.attend(h, keys, values, mask)
            x = x + block.cross(block.norm2(x), memory, source_mask[:, None, None])
            x = x + block.feed_forward(block.norm3(x))
        return model.decoder_norm(x) @ model.embed.weight.T


class OnlyTheLast(Mistake):
    """Your cache holds the keys of the last call alone: what came before it is forgotten. Append, and keep the
    whole."""

    exercise = "decode_cached"

    def decode_cached(model, tokens, memory, source_mask, cache):
        past = cache[0].get("past", 0)
        x = model.embedded(tokens, past)
        for block, kept in zip(model.decoder, cache):
            h = block.norm1(x)
            keys, values = new = block.attention.keys_values(h)
            if kept:
                keys, values = torch.cat((kept["keys"], keys), 2), torch.cat((kept["values"], values), 2)
            else:
                kept["memory"] = block.cross.keys_values(memory)
            kept["keys"], kept["values"] = new
            kept["past"] = past + tokens.shape[1]
            x = x + block.attention.attend(
                h, keys, values, causal_mask(tokens.shape[1], keys.shape[2] - tokens.shape[1])
            )
            x = x + block.cross.attend(block.norm2(x), *kept["memory"], source_mask[:, None, None])
            x = x + block.feed_forward(block.norm3(x))
        return model.decoder_norm(x) @ model.embed.weight.T


class KeptInTheModel(Mistake):
    """You keep keys and values in the model: a second text finds those of the first. They belong into `cache`."""

    exercise = "decode_cached"

    def decode_cached(model, tokens, memory, source_mask, cache):
        kept_all = model.__dict__.setdefault("kept", [{} for _ in model.decoder])
        past = kept_all[0]["keys"].shape[2] if kept_all[0] else 0
        x, mask = model.embedded(tokens, past), causal_mask(tokens.shape[1], past).to(tokens.device)
        for block, kept in zip(model.decoder, kept_all):
            h = block.norm1(x)
            keys, values = block.attention.keys_values(h)
            if kept:
                keys, values = torch.cat((kept["keys"], keys), 2), torch.cat((kept["values"], values), 2)
            else:
                kept["memory"] = block.cross.keys_values(memory)
            kept["keys"], kept["values"] = keys, values
            x = x + block.attention.attend(h, keys, values, mask)
            x = x + block.cross.attend(block.norm2(x), *kept["memory"], source_mask[:, None, None])
            x = x + block.feed_forward(block.norm3(x))
        return model.decoder_norm(x) @ model.embed.weight.T


class TokenByToken(Alternative):
    """One token at a time, whatever comes; keys and values in lists, joined when they are used."""

    exercise = "decode_cached"

    def decode_cached(model, tokens, memory, source_mask, cache):
        rows = []
        for token in tokens.split(1, 1):
            past = len(cache[0].get("self", []))
            x = model.embedded(token, past)
            for block, kept in zip(model.decoder, cache):
                if "cross" not in kept:
                    kept["self"], kept["cross"] = [], block.cross.keys_values(memory)
                h = block.norm1(x)
                kept["self"].append(block.attention.keys_values(h))
                keys, values = (torch.cat(parts, 2) for parts in zip(*kept["self"]))
                x = x + block.attention.attend(h, keys, values)
                x = x + block.cross.attend(block.norm2(x), *kept["cross"], source_mask[:, None, None, :])
                x = x + block.feed_forward(block.norm3(x))
            rows.append(F.linear(model.decoder_norm(x), model.embed.weight))
        return torch.cat(rows, 1)


# --- A · top_k -------------------------------------------------------------------------------------------------------


class LastDropped(Mistake):
    """You cut the k-th largest as well: compare with `<`, not `<=`."""

    exercise = "top_k"

    def top_k(logits, k):
        if k < 1:
            raise ValueError(k)
        smallest = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
        return logits.masked_fill(logits <= smallest, -torch.inf)


class AbsoluteShare(Mistake):
    """You compare probabilities with `share` itself. It is a share of the largest probability of the row."""

    exercise = "top_k"

    def min_p(logits, share):
        if not 0 <= share <= 1:
            raise ValueError(share)
        return logits.masked_fill(logits.softmax(-1) < share, -torch.inf)


class ShareOfLogits(Mistake):
    """You take a share of the largest logit. A share is one of probabilities; of logits it depends on where zero is."""

    exercise = "top_k"

    def min_p(logits, share):
        if not 0 <= share <= 1:
            raise ValueError(share)
        return logits.masked_fill(logits < share * logits.amax(-1, keepdim=True), -torch.inf)


class OneRowForAll(Mistake):
    """You take the k largest of the whole tensor. Each row keeps its own."""

    exercise = "top_k"

    def top_k(logits, k):
        if k < 1:
            raise ValueError(k)
        smallest = logits.flatten().topk(min(k, logits.numel())).values[-1]
        return logits.masked_fill(logits < smallest, -torch.inf)


class MoreThanThereAre(Mistake):
    """With a `k` larger than the vocabulary `topk` raises. Then all are kept."""

    exercise = "top_k"

    def top_k(logits, k):
        if k < 1:
            raise ValueError(k)
        return logits.masked_fill(logits < logits.topk(k).values[..., -1:], -torch.inf)


class NothingRefused(Mistake):
    """You accept any `k` and any share. Raise ValueError for those that make no sense."""

    exercise = "top_k"

    def top_k(logits, k):
        k = max(k, 1)
        return logits.masked_fill(logits < logits.topk(min(k, logits.shape[-1])).values[..., -1:], -torch.inf)

    def min_p(logits, share):
        probabilities = logits.softmax(-1)
        return logits.masked_fill(probabilities < share * probabilities.amax(-1, keepdim=True), -torch.inf)


class BySorting(Alternative):
    """Ranks, and differences of logits."""

    exercise = "top_k"

    def top_k(logits, k):
        if k < 1:
            raise ValueError(k)
        ranks = logits.argsort(-1, descending=True).argsort(-1)
        return torch.where(ranks < k, logits, -torch.inf)

    def min_p(logits, share):
        if share < 0 or share > 1:
            raise ValueError(share)
        below = logits - logits.amax(-1, keepdim=True)
        return torch.where(below.exp() >= share, logits, -torch.inf)

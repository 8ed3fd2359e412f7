"""Known answers to Lab 6: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · output_size -------------------------------------------------------------------------------------------------


class OneMissing(Mistake):
    """You forget the + 1: the first place counts, too."""

    exercise = "output_size"

    def output_size(size, kernel, stride=1, padding=0, dilation=1):
        out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride
        if out < 0:
            raise ValueError("too large")
        return out


class PaddingOnce(Mistake):
    """You add the padding once. It stands on both sides."""

    exercise = "output_size"

    def output_size(size, kernel, stride=1, padding=0, dilation=1):
        out = (size + padding - dilation * (kernel - 1) - 1) // stride + 1
        if size + 2 * padding < dilation * (kernel - 1) + 1:
            raise ValueError("too large")
        return out


class RoundedUp(Mistake):
    """You round up. A place that does not fit entirely is left out: round down, with `//`."""

    exercise = "output_size"

    def output_size(size, kernel, stride=1, padding=0, dilation=1):
        room = size + 2 * padding - dilation * (kernel - 1) - 1
        if room < 0:
            raise ValueError("too large")
        return -(-room // stride) + 1


class DilationIgnored(Mistake):
    """You leave out the dilation. A dilated kernel covers d(k − 1) + 1 pixels."""

    exercise = "output_size"

    def output_size(size, kernel, stride=1, padding=0, dilation=1):
        out = (size + 2 * padding - kernel) // stride + 1
        if size + 2 * padding < dilation * (kernel - 1) + 1:
            raise ValueError("too large")
        return out


class FieldIgnoresStrides(Mistake):
    """You add k − 1 for each layer. After a stride the taps of later layers lie further apart: multiply by the
    product of the strides before."""

    exercise = "output_size"

    def receptive_field(layers):
        return 1 + sum(kernel - 1 for kernel, _ in layers)


class JumpTooEarly(Mistake):
    """You multiply by a layer's own stride before you count its kernel. Its stride matters to the layers after it."""

    exercise = "output_size"

    def receptive_field(layers):
        field, jump = 1, 1
        for kernel, stride in layers:
            jump *= stride
            field += (kernel - 1) * jump
        return field


class FieldsMultiplied(Mistake):
    """You multiply the kernels. Fields overlap, so a layer *adds* (k − 1) times the distance of its taps."""

    exercise = "output_size"

    def receptive_field(layers):
        field = 1
        for kernel, _ in layers:
            field *= kernel
        return field


class MisfitAccepted(Mistake):
    """You return a size below 1 where the kernel does not fit. Raise `ValueError`."""

    exercise = "output_size"

    def output_size(size, kernel, stride=1, padding=0, dilation=1):
        return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


class FromTheOutput(Alternative):
    """The receptive field from the last layer back, and places counted by a range."""

    exercise = "output_size"

    def output_size(size, kernel, stride=1, padding=0, dilation=1):
        places = range(0, size + 2 * padding - dilation * (kernel - 1), stride)
        if not places:
            raise ValueError("the kernel does not fit")
        return len(places)

    def receptive_field(layers):
        field = 1
        for kernel, stride in reversed(list(layers)):
            field = (field - 1) * stride + kernel
        return field


# --- 2 · conv2d ------------------------------------------------------------------------------------------------------


class KernelFlipped(Mistake):
    """You flip the kernel, as a mathematician's convolution does. In deep learning it is not flipped."""

    exercise = "conv2d"

    def conv2d(x, weight, bias, stride=1, padding=0):
        k = weight.shape[-1]
        h_out, w_out = (output_size(n, k, stride, padding) for n in x.shape[-2:])
        y = weight.flip(-1, -2).flatten(1) @ F.unfold(x, k, stride=stride, padding=padding) + bias[:, None]
        return y.unflatten(-1, (h_out, w_out))


class HeightAndWidthSwapped(Mistake):
    """You give the positions back as `(w_out, h_out)`. They are listed row by row: `(h_out, w_out)`."""

    exercise = "conv2d"

    def conv2d(x, weight, bias, stride=1, padding=0):
        k = weight.shape[-1]
        h_out, w_out = (output_size(n, k, stride, padding) for n in x.shape[-2:])
        y = weight.flatten(1) @ F.unfold(x, k, stride=stride, padding=padding) + bias[:, None]
        return y.unflatten(-1, (w_out, h_out))


class BiasForgotten(Mistake):
    """You leave the bias out of `conv2d`. Add one number per output channel: `bias[:, None]`."""

    exercise = "conv2d"

    def conv2d(x, weight, bias, stride=1, padding=0):
        k = weight.shape[-1]
        h_out, w_out = (output_size(n, k, stride, padding) for n in x.shape[-2:])
        y = weight.flatten(1) @ F.unfold(x, k, stride=stride, padding=padding)
        return y.unflatten(-1, (h_out, w_out))


class MeanOverTheBatch(Mistake):
    """You average the gradients of weight and bias over the batch. Whether there is a mean is decided by the loss,
    and is in `grad_output` already: sum."""

    exercise = "conv2d"

    def conv2d_backward(grad_output, x, weight, stride=1, padding=0):
        k = weight.shape[-1]
        grad = grad_output.flatten(2)
        patches = F.unfold(x, k, stride=stride, padding=padding)
        grad_weight = (grad @ patches.mT).mean(0).view_as(weight)
        grad_x = F.fold(weight.flatten(1).T @ grad, x.shape[-2:], k, stride=stride, padding=padding)
        return grad_x, grad_weight, grad.sum(2).mean(0)


class BiasSummedOverTheBatchAlone(Mistake):
    """You sum the bias's gradient over the batch and average over positions. Every place uses the same bias: sum over
    both."""

    exercise = "conv2d"

    def conv2d_backward(grad_output, x, weight, stride=1, padding=0):
        k = weight.shape[-1]
        grad = grad_output.flatten(2)
        patches = F.unfold(x, k, stride=stride, padding=padding)
        grad_x = F.fold(weight.flatten(1).T @ grad, x.shape[-2:], k, stride=stride, padding=padding)
        return grad_x, (grad @ patches.mT).sum(0).view_as(weight), grad.mean(2).sum(0)


class ForwardKernelOnTheWayBack(Mistake):
    """For `x` you convolve the gradient with the kernel as it is. On the way back the kernel is transposed: `fold` the
    patches that `weight.T` makes of the gradient."""

    exercise = "conv2d"

    def conv2d_backward(grad_output, x, weight, stride=1, padding=0):
        k = weight.shape[-1]
        grad = grad_output.flatten(2)
        patches = F.unfold(x, k, stride=stride, padding=padding)
        turned = weight.flip(-1, -2).flatten(1).T @ grad
        grad_x = F.fold(turned, x.shape[-2:], k, stride=stride, padding=padding)
        return grad_x, (grad @ patches.mT).sum(0).view_as(weight), grad.sum((0, 2))


class BuiltinConvolution(Mistake):
    """You call PyTorch's own convolution. Multiply the unfolded patches by the flattened weight."""

    exercise = "conv2d"

    def conv2d(x, weight, bias, stride=1, padding=0):
        return F.conv2d(x, weight, bias, stride, padding)


class ByShifts(Alternative):
    """No `unfold`: a sum over the places of the kernel, each a strided slice."""

    exercise = "conv2d"

    def conv2d(x, weight, bias, stride=1, padding=0):
        k, padded = weight.shape[-1], F.pad(x, (padding,) * 4)
        h = (padded.shape[2] - k) // stride + 1
        w = (padded.shape[3] - k) // stride + 1
        y = bias.view(1, -1, 1, 1)
        for u in range(k):
            for v in range(k):
                part = padded[:, :, u : u + stride * (h - 1) + 1 : stride, v : v + stride * (w - 1) + 1 : stride]
                y = y + torch.einsum("bchw,oc->bohw", part, weight[:, :, u, v])
        return y

    def conv2d_backward(grad_output, x, weight, stride=1, padding=0):
        k, padded = weight.shape[-1], F.pad(x, (padding,) * 4)
        h, w = grad_output.shape[-2:]
        grad_padded, grad_weight = torch.zeros_like(padded), torch.zeros_like(weight)
        for u in range(k):
            for v in range(k):
                rows = slice(u, u + stride * (h - 1) + 1, stride)
                columns = slice(v, v + stride * (w - 1) + 1, stride)
                grad_weight[:, :, u, v] = torch.einsum("bohw,bchw->oc", grad_output, padded[:, :, rows, columns])
                grad_padded[:, :, rows, columns] += torch.einsum("bohw,oc->bchw", grad_output, weight[:, :, u, v])
        grad_x = grad_padded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]]
        return grad_x, grad_weight, grad_output.sum(dim=(0, 2, 3))


# --- 3 · residual_block ----------------------------------------------------------------------------------------------


class ReluBeforeTheSum(Mistake):
    """You apply the last relu to the branch, before the sum. It comes after it."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            branch = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(branch) + self.shortcut(x)


class NoShortcut(Mistake):
    """You return the branch alone. Add the shortcut before the last relu."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class FirstReluForgotten(Mistake):
    """You leave out the relu between the two convolutions."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def forward(self, x):
            return torch.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))) + self.shortcut(x))


class ShortcutAlways(Mistake):
    """You have a convolution in every shortcut. Where neither channels nor size change, it is the identity, an empty
    `nn.Sequential`."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def __init__(self, c_in, c_out, stride=1):
            super().__init__(c_in, c_out, stride)
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out))


class ShortcutWithoutNorm(Mistake):
    """Your shortcut has no batch norm. It has one after its 1×1 convolution."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def __init__(self, c_in, c_out, stride=1):
            super().__init__(c_in, c_out, stride)
            if stride != 1 or c_in != c_out:
                self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False))


class BiasesKept(Mistake):
    """Your convolutions have biases, which the batch norm after them subtracts again. Pass `bias=False`."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def __init__(self, c_in, c_out, stride=1):
            super().__init__(c_in, c_out, stride)
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)


class StrideInTheSecond(Mistake):
    """You put the stride into `conv2`. It belongs to `conv1`, so that the second convolution has less to do."""

    exercise = "residual_block"

    class ResidualBlock(ResidualBlock):
        def __init__(self, c_in, c_out, stride=1):
            super().__init__(c_in, c_out, stride)
            self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, stride=stride, padding=1, bias=False)


class WithIdentity(Alternative):
    """`nn.Identity` in the shortcut, `F.relu`, and the sum the other way round."""

    exercise = "residual_block"

    class ResidualBlock(nn.Module):
        def __init__(self, c_in, c_out, stride=1):
            super().__init__()
            same = stride == 1 and c_in == c_out
            self.shortcut = nn.Sequential(
                *([nn.Identity()] if same else [nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)])
            )
            self.bn2, self.bn1 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, "same", bias=False)
            self.conv1 = nn.Conv2d(c_in, c_out, (3, 3), (stride, stride), (1, 1), bias=False)

        def forward(self, x):
            h = F.relu(self.bn1(self.conv1(x)))
            h = self.shortcut(x) + self.bn2(self.conv2(h))
            return h.clamp(min=0)


# --- 4 · augment -----------------------------------------------------------------------------------------------------


class OneForAll(Mistake):
    """You draw once and treat the whole batch alike. Each picture has its own shift and its own mirror."""

    exercise = "augment"

    def augment(images, shift, generator):
        h, w = images.shape[-2:]
        padded = F.pad(images, (shift,) * 4)
        y, x = torch.randint(0, 2 * shift + 1, (2,), generator=generator).tolist()
        moved = padded[:, :, y : y + h, x : x + w]
        return moved.flip(-1) if torch.rand((), generator=generator) < 0.5 else moved.clone()


class LastShiftNeverDrawn(Mistake):
    """`torch.randint` leaves its upper end out, so the largest shift never comes. Use `2 * shift + 1`."""

    exercise = "augment"

    def augment(images, shift, generator):
        n, _, h, w = images.shape
        padded = F.pad(images, (shift,) * 4)
        corners = torch.randint(0, max(2 * shift, 1), (n, 2), generator=generator)
        mirrored = torch.rand(n, generator=generator) < 0.5
        moved = torch.stack([p[:, y : y + h, x : x + w] for p, (y, x) in zip(padded, corners.tolist())])
        return torch.where(mirrored[:, None, None, None], moved.flip(-1), moved)


class RolledRound(Mistake):
    """You roll, so what leaves on one side comes back on the other. Zeros move in: pad, then cut a window out."""

    exercise = "augment"

    def augment(images, shift, generator):
        n = len(images)
        steps = torch.randint(-shift, shift + 1, (n, 2), generator=generator).tolist()
        mirrored = torch.rand(n, generator=generator) < 0.5
        moved = torch.stack([p.roll((y, x), (-2, -1)) for p, (y, x) in zip(images, steps)])
        return torch.where(mirrored[:, None, None, None], moved.flip(-1), moved)


class Upended(Mistake):
    """You mirror top to bottom. Left to right is the last axis."""

    exercise = "augment"

    def augment(images, shift, generator):
        n, _, h, w = images.shape
        padded = F.pad(images, (shift,) * 4)
        corners = torch.randint(0, 2 * shift + 1, (n, 2), generator=generator)
        mirrored = torch.rand(n, generator=generator) < 0.5
        moved = torch.stack([p[:, y : y + h, x : x + w] for p, (y, x) in zip(padded, corners.tolist())])
        return torch.where(mirrored[:, None, None, None], moved.flip(-2), moved)


class GlobalRandomness(Mistake):
    """You draw from the global random state. Pass `generator=generator` to every draw."""

    exercise = "augment"

    def augment(images, shift, generator):
        n, _, h, w = images.shape
        padded = F.pad(images, (shift,) * 4)
        corners = torch.randint(0, 2 * shift + 1, (n, 2))
        mirrored = torch.rand(n) < 0.5
        moved = torch.stack([p[:, y : y + h, x : x + w] for p, (y, x) in zip(padded, corners.tolist())])
        return torch.where(mirrored[:, None, None, None], moved.flip(-1), moved)


class ByGather(Alternative):
    """Row and column numbers for each picture, and one indexing."""

    exercise = "augment"

    def augment(images, shift, generator):
        n, c, h, w = images.shape
        flip = torch.rand(n, 1, generator=generator) >= 0.5
        dy, dx = (torch.randint(-shift, shift + 1, (n, 1), generator=generator) for _ in range(2))
        rows, columns = torch.arange(h) + dy, torch.arange(w) + dx
        columns = torch.where(flip, columns.flip(-1), columns)
        inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None, :]
        picked = images[
            torch.arange(n)[:, None, None], :, rows.clamp(0, h - 1)[:, :, None], columns.clamp(0, w - 1)[:, None, :]
        ]
        return torch.where(inside[:, None], picked.permute(0, 3, 1, 2), torch.zeros((), dtype=images.dtype))


# --- 5 · train_epoch -------------------------------------------------------------------------------------------------


class GradientsPileUp(Mistake):
    """You never clear the gradients, so each step adds to those before it. Call `optimizer.zero_grad()` in each."""

    exercise = "train_epoch"

    def train_epoch(model, images, labels, optimizer, batch_size, generator):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        return total / len(images)


class SoftmaxTwice(Mistake):
    """You send the logits through a softmax before the cross-entropy, which has one of its own. Pass the logits."""

    exercise = "train_epoch"

    def train_epoch(model, images, labels, optimizer, batch_size, generator):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[rows]).softmax(1), labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        return total / len(images)


class ModeForgotten(Mistake):
    """You train in the mode the model came in. Call `model.train()` first."""

    exercise = "train_epoch"

    def train_epoch(model, images, labels, optimizer, batch_size, generator):
        total = 0.0
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        return total / len(images)


class BatchesAveraged(Mistake):
    """You average the losses of the batches, though the last one is smaller. Weight each by its rows."""

    exercise = "train_epoch"

    def train_epoch(model, images, labels, optimizer, batch_size, generator):
        model.train()
        losses = []
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)


class LastBatchDropped(Mistake):
    """You leave out the last, smaller batch. Every row is trained on once."""

    exercise = "train_epoch"

    def train_epoch(model, images, labels, optimizer, batch_size, generator):
        model.train()
        total, count = 0.0, 0
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            if len(rows) < batch_size:
                continue
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            count += len(rows)
        return total / count


class LabelsInOldOrder(Mistake):
    """You shuffle the pictures and not their labels. Index both with the same rows."""

    exercise = "train_epoch"

    def train_epoch(model, images, labels, optimizer, batch_size, generator):
        model.train()
        total, start = 0.0, 0
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[rows]), labels[start : start + len(rows)])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            start += len(rows)
        return total / len(images)


class BySlices(Alternative):
    """A range over the shuffled order, and the negative log-likelihood of the log-softmax."""

    exercise = "train_epoch"

    def train_epoch(model, images, labels, optimizer, batch_size, generator):
        n = images.shape[0]
        order = torch.randperm(n, generator=generator)
        model.train(True)
        losses = torch.zeros(())
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            loss = F.nll_loss(model(images[rows]).log_softmax(dim=-1), labels[rows])
            model.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.detach() * rows.numel()
        return float(losses / n)


# --- 6 · confusion_matrix --------------------------------------------------------------------------------------------


class Transposed(Mistake):
    """Your rows are the predictions. Rows are the true classes, columns the predicted ones."""

    exercise = "confusion_matrix"

    def confusion_matrix(labels, predictions, classes):
        return torch.bincount(predictions * classes + labels, minlength=classes**2).view(classes, classes)


class RowsNormalised(Mistake):
    """You return shares. Counts are asked for, as int64."""

    exercise = "confusion_matrix"

    def confusion_matrix(labels, predictions, classes):
        counts = torch.bincount(labels * classes + predictions, minlength=classes**2).view(classes, classes)
        return counts / counts.sum(1, keepdim=True).clamp(min=1)


class LoopOverRows(Mistake):
    """You loop over the rows in Python. Number the cells, and count with `bincount`."""

    exercise = "confusion_matrix"

    def confusion_matrix(labels, predictions, classes):
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        for i, j in zip(labels, predictions):
            counts[i, j] += 1
        return counts


class IndexedAdd(Mistake):
    """`matrix[labels, predictions] += 1` adds once for each cell, however often it occurs. Use `bincount`, or
    `index_put_` with `accumulate=True`."""

    exercise = "confusion_matrix"

    def confusion_matrix(labels, predictions, classes):
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        counts[labels, predictions] += 1
        return counts


class MistakesByConfidence(Mistake):
    """You sort by the probability of the predicted class. The worst mistakes have the least probable *true* class."""

    exercise = "confusion_matrix"

    def worst_mistakes(logits, labels, k):
        wrong = (logits.argmax(1) != labels).nonzero()[:, 0]
        return wrong[logits[wrong].softmax(1).amax(1).argsort(descending=True)][:k]


class RightRowsToo(Mistake):
    """You list rows that are right, when there are fewer mistakes than k or a right one was unsure. Choose the mistakes
    first."""

    exercise = "confusion_matrix"

    def worst_mistakes(logits, labels, k):
        return F.cross_entropy(logits, labels, reduction="none").argsort(descending=True)[:k]


class NumbersAmongMistakes(Mistake):
    """You return places among the mistakes. Row numbers of the whole are asked for: index `wrong` with them."""

    exercise = "confusion_matrix"

    def worst_mistakes(logits, labels, k):
        wrong = logits.argmax(1) != labels
        return F.cross_entropy(logits[wrong], labels[wrong], reduction="none").argsort(descending=True)[:k]


class ByOneHot(Alternative):
    """A product of one-hot matrices, and a mask of infinities."""

    exercise = "confusion_matrix"

    def confusion_matrix(labels, predictions, classes):
        return F.one_hot(labels, classes).T @ F.one_hot(predictions, classes)

    def worst_mistakes(logits, labels, k):
        wrong = logits.argmax(dim=1).ne(labels)
        log_p = logits.log_softmax(1).gather(1, labels[:, None])[:, 0].masked_fill(~wrong, torch.inf)
        return log_p.sort().indices[: min(k, int(wrong.sum()))]


# --- 7 · grad_cam ----------------------------------------------------------------------------------------------------


class ReluForgotten(Mistake):
    """You keep what speaks against the class. Take the relu of the weighted sum."""

    exercise = "grad_cam"

    def grad_cam(model, image, target):
        was_training = model.training
        model.eval()
        maps = model.features(image[None])
        maps = maps if maps.requires_grad else maps.requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(maps.mean((2, 3)))[0, target], [maps])
        model.train(was_training)
        cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0].detach()
        return cam / cam.max() if cam.max() > 0 else cam


class GradientsAlone(Mistake):
    """You show the gradient alone. It is the weight of a channel: multiply by the maps and sum over the channels."""

    exercise = "grad_cam"

    def grad_cam(model, image, target):
        was_training = model.training
        model.eval()
        maps = model.features(image[None])
        maps = maps if maps.requires_grad else maps.requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(maps.mean((2, 3)))[0, target], [maps])
        model.train(was_training)
        cam = torch.relu(gradient.sum(1)[0]).detach()
        return cam / cam.max() if cam.max() > 0 else cam


class NotNormalised(Mistake):
    """You do not divide by the maximum, so maps cannot be compared. Divide, unless it is 0."""

    exercise = "grad_cam"

    def grad_cam(model, image, target):
        was_training = model.training
        model.eval()
        maps = model.features(image[None])
        maps = maps if maps.requires_grad else maps.requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(maps.mean((2, 3)))[0, target], [maps])
        model.train(was_training)
        return torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0]).detach()


class ZeroDividedByZero(Mistake):
    """Where nothing speaks for the class you divide 0 by 0. Leave the map at zeros."""

    exercise = "grad_cam"

    def grad_cam(model, image, target):
        was_training = model.training
        model.eval()
        maps = model.features(image[None])
        maps = maps if maps.requires_grad else maps.requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(maps.mean((2, 3)))[0, target], [maps])
        model.train(was_training)
        cam = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0]).detach()
        return cam / cam.max()


class BackwardCalled(Mistake):
    """`backward` fills the `.grad` of every parameter on its way. Ask `torch.autograd.grad` for the maps alone."""

    exercise = "grad_cam"

    def grad_cam(model, image, target):
        was_training = model.training
        model.eval()
        maps = model.features(image[None])
        maps = maps if maps.requires_grad else maps.requires_grad_()
        maps.retain_grad()
        model.head(maps.mean((2, 3)))[0, target].backward()
        model.train(was_training)
        cam = torch.relu((maps.grad.mean((2, 3), keepdim=True) * maps).sum(1)[0]).detach()
        return cam / cam.max() if cam.max() > 0 else cam


class ModeChanged(Mistake):
    """You leave the model in evaluation mode. Put it back into the mode it was in."""

    exercise = "grad_cam"

    def grad_cam(model, image, target):
        model.eval()
        maps = model.features(image[None])
        maps = maps if maps.requires_grad else maps.requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(maps.mean((2, 3)))[0, target], [maps])
        cam = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0]).detach()
        return cam / cam.max() if cam.max() > 0 else cam


class ByHook(Alternative):
    """The maps detached and made a leaf, and an einsum."""

    exercise = "grad_cam"

    def grad_cam(model, image, target):
        mode = model.training
        model.eval()
        with torch.no_grad():
            maps = model.features(image.unsqueeze(0))
        leaf = maps.clone().requires_grad_(True)
        with torch.enable_grad():
            logits = model.head(F.adaptive_avg_pool2d(leaf, 1).flatten(1))
        gradient = torch.autograd.grad(logits[:, target].sum(), leaf)[0]
        model.train(mode)
        cam = torch.einsum("c,chw->hw", gradient[0].mean(dim=(-2, -1)), maps[0]).clamp_min(0)
        top = float(cam.max())
        return cam / (top if top > 0 else 1.0)


# --- 8 · adapt -------------------------------------------------------------------------------------------------------


class NothingFrozen(Mistake):
    """You replace the head and freeze nothing. Turn `requires_grad` off for all other parameters."""

    exercise = "adapt"

    def adapt(model, classes):
        old = model.head.weight
        model.head = nn.Linear(old.shape[1], classes, dtype=old.dtype)
        return list(model.head.parameters())


class HeadFrozenToo(Mistake):
    """You freeze after you have replaced the head, and freeze it as well. Freeze first."""

    exercise = "adapt"

    def adapt(model, classes):
        old = model.head.weight
        model.head = nn.Linear(old.shape[1], classes, dtype=old.dtype)
        model.requires_grad_(False)
        return list(model.head.parameters())


class OldHeadKept(Mistake):
    """You keep the old head and thaw it. Put a new `nn.Linear` in its place, with the classes asked for."""

    exercise = "adapt"

    def adapt(model, classes):
        model.requires_grad_(False)
        model.head.requires_grad_(True)
        return list(model.head.parameters())


class EverythingReturned(Mistake):
    """You return all parameters. Those that train now are asked for: the new head's."""

    exercise = "adapt"

    def adapt(model, classes):
        model.requires_grad_(False)
        old = model.head.weight
        model.head = nn.Linear(old.shape[1], classes, dtype=old.dtype)
        return list(model.parameters())


class StatisticsStillMoving(Mistake):
    """You put everything into training mode, so the running statistics of frozen norms go on moving. Keep frozen
    modules in evaluation mode."""

    exercise = "adapt"

    def train_mode(model):
        model.train()


class AllInEvaluation(Mistake):
    """You put modules without parameters into evaluation mode, too: dropout would be off. Only modules whose own
    parameters are all frozen."""

    exercise = "adapt"

    def train_mode(model):
        for module in model.modules():
            module.training = any(p.requires_grad for p in module.parameters(recurse=False))


class ChildrenCounted(Mistake):
    """You ask for the parameters of children as well, so a container of frozen layers is put into evaluation mode. Look
    at a module's own parameters: `recurse=False`."""

    exercise = "adapt"

    def train_mode(model):
        for module in model.modules():
            everything = list(module.parameters())
            module.training = not everything or any(p.requires_grad for p in everything)


class ByLoops(Alternative):
    """Parameter by parameter, and `train()` first."""

    exercise = "adapt"

    def adapt(model, classes):
        for p in model.parameters():
            p.requires_grad = False
        head = nn.Linear(model.head.in_features, classes)
        model.head = head.to(model.head.weight)
        return [model.head.weight, model.head.bias]

    def train_mode(model):
        model.train()
        for module in model.modules():
            own = [p.requires_grad for p in module._parameters.values() if p is not None]
            if own and not any(own):
                module.training = False


# --- Side quest A · max_pool2d ---------------------------------------------------------------------------------------


class StrideIgnored(Mistake):
    """You use the kernel as the stride. Windows are `stride` apart."""

    exercise = "max_pool2d"

    def max_pool2d(x, kernel, stride):
        return x.unfold(2, kernel, kernel).unfold(3, kernel, kernel).flatten(4).max(-1).values


class Averaged(Mistake):
    """You average. The largest value is asked for."""

    exercise = "max_pool2d"

    def max_pool2d(x, kernel, stride):
        return x.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(4).mean(-1)


class BuiltinPool(Mistake):
    """You call PyTorch's own. Make windows with `x.unfold`, and take their maximum."""

    exercise = "max_pool2d"

    def max_pool2d(x, kernel, stride):
        return F.max_pool2d(x, kernel, stride)


class PaddedWithZeros(Mistake):
    """You unfold with padding, so a zero may be the largest. There is none here: what does not fill a window is left
    out."""

    exercise = "max_pool2d"

    def max_pool2d(x, kernel, stride):
        x = F.pad(x, (0, kernel - 1, 0, kernel - 1))
        return x.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(4).max(-1).values


class ByUnfold(Alternative):
    """`F.unfold`, channels as a batch."""

    exercise = "max_pool2d"

    def max_pool2d(x, kernel, stride):
        b, c, h, w = x.shape
        patches = F.unfold(x.reshape(b * c, 1, h, w), kernel, stride=stride)
        return patches.max(dim=1).values.reshape(b, c, (h - kernel) // stride + 1, (w - kernel) // stride + 1)

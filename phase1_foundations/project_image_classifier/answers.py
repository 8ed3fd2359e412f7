"""Known answers to the project of Phase 1: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- data ------------------------------------------------------------------------------------------------------------


class NotStratified(Mistake):
    """You draw the validation rows from all rows at once, so that a rare class may be missing there. Draw them class by
    class."""

    exercise = "data"
    module = "data"

    def split(labels, share, seed):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        held_out = round(share * len(labels))
        return order[held_out:].sort().values, order[:held_out].sort().values


class SplitByDefaultGenerator(Mistake):
    """You shuffle with torch's default generator: the split then depends on what was drawn before, and a resumed run
    trains on pictures that it validated on. Make a generator of your own from `seed`."""

    exercise = "data"
    module = "data"

    def split(labels, share, seed):
        held_out = torch.zeros(len(labels), dtype=torch.bool)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            held_out[rows[torch.randperm(len(rows))][: round(share * len(rows))]] = True
        return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]


class ValidationInTraining(Mistake):
    """The rows of the validation part are also in the training part, so that it measures memory. Each row is in one
    part."""

    exercise = "data"
    module = "data"

    def split(labels, share, seed):
        generator = torch.Generator().manual_seed(seed)
        held_out = torch.zeros(len(labels), dtype=torch.bool)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            held_out[rows[torch.randperm(len(rows), generator=generator)][: round(share * len(rows))]] = True
        return torch.arange(len(labels)), held_out.nonzero()[:, 0]


class FirstRowsHeldOut(Mistake):
    """You hold out the first rows of each class. Files are often sorted, by time or by source: draw at random, by the
    seed."""

    exercise = "data"
    module = "data"

    def split(labels, share, seed):
        held_out = torch.zeros(len(labels), dtype=torch.bool)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            held_out[rows[: round(share * len(rows))]] = True
        return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]


class MeanOfChunkMeans(Mistake):
    """You average the statistics of the chunks. The last chunk is smaller, and a mean of deviations is not the
    deviation of all: add up sums and squares, and divide once."""

    exercise = "data"
    module = "data"

    def mean_and_std(images, chunk=1000):
        parts = [part.double() / 255 for part in images.split(chunk)]
        means = torch.stack([part.mean((0, 2, 3)) for part in parts])
        squares = torch.stack([part.square().mean((0, 2, 3)) for part in parts])
        mean = means.mean(0)
        return mean.float(), (squares.mean(0) - mean.square()).clamp(min=0).sqrt().float()


class NotScaled(Mistake):
    """Your statistics are those of the raw values from 0 to 255. Scale to 0 … 1 first, as the data set does."""

    exercise = "data"
    module = "data"

    def mean_and_std(images, chunk=1000):
        values = images.double().transpose(0, 1).flatten(1)
        return values.mean(1).float(), values.std(1, correction=0).float()


class UnbiasedDeviation(Mistake):
    """You divide by one less than the number of pixels. The deviation asked for is the biased one."""

    exercise = "data"
    module = "data"

    def mean_and_std(images, chunk=1000):
        values = images.double().transpose(0, 1).flatten(1) / 255
        return values.mean(1).float(), values.std(1).float()


class AllAtOnce(Mistake):
    """You convert all pictures at once, which takes eight times their memory. Go through `images.split(chunk)`."""

    exercise = "data"
    module = "data"

    def mean_and_std(images, chunk=1000):
        values = images.double().transpose(0, 1).flatten(1) / 255
        return values.mean(1).float(), values.std(1, correction=0).float()


class SumOfSeeds(Mistake):
    """You seed with the sum of the three numbers: picture 1 of epoch 0 and picture 0 of epoch 1 then share a stream.
    Mix them, as a hash does."""

    exercise = "data"
    module = "augment"

    def generator_for(seed, epoch, index):
        return torch.Generator().manual_seed(seed + epoch + index)


class HighBitsLost(Mistake):
    """You put the numbers side by side into 64 bits. A CPU generator uses only the lowest 32 of its seed, so that the
    upper ones do not count: mix all into 32 bits."""

    exercise = "data"
    module = "augment"

    def generator_for(seed, epoch, index):
        return torch.Generator().manual_seed((seed % 2**11 << 52) + (epoch << 32) + index)


class ListPadded(Mistake):
    """You give `SeedSequence` a list. It cuts large numbers into words of 32 bits and pads with zeros, so that
    `[2**32, 3, 0]` and `[0, 1, 3]` are the same to it. Give epoch and index as `spawn_key`."""

    exercise = "data"
    module = "augment"

    def generator_for(seed, epoch, index):
        return torch.Generator().manual_seed(int(SeedSequence([seed, epoch, index]).generate_state(1)[0]))


class EpochForgotten(Mistake):
    """Your generator depends on seed and index alone: each picture is changed in the same way in every epoch."""

    exercise = "data"
    module = "augment"

    def generator_for(seed, epoch, index):
        return torch.Generator().manual_seed(int(SeedSequence([seed, index]).generate_state(1)[0]))


class DefaultGenerator(Mistake):
    """You take torch's default generator: what a picture becomes then depends on all that was loaded before, and on the
    number of workers."""

    exercise = "data"
    module = "augment"

    def generator_for(seed, epoch, index):
        return torch.default_generator


class RolledRound(Mistake):
    """What you shift out at one side comes in at the other. Zeros move in: pad, then cut."""

    exercise = "data"
    module = "augment"

    def augment(image, shift, mirror, generator):
        y, x = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
        moved = image.roll((y, x), (1, 2))
        return moved.flip(-1) if mirror and torch.rand((), generator=generator) < 0.5 else moved


class OneShiftMissing(Mistake):
    """`torch.randint` leaves out its upper end, so that a shift by `+shift` never comes. Draw from `2 * shift + 1`."""

    exercise = "data"
    module = "augment"

    def augment(image, shift, mirror, generator):
        _, h, w = image.shape
        y, x = torch.randint(0, max(2 * shift, 1), (2,), generator=generator).tolist()
        moved = F.pad(image, (shift,) * 4)[:, y : y + h, x : x + w]
        return moved.flip(-1) if mirror and torch.rand((), generator=generator) < 0.5 else moved.clone()


class UpsideDown(Mistake):
    """You mirror top to bottom. A coat on its head is not a coat as people send it: flip the last axis."""

    exercise = "data"
    module = "augment"

    def augment(image, shift, mirror, generator):
        _, h, w = image.shape
        y, x = torch.randint(0, 2 * shift + 1, (2,), generator=generator).tolist()
        moved = F.pad(image, (shift,) * 4)[:, y : y + h, x : x + w]
        return moved.flip(-2) if mirror and torch.rand((), generator=generator) < 0.5 else moved.clone()


class AlwaysMirrored(Mistake):
    """You mirror every picture, so that the network never sees one as it will come. Mirror half of them."""

    exercise = "data"
    module = "augment"

    def augment(image, shift, mirror, generator):
        _, h, w = image.shape
        y, x = torch.randint(0, 2 * shift + 1, (2,), generator=generator).tolist()
        moved = F.pad(image, (shift,) * 4)[:, y : y + h, x : x + w]
        return moved.flip(-1) if mirror else moved.clone()


class PositionTakenForRow(Mistake):
    """You take the position for the row of the picture. `self.rows[position]` is the row: else the training set shows
    pictures of the validation part."""

    exercise = "data"
    module = "data"

    class PictureDataset(PictureDataset):
        def __getitem__(self, place):
            epoch, position = place
            image = self.pictures.images[position]
            if self.augmentation is not None:
                image = augment(image, *self.augmentation, generator_for(self.seed, epoch, position))
            return (image.float() / 255 - self.mean) / self.std, int(self.pictures.labels[position])


class NormalisedThenAugmented(Mistake):
    """You normalise before you augment. Then the zeros that move in are grey and no longer black: augment the raw
    picture."""

    exercise = "data"
    module = "data"

    class PictureDataset(PictureDataset):
        def __getitem__(self, place):
            epoch, position = place
            row = self.rows[position]
            image = (self.pictures.images[row].float() / 255 - self.mean) / self.std
            if self.augmentation is not None:
                image = augment(image, *self.augmentation, generator_for(self.seed, epoch, position))
            return image, int(self.pictures.labels[row])


class OneOrderForAll(Mistake):
    """Your order is the same in every epoch. It depends on the seed and on the epoch."""

    exercise = "data"
    module = "data"

    def shuffled_batches(n, batch_size, seed, epoch):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
        places = [(epoch, position) for position in order]
        return [places[start : start + batch_size] for start in range(0, n, batch_size)]


class LastBatchDropped(Mistake):
    """You drop what is left at the end of the epoch. The last batch is smaller, and belongs to it."""

    exercise = "data"
    module = "data"

    def shuffled_batches(n, batch_size, seed, epoch):
        order = torch.randperm(n, generator=generator_for(seed, epoch, n)).tolist()
        places = [(epoch, position) for position in order]
        return [places[start : start + batch_size] for start in range(0, n - batch_size + 1, batch_size)]


class LoaderDrawsFromDefault(Mistake):
    """You give the `DataLoader` no generator, so that each epoch draws one number from torch's default one: a resume in
    the middle of an epoch then changes what dropout draws."""

    exercise = "data"
    module = "data"

    def loader(dataset, batches, workers=0):
        return DataLoader(dataset, batch_sampler=batches, num_workers=workers)


class ByHash(Alternative):
    """Streams by a hash, the order by sorting random numbers, the split by ranks."""

    exercise = "data"
    module = "augment"

    def generator_for(seed, epoch, index):
        import hashlib

        digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=4).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little"))

    def augment(image, shift, mirror, generator):
        if mirror and torch.randint(0, 2, (), generator=generator).item():
            image = image.flip(-1)
        down, right = (int(torch.randint(-shift, shift + 1, (1,), generator=generator)) for _ in range(2))
        _, h, w = image.shape
        moved = torch.zeros_like(image)
        moved[:, max(down, 0) : h + min(down, 0), max(right, 0) : w + min(right, 0)] = image[
            :, max(-down, 0) : h + min(-down, 0), max(-right, 0) : w + min(-right, 0)
        ]
        return moved


class ByScikitLearn(Alternative):
    """scikit-learn's stratified split, statistics from a histogram of the 256 values, a batch sampler's list."""

    exercise = "data"
    module = "data"

    def split(labels, share, seed):
        from sklearn.model_selection import train_test_split

        rows = range(len(labels))
        train, validation = train_test_split(rows, test_size=share, random_state=seed, stratify=labels.numpy())
        return torch.tensor(sorted(train)), torch.tensor(sorted(validation))

    def mean_and_std(images, chunk=1000):
        channels = images.shape[1]
        counts = torch.zeros(channels, 256, dtype=torch.float64)
        for part in images.split(chunk):
            for c in range(channels):
                counts[c] += torch.bincount(part[:, c].flatten(), minlength=256)
        values = torch.arange(256, dtype=torch.float64) / 255
        mean = counts @ values / counts.sum(1)
        variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
        return mean.float(), variance.sqrt().float()

    def shuffled_batches(n, batch_size, seed, epoch):
        keys = torch.rand(n, generator=generator_for(seed, epoch, 2**31))
        order = keys.argsort().split(batch_size)
        return [[(epoch, position) for position in batch.tolist()] for batch in order]


# --- model -----------------------------------------------------------------------------------------------------------


class SoftmaxAtTheEnd(Mistake):
    """Your network ends in a softmax, and cross-entropy takes another one: the loss can never come near 0. Return
    logits."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def forward(self, x):
            return super().forward(x).softmax(1)


class LogSoftmaxAtTheEnd(Mistake):
    """Your network ends in a log-softmax. Training does not mind, but the scale is lost that temperature, distillation
    and margins need. Return logits."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def forward(self, x):
            return super().forward(x).log_softmax(1)


class ReluAtTheEnd(Mistake):
    """A relu after the last layer: no class can be ruled out, and where all logits are 0 nothing is learnt."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def forward(self, x):
            return super().forward(x).relu()


class FlattenedForOneSize(Mistake):
    """You flatten the maps into a linear layer, which fits pictures of one size only. Take the mean over height and
    width."""

    exercise = "model"
    module = "model"

    class Classifier(nn.Module):
        def __init__(self, channels, classes, width=16):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(channels, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
                nn.Flatten(), nn.Linear(49 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, classes),
            )  # fmt: skip

        def forward(self, x):
            return self.layers(x)


class OneChannelOnly(Mistake):
    """You average the colours before the first layer. What differs in colour alone looks the same then: let the first
    convolution have `channels` inputs."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def __init__(self, channels, classes, width=16):
            super().__init__(1, classes, width)
            self.channels = channels
            self.colour = nn.Linear(channels, 1)  # is never used

        def forward(self, x):
            return super().forward(x.mean(1, keepdim=True))


class OverBudget(Mistake):
    """Your network has more parameters than the budget. Most are in the last layers, where channels multiply: halve the
    channels there, or a layer."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def __init__(self, channels, classes, width=16):
            super().__init__(channels, classes, 2 * width)


class LocalOpinions(Mistake):
    """A place of your last maps sees only a few pixels, and the mean over places is a vote of local opinions. Stride,
    and stack layers, until a place sees the whole picture."""

    exercise = "model"
    module = "model"

    class Classifier(nn.Module):
        def __init__(self, channels, classes, width=16):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, 4 * width, 3, padding=1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Linear(4 * width, classes)

        def forward(self, x):
            return self.head(self.features(x).mean((2, 3)))


class BatchStatisticsAlways(Mistake):
    """Your batch norms use the statistics of the batch in evaluation, too: an answer then depends on the pictures that
    happen to be asked with it."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def __init__(self, channels, classes, width=16):
            super().__init__(channels, classes, width)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.track_running_stats, module.running_mean, module.running_var = False, None, None


class DropoutAlways(Mistake):
    """`F.dropout` without `self.training` is active in evaluation, too: the same picture gets another answer each time.
    Use `nn.Dropout`."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def forward(self, x):
            return self.head(nn.functional.dropout(self.features(x).mean((2, 3)), 0.2))


class HiddenInAList(Mistake):
    """You keep layers in a plain Python list: they are no part of the module, are not saved, not moved and not trained.
    Use `nn.ModuleList` or `nn.Sequential`."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def __init__(self, channels, classes, width=16):
            super().__init__(channels, classes, width)
            self.stages = [self.features]
            del self.features

        def forward(self, x):
            for stage in self.stages:
                x = stage(x)
            return self.head(x.mean((2, 3)))


class TooSureAtFirst(Mistake):
    """Your last layer begins with large weights, so that the untrained network is sure of nonsense, and the first epoch
    goes into unlearning it. Leave PyTorch's initialisation, or take a smaller one."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def __init__(self, channels, classes, width=16):
            super().__init__(channels, classes, width)
            nn.init.normal_(self.head[-1].weight)


class UnusedLayer(Mistake):
    """A layer is made and never used: its parameters cost memory and budget, and no gradient ever reaches them."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def __init__(self, channels, classes, width=16):
            super().__init__(channels, classes, width)
            self.spare = nn.Linear(width, width)


class BiasBeforeNorm(Mistake):
    """Your convolutions have a bias, and batch norm, which comes next, takes it off again: it has no effect, and what
    reaches it as a gradient is rounding. Give `bias=False` to a convolution before batch norm."""

    exercise = "model"
    module = "model"

    class Classifier(Classifier):
        def __init__(self, channels, classes, width=16):
            super().__init__(channels, classes, width)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.bias = nn.Parameter(torch.zeros(module.out_channels))


class PlainConvolutions(Alternative):
    """No residuals: strided convolutions with group norm, adaptive pooling, a hidden layer."""

    exercise = "model"
    module = "model"

    class Classifier(nn.Module):
        def __init__(self, channels, classes, width=16):
            super().__init__()
            sizes = [channels, width, 2 * width, 3 * width, 4 * width]
            layers = []
            for c_in, c_out in zip(sizes, sizes[1:]):
                layers += [nn.Conv2d(c_in, c_out, 3, 2, 1), nn.GroupNorm(1, c_out), nn.GELU()]
            self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.out = nn.Linear(4 * width, classes)

        def forward(self, x):
            return self.out(self.body(x))


class DepthwiseWithPooling(Alternative):
    """Depthwise separable convolutions with max pooling between them."""

    exercise = "model"
    module = "model"

    class Classifier(nn.Module):
        def __init__(self, channels, classes, width=16):
            super().__init__()
            self.stem = nn.Conv2d(channels, width, 5, stride=2, padding=2)
            self.blocks = nn.ModuleList()
            for i in range(3):
                c_in, c_out = width * (i + 1), width * (i + 2)
                self.blocks.append(nn.Sequential(
                    nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False),
                    nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
                    nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
                ))  # fmt: skip
            self.head = nn.Linear(4 * width, classes)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            for i, block in enumerate(self.blocks):
                x = block(x if i == 0 else nn.functional.max_pool2d(x, 2))
            return self.head(x.mean(dim=(2, 3)))


# --- training --------------------------------------------------------------------------------------------------------


class DecayEverywhere(Mistake):
    """You let norms and biases decay, too: these set scale and place, and pulling them to 0 regularises nothing. Decay
    what has two or more dimensions."""

    exercise = "training"
    module = "optim"

    def parameter_groups(model, weight_decay):
        return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": weight_decay}]


class NormsLeftOut(Mistake):
    """Norms and biases are in no group, so that they are never trained. Put them into a group without decay."""

    exercise = "training"
    module = "optim"

    def parameter_groups(model, weight_decay):
        trained = [p for p in model.parameters() if p.requires_grad and p.dim() >= 2]
        return [{"params": trained, "weight_decay": weight_decay}]


class DecayTurnedRound(Mistake):
    """Norms and biases decay, and the weights do not: it is the other way round."""

    exercise = "training"
    module = "optim"

    def parameter_groups(model, weight_decay):
        trained = [p for p in model.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.dim() < 2], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.dim() >= 2], "weight_decay": 0.0},
        ]


class FirstStepStandsStill(Mistake):
    """Your warm-up begins at 0, so that the first step moves nothing. The rate of step k is peak · (k + 1) / warmup."""

    exercise = "training"
    module = "optim"

    def learning_rate(step, warmup, total, peak):
        if step < warmup:
            return peak * step / warmup
        progress = min((step - warmup) / (total - warmup), 1.0)
        return peak * (1 + math.cos(math.pi * progress)) / 2


class CosineOverAll(Mistake):
    """Your cosine counts from step 0, so that the rate jumps down where the warm-up ends. Count from there."""

    exercise = "training"
    module = "optim"

    def learning_rate(step, warmup, total, peak):
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * (1 + math.cos(math.pi * min(step / total, 1.0))) / 2


class RisesAgain(Mistake):
    """Beyond `total` your cosine rises again. Keep the progress at 1."""

    exercise = "training"
    module = "optim"

    def learning_rate(step, warmup, total, peak):
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


class GradientsAddUp(Mistake):
    """Gradients are never set to zero, so that each step follows the sum of all before. Call `optimizer.zero_grad()`
    before `backward`."""

    exercise = "training"
    module = "training"

    def train_step(model, optimizer, images, targets, config, loss=None):
        model.train()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
            logits = model(images)
            value = (
                loss(logits, targets)
                if loss
                else F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
            )
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return value.item()


class ClippedOneByOne(Mistake):
    """You clip each parameter's gradient by itself, which turns the direction of the step. All gradients together are
    one vector, with one norm and one factor."""

    exercise = "training"
    module = "training"

    def train_step(model, optimizer, images, targets, config, loss=None):
        model.train()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
            logits = model(images)
            value = (
                loss(logits, targets)
                if loss
                else F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
            )
        optimizer.zero_grad()
        value.backward()
        for parameter in model.parameters():
            nn.utils.clip_grad_norm_([parameter], config.clip_norm)
        optimizer.step()
        return value.item()


class ClippedTooLate(Mistake):
    """You clip after the step, when it is too late. Clip between `backward` and `step`."""

    exercise = "training"
    module = "training"

    def train_step(model, optimizer, images, targets, config, loss=None):
        model.train()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
            logits = model(images)
            value = (
                loss(logits, targets)
                if loss
                else F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
            )
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        return value.item()


class SmoothingForgotten(Mistake):
    """You leave out the label smoothing of the configuration."""

    exercise = "training"
    module = "training"

    def train_step(model, optimizer, images, targets, config, loss=None):
        model.train()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
            logits = model(images)
            value = (loss or F.cross_entropy)(logits, targets)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return value.item()


class LossIsATensor(Mistake):
    """You return the loss as a tensor with its whole tape, and a list of losses then keeps all activations alive.
    Return `value.item()`."""

    exercise = "training"
    module = "training"

    def train_step(model, optimizer, images, targets, config, loss=None):
        model.train()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
            logits = model(images)
            value = (
                loss(logits, targets)
                if loss
                else F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
            )
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return value


class WeightsInBfloat16(Mistake):
    """You convert the model to bfloat16. Its three significant digits are too few for weights that change by a
    thousandth a step: autocast converts for the forward pass alone."""

    exercise = "training"
    module = "training"

    def train_step(model, optimizer, images, targets, config, loss=None):
        model.train()
        if config.bf16:
            model.bfloat16()
            images = images.bfloat16()
        logits = model(images)
        value = (
            loss(logits, targets) if loss else F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
        )
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return value.item()


class EvaluatedInTrainingMode(Mistake):
    """You do not put the model into evaluation mode, so that dropout is active, and looking at the validation part
    changes the running statistics."""

    exercise = "training"
    module = "training"

    def logits_of(model, batches, device="cpu"):
        with torch.no_grad():
            parts = [(model(images.to(device)).float().cpu(), labels) for images, labels in batches]
        logits, labels = zip(*parts)
        return torch.cat(logits), torch.cat(labels)


class StaysInEvaluation(Mistake):
    """You leave the model in evaluation mode. Put it back into the mode that it was in: after the first epoch a
    learner's dropout would be off for good."""

    exercise = "training"
    module = "training"

    @torch.no_grad()
    def logits_of(model, batches, device="cpu"):
        model.eval()
        parts = [(model(images.to(device)).float().cpu(), labels) for images, labels in batches]
        logits, labels = zip(*parts)
        return torch.cat(logits), torch.cat(labels)


class BestWeightsNotCopied(Mistake):
    """`state_dict()` refers to the very tensors that go on training: your best weights are always the last. Deep-copy
    it."""

    exercise = "training"
    module = "training"

    class EarlyStopping(EarlyStopping):
        def update(self, score, model):
            if score < self.best_score:
                self.best_score, self.bad_epochs = score, 0
                self.best_weights = model.state_dict()
            else:
                self.bad_epochs += 1


class BadEpochsOfAllTime(Mistake):
    """You count all bad epochs, not those in a row. An improvement sets the count back to 0."""

    exercise = "training"
    module = "training"

    class EarlyStopping(EarlyStopping):
        def update(self, score, model):
            if score < self.best_score:
                self.best_score = score
                self.best_weights = copy.deepcopy(model.state_dict())
            else:
                self.bad_epochs += 1


class EqualIsBetter(Mistake):
    """An equal score counts as better with you, so that a run that stands still is never stopped. Compare by `<`."""

    exercise = "training"
    module = "training"

    class EarlyStopping(EarlyStopping):
        def update(self, score, model):
            if score <= self.best_score:
                self.best_score, self.bad_epochs = score, 0
                self.best_weights = copy.deepcopy(model.state_dict())
            else:
                self.bad_epochs += 1


class NanIsBetter(Mistake):
    """You ask whether a score is worse. NaN is not worse than anything, so that it becomes the best: ask whether it is
    better."""

    exercise = "training"
    module = "training"

    class EarlyStopping(EarlyStopping):
        def update(self, score, model):
            if score >= self.best_score:
                self.bad_epochs += 1
            else:
                self.best_score, self.bad_epochs = score, 0
                self.best_weights = copy.deepcopy(model.state_dict())


class EveryPartFromTheBeginning(Mistake):
    """Each call of `run` begins its epoch anew: after a stop the first batches are seen twice and the last ones never.
    Skip the `done` batches."""

    exercise = "training"
    module = "training"

    class Trainer(Trainer):
        def run(self, until=None):
            config, until = self.config, self.total_steps if until is None else until
            while not self.finished and self.step < until:
                epoch, done = divmod(self.step, self.steps_per_epoch)
                order = shuffled_batches(len(self.training_set), config.training.batch_size, config.seed, epoch)
                for images, labels in loader(self.training_set, order[: min(until - self.step, len(order) - done)], 0):
                    rate = learning_rate(self.step, self.warmup_steps, self.total_steps, config.training.lr)
                    for group in self.optimizer.param_groups:
                        group["lr"] = rate
                    self.train_on(images, labels)
                    self.step += 1
                if self.step % self.steps_per_epoch == 0:
                    self.end_epoch()


class FirstGroupOnly(Mistake):
    """You set the learning rate of the first group only; norms and biases keep theirs. Go through `param_groups`."""

    exercise = "training"
    module = "training"

    class Trainer(Trainer):
        def run(self, until=None):
            config, until = self.config, self.total_steps if until is None else until
            while not self.finished and self.step < until:
                epoch, done = divmod(self.step, self.steps_per_epoch)
                order = shuffled_batches(len(self.training_set), config.training.batch_size, config.seed, epoch)
                for images, labels in loader(self.training_set, order[done : done + until - self.step], 0):
                    rate = learning_rate(self.step, self.warmup_steps, self.total_steps, config.training.lr)
                    self.optimizer.param_groups[0]["lr"] = rate
                    self.train_on(images, labels)
                    self.step += 1
                if self.step % self.steps_per_epoch == 0:
                    self.end_epoch()


class RateAfterTheStep(Mistake):
    """You set the learning rate after the step, so that each step has the rate of the one before, and the first that of
    the peak. Set it first."""

    exercise = "training"
    module = "training"

    class Trainer(Trainer):
        def run(self, until=None):
            config, until = self.config, self.total_steps if until is None else until
            while not self.finished and self.step < until:
                epoch, done = divmod(self.step, self.steps_per_epoch)
                order = shuffled_batches(len(self.training_set), config.training.batch_size, config.seed, epoch)
                for images, labels in loader(self.training_set, order[done : done + until - self.step], 0):
                    self.train_on(images, labels)
                    rate = learning_rate(self.step, self.warmup_steps, self.total_steps, config.training.lr)
                    for group in self.optimizer.param_groups:
                        group["lr"] = rate
                    self.step += 1
                if self.step % self.steps_per_epoch == 0:
                    self.end_epoch()


class EpochEndsAtEveryStop(Mistake):
    """You end the epoch at every stop, also in its middle: a stopped run then differs from a whole one. It ends after
    its last batch."""

    exercise = "training"
    module = "training"

    class Trainer(Trainer):
        def run(self, until=None):
            config, until = self.config, self.total_steps if until is None else until
            while not self.finished and self.step < until:
                epoch, done = divmod(self.step, self.steps_per_epoch)
                order = shuffled_batches(len(self.training_set), config.training.batch_size, config.seed, epoch)
                for images, labels in loader(self.training_set, order[done : done + until - self.step], 0):
                    rate = learning_rate(self.step, self.warmup_steps, self.total_steps, config.training.lr)
                    for group in self.optimizer.param_groups:
                        group["lr"] = rate
                    self.train_on(images, labels)
                    self.step += 1
                self.end_epoch()


class NeverStopsEarly(Mistake):
    """You never ask early stopping. `finished` does: look at it before each epoch."""

    exercise = "training"
    module = "training"

    class Trainer(Trainer):
        def run(self, until=None):
            config, until = self.config, self.total_steps if until is None else until
            while self.step < min(until, self.total_steps):
                epoch, done = divmod(self.step, self.steps_per_epoch)
                order = shuffled_batches(len(self.training_set), config.training.batch_size, config.seed, epoch)
                for images, labels in loader(self.training_set, order[done : done + until - self.step], 0):
                    rate = learning_rate(self.step, self.warmup_steps, self.total_steps, config.training.lr)
                    for group in self.optimizer.param_groups:
                        group["lr"] = rate
                    self.train_on(images, labels)
                    self.step += 1
                if self.step % self.steps_per_epoch == 0:
                    self.end_epoch()


class GroupsByName(Alternative):
    """Groups by a set of identities, and the schedule as a product of two factors."""

    exercise = "training"
    module = "optim"

    def parameter_groups(model, weight_decay):
        groups = {True: [], False: []}
        for parameter in model.parameters():
            if parameter.requires_grad:
                groups[parameter.ndim > 1].append(parameter)
        return [dict(params=found, weight_decay=weight_decay if decays else 0) for decays, found in groups.items()]

    def learning_rate(step, warmup, total, peak):
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        falling = math.cos(math.pi / 2 * min(max(step - warmup, 0) / (total - warmup), 1.0)) ** 2
        return peak * rising * falling


class StepByStep(Alternative):
    """Gradients cleared at the end, the norm by hand, a loop over single steps."""

    exercise = "training"
    module = "training"

    def train_step(model, optimizer, images, targets, config, loss=None):
        optimizer.zero_grad(set_to_none=False)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bf16):
            logits = model.train()(images)
            if loss is not None:
                value = loss(logits, targets)
            elif targets.is_floating_point():
                smooth = (1 - config.label_smoothing) * targets + config.label_smoothing / targets.shape[1]
                value = -(smooth * logits.float().log_softmax(1)).sum(1).mean()
            else:
                value = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)(logits, targets)
        value.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients]).norm()
        if norm > config.clip_norm:
            for g in gradients:
                g.mul_(config.clip_norm / norm)
        optimizer.step()
        return float(value)

    class Trainer(Trainer):
        def run(self, until=None):
            while not self.finished and (until is None or self.step < until):
                settings, n = self.config.training, self.steps_per_epoch
                batches = shuffled_batches(
                    len(self.training_set), settings.batch_size, self.config.seed, self.step // n
                )
                ((images, labels),) = loader(self.training_set, [batches[self.step % n]], self.config.data.workers)
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(self.step, self.warmup_steps, self.total_steps, settings.lr)
                self.train_on(images, labels)
                self.step += 1
                if self.step % n == 0:
                    self.end_epoch()


# --- resume ----------------------------------------------------------------------------------------------------------


class RandomStateForgotten(Mistake):
    """You do not restore torch's random state: from the resume on dropout draws other numbers."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        given = torch.get_rng_state()
        _right(trainer, state)
        torch.set_rng_state(given)


class MomentumForgotten(Mistake):
    """You do not restore the optimizer, so that AdamW begins with empty averages, and the first steps are too large."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        given = copy.deepcopy(trainer.optimizer.state_dict())
        _right(trainer, state)
        trainer.optimizer.load_state_dict(given)


class StepForgotten(Mistake):
    """You do not restore `step`, from which the order of the data, the learning rate and the end of the run follow."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        given = trainer.step
        _right(trainer, state)
        trainer.step = given


class HistoryForgotten(Mistake):
    """You do not restore the history: the curves of the run begin in the middle."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        given = trainer.history
        _right(trainer, state)
        trainer.history = given


class RunningLossForgotten(Mistake):
    """You forget `loss_sum` and `rows`, so that the mean loss of the epoch you stopped in is that of its rest."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        _right(trainer, state)
        trainer.loss_sum, trainer.rows = 0.0, 0


class BestForgotten(Mistake):
    """You forget what early stopping knows: after a resume the first epoch is the best ever, and overwrites the best
    weights."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        given = copy.deepcopy(trainer.early_stopping.__dict__)
        _right(trainer, state)
        trainer.early_stopping.__dict__.update(given)


class PatienceForgotten(Mistake):
    """You forget `bad_epochs`: a run that is resumed often enough never stops early."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        _right(trainer, state)
        trainer.early_stopping.bad_epochs = 0


class LiveReferences(Mistake):
    """`state_dict()` refers to the tensors that go on training: your snapshot changes with them. Deep-copy it."""

    exercise = "resume"
    module = "checkpoint"

    _right = capture

    def capture(trainer):
        return _right(trainer) | {"model": trainer.model.state_dict(), "history": trainer.history}


class StateHandedOver(Mistake):
    """You hand the lists and tensors of the state to the trainer, which then changes them: a state can be restored once
    only. Copy what you hand over."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        _right(trainer, state)
        trainer.history = state["history"]


class WrittenInPlace(Mistake):
    """You write over the old file. If the process dies meanwhile, both are lost: write beside it, then `os.replace`."""

    exercise = "resume"
    module = "checkpoint"

    def save(path, state):
        torch.save(state, path)


class AnyConfiguration(Mistake):
    """You restore whatever you get. With another learning rate or split the run goes on as neither of the two."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        _right(trainer, {**state, "config": identity(trainer.config)})


class RefusedTooLate(Mistake):
    """You compare the configurations after you have changed the trainer. Refuse first."""

    exercise = "resume"
    module = "checkpoint"

    _right = restore

    def restore(trainer, state):
        trainer.model.load_state_dict(state["model"])
        _right(trainer, state)


class EverythingMustAgree(Mistake):
    """You compare the whole configuration. The number of workers and the device change how fast a run is, and nothing
    else: compare `identity`."""

    exercise = "resume"
    module = "checkpoint"

    _captured, _restored = capture, restore

    def capture(trainer):
        return _captured(trainer) | {"everything": trainer.config.model_dump_json()}

    def restore(trainer, state):
        _restored(trainer, state)
        if state["everything"] != trainer.config.model_dump_json():
            raise CheckpointError("The checkpoint was made with another configuration.")


class PickleTrusted(Mistake):
    """`weights_only=False` runs whatever code a file contains. A checkpoint from elsewhere is a program then."""

    exercise = "resume"
    module = "checkpoint"

    def load(path):
        try:
            state = torch.load(path, map_location="cpu", weights_only=False)
        except Exception:
            raise CheckpointError(f"{path} cannot be read.") from None
        if not isinstance(state, dict) or "config" not in state:
            raise CheckpointError(f"{path} is something else.")
        return state


class TracebackForAUser(Mistake):
    """A missing or broken file ends in torch's own error. Say in a sentence which file it is and what is left to do."""

    exercise = "resume"
    module = "checkpoint"

    def load(path):
        return torch.load(path, map_location="cpu", weights_only=True)


class ThroughABuffer(Alternative):
    """The file is made in memory first; keys are compared as sets of pairs."""

    exercise = "resume"
    module = "checkpoint"

    def save(path, state):
        import io
        import tempfile

        buffer = io.BytesIO()
        torch.save(state, buffer)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(buffer.getvalue())
        os.replace(file.name, path)

    def load(path):
        try:
            state = torch.load(path, weights_only=True)
            assert "config" in dict(state)
        except Exception as error:
            raise CheckpointError(f"{path.name} is no checkpoint ({type(error).__name__}).") from error
        return state


class InTwoParts(Alternative):
    """Early stopping as a dict of its own, copies when restoring."""

    exercise = "resume"
    module = "checkpoint"

    def capture(trainer):
        stopping = vars(trainer.early_stopping)
        kept = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict(), "stopping": stopping}
        kept |= {name: getattr(trainer, name) for name in ("step", "loss_sum", "rows", "history")}
        return {"config": identity(trainer.config), "rng": torch.random.get_rng_state(), **copy.deepcopy(kept)}

    def restore(trainer, state):
        for key, value in identity(trainer.config).items():
            if state["config"].get(key) != value:
                raise CheckpointError(f"{key} is {value} now, and was {state['config'].get(key)}: begin a new run.")
        trainer.model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        vars(trainer.early_stopping).update(copy.deepcopy(state["stopping"]))
        for name in ("step", "loss_sum", "rows", "history"):
            setattr(trainer, name, copy.deepcopy(state[name]))
        torch.random.set_rng_state(state["rng"])


# --- evaluation ------------------------------------------------------------------------------------------------------


class MatrixTransposed(Mistake):
    """Your matrix has the predicted classes in its rows. Rows are true classes, columns predicted ones."""

    exercise = "evaluation"
    module = "evaluation"

    def confusion_matrix(labels, predictions, classes):
        return torch.bincount(predictions * classes + labels, minlength=classes**2).view(classes, classes)


class PrecisionAndRecallSwapped(Mistake):
    """You divide by the wrong sum. Recall asks how many *of* a class were found, the sum of its row; precision, how
    many that were *called* so are so, the sum of its column."""

    exercise = "evaluation"
    module = "evaluation"

    def per_class(matrix):
        matrix = matrix.double()
        hits, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        f1 = 2 * hits / (true + predicted).clamp(min=1)
        return PerClass(hits / true.clamp(min=1), hits / predicted.clamp(min=1), f1)


class NaNForAbsentClasses(Mistake):
    """A class that never occurs gives 0 / 0, which is NaN with you, and makes every mean NaN. It counts as 0."""

    exercise = "evaluation"
    module = "evaluation"

    def per_class(matrix):
        matrix = matrix.double()
        hits, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        return PerClass(hits / predicted, hits / true, 2 * hits / (true + predicted))


class ArithmeticMean(Mistake):
    """Your F1 is the plain mean of precision and recall. It is their harmonic mean: one bad half spoils it."""

    exercise = "evaluation"
    module = "evaluation"

    def per_class(matrix):
        matrix = matrix.double()
        hits = matrix.diagonal()
        precision, recall = hits / matrix.sum(0).clamp(min=1), hits / matrix.sum(1).clamp(min=1)
        return PerClass(precision, recall, (precision + recall) / 2)


class UnsureTakenForWrong(Mistake):
    """You list the rows with the lowest probability of the true class, right ones among them. List mistakes only."""

    exercise = "evaluation"
    module = "evaluation"

    def worst_mistakes(logits, labels, k):
        loss = F.cross_entropy(logits, labels, reduction="none")
        return loss.argsort(descending=True)[:k]


class MostConfidentMistakes(Mistake):
    """You sort the mistakes by the probability of the wrong class. Asked for is the least probable true class."""

    exercise = "evaluation"
    module = "evaluation"

    def worst_mistakes(logits, labels, k):
        wrong = (logits.argmax(1) != labels).nonzero()[:, 0]
        return wrong[logits[wrong].softmax(1).amax(1).argsort(descending=True)][:k]


class TrueClassForConfidence(Mistake):
    """You take the probability of the true class for the confidence. Confidence is what the network says before it
    knows: the probability of the predicted class."""

    exercise = "evaluation"
    module = "evaluation"

    def reliability(probabilities, labels, bins=15):
        confidence = probabilities.double()[torch.arange(len(labels)), labels]
        where = (confidence * bins).long().clamp(max=bins - 1)
        count = torch.bincount(where, minlength=bins)
        right = (probabilities.argmax(1) == labels).double()
        sums = [torch.bincount(where, weights=v, minlength=bins) for v in (confidence, right)]
        return Reliability(count, *(total / count.clamp(min=1) for total in sums))


class CertaintyFallsOut(Mistake):
    """A confidence of exactly 1 falls into no bin, or into one beyond the last. It belongs to the last."""

    exercise = "evaluation"
    module = "evaluation"

    def reliability(probabilities, labels, bins=15):
        confidence, predicted = probabilities.double().max(1)
        inside = confidence < 1
        confidence, right = confidence[inside], (predicted == labels)[inside].double()
        where = (confidence * bins).long()
        count = torch.bincount(where, minlength=bins)
        sums = [torch.bincount(where, weights=v, minlength=bins) for v in (confidence, right)]
        return Reliability(count, *(total / count.clamp(min=1) for total in sums))


class BinsCountAlike(Mistake):
    """You average over bins. A bin of three rows then counts as much as one of three thousand: weight by rows."""

    exercise = "evaluation"
    module = "evaluation"

    def calibration_error(bins):
        filled = bins.count > 0
        return (bins.accuracy - bins.confidence).abs()[filled].mean().item()


class GapsCancel(Mistake):
    """You leave out the absolute value: bins that are too sure and bins that are too modest cancel."""

    exercise = "evaluation"
    module = "evaluation"

    def calibration_error(bins):
        return ((bins.count * (bins.confidence - bins.accuracy)).sum() / bins.count.sum()).item()


class InverseTemperature(Mistake):
    """You return 1 / T, the factor of the logits. They are *divided* by the temperature."""

    exercise = "evaluation"
    module = "evaluation"

    _right = fit_temperature

    def fit_temperature(logits, labels):
        return 1 / _right(logits, labels)


class NoTemperature(Mistake):
    """Your temperature stays at 1. Look for the one with the lowest cross-entropy."""

    exercise = "evaluation"
    module = "evaluation"

    def fit_temperature(logits, labels):
        return 1.0


class CoarseGrid(Mistake):
    """You try a few temperatures and take the best: two digits, where four are asked for. The loss is convex in 1 /
    T, so that bisection or a Newton step find it exactly."""

    exercise = "evaluation"
    module = "evaluation"

    def fit_temperature(logits, labels):
        grid = torch.logspace(-1.3, 1.3, 27, dtype=torch.float64).clamp(COLDEST, HOTTEST)
        return min(grid.tolist(), key=lambda t: F.cross_entropy(logits.double() / t, labels).item())


class ByCalibrationError(Mistake):
    """You look for the temperature with the lowest calibration error, which jumps as rows change bins. Minimise the
    cross-entropy."""

    exercise = "evaluation"
    module = "evaluation"

    def fit_temperature(logits, labels):
        def gap(t):
            return calibration_error(reliability((logits.double() / t).softmax(1), labels))

        grid = torch.linspace(-2.99, 2.99, 300, dtype=torch.float64).exp()
        return min(grid.tolist(), key=gap)


class WarmUpCounted(Mistake):
    """You measure the warm-up, too: the first calls allocate memory and fill caches."""

    exercise = "evaluation"
    module = "evaluation"

    def latency(call, warmup=10, repeats=100):
        times = []
        for _ in range(warmup + repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        p50, p95 = (1000 * torch.tensor(times).quantile(torch.tensor([0.5, 0.95]))).tolist()
        return Latency(p50, p95)


class MeanLatency(Mistake):
    """You give the mean for the median. A few slow calls move it, which is what percentiles are for."""

    exercise = "evaluation"
    module = "evaluation"

    def latency(call, warmup=10, repeats=100):
        for _ in range(warmup):
            call()
        times = torch.zeros(repeats)
        for i in range(repeats):
            start = time.perf_counter()
            call()
            times[i] = time.perf_counter() - start
        return Latency(1000 * times.mean().item(), 1000 * times.quantile(0.95).item())


class TemperatureFromTheTest(Mistake):
    """You fit the temperature on the test part, and then report how well calibrated it is there. Fit it on the
    validation part."""

    exercise = "evaluation"
    module = "evaluation"

    _right = assess

    def assess(validation, test, worst=12):
        return _right(test, test, worst)


class ValidationAssessed(Mistake):
    """You describe the validation part, on which the best epoch and the temperature were chosen. Describe the test
    part."""

    exercise = "evaluation"
    module = "evaluation"

    _right = assess

    def assess(validation, test, worst=12):
        return _right(validation, validation, worst)


class ByLoops(Alternative):
    """One row after the other, in plain Python."""

    exercise = "evaluation"
    module = "evaluation"

    def confusion_matrix(labels, predictions, classes):
        matrix = torch.zeros(classes, classes, dtype=torch.long)
        for i, j in zip(labels.tolist(), predictions.tolist()):
            matrix[i, j] += 1
        return matrix

    def per_class(matrix):
        rows = []
        for c in range(len(matrix)):
            hits, true, called = (float(x) for x in (matrix[c, c], matrix[c].sum(), matrix[:, c].sum()))
            precision, recall = hits / called if called else 0.0, hits / true if true else 0.0
            f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
            rows.append((precision, recall, f1))
        return PerClass(*torch.tensor(rows, dtype=torch.float64).T)

    def worst_mistakes(logits, labels, k):
        p = logits.softmax(1).gather(1, labels[:, None])[:, 0]
        wrong = [i for i in range(len(labels)) if logits[i].argmax() != labels[i]]
        return torch.tensor(sorted(wrong, key=lambda i: p[i].item())[:k], dtype=torch.long)

    def latency(call, warmup=10, repeats=100):
        [call() for _ in range(warmup)]
        times = []
        for _ in range(repeats):
            start = time.perf_counter_ns()
            call()
            times.append((time.perf_counter_ns() - start) / 1e6)
        times.sort()
        return Latency(times[len(times) // 2], times[int(0.95 * len(times))])


class ByOptimizer(Alternative):
    """The temperature by LBFGS on its logarithm; bins with their upper edge."""

    exercise = "evaluation"
    module = "evaluation"

    def fit_temperature(logits, labels):
        logits = logits.double()
        log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([log_t], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(logits / log_t.exp(), labels)
            loss.backward()
            return loss

        optimizer.step(closure)
        return min(max(log_t.exp().item(), COLDEST), HOTTEST)

    def reliability(probabilities, labels, bins=15):
        confidence, predicted = probabilities.double().max(1)
        edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
        count, means, shares = (
            torch.zeros(bins, dtype=torch.long),
            torch.zeros(bins).double(),
            torch.zeros(bins).double(),
        )
        for b in range(bins):
            inside = (confidence > edges[b]) & (confidence <= edges[b + 1])
            count[b] = inside.sum()
            if inside.any():
                means[b] = confidence[inside].mean()
                shares[b] = (predicted == labels)[inside].double().mean()
        return Reliability(count, means, shares)


# --- command_line ----------------------------------------------------------------------------------------------------


class LogitsServed(Mistake):
    """You serve logits. Asked for are probabilities: divide by the temperature, then softmax."""

    exercise = "command_line"
    module = "export"

    class Served(Served):
        def forward(self, images):
            return self.network((images.float() / 255 - self.mean) / self.std)


class TemperatureForgotten(Mistake):
    """You leave the temperature out, so that what is served is as badly calibrated as on the day of training."""

    exercise = "command_line"
    module = "export"

    class Served(Served):
        def forward(self, images):
            return self.network((images.float() / 255 - self.mean) / self.std).softmax(1)


class NotNormalised(Mistake):
    """You give the network raw pixels. It has learnt from normalised ones: what serves must do what training did."""

    exercise = "command_line"
    module = "export"

    class Served(Served):
        def forward(self, images):
            return (self.network(images.float() / 255) / self.temperature).softmax(1)


class DropoutServed(Mistake):
    """The network is served in training mode: dropout and batch statistics make each answer another one."""

    exercise = "command_line"
    module = "export"

    class Served(Served):
        def __init__(self, network, mean, std, temperature):
            super().__init__(network, mean, std, temperature)
            self.network.train()


class NetworkShared(Mistake):
    """You keep the network itself. When it goes on training, what is served changes with it: keep a copy."""

    exercise = "command_line"
    module = "export"

    class Served(Served):
        def __init__(self, network, mean, std, temperature):
            super().__init__(network, mean, std, temperature)
            self.network = network.eval()


class FixedBatch(Mistake):
    """You export without a dynamic dimension: the file accepts batches of the example's size and no others."""

    exercise = "command_line"
    module = "export"

    def export(served, images, path):
        torch.export.save(torch.export.export(served, (images,)), path)
        return (read_exported(path)(images) - served(images)).abs().max().item()


class NotReadAgain(Mistake):
    """You compare with the program in memory. Read the file again: it is what will be served."""

    exercise = "command_line"
    module = "export"

    def export(served, images, path):
        program = torch.export.export(served, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        torch.export.save(program, path)
        return (program.module()(images) - served(images)).abs().max().item()


class Stretched(Mistake):
    """You stretch a wide picture to a square. A trouser becomes as wide as a coat: keep the proportion, and pad."""

    exercise = "command_line"
    module = "prediction"

    def read_picture(path, channels, size):
        try:
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)
            if picture.mode == "I;16":
                picture = picture.point(lambda value: value / 257).convert("L")
            picture = picture.convert("RGBA")
        except (OSError, SyntaxError, ValueError):
            raise PictureError(f"{path} cannot be read.") from None
        flat = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
        fitted = flat.convert("L" if channels == 1 else "RGB").resize((size, size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(fitted)).view(size, size, channels).permute(2, 0, 1).contiguous()


class TransparencyIgnored(Mistake):
    """You drop the alpha channel: what nobody can see in a picture is seen by the network. Lay it on black."""

    exercise = "command_line"
    module = "prediction"

    def read_picture(path, channels, size):
        try:
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)
            if picture.mode == "I;16":
                picture = picture.point(lambda value: value / 257)
            flat = picture.convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError):
            raise PictureError(f"{path} cannot be read.") from None
        width, height = (max(1, round(side * size / max(flat.size))) for side in flat.size)
        fitted = Image.new(flat.mode, (size, size))
        fitted.paste(flat.resize((width, height), 2), ((size - width) // 2, (size - height) // 2))
        return torch.from_numpy(np.array(fitted)).view(size, size, channels).permute(2, 0, 1).contiguous()


class ThinPictureLost(Mistake):
    """`ImageOps.pad` rounds the sides: of a picture that is much wider than high nothing is left. Scale it yourself,
    with at least one pixel on each side, and paste it into a black square."""

    exercise = "command_line"
    module = "prediction"

    _right = read_picture

    def read_picture(path, channels, size):
        found = _right(path, channels, size)
        with Image.open(path) as file:
            return found if round(size * min(file.size) / max(file.size)) else torch.zeros_like(found)


class OrientationIgnored(Mistake):
    """You read the pixels as the camera wrote them. It notes in EXIF how it was held: `ImageOps.exif_transpose` turns
    the picture upright."""

    exercise = "command_line"
    module = "prediction"

    _right = read_picture

    def read_picture(path, channels, size):
        found = _right(path, channels, size)
        with Image.open(path) as file:
            return found.rot90(1, (1, 2)) if file.getexif().get(274) == 6 else found


class SixteenBitsCutOff(Mistake):
    """You let PIL convert grey of 16 bits: it cuts off at 255, and nearly all becomes white. Divide by 257 first."""

    exercise = "command_line"
    module = "prediction"

    _right = read_picture

    def read_picture(path, channels, size):
        found = _right(path, channels, size)
        with Image.open(path) as file:
            if file.mode != "I;16":
                return found
            return torch.from_numpy(np.array(file.convert("L")))[None]


class ChannelsLast(Mistake):
    """You give `(size, size, channels)`, as PIL and numpy have it. Pictures here are `(channels, size, size)`; and
    `view` does not move axes, `permute` does."""

    exercise = "command_line"
    module = "prediction"

    _right = read_picture

    def read_picture(path, channels, size):
        return _right(path, channels, size).permute(1, 2, 0).contiguous().view(channels, size, size)


class PilErrorForAUser(Mistake):
    """A broken picture ends in PIL's own error. Catch `OSError`, and say in a sentence which file it is."""

    exercise = "command_line"
    module = "prediction"

    _right = read_picture

    def read_picture(path, channels, size):
        try:
            return _right(path, channels, size)
        except PictureError:
            raise OSError("cannot identify image file") from None


class LeastProbableFirst(Mistake):
    """You list the least probable classes. Sort the largest probability to the front."""

    exercise = "command_line"
    module = "prediction"

    def predict(served, images, classes, top=3):
        with torch.no_grad():
            values, columns = served(images).sort(1)
        return [[(classes[c], p) for c, p in zip(cs, ps)][:top] for cs, ps in zip(columns.tolist(), values.tolist())]


class ErrorsSwallowed(Mistake):
    """You catch every exception, so that a fault in the program looks like a mistake of its user, without a trace.
    Catch `Refused`."""

    exercise = "command_line"
    module = "cli"

    def main(arguments=None):
        try:
            app(args=arguments, prog_name="image_classifier")
        except Exception as error:
            print(f"image_classifier: {error}", file=sys.stderr)
            sys.exit(2)


class ExitCodeZero(Mistake):
    """You print the sentence and end with exit code 0: a script that calls the program takes it for a success."""

    exercise = "command_line"
    module = "cli"

    def main(arguments=None):
        try:
            app(args=arguments, prog_name="image_classifier")
        except Refused as error:
            print(f"image_classifier: {error}", file=sys.stderr)


class SaidOnStandardOutput(Mistake):
    """You print the sentence to standard output, where a pipe takes it for a result. Errors go to standard error."""

    exercise = "command_line"
    module = "cli"

    def main(arguments=None):
        try:
            app(args=arguments, prog_name="image_classifier")
        except Refused as error:
            print(f"image_classifier: {error}")
            sys.exit(2)


class WithAutoDimensions(Alternative):
    """Buffers of another shape, `Dim.AUTO`, and one difference for each size."""

    exercise = "command_line"
    module = "export"

    class Served(nn.Module):
        def __init__(self, network, mean, std, temperature):
            super().__init__()
            self.net = copy.deepcopy(network)
            self.register_buffer("shift", mean.flatten()[None, :, None, None].clone())
            self.register_buffer("scale", std.flatten()[None, :, None, None].clone())
            self.register_buffer("beta", torch.tensor(1.0 / temperature))
            self.eval()

        def forward(self, images):
            x = images.to(torch.float32).div(255).sub(self.shift).div(self.scale)
            return torch.softmax(self.net(x) * self.beta, dim=-1)

    def export(served, images, path):
        shapes = ({0: torch.export.Dim.AUTO},)
        torch.export.save(torch.export.export(served, (images,), dynamic_shapes=shapes), path)
        again, worst = torch.export.load(path).module(), 0.0
        with torch.no_grad():
            for n in (len(images), 1):
                worst = max(worst, float((again(images[:n]) - served(images[:n])).abs().max()))
        return worst


class PaddedFirst(Alternative):
    """The picture is pasted into a black square, then scaled; classes by `argsort`."""

    exercise = "command_line"
    module = "prediction"

    def read_picture(path, channels, size):
        if not Path(path).is_file():
            raise PictureError(f"{path} is not there.")
        try:
            picture = Image.open(path)
            picture = ImageOps.exif_transpose(picture)
            if picture.mode == "I;16":
                picture = Image.fromarray((np.array(picture) >> 8).astype("uint8"))
            picture = picture.convert("RGBA")
        except Exception as error:
            raise PictureError(f"{path} is no picture: {error}.") from error
        side = max(picture.size)
        square = Image.new("RGB", (side, side))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2), picture)
        square = square.convert("L") if channels == 1 else square
        if square.size != (size, size):
            square = square.resize((size, size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(square).copy())
        return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)

    def predict(served, images, classes, top=3):
        result = []
        for row in served(images).detach():
            order = row.argsort(descending=True)[:top].tolist()
            result.append([(classes[c], row[c].item()) for c in order])
        return result


# --- own_tests -------------------------------------------------------------------------------------------------------


class NothingAsserted(Mistake):
    """Your tests call the split and look at nothing: whatever it returns, they pass."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_split_keeps_shares(labels):
        data.split(labels, 0.2, seed=0)

    def test_split_repeats(labels):
        data.split(labels, 0.2, seed=0)


class ChunksThatFit(Mistake):
    """Your statistics are tested with chunks that fit: a mean of chunk means passes. Leave a smaller one at the end."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_statistics():
        images = torch.randint(0, 256, (6, 2, 4, 4)).to(torch.uint8)
        values = images.double() / 255
        expected = values.mean((0, 2, 3)).float(), values.std((0, 2, 3), correction=0).float()
        assert_close(data.mean_and_std(images, chunk=3), expected)


class ShapesOnly(Mistake):
    """Your tests of the network look at shapes alone. Probabilities have the same shape as logits."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_network_gives_logits():
        assert model.Classifier(1, 5, 4)(torch.randn(8, 1, 28, 28)).shape == (8, 5)

    def test_pictures_do_not_see_each_other():
        assert model.Classifier(1, 5, 4).eval()(torch.randn(1, 1, 28, 28)).shape == (1, 5)


class OneParameter(Mistake):
    """You test the loop with one parameter, where clipping each gradient by itself and all together are the same."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_clipping():
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        before = network[1].weight.detach().clone()
        settings = SimpleNamespace(bf16=False, label_smoothing=0.0, clip_norm=0.01)
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
        training.train_step(network, optimizer, 10 * torch.randn(8, 1, 2, 2), torch.arange(8) % 2, settings)
        assert (network[1].weight - before).norm().item() == pytest.approx(0.01, rel=1e-3)


class ResumedAtOnce(Mistake):
    """You compare the weights right after the resume. What is forgotten shows in the steps that follow."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_resume():
        first, second = trainer(), trainer(seed=8)
        first.run(4)
        checkpoint.restore(second, checkpoint.capture(first))
        assert_close(second.model.state_dict(), first.model.state_dict())


class TooStrict(Mistake):
    """Your test fails on a right package, too. Compare floating-point numbers within a tolerance, and test what is
    promised."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_metrics():
        found = evaluation.per_class(torch.tensor([[3, 1], [0, 4]]))
        assert found.precision.tolist() == [1.0, 0.75]


class SymmetricMatrix(Mistake):
    """Your matrix is symmetric and your bins are of one size: precision equals recall, and a mean over bins that over
    rows. Test where they differ."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_metrics():
        found = evaluation.per_class(torch.tensor([[3, 1], [1, 3]]))
        assert_close(found.precision, torch.tensor([0.75, 0.75]).double())
        assert_close(found.recall, torch.tensor([0.75, 0.75]).double())

    def test_calibration_error():
        probabilities = torch.tensor([[0.9, 0.1]] * 5 + [[0.4, 0.6]] * 5)
        bins = evaluation.reliability(probabilities, torch.zeros(10, dtype=torch.int64), bins=5)
        assert evaluation.calibration_error(bins) == pytest.approx(0.5 * 0.1 + 0.5 * 0.6)


class ThroughTheRun(Alternative):
    """Best weights and clipping tested through whole runs and other numbers."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_best_weights_are_kept():
        run = trainer()
        run.run(3)
        best = {name: value.clone() for name, value in run.early_stopping.best_weights.items()}
        run.early_stopping.best_score = -1.0
        run.run(6)
        for name, value in run.early_stopping.best_weights.items():
            assert torch.equal(value, best[name]), name

    def test_streams():
        a, b, c = (augment.generator_for(*place).initial_seed() for place in ((0, 0, 1), (0, 1, 0), (1, 0, 0)))
        assert len({a, b, c}) == 3


class AgainstLibraries(Alternative):
    """Metrics against scikit-learn, the split against counts of each class."""

    exercise = "own_tests"
    module = "test_image_classifier"

    def test_metrics():
        from sklearn.metrics import precision_recall_fscore_support

        true, called = [0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 2, 2]
        matrix = evaluation.confusion_matrix(torch.tensor(true), torch.tensor(called), 3)
        for got, expected in zip(evaluation.per_class(matrix), precision_recall_fscore_support(true, called)):
            assert got.tolist() == pytest.approx(list(expected))

    def test_split_keeps_shares(labels):
        train, validation = data.split(labels, 0.1, seed=4)
        for label, count in enumerate((10, 5, 1)):
            assert (labels[validation] == label).sum() == count
        assert not set(train.tolist()) & set(validation.tolist())


# --- mixing ----------------------------------------------------------------------------------------------------------


class LabelsNotMixed(Mistake):
    """You mix the pictures and leave the labels: the network is punished for seeing what is there."""

    exercise = "mixing"
    module = "mixing"

    def mixup(images, labels, classes, alpha, generator):
        share = beta(alpha, generator)
        partner = torch.randperm(len(images), generator=generator)
        return share * images + (1 - share) * images[partner], F.one_hot(labels, classes).float()


class UniformShare(Mistake):
    """You draw the share uniformly. With α below 1 the Beta distribution has most mixtures near one of the two."""

    exercise = "mixing"
    module = "mixing"

    def mixup(images, labels, classes, alpha, generator):
        share = torch.rand((), generator=generator).item()
        partner = torch.randperm(len(images), generator=generator)
        targets = F.one_hot(labels, classes).float()
        return share * images + (1 - share) * images[partner], share * targets + (1 - share) * targets[partner]


class SharesSwapped(Mistake):
    """Pictures are mixed with λ and labels with 1 − λ. Use the same share for both."""

    exercise = "mixing"
    module = "mixing"

    def mixup(images, labels, classes, alpha, generator):
        share = beta(alpha, generator)
        partner = torch.randperm(len(images), generator=generator)
        targets = F.one_hot(labels, classes).float()
        return share * images + (1 - share) * images[partner], (1 - share) * targets + share * targets[partner]


class LabelByPlannedArea(Mistake):
    """You mix the labels by λ. Where the rectangle sticks out less is replaced: count the pixels that were."""

    exercise = "mixing"
    module = "mixing"

    def cutmix(images, labels, classes, alpha, generator):
        h, w = images.shape[-2:]
        share = beta(alpha, generator)
        cut = (1 - share) ** 0.5
        high, wide = int(h * cut), int(w * cut)
        y, x = (int(torch.randint(size, (), generator=generator)) for size in (h, w))
        rows = slice(max(y - high // 2, 0), min(y - high // 2 + high, h))
        columns = slice(max(x - wide // 2, 0), min(x - wide // 2 + wide, w))
        partner = torch.randperm(len(images), generator=generator)
        mixed = images.clone()
        mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
        targets = F.one_hot(labels, classes).float()
        return mixed, share * targets + (1 - share) * targets[partner]


class SideByShare(Mistake):
    """Your rectangle's sides have the share 1 − λ, so that its area has the square of it. Take the root."""

    exercise = "mixing"
    module = "mixing"

    def cutmix(images, labels, classes, alpha, generator):
        h, w = images.shape[-2:]
        cut = 1 - beta(alpha, generator)
        high, wide = int(h * cut), int(w * cut)
        y, x = (int(torch.randint(size, (), generator=generator)) for size in (h, w))
        rows = slice(max(y - high // 2, 0), min(y - high // 2 + high, h))
        columns = slice(max(x - wide // 2, 0), min(x - wide // 2 + wide, w))
        partner = torch.randperm(len(images), generator=generator)
        mixed = images.clone()
        mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
        replaced = (rows.stop - rows.start) * (columns.stop - columns.start) / (h * w)
        targets = F.one_hot(labels, classes).float()
        return mixed, (1 - replaced) * targets + replaced * targets[partner]


class AnotherPlace(Alternative):
    """The Beta distribution by numpy, masks instead of slices."""

    exercise = "mixing"
    module = "mixing"

    def mixup(images, labels, classes, alpha, generator):
        import numpy as np

        seed = torch.randint(2**31, (), generator=generator).item()
        share = float(np.random.default_rng(seed).beta(alpha, alpha))
        other = torch.randperm(len(labels), generator=generator)
        targets = torch.zeros(len(labels), classes).scatter_(1, labels[:, None], 1.0)
        return torch.lerp(images[other], images, share), torch.lerp(targets[other], targets, share)


class ByMask(Alternative):
    """CutMix by a mask of places."""

    exercise = "mixing"
    module = "mixing"

    def cutmix(images, labels, classes, alpha, generator):
        n, _, h, w = images.shape
        other = torch.randperm(n, generator=generator)
        side = (1 - beta(alpha, generator)) ** 0.5
        mask = torch.zeros(h, w, dtype=torch.bool)
        y, x = torch.randint(h, (1,), generator=generator).item(), torch.randint(w, (1,), generator=generator).item()
        top, left = y - int(h * side) // 2, x - int(w * side) // 2
        mask[max(top, 0) : top + int(h * side), max(left, 0) : left + int(w * side)] = True
        share = mask.float().mean()
        targets = F.one_hot(labels, classes).float()
        return torch.where(mask, images[other], images), (1 - share) * targets + share * targets[other]


# --- distillation ----------------------------------------------------------------------------------------------------


class TemperatureNotSquared(Mistake):
    """You leave out T². The gradient of softened logits shrinks by it, and with a high temperature the teacher is
    hardly heard."""

    exercise = "distillation"
    module = "distillation"

    def distillation_loss(student, teacher, targets, temperature, weight):
        soft = F.log_softmax(student / temperature, dim=1)
        goal = F.log_softmax(teacher.detach() / temperature, dim=1)
        divergence = F.kl_div(soft, goal, reduction="batchmean", log_target=True)
        return weight * divergence + (1 - weight) * F.cross_entropy(student, targets)


class DivergenceTurnedRound(Mistake):
    """You compute KL(student ‖ teacher). `F.kl_div` wants the student first and gives KL(teacher ‖ student)."""

    exercise = "distillation"
    module = "distillation"

    def distillation_loss(student, teacher, targets, temperature, weight):
        soft = F.log_softmax(student / temperature, dim=1)
        goal = F.log_softmax(teacher.detach() / temperature, dim=1)
        divergence = F.kl_div(goal, soft, reduction="batchmean", log_target=True)
        return weight * temperature**2 * divergence + (1 - weight) * F.cross_entropy(student, targets)


class MeanOverClasses(Mistake):
    """`reduction="mean"` divides by the number of classes, too. The divergence is a sum over classes: `batchmean`."""

    exercise = "distillation"
    module = "distillation"

    def distillation_loss(student, teacher, targets, temperature, weight):
        soft = F.log_softmax(student / temperature, dim=1)
        goal = F.log_softmax(teacher.detach() / temperature, dim=1)
        divergence = F.kl_div(soft, goal, reduction="mean", log_target=True)
        return weight * temperature**2 * divergence + (1 - weight) * F.cross_entropy(student, targets)


class TeacherLearns(Mistake):
    """The gradient reaches the teacher, who is drawn to what the student believes. Detach the teacher's logits."""

    exercise = "distillation"
    module = "distillation"

    def distillation_loss(student, teacher, targets, temperature, weight):
        soft = F.log_softmax(student / temperature, dim=1)
        goal = F.log_softmax(teacher / temperature, dim=1)
        divergence = F.kl_div(soft, goal, reduction="batchmean", log_target=True)
        return weight * temperature**2 * divergence + (1 - weight) * F.cross_entropy(student, targets)


class HalfTheWidth(Mistake):
    """Half the width has about a quarter of the parameters: most are products of two widths. Count them."""

    exercise = "distillation"
    module = "distillation"

    def half_width(channels, classes, width):
        return max(width // 2, 1)


class TeacherInTrainingMode(Mistake):
    """Your teacher is in training mode: it teaches with dropout, and its running statistics change."""

    exercise = "distillation"
    module = "distillation"

    class Distiller(Distiller):
        def step_on(self, images, targets):
            self.teacher.train()
            with torch.no_grad():
                opinion = self.teacher(images)
            loss = lambda z, t: distillation_loss(z, opinion, t, TEMPERATURE, WEIGHT)
            return train_step(self.model, self.optimizer, images, targets, self.config.training, loss)


class BySums(Alternative):
    """The divergence as cross-entropy with soft targets less their entropy; widths from above."""

    exercise = "distillation"
    module = "distillation"

    def distillation_loss(student, teacher, targets, temperature, weight):
        p = (teacher.detach() / temperature).softmax(1)
        entropy = torch.special.entr(p).sum(1).mean()
        divergence = F.cross_entropy(student / temperature, p) - entropy
        return weight * temperature**2 * divergence + (1 - weight) * F.cross_entropy(student, targets)

    def half_width(channels, classes, width):
        count = lambda w: sum(p.numel() for p in Classifier(channels, classes, w).parameters())
        limit, smaller = count(width) // 2, width - 1
        while smaller > 1 and count(smaller) > limit:
            smaller -= 1
        return max(smaller, 1)


class LookedAtOnce(Alternative):
    """The teacher looks inside the loss's closure."""

    exercise = "distillation"
    module = "distillation"

    class Distiller(Distiller):
        def step_on(self, images, targets):
            teacher = self.teacher.eval()

            @torch.no_grad()
            def look():
                return teacher(images)

            opinion = look()
            return train_step(
                self.model, self.optimizer, images, targets, self.config.training,
                lambda logits, goal: distillation_loss(logits, opinion, goal, TEMPERATURE, WEIGHT),
            )  # fmt: skip

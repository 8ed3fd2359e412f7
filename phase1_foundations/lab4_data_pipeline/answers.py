"""Known answers to Lab 4: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · examples ----------------------------------------------------------------------------------------------------


class EveryWorkerReadsAll(Mistake):
    """Your stream does not ask which worker it is in, so that each of them yields everything, and every record arrives
    n times. Ask `get_worker_info()` in `__iter__`."""

    exercise = "examples"

    class Stream(Stream):
        def __iter__(self):
            return iter(self.source)


class RestIsLost(Mistake):
    """You give every worker an equal number of records and lose what is left over. Deal them out in turn: k, k + n,
    k + 2n, …"""

    exercise = "examples"

    class Stream(Stream):
        def __iter__(self):
            worker = get_worker_info()
            if worker is None:
                return iter(self.source)
            usable = len(self.source) // worker.num_workers * worker.num_workers
            return itertools.islice(self.source, worker.id, usable, worker.num_workers)


class FloatWhenEmpty(Mistake):
    """You leave the dtype to `torch.tensor`, which makes float32 of an empty list. Say `dtype=torch.int64`."""

    exercise = "examples"

    class Examples(Examples):
        def __getitem__(self, i):
            words = [self.vocabulary.get(word, UNKNOWN) for word in self.texts[i].lower().split()]
            return torch.tensor(words), float(self.scores[i] > 0)


class CaseKept(Mistake):
    """You look words up as they are written. The vocabulary is in lower case: `text.lower()`."""

    exercise = "examples"

    class Examples(Examples):
        def __getitem__(self, i):
            words = [self.vocabulary.get(word, UNKNOWN) for word in self.texts[i].split()]
            return torch.tensor(words, dtype=torch.int64), float(self.scores[i] > 0)


class UnknownLeftOut(Mistake):
    """You leave unknown words out. They become `UNKNOWN`: that somebody said something is information, too."""

    exercise = "examples"

    class Examples(Examples):
        def __getitem__(self, i):
            words = [self.vocabulary[word] for word in self.texts[i].lower().split() if word in self.vocabulary]
            return torch.tensor(words, dtype=torch.int64), float(self.scores[i] > 0)


class ReadsAllFirst(Mistake):
    """You read the whole source into a list before the first element comes out. Streams may have no end: use
    `itertools.islice`."""

    exercise = "examples"

    class Stream(Stream):
        def __iter__(self):
            worker = get_worker_info()
            everything = list(self.source)
            return iter(everything[worker.id :: worker.num_workers] if worker else everything)


class ByEnumerate(Alternative):
    """A generator that counts."""

    exercise = "examples"

    class Stream(IterableDataset):
        def __init__(self, source):
            self.elements = source

        def __iter__(self):
            info = torch.utils.data.get_worker_info()
            for i, element in enumerate(self.elements):
                if info is None or i % info.num_workers == info.id:
                    yield element


# --- 2 · pad_batch ---------------------------------------------------------------------------------------------------


class MaskFromWords(Mistake):
    """You take every zero for padding. A zero may be data: the mask follows from the lengths."""

    exercise = "pad_batch"

    def pad_batch(examples):
        words, labels = zip(*examples, strict=True)
        padded = pad_sequence(words, batch_first=True)
        return Batch(padded, padded != PADDING, torch.tensor(labels, dtype=torch.float32))


class MaskTurnedRound(Mistake):
    """Your mask is True where there is padding. In this course True means data."""

    exercise = "pad_batch"

    def pad_batch(examples):
        words, labels = zip(*examples, strict=True)
        padded = pad_sequence(words, batch_first=True)
        lengths = torch.tensor([len(w) for w in words])
        mask = torch.arange(padded.shape[1]) >= lengths[:, None]
        return Batch(padded, mask, torch.tensor(labels, dtype=torch.float32))


class TimeFirst(Mistake):
    """Your words are `(time, batch)`, which is what `pad_sequence` gives by default. Pass `batch_first=True`."""

    exercise = "pad_batch"

    def pad_batch(examples):
        words, labels = zip(*examples, strict=True)
        lengths = torch.tensor([len(w) for w in words])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return Batch(pad_sequence(words), mask, torch.tensor(labels, dtype=torch.float32))


class OneOff(Mistake):
    """Your mask ends one word late. Positions count from 0, so the comparison is `<`, not `<=`."""

    exercise = "pad_batch"

    def pad_batch(examples):
        words, labels = zip(*examples, strict=True)
        padded = pad_sequence(words, batch_first=True)
        lengths = torch.tensor([len(w) for w in words])
        mask = torch.arange(padded.shape[1]) <= lengths[:, None]
        return Batch(padded, mask, torch.tensor(labels, dtype=torch.float32))


class PaddedByHand(Alternative):
    """A tensor of zeros, filled row by row."""

    exercise = "pad_batch"

    def pad_batch(examples):
        longest = max(len(words) for words, _ in examples)
        words = torch.zeros(len(examples), longest, dtype=torch.int64)
        mask = torch.zeros(len(examples), longest, dtype=torch.bool)
        for row, (example, _) in enumerate(examples):
            words[row, : len(example)] = example
            mask[row, : len(example)] = True
        return Batch(words, mask, torch.tensor([label for _, label in examples]).float())


# --- 3 · bucket_sampler ----------------------------------------------------------------------------------------------


class BatchesInOrder(Mistake):
    """You yield the batches of a run from short to long. Shuffle the batches as well."""

    exercise = "bucket_sampler"

    class BucketSampler(BucketSampler):
        def __iter__(self):
            order = torch.randperm(len(self.lengths), generator=self.generator)
            for run in order.split(self.batch_size * self.pool):
                for batch in run[self.lengths[run].argsort()].split(self.batch_size):
                    yield batch.tolist()


class AllSorted(Mistake):
    """You sort the whole data set, so the same sentences share a batch in every epoch. Sort within runs of the shuffled
    order only."""

    exercise = "bucket_sampler"

    class BucketSampler(BucketSampler):
        def __iter__(self):
            batches = self.lengths.argsort().split(self.batch_size)
            for i in torch.randperm(len(batches), generator=self.generator):
                yield batches[i].tolist()


class LastBatchDropped(Mistake):
    """You drop the last batch if it is not full. Every index is to be seen in each epoch."""

    exercise = "bucket_sampler"

    class BucketSampler(BucketSampler):
        def __iter__(self):
            return (batch for batch in super().__iter__() if len(batch) == self.batch_size)


class SameEveryEpoch(Mistake):
    """You draw the order once, in `__init__`. Draw it in `__iter__`, or every epoch is the same."""

    exercise = "bucket_sampler"

    class BucketSampler(BucketSampler):
        def __init__(self, lengths, batch_size, pool=50, generator=None):
            super().__init__(lengths, batch_size, pool, generator)
            self.batches = list(super().__iter__())

        def __iter__(self):
            return iter(self.batches)


class GeneratorIgnored(Mistake):
    """You draw from torch's default generator although you were given one. Pass `generator=` on to `randperm`."""

    exercise = "bucket_sampler"

    class BucketSampler(BucketSampler):
        def __init__(self, lengths, batch_size, pool=50, generator=None):
            super().__init__(lengths, batch_size, pool, None)


class CountsExamples(Mistake):
    """Your `len` is the number of examples. A batch sampler's is the number of batches."""

    exercise = "bucket_sampler"

    class BucketSampler(BucketSampler):
        def __len__(self):
            return len(self.lengths)


class BucketsInLists(Alternative):
    """Plain lists, sorted by key."""

    exercise = "bucket_sampler"

    class BucketSampler(Sampler):
        def __init__(self, lengths, batch_size, pool=50, generator=None):
            self.lengths = [int(n) for n in lengths]
            self.size, self.pool, self.rng = batch_size, pool, generator

        def __iter__(self):
            order = torch.randperm(len(self.lengths), generator=self.rng).tolist()
            run, batches = self.size * self.pool, []
            for start in range(0, len(order), run):
                ranked = sorted(order[start : start + run], key=self.lengths.__getitem__)
                batches += [ranked[i : i + self.size] for i in range(0, len(ranked), self.size)]
            return iter([batches[i] for i in torch.randperm(len(batches), generator=self.rng).tolist()])

        def __len__(self):
            return -(-len(self.lengths) // self.size)


# --- 4 · running_moments ---------------------------------------------------------------------------------------------


class DifferenceOfSquares(Mistake):
    """You compute E[x²] − E[x]², which loses its digits far from zero. Keep squared deviations from the mean, and merge
    them by Chan's formula."""

    exercise = "running_moments"

    class RunningMoments(RunningMoments):
        def _combine(self, count, mean, squares):
            total = self.count + count
            power = self.squares + self.count * self.mean**2 + squares + count * mean**2
            self.mean = (self.count * self.mean + count * mean) / total
            self.squares, self.count = power - total * self.mean**2, total


class MeanOfMeans(Mistake):
    """You average the means of both sets as if they were of equal size. Weight by the counts: δ · n_B / n."""

    exercise = "running_moments"

    class RunningMoments(RunningMoments):
        def _combine(self, count, mean, squares):
            total, delta = self.count + count, mean - self.mean
            self.squares = self.squares + squares + delta.square() * (self.count * count / total)
            self.mean = self.mean + (delta / 2 if self.count else delta)
            self.count = total


class BetweenLeftOut(Mistake):
    """You add up the squared deviations of both sets and leave out that their means differ: δ² · n_A · n_B / n."""

    exercise = "running_moments"

    class RunningMoments(RunningMoments):
        def _combine(self, count, mean, squares):
            total = self.count + count
            self.mean = self.mean + (mean - self.mean) * (count / total)
            self.squares, self.count = self.squares + squares, total


class InFloat32(Mistake):
    """You compute the batch's mean in its own dtype. Turn it into float64 first."""

    exercise = "running_moments"

    class RunningMoments(RunningMoments):
        def update(self, batch):
            if len(batch):
                batch = batch.float()
                mean = batch.mean(0)
                self._combine(len(batch), mean, (batch - mean).square().sum(0))


class UnbiasedMoments(Mistake):
    """You divide by n − 1. The variance here is the biased one, S / n."""

    exercise = "running_moments"

    class RunningMoments(RunningMoments):
        @property
        def var(self):
            return self.squares / max(self.count - 1, 1)


class EmptyDivides(Mistake):
    """A batch without rows makes everything NaN: its mean is 0 / 0. Leave it out."""

    exercise = "running_moments"

    class RunningMoments(RunningMoments):
        def update(self, batch):
            batch = batch.double()
            mean = batch.mean(0)
            self._combine(len(batch), mean, (batch - mean).square().sum(0))


class WelfordByRow(Alternative):
    """Welford's recurrence, row by row, and a merge written apart."""

    exercise = "running_moments"

    class RunningMoments:
        def __init__(self, d):
            self.count, self.mean, self.squares = 0, torch.zeros(d).double(), torch.zeros(d).double()

        def update(self, batch):
            for row in batch.to(torch.float64):
                self.count += 1
                delta = row - self.mean
                self.mean += delta / self.count
                self.squares += delta * (row - self.mean)

        def merge(self, other):
            n = self.count + other.count
            if n:
                delta = other.mean - self.mean
                self.mean += delta * other.count / n
                self.squares += other.squares + delta**2 * self.count * other.count / n
                self.count = n

        @property
        def var(self):
            return self.squares / self.count if self.count else torch.zeros_like(self.squares)


# --- 5 · random_shift ------------------------------------------------------------------------------------------------


class DrawnPerInput(Mistake):
    """You draw in `transform`, which is called for the picture and again for its mask: they part company. Draw in
    `make_params`."""

    exercise = "random_shift"

    class RandomShift(RandomShift):
        def transform(self, inpt, params):
            return super().transform(inpt, self.make_params([inpt]))


class Rolled(Mistake):
    """You roll: what leaves on one side comes back on the other. Zeros come in."""

    exercise = "random_shift"

    class RandomShift(RandomShift):
        def transform(self, inpt, params):
            return tv_tensors.wrap(torch.roll(inpt, (params["dy"], params["dx"]), (-2, -1)), like=inpt)


class NormalisedFirst(Mistake):
    """You normalise before you shift, so that what comes in is the mean grey. Shift first: black comes in."""

    exercise = "random_shift"

    def augmentation(limit, mean, std):
        return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), RandomShift(limit)])


class LimitExcluded(Mistake):
    """You never shift by `+limit`: the upper end of `torch.randint` is excluded. Use `limit + 1`."""

    exercise = "random_shift"

    class RandomShift(RandomShift):
        def make_params(self, flat_inputs):
            dy, dx = torch.randint(-self.limit, max(self.limit, 1 - self.limit), (2,)).tolist()
            return {"dy": dy, "dx": dx}


class AlongTheDiagonal(Mistake):
    """You draw one number for both directions. `dy` and `dx` are independent."""

    exercise = "random_shift"

    class RandomShift(RandomShift):
        def make_params(self, flat_inputs):
            shift = int(torch.randint(-self.limit, self.limit + 1, ()))
            return {"dy": shift, "dx": shift}


class NotScaled(Mistake):
    """You turn bytes into floats and keep them between 0 and 255. Pass `scale=True` to `ToDtype`."""

    exercise = "random_shift"

    def augmentation(limit, mean, std):
        return v2.Compose([RandomShift(limit), v2.ToDtype(torch.float32), v2.Normalize(mean, std)])


class KindLost(Mistake):
    """Your result is a plain tensor, so the steps after it no longer know a mask from a picture. Use `tv_tensors.wrap`
    with `like=`."""

    exercise = "random_shift"

    class RandomShift(RandomShift):
        def transform(self, inpt, params):
            return super().transform(inpt, params).as_subclass(Tensor)


class ByFunctional(Alternative):
    """torchvision's own pad and crop, which keep the kind."""

    exercise = "random_shift"

    class RandomShift(v2.Transform):
        def __init__(self, limit):
            super().__init__()
            self.choices = torch.arange(-limit, limit + 1)

        def make_params(self, flat_inputs):
            dy, dx = (int(self.choices[torch.randint(len(self.choices), ())]) for _ in range(2))
            return {"padding": [dx, dy, -dx, -dy]}

        def transform(self, inpt, params):
            left, top, right, bottom = params["padding"]
            height, width = inpt.shape[-2:]
            larger = self._call_kernel(v2.functional.pad, inpt, [max(p, 0) for p in (left, top, right, bottom)], fill=0)
            return self._call_kernel(v2.functional.crop, larger, max(-top, 0), max(-left, 0), height, width)


# --- 6 · readable ----------------------------------------------------------------------------------------------------


class EverythingSwallowed(Mistake):
    """You catch every exception, also those of your own bugs. Catch `ValueError` and `KeyError`."""

    exercise = "readable"

    class Readable(Readable):
        def __iter__(self):
            self.skipped, total = Counter(), 0
            for record in self.records:
                total += 1
                try:
                    example = self.decode(record)
                except Exception as error:
                    self.skipped[type(error).__name__] += 1
                else:
                    yield example
            if self.skipped.total() > self.tolerance * total:
                raise RuntimeError(f"{self.skipped.total()} records could not be read")


class NeverFails(Mistake):
    """You skip and count, however many there are. Raise `RuntimeError` at the end if their share is above the
    tolerance."""

    exercise = "readable"

    class Readable(Readable):
        def __init__(self, records, decode, tolerance=0.01):
            super().__init__(records, decode, 1.0)


class CountsGoOn(Mistake):
    """Your count goes on from one pass to the next. Begin each pass with an empty `Counter`."""

    exercise = "readable"

    class Readable(Readable):
        def __iter__(self):
            before = self.skipped
            yield from super().__iter__()
            self.skipped = before + self.skipped


class StopsAtTheFirst(Mistake):
    """You end the pass at the first corrupt record. Skip it and go on with the next."""

    exercise = "readable"

    class Readable(Readable):
        def __iter__(self):
            self.skipped = Counter()
            try:
                for record in self.records:
                    yield self.decode(record)
            except (ValueError, KeyError) as error:
                self.skipped[type(error).__name__] += 1


class NoneInstead(Mistake):
    """You yield None for a corrupt record. It is to be skipped."""

    exercise = "readable"

    class Readable(Readable):
        def __iter__(self):
            self.skipped = Counter()
            for record in self.records:
                try:
                    yield self.decode(record)
                except (ValueError, KeyError) as error:
                    self.skipped[type(error).__name__] += 1
                    yield None


class ContinueInExcept(Alternative):
    """`continue` instead of `else`, and counts by hand."""

    exercise = "readable"

    class Readable(IterableDataset):
        def __init__(self, records, decode, tolerance=0.01):
            self.records, self.decode, self.tolerance, self.skipped = records, decode, tolerance, Counter()

        def __iter__(self):
            self.skipped.clear()
            n = bad = 0
            for n, record in enumerate(self.records, start=1):
                try:
                    example = self.decode(record)
                except (KeyError, ValueError) as error:
                    bad += 1
                    self.skipped.update([error.__class__.__name__])
                    continue
                yield example
            if n and bad / n > self.tolerance:
                raise RuntimeError(f"{bad} records are corrupt")


# --- 7 · stopwatch ---------------------------------------------------------------------------------------------------


class EndForgotten(Mistake):
    """You stop the clock after the last step. Finding out that there are no more batches is waiting, too."""

    exercise = "stopwatch"

    def stopwatch(batches, step, clock=time.perf_counter):
        waiting = working = 0.0
        mark = clock()
        for batch in batches:
            arrived = clock()
            waiting += arrived - mark
            step(batch)
            mark = clock()
            working += mark - arrived
        return waiting, working


class StartForgotten(Mistake):
    """You make the iterator before you start the clock. Starting it, with its workers, is waiting, too."""

    exercise = "stopwatch"

    def stopwatch(batches, step, clock=time.perf_counter):
        iterator = iter(batches)
        start, working = clock(), 0.0
        for batch in iterator:
            arrived = clock()
            step(batch)
            working += clock() - arrived
        return clock() - start - working, working


class WorkersIgnored(Mistake):
    """You add loading and step although workers load while the model works. With workers it is the longer of the
    two."""

    exercise = "stopwatch"

    def bottleneck(load, step, workers):
        loading = load / max(workers, 1)
        return ("loading" if loading > step else "model"), loading + step


class NotShared(Mistake):
    """You do not divide the loading among the workers. Each of n loads every n-th batch: load / n."""

    exercise = "stopwatch"

    def bottleneck(load, step, workers):
        return ("loading" if load > step else "model"), (max(load, step) if workers else load + step)


class TimesSwapped(Mistake):
    """You return the two times in the wrong order. It is `(waiting, working)`."""

    exercise = "stopwatch"

    def stopwatch(batches, step, clock=time.perf_counter):
        start, working = clock(), 0.0
        for batch in batches:
            arrived = clock()
            step(batch)
            working += clock() - arrived
        return working, clock() - start - working


class ByNext(Alternative):
    """`next` by hand, and the formula by cases."""

    exercise = "stopwatch"

    def stopwatch(batches, step, clock=time.perf_counter):
        waiting = working = 0.0
        before = clock()
        iterator = iter(batches)
        while True:
            batch = next(iterator, iterator)
            after = clock()
            waiting += after - before
            if batch is iterator:
                return waiting, working
            step(batch)
            before = clock()
            working += before - after

    def bottleneck(load, step, workers):
        if workers == 0:
            return ("model" if step >= load else "loading"), load + step
        return ("model", step) if step >= load / workers else ("loading", load / workers)


# --- 8 · masked_mean -------------------------------------------------------------------------------------------------


class PaddingCounted(Mistake):
    """You divide by the length of the time axis, padding included. Divide by the number of words that the mask
    counts."""

    exercise = "masked_mean"

    def masked_mean(h, mask):
        return h.masked_fill(~mask[..., None], 0).mean(1)


class MultipliedByMask(Mistake):
    """You multiply by the mask, and NaN · 0 is NaN. Replace what is masked: `masked_fill` or `torch.where`."""

    exercise = "masked_mean"

    def masked_mean(h, mask):
        mask = mask[..., None]
        return (h * mask).sum(1) / mask.sum(1).clamp(min=1)


class ZeroByZero(Mistake):
    """A row without words gives NaN: you divide nothing by nothing. Divide by at least 1."""

    exercise = "masked_mean"

    def masked_mean(h, mask):
        mask = mask[..., None]
        return h.masked_fill(~mask, 0).sum(1) / mask.sum(1)


class NoMask(Mistake):
    """You average over everything. The mask says what is data."""

    exercise = "masked_mean"

    def masked_mean(h, mask):
        return h.mean(1)


class MaskTakenForPadding(Mistake):
    """You keep the padding and throw the words away. In the mask, True is data."""

    exercise = "masked_mean"

    def masked_mean(h, mask):
        mask = ~mask[..., None]
        return h.masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp(min=1)


class LastOutput(Mistake):
    """You take the GRU's last output, which for short sentences is one after padding. Take the masked mean."""

    exercise = "masked_mean"

    class SentenceClassifier(SentenceClassifier):
        def forward(self, words, mask):
            outputs, _ = self.gru(self.embedding(words))
            return self.head(outputs[:, -1]).squeeze(-1)


class TimeTakenForBatch(Mistake):
    """Your GRU takes the first axis for time, which is its default. Pass `batch_first=True`."""

    exercise = "masked_mean"

    class SentenceClassifier(SentenceClassifier):
        def __init__(self, n_words, d_embed, d_hidden):
            super().__init__(n_words, d_embed, d_hidden)
            self.gru = nn.GRU(d_embed, d_hidden)


class PackedWords(Alternative):
    """Packed sequences, and a mean by `torch.where`."""

    exercise = "masked_mean"

    def masked_mean(h, mask):
        total = torch.where(mask.unsqueeze(-1), h, torch.zeros((), dtype=h.dtype)).sum(dim=1)
        return total / mask.sum(dim=1, keepdim=True).clamp_min(1).to(h.dtype)

    class SentenceClassifier(nn.Module):
        def __init__(self, n_words, d_embed, d_hidden):
            super().__init__()
            self.head = nn.Linear(d_hidden, 1)
            self.gru = nn.GRU(d_embed, d_hidden, batch_first=True)
            self.embedding = nn.Embedding(n_words, d_embed)

        def forward(self, words, mask):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embedding(words), mask.sum(1), batch_first=True, enforce_sorted=False
            )
            outputs, _ = nn.utils.rnn.pad_packed_sequence(
                self.gru(packed)[0], batch_first=True, total_length=words.shape[1]
            )
            return self.head(masked_mean(outputs, mask))[:, 0]


# --- side quests -----------------------------------------------------------------------------------------------------


class ReadWhole(Mistake):
    """You read the tokens into memory. Open them with `mmap_mode="r"`."""

    exercise = "write_shards"

    class Shards(Shards):
        def __init__(self, folder):
            super().__init__(folder)
            self.tokens = [np.load(path) for path in sorted(self.folder.glob("tokens-*.npy"))]


class NoLastOffset(Mistake):
    """Your offsets lack the last entry, the number of all tokens: nobody knows where the last sequence ends."""

    exercise = "write_shards"

    def write_shards(folder, sequences, per_shard):
        sequences = list(sequences)
        for number, start in enumerate(range(0, len(sequences), per_shard)):
            shard = sequences[start : start + per_shard]
            np.save(folder / f"tokens-{number:05}.npy", np.array([t for s in shard for t in s], dtype=np.int32))
            offsets = np.cumsum([0, *map(len, shard)], dtype=np.int64)
            np.save(folder / f"offsets-{number:05}.npy", offsets[:-1])


class ShardsByLoop(Alternative):
    """One entry in a list for each sequence."""

    exercise = "write_shards"

    class Shards(Dataset):
        def __init__(self, folder):
            self.folder = folder
            self.index = []
            for path in sorted(folder.glob("offsets-*.npy")):
                offsets = np.load(path).tolist()
                tokens = path.with_name(path.name.replace("offsets", "tokens"))
                self.index += [(tokens, start, end) for start, end in itertools.pairwise(offsets)]

        def __len__(self):
            return len(self.index)

        def __getitem__(self, i):
            if i < 0:
                raise IndexError(i)
            path, start, end = self.index[i]
            return torch.tensor(np.load(path, mmap_mode="r")[start:end].tolist(), dtype=torch.int64)


class AsTheyCome(Mistake):
    """You draw examples as if all were equally likely. Weight each by 1 / the size of its class."""

    exercise = "balanced_sampler"

    class BalancedSampler(BalancedSampler):
        def __iter__(self):
            n = len(self.weights)
            return iter(torch.randint(n, (self.n_samples,), generator=self.generator).tolist())


class ByFrequency(Mistake):
    """You weight an example by the size of its class, which favours the common ones even more. Weight by 1 / size."""

    exercise = "balanced_sampler"

    class BalancedSampler(BalancedSampler):
        def __init__(self, labels, n_samples, generator=None):
            super().__init__(labels, n_samples, generator)
            self.weights = 1 / self.weights


class ClassThenExample(Alternative):
    """Draws a class, and then one of its examples."""

    exercise = "balanced_sampler"

    class BalancedSampler(Sampler):
        def __init__(self, labels, n_samples, generator=None):
            self.members = [(labels == c).nonzero().flatten() for c in labels.unique()]
            self.n_samples, self.generator = n_samples, generator

        def __iter__(self):
            for c in torch.randint(len(self.members), (self.n_samples,), generator=self.generator):
                of_class = self.members[c]
                yield int(of_class[torch.randint(len(of_class), (), generator=self.generator)])

        def __len__(self):
            return self.n_samples


class SumOfThree(Mistake):
    """You add seed, epoch and index, so different triples share their noise. Use a number that is different for each:
    mixed radix."""

    exercise = "noisy"

    class Noisy(Noisy):
        def __getitem__(self, i):
            generator = torch.Generator().manual_seed(self.seed + self.epoch + i)
            return self.data[i] + self.std * torch.randn(self.data.shape[1:], generator=generator)


class DefaultGenerator(Mistake):
    """You draw from torch's default generator: what comes out depends on the worker and on who drew before. Make a
    generator for each example."""

    exercise = "noisy"

    class Noisy(Noisy):
        def __getitem__(self, i):
            return self.data[i] + self.std * torch.randn(self.data.shape[1:])


class SeedTooLong(Mistake):
    """Your seeds need more than the 32 bits that torch's CPU generator keeps of them, so some examples share their
    noise. Count by 4,000, not by a million."""

    exercise = "noisy"

    class Noisy(Noisy):
        def __getitem__(self, i):
            generator = torch.Generator().manual_seed((self.seed * 1_000 + self.epoch) * 1_000_000 + i)
            return self.data[i] + self.std * torch.randn(self.data.shape[1:], generator=generator)


class EpochIgnored(Mistake):
    """Your noise is the same in every epoch, so nothing is augmented. The epoch is part of the seed."""

    exercise = "noisy"

    class Noisy(Noisy):
        def __getitem__(self, i):
            generator = torch.Generator().manual_seed(self.seed * 1_000_000 + i)
            return self.data[i] + self.std * torch.randn(self.data.shape[1:], generator=generator)


class ByNumPy(Alternative):
    """NumPy's generators take a tuple as a seed."""

    exercise = "noisy"

    class Noisy(Noisy):
        def __getitem__(self, i):
            draws = np.random.default_rng((self.seed, self.epoch, i)).standard_normal(self.data.shape[1])
            return self.data[i] + self.std * torch.from_numpy(draws).float()

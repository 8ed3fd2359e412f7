"""Known answers to Lab 5: the mistakes people make, and right answers that differ from ours."""

from grading.answers import Alternative, Mistake

# --- 1 · pick_device -------------------------------------------------------------------------------------------------


class BuiltForNotThere(Mistake):
    """Your `pick_device` names what PyTorch was built for, on machines where it is not there. Ask with
    `check_available=True`."""

    exercise = "pick_device"

    def pick_device():
        return torch.accelerator.current_accelerator() or torch.device("cpu")


class CudaOnly(Mistake):
    """Your `pick_device` knows one maker only. `torch.accelerator` knows them all."""

    exercise = "pick_device"

    def pick_device():
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TableOnTheCpu(Mistake):
    """Your table is made on the CPU, wherever `x` is. Give `torch.arange` the `device` of `x`."""

    exercise = "pick_device"

    class Positions(Positions):
        def forward(self, x):
            t = torch.arange(x.shape[1], dtype=torch.float32)
            angles = t[:, None] * self.frequencies.cpu()
            return x + torch.cat([angles.sin(), angles.cos()], dim=-1).to(x.dtype)


class FrequenciesAsAttribute(Mistake):
    """Your frequencies are a plain attribute, and stay where they are when the module moves. Register a buffer."""

    exercise = "pick_device"

    class Positions(Positions):
        def __init__(self, d):
            nn.Module.__init__(self)
            self.frequencies = 10000 ** (-2 * torch.arange(d // 2, dtype=torch.float32) / d)


class FrequenciesSaved(Mistake):
    """Your buffer is in every checkpoint, although it is a constant. Register it with `persistent=False`."""

    exercise = "pick_device"

    class Positions(Positions):
        def __init__(self, d):
            nn.Module.__init__(self)
            self.register_buffer("frequencies", 10000 ** (-2 * torch.arange(d // 2, dtype=torch.float32) / d))


class TableInSixteenBits(Mistake):
    """You count positions in the type of `x`: above 256, `bfloat16` cannot tell one from the next. Compute the table in
    float32 and cast it at the end."""

    exercise = "pick_device"

    class Positions(Positions):
        def forward(self, x):
            t = torch.arange(x.shape[1], device=x.device).to(x.dtype)
            angles = t[:, None] * self.frequencies.to(x.dtype)
            return x + torch.cat([angles.sin(), angles.cos()], dim=-1)


class ResultWidened(Mistake):
    """Adding a float32 table makes the result float32. Cast the table to the type of `x`."""

    exercise = "pick_device"

    class Positions(Positions):
        def forward(self, x):
            angles = torch.arange(x.shape[1], device=x.device)[:, None] * self.frequencies
            return x + torch.cat([angles.sin(), angles.cos()], dim=-1)


class Interleaved(Mistake):
    """Your sines and cosines alternate. Here all sines come first, and then all cosines."""

    exercise = "pick_device"

    class Positions(Positions):
        def forward(self, x):
            angles = torch.arange(x.shape[1], device=x.device)[:, None] * self.frequencies
            return x + torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(x.dtype)


class FlatDictOnly(Mistake):
    """Your `move` looks into the outermost dict only. Batches are nested: let it call itself."""

    exercise = "pick_device"

    def move(batch, device, non_blocking=False):
        if isinstance(batch, Tensor):
            return batch.to(device, non_blocking=non_blocking)
        return {k: v.to(device, non_blocking=non_blocking) if isinstance(v, Tensor) else v for k, v in batch.items()}


class NamedTupleLost(Mistake):
    """Named tuples come out as plain tuples, without their names. They are made by `type(batch)(*members)`."""

    exercise = "pick_device"

    def move(batch, device, non_blocking=False):
        if isinstance(batch, Tensor):
            return batch.to(device, non_blocking=non_blocking)
        if isinstance(batch, dict):
            return type(batch)({k: move(v, device, non_blocking) for k, v in batch.items()})
        if isinstance(batch, list):
            return [move(v, device, non_blocking) for v in batch]
        if isinstance(batch, tuple):
            return tuple(move(v, device, non_blocking) for v in batch)
        return batch


class MovedInPlace(Mistake):
    """You write into the batch that you were given. Whoever holds it finds it changed; build a new one."""

    exercise = "pick_device"

    def move(batch, device, non_blocking=False):
        if isinstance(batch, Tensor):
            return batch.to(device, non_blocking=non_blocking)
        if isinstance(batch, dict):
            for k in batch:
                batch[k] = move(batch[k], device, non_blocking)
            return batch
        if isinstance(batch, list):
            batch[:] = [move(v, device, non_blocking) for v in batch]
            return batch
        if isinstance(batch, tuple):
            moved = [move(v, device, non_blocking) for v in batch]
            return type(batch)(*moved) if hasattr(batch, "_fields") else tuple(moved)
        return batch


class NonBlockingForgotten(Mistake):
    """You lose `non_blocking` on the way down. Hand it on to every call."""

    exercise = "pick_device"

    def move(batch, device, non_blocking=False):
        if isinstance(batch, Tensor):
            return batch.to(device, non_blocking=non_blocking)
        if isinstance(batch, dict):
            return type(batch)({k: move(v, device) for k, v in batch.items()})
        if isinstance(batch, list | tuple):
            moved = [move(v, device) for v in batch]
            return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
        return batch


class ByPytree(Alternative):
    """PyTorch's own tree map, an `if` on availability, and a table filled half by half."""

    exercise = "pick_device"

    def pick_device():
        if torch.accelerator.is_available():
            return torch.accelerator.current_accelerator()
        return torch.device("cpu")

    def move(batch, device, non_blocking=False):
        from torch.utils._pytree import tree_map_only

        return tree_map_only(Tensor, lambda t: t.to(device=device, non_blocking=non_blocking), batch)

    class Positions(nn.Module):
        def __init__(self, d):
            super().__init__()
            exponents = torch.linspace(0, 1 - 2 / d, d // 2) if d > 2 else torch.zeros(1)
            self.register_buffer("frequencies", torch.exp(-math.log(10000) * exponents), persistent=False)

        def forward(self, x):
            time, d = x.shape[-2:]
            table = torch.empty(time, d, device=x.device)
            angles = torch.outer(torch.arange(time, device=x.device).float(), self.frequencies)
            table[:, : d // 2], table[:, d // 2 :] = torch.sin(angles), torch.cos(angles)
            return x + table.to(x)


# --- 2 · median_seconds ----------------------------------------------------------------------------------------------


class NotSynchronised(Mistake):
    """You never wait for the device, and time the writing of the order. Call `wait()` before each reading of the
    clock."""

    exercise = "median_seconds"

    def median_seconds(call, wait, repeats=9, warmup=3, clock=time.perf_counter):
        for _ in range(warmup):
            call()
        times = []
        for _ in range(repeats):
            start = clock()
            call()
            times.append(clock() - start)
        return statistics.median(times)


class QueueNotEmptied(Mistake):
    """Your first measurement includes what was still in the queue. Wait before the clock is first read, too."""

    exercise = "median_seconds"

    def median_seconds(call, wait, repeats=9, warmup=3, clock=time.perf_counter):
        for _ in range(warmup):
            call()
        times = []
        for _ in range(repeats):
            start = clock()
            call()
            wait()
            times.append(clock() - start)
        return statistics.median(times)


class MeanNotMedian(Mistake):
    """You take the mean, or time all repeats together, and one disturbance moves the result as far as it likes. Time
    each call, and take the median."""

    exercise = "median_seconds"

    def median_seconds(call, wait, repeats=9, warmup=3, clock=time.perf_counter):
        for _ in range(warmup):
            call()
        times = []
        for _ in range(repeats):
            wait()
            start = clock()
            call()
            wait()
            times.append(clock() - start)
        return sum(times) / len(times)


class NoWarmUp(Mistake):
    """You leave the warm-up out. The first calls are slow for reasons of their own: make `warmup` that do not count."""

    exercise = "median_seconds"

    def median_seconds(call, wait, repeats=9, warmup=3, clock=time.perf_counter):
        times = []
        for _ in range(repeats):
            wait()
            start = clock()
            call()
            wait()
            times.append(clock() - start)
        return statistics.median(times)


class WarmUpCounted(Mistake):
    """The warm-up is among your times. Its calls do not count."""

    exercise = "median_seconds"

    def median_seconds(call, wait, repeats=9, warmup=3, clock=time.perf_counter):
        times = []
        for _ in range(warmup + repeats):
            wait()
            start = clock()
            call()
            wait()
            times.append(clock() - start)
        return statistics.median(times)


class UpperMiddle(Mistake):
    """With an even number of repeats you take the upper of the two in the middle. The median is their mean."""

    exercise = "median_seconds"

    def median_seconds(call, wait, repeats=9, warmup=3, clock=time.perf_counter):
        for _ in range(warmup):
            call()
        times = []
        for _ in range(repeats):
            wait()
            start = clock()
            call()
            wait()
            times.append(clock() - start)
        return sorted(times)[repeats // 2]


class ByTensorQuantile(Alternative):
    """Waits after every call instead, and a quantile of a tensor."""

    exercise = "median_seconds"

    def median_seconds(call, wait, repeats=9, warmup=3, clock=time.perf_counter):
        def once():
            before = clock()
            call()
            wait()
            return clock() - before

        for _ in range(warmup):
            call()
        wait()
        times = torch.tensor([once() for _ in range(repeats)], dtype=torch.float64)
        return times.quantile(0.5).item()


# --- 3 · predicted_bytes ---------------------------------------------------------------------------------------------


class BiasesForgotten(Mistake):
    """You count the weights and forget the biases, `d_out` numbers for each layer."""

    exercise = "predicted_bytes"

    def predicted_bytes(sizes, batch, optimizer, dtype=torch.float32):
        numbers = sum(a * b for a, b in itertools.pairwise(sizes))
        size = dtype.itemsize
        copies = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
        return Memory(numbers * size, numbers * size, copies * numbers * size, batch * sum(sizes[:-1]) * size)


class OutputsCounted(Mistake):
    """You count what each layer gives. A linear layer keeps its input: the first input is among them, and the last
    output is not."""

    exercise = "predicted_bytes"

    def predicted_bytes(sizes, batch, optimizer, dtype=torch.float32):
        numbers = sum(a * b + b for a, b in itertools.pairwise(sizes))
        size = dtype.itemsize
        copies = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
        return Memory(numbers * size, numbers * size, copies * numbers * size, batch * sum(sizes[1:]) * size)


class SharedStorageTwice(Mistake):
    """You add up saved tensors, but some of them share their memory: a ReLU's output is the next layer's input. Count
    storages."""

    exercise = "predicted_bytes"

    def measured_bytes(model, optimizer, x):
        saved = []
        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            y = model(x)
        parameters = list(model.parameters())
        own = {p.untyped_storage().data_ptr() for p in parameters}
        y.sum().backward()
        optimizer.step()
        return Memory(
            sum(p.nbytes for p in parameters),
            sum(p.grad.nbytes for p in parameters if p.grad is not None),
            sum(v.nbytes for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor) and v.dim()),
            sum(t.nbytes for t in saved if t.untyped_storage().data_ptr() not in own),
        )


class ReluCounted(Mistake):
    """You count a ReLU's output and the next layer's input. They are the same memory."""

    exercise = "predicted_bytes"

    def predicted_bytes(sizes, batch, optimizer, dtype=torch.float32):
        numbers = sum(a * b + b for a, b in itertools.pairwise(sizes))
        size = dtype.itemsize
        copies = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
        kept = batch * (sum(sizes[:-1]) + sum(sizes[1:-1])) * size
        return Memory(numbers * size, numbers * size, copies * numbers * size, kept)


class AlwaysFourBytes(Mistake):
    """You take four bytes for every number. It depends on the type: `dtype.itemsize`."""

    exercise = "predicted_bytes"

    def predicted_bytes(sizes, batch, optimizer, dtype=torch.float32):
        numbers = 4 * sum(a * b + b for a, b in itertools.pairwise(sizes))
        copies = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
        return Memory(numbers, numbers, copies * numbers, batch * sum(sizes[:-1]) * 4)


class AdamOnce(Mistake):
    """Adam keeps *two* numbers for each parameter: the mean of the gradients and that of their squares."""

    exercise = "predicted_bytes"

    def predicted_bytes(sizes, batch, optimizer, dtype=torch.float32):
        numbers = sum(a * b + b for a, b in itertools.pairwise(sizes))
        size = dtype.itemsize
        copies = {"sgd": 0, "momentum": 1, "adam": 1}[optimizer]
        return Memory(numbers * size, numbers * size, copies * numbers * size, batch * sum(sizes[:-1]) * size)


class ParametersAsActivations(Mistake):
    """You count weights among the activations. They are saved too, but are there anyway: leave their storages out."""

    exercise = "predicted_bytes"

    def measured_bytes(model, optimizer, x):
        saved = []
        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            y = model(x)
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
        y.sum().backward()
        optimizer.step()
        parameters = list(model.parameters())
        return Memory(
            sum(p.nbytes for p in parameters),
            sum(p.grad.nbytes for p in parameters if p.grad is not None),
            sum(v.nbytes for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor) and v.dim()),
            sum(storages.values()),
        )


class CountersCounted(Mistake):
    """You count Adam's step counters. Tensors without dimensions are left out here."""

    exercise = "predicted_bytes"

    def measured_bytes(model, optimizer, x):
        saved = []
        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            y = model(x)
        parameters = list(model.parameters())
        own = {p.untyped_storage().data_ptr() for p in parameters}
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
        y.sum().backward()
        optimizer.step()
        return Memory(
            sum(p.nbytes for p in parameters),
            sum(p.grad.nbytes for p in parameters if p.grad is not None),
            sum(v.nbytes for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)),
            sum(size for address, size in storages.items() if address not in own),
        )


class OldGradientsKept(Mistake):
    """Your step adds to the gradients that were there before. Clear them first."""

    exercise = "predicted_bytes"

    def measured_bytes(model, optimizer, x):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            y = model(x)
        parameters = list(model.parameters())
        own = {p.untyped_storage().data_ptr() for p in parameters}
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
        y.sum().backward()
        optimizer.step()
        return Memory(
            sum(p.nbytes for p in parameters),
            sum(p.grad.nbytes for p in parameters if p.grad is not None),
            sum(v.nbytes for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor) and v.dim()),
            sum(size for address, size in storages.items() if address not in own),
        )


class WholeStepRecorded(Mistake):
    """Your hooks listen to more than `model(x)`. End the `with` block after it."""

    exercise = "predicted_bytes"

    def measured_bytes(model, optimizer, x):
        saved = []
        optimizer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            y = model(x)
            y.sum().backward()
            optimizer.step()
        parameters = list(model.parameters())
        own = {p.untyped_storage().data_ptr() for p in parameters}
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
        return Memory(
            sum(p.nbytes for p in parameters),
            sum(p.grad.nbytes for p in parameters if p.grad is not None),
            sum(v.nbytes for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor) and v.dim()),
            sum(size for address, size in storages.items() if address not in own),
        )


class ByWalking(Alternative):
    """Layers walked one by one; a dict of storages filled by the hook itself, which keeps the tensors alive."""

    exercise = "predicted_bytes"

    def predicted_bytes(sizes, batch, optimizer, dtype=torch.float32):
        fixed = kept = 0
        for i in range(len(sizes) - 1):
            fixed += (sizes[i] + 1) * sizes[i + 1]
            kept += batch * sizes[i]
        each = torch.empty((), dtype=dtype).element_size()
        state = 0 if optimizer == "sgd" else fixed * each if optimizer == "momentum" else 2 * fixed * each
        return Memory(fixed * each, fixed * each, state, kept * each)

    def measured_bytes(model, optimizer, x):
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        found = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                found[storage.data_ptr()] = storage
            return tensor

        model.zero_grad(set_to_none=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = model(x)
        kept = sum(len(storage) for storage in found.values())
        y.sum().backward()
        optimizer.step()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        state = 0
        for p in model.parameters():
            for value in optimizer.state[p].values() if p in optimizer.state else ():
                if torch.is_tensor(value) and value.ndim > 0:
                    state += value.numel() * value.element_size()
        return Memory(
            sum(p.numel() * p.element_size() for p in model.parameters()),
            sum(g.numel() * g.element_size() for g in gradients),
            state,
            kept,
        )


# --- 4 · float_facts -------------------------------------------------------------------------------------------------


class BackwardUnderAutocast(Mistake):
    """Your `backward` or your step runs under autocast. Only the forward pass and the loss belong inside."""

    exercise = "float_facts"

    def train_step(model, optimizer, x, labels, dtype=None):
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        return loss.detach()


class LossOutside(Mistake):
    """Your loss is computed outside of autocast, in 16 bits. Inside, autocast lifts it to float32."""

    exercise = "float_facts"

    def train_step(model, optimizer, x, labels, dtype=None):
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
            logits = model(x)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()


class AlwaysAutocast(Mistake):
    """You compute in 16 bits even when no type is given. Without a `dtype`, autocast is off."""

    exercise = "float_facts"

    def train_step(model, optimizer, x, labels, dtype=None):
        with torch.autocast(x.device.type, dtype=dtype or torch.bfloat16):
            loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()


class LossRead(Mistake):
    """You read the loss with `.item()`, and wait for the device at every step. Return the tensor, detached."""

    exercise = "float_facts"

    def train_step(model, optimizer, x, labels, dtype=None):
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return torch.tensor(loss.item())


class LossOnTheTape(Mistake):
    """You return the loss with its graph, which then lives as long as the number. Detach it."""

    exercise = "float_facts"

    def train_step(model, optimizer, x, labels, dtype=None):
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss


class GradientsAccumulate(Mistake):
    """You never clear the gradients, so each step repeats all the former ones."""

    exercise = "float_facts"

    def train_step(model, optimizer, x, labels, dtype=None):
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
            loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()


class ModelConverted(Mistake):
    """You convert the weights themselves to 16 bits, where small updates round to nothing. Autocast casts copies."""

    exercise = "float_facts"

    def train_step(model, optimizer, x, labels, dtype=None):
        if dtype is not None:
            model, x = model.to(dtype), x.to(dtype)
        loss = F.cross_entropy(model(x).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()


class BiasOffByOne(Mistake):
    """Your bias is off by one: it is 2^(e − 1) − 1, because the exponent of all ones is taken by infinity and NaN."""

    exercise = "float_facts"

    def float_facts(exponent_bits, fraction_bits):
        bias, eps = 2 ** (exponent_bits - 1), 2.0**-fraction_bits
        return FloatFacts((2 - eps) * 2.0 ** (bias - 1), 2.0 ** (1 - bias), eps)


class SmallestSubnormal(Mistake):
    """You give the smallest number of all, a subnormal. The smallest *normal* one is 2^(1 − b)."""

    exercise = "float_facts"

    def float_facts(exponent_bits, fraction_bits):
        bias, eps = 2 ** (exponent_bits - 1) - 1, 2.0**-fraction_bits
        return FloatFacts((2 - eps) * 2.0**bias, 2.0 ** (1 - bias) * eps, eps)


class PowerOfTwo(Mistake):
    """Your largest number is a power of two; all bits of its fraction are ones, so it is nearly twice that."""

    exercise = "float_facts"

    def float_facts(exponent_bits, fraction_bits):
        bias, eps = 2 ** (exponent_bits - 1) - 1, 2.0**-fraction_bits
        return FloatFacts(2.0**bias, 2.0 ** (1 - bias), eps)


class LabelsCast(Mistake):
    """You cast every input, labels and numbers too. Only floating-point tensors are cast."""

    exercise = "float_facts"

    def autocast_rule(operation, *inputs, dtype=torch.bfloat16):
        def result(given):
            with torch.autocast(inputs[0].device.type, dtype=dtype):
                return operation(*[x.to(given) for x in inputs]).dtype

        rules = {(dtype, dtype): "lower", (torch.float32,) * 2: "float32", (torch.float32, dtype): "follows"}
        return rules.get((result(torch.float32), result(dtype)), "other")


class OneTypeOnly(Mistake):
    """You try float32 inputs only, and cannot tell "float32" from "follows". Run with both types."""

    exercise = "float_facts"

    def autocast_rule(operation, *inputs, dtype=torch.bfloat16):
        cast = [x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
        with torch.autocast(inputs[0].device.type, dtype=dtype):
            found = operation(*cast).dtype
        return {dtype: "lower", torch.float32: "follows"}.get(found, "other")


class InputsAsTheyAre(Mistake):
    """You take the inputs as they come for the first run. They may be in any type: cast them to float32."""

    exercise = "float_facts"

    def autocast_rule(operation, *inputs, dtype=torch.bfloat16):
        half = [x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
        with torch.autocast(inputs[0].device.type, dtype=dtype):
            found = operation(*inputs).dtype, operation(*half).dtype
        rules = {(dtype, dtype): "lower", (torch.float32,) * 2: "float32", (torch.float32, dtype): "follows"}
        return rules.get(found, "other")


class ByFinfo(Alternative):
    """Fractions of integers, an `if` for each rule, and a null context instead of a disabled one."""

    exercise = "float_facts"

    def float_facts(exponent_bits, fraction_bits):
        top = (1 << exponent_bits) - 2  # the largest stored exponent of a number
        bias = top // 2
        largest = (1 + (2**fraction_bits - 1) / 2**fraction_bits) * 2.0 ** (top - bias)
        return FloatFacts(largest=largest, smallest=1 / 2.0 ** (bias - 1), eps=1 / 2**fraction_bits)

    def autocast_rule(operation, *inputs, dtype=torch.bfloat16):
        found = []
        for given in (torch.float32, dtype):
            with torch.autocast(device_type=inputs[0].device.type, dtype=dtype, cache_enabled=False):
                found.append(
                    operation(*(x.to(given) if torch.is_tensor(x) and x.dtype.is_floating_point else x for x in inputs))
                )
        first, second = found[0].dtype, found[1].dtype
        if first == second:
            return "lower" if first == dtype else "float32" if first == torch.float32 else "other"
        return "follows" if (first, second) == (torch.float32, dtype) else "other"

    def train_step(model, optimizer, x, labels, dtype=None):
        from contextlib import nullcontext

        optimizer.zero_grad(set_to_none=False)
        with nullcontext() if dtype is None else torch.autocast(x.device.type, dtype):
            loss = nn.CrossEntropyLoss()(model(x), labels)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.data


# --- 5 · loss_scaler -------------------------------------------------------------------------------------------------


class UnscaledTwice(Mistake):
    """Your `step` divides by the scale again, although `unscale_` was called. Remember for which optimizer it was."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def step(self, optimizer):
            if id(optimizer) in self._stepped:
                raise RuntimeError("stepped already")
            self._bad.pop(id(optimizer), None)
            self.unscale_(optimizer)
            self._stepped.add(id(optimizer))
            return None if self._bad[id(optimizer)] else optimizer.step()


class InfinityOnly(Mistake):
    """You look for infinities and let NaN through. Both are bad: `isfinite` knows."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        @torch.no_grad()
        def unscale_(self, optimizer):
            if id(optimizer) in self._bad:
                raise RuntimeError("unscaled already")
            grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
            for grad in grads:
                grad.div_(self._scale)
            self._bad[id(optimizer)] = any(bool(grad.isinf().any()) for grad in grads)


class CountNotReset(Mistake):
    """Your count goes on after a bad step. Growth needs `growth_interval` good steps *in a row*."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def update(self):
            count = self._growth_tracker
            bad = any(self._bad.values())
            super().update()
            if bad:
                self._growth_tracker = count


class NeverSkips(Mistake):
    """You take the step although a gradient is bad; the weights are lost from there on. Skip it."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def step(self, optimizer):
            if id(optimizer) in self._stepped:
                raise RuntimeError("stepped already")
            if id(optimizer) not in self._bad:
                self.unscale_(optimizer)
            self._stepped.add(id(optimizer))
            return optimizer.step()


class ZeroedInsteadOfSkipped(Mistake):
    """You replace bad gradients by zeros and step. Momentum and moments still move: skip the step entirely."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def step(self, optimizer):
            if id(optimizer) in self._stepped:
                raise RuntimeError("stepped already")
            if id(optimizer) not in self._bad:
                self.unscale_(optimizer)
            self._stepped.add(id(optimizer))
            if self._bad[id(optimizer)]:
                for group in optimizer.param_groups:
                    for p in group["params"]:
                        if p.grad is not None:
                            p.grad.zero_()
                optimizer.step()
                return None
            return optimizer.step()


class NeverGrows(Mistake):
    """Your scale only ever falls. After `growth_interval` good steps it grows."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def update(self):
            if any(self._bad.values()):
                self._scale *= self._backoff_factor
                self._growth_tracker = 0
            else:
                self._growth_tracker += 1
            self._bad.clear()
            self._stepped.clear()


class GrowsOneLate(Mistake):
    """You grow one step late: the scale grows when the count *reaches* the interval."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def update(self):
            if any(self._bad.values()):
                self._scale *= self._backoff_factor
                self._growth_tracker = 0
            elif self._growth_tracker == self._growth_interval:
                self._scale *= self._growth_factor
                self._growth_tracker = 0
            else:
                self._growth_tracker += 1
            self._bad.clear()
            self._stepped.clear()


class OneFlagForAll(Mistake):
    """You keep one flag for all optimizers, so a bad gradient of one skips the step of the other. Keep one for each."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def step(self, optimizer):
            if id(optimizer) in self._stepped:
                raise RuntimeError("stepped already")
            if id(optimizer) not in self._bad:
                self.unscale_(optimizer)
            self._stepped.add(id(optimizer))
            return None if any(self._bad.values()) else optimizer.step()


class CountNotSaved(Mistake):
    """Your `load_state_dict` forgets the count of good steps. Take all five entries."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def load_state_dict(self, state):
            super().load_state_dict({**state, "_growth_tracker": 0})


class TwiceAllowed(Mistake):
    """A second `unscale_` divides again without a word. Raise `RuntimeError`, as the text asks."""

    exercise = "loss_scaler"

    class LossScaler(LossScaler):
        def unscale_(self, optimizer):
            if id(optimizer) not in self._stepped:
                self._bad.pop(id(optimizer), None)
            super().unscale_(optimizer)


class Wrapped(Mistake):
    """You hand the work to `torch.amp.GradScaler`. Write it yourself."""

    exercise = "loss_scaler"

    class LossScaler:
        def __init__(self, init_scale=65536.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
            self.inner = torch.amp.GradScaler(
                "cpu",
                init_scale=init_scale,
                growth_factor=growth_factor,
                backoff_factor=backoff_factor,
                growth_interval=growth_interval,
            )
            self.inner.scale(torch.ones(()))

        def __getattr__(self, name):
            return getattr(self.inner, name)


class ByTensorScale(Alternative):
    """The scale is a tensor, the stages are strings, and the gradients are replaced, not changed."""

    exercise = "loss_scaler"

    class LossScaler:
        def __init__(self, init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000):
            self.s = torch.tensor(float(init_scale))
            self.up, self.down, self.every, self.good = growth_factor, backoff_factor, growth_interval, 0
            self.stage, self.found = {}, {}

        def scale(self, loss):
            return self.s * loss

        def unscale_(self, optimizer):
            if optimizer in self.stage:
                raise RuntimeError(f"this optimizer is {self.stage[optimizer]} already")
            self.stage[optimizer] = "unscaled"
            found = False
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad = p.grad / self.s
                        found = found or not torch.isfinite(p.grad).all().item()
            self.found[optimizer] = found

        def step(self, optimizer):
            if self.stage.get(optimizer) == "stepped":
                raise RuntimeError("this optimizer is stepped already")
            if optimizer not in self.stage:
                self.unscale_(optimizer)
            self.stage[optimizer] = "stepped"
            if not self.found[optimizer]:
                return optimizer.step()

        def update(self):
            if True in self.found.values():
                self.s, self.good = self.s * self.down, 0
            elif self.good + 1 >= self.every:
                self.s, self.good = self.s * self.up, 0
            else:
                self.good += 1
            self.stage, self.found = {}, {}

        def get_scale(self):
            return float(self.s)

        def state_dict(self):
            return {
                "scale": self.get_scale(),
                "growth_factor": self.up,
                "backoff_factor": self.down,
                "growth_interval": self.every,
                "_growth_tracker": self.good,
            }

        def load_state_dict(self, state):
            self.__init__(*(state[k] for k in ("scale", "growth_factor", "backoff_factor", "growth_interval")))
            self.good = state["_growth_tracker"]


# --- 6 · operator_calls ----------------------------------------------------------------------------------------------


class DividedByTheWeights(Mistake):
    """With `weight=`, the default reduction of `cross_entropy` divides by the sum of the weights, which is not the
    batch size if a class is missing. Sum, and divide by the batch."""

    exercise = "operator_calls"

    def fast_step(model, optimizer, x, labels):
        x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3)
        logits = model(x)
        weights = len(labels) / (10 * torch.bincount(labels, minlength=10).clamp(min=1))
        loss = F.cross_entropy(logits, labels, weight=weights.to(logits.dtype))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), (logits.argmax(-1) == labels).to(logits.dtype).mean()


class StillReading(Mistake):
    """Your loop is gone, but you still read numbers with `.item()`, and wait for the device each time. Return
    tensors."""

    exercise = "operator_calls"

    def fast_step(model, optimizer, x, labels):
        x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3)
        logits = model(x)
        weights = len(labels) / (10 * torch.bincount(labels, minlength=10).clamp(min=1))
        loss = F.cross_entropy(logits, labels, weight=weights.to(logits.dtype), reduction="sum") / len(labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy = (logits.argmax(-1) == labels).to(logits.dtype).mean().item()
        return loss.detach(), torch.tensor(accuracy, dtype=logits.dtype)


class LoopKept(Mistake):
    """You removed the reads and kept the loop over the examples: some ten operators for each. Say it once for the whole
    batch."""

    exercise = "operator_calls"

    def fast_step(model, optimizer, x, labels):
        x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3)
        logits = model(x)
        weights = len(labels) / (10 * torch.bincount(labels, minlength=10).clamp(min=1))
        of_each = weights.gather(0, labels)
        losses = [F.cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)]
        loss = (torch.stack(losses) * of_each).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), (logits.argmax(-1) == labels).to(logits.dtype).mean()


class WeightsForgotten(Mistake):
    """Your loss has lost the weights of the classes. It must be the same loss, faster."""

    exercise = "operator_calls"

    def fast_step(model, optimizer, x, labels):
        x = (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3)
        logits = model(x)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), (logits.argmax(-1) == labels).to(logits.dtype).mean()


class NormalisationDropped(Mistake):
    """You took the normalisation of the input for the bottleneck. It is a handful of operators, and part of the
    result."""

    exercise = "operator_calls"

    def fast_step(model, optimizer, x, labels):
        logits = model(x)
        weights = len(labels) / (10 * torch.bincount(labels, minlength=10).clamp(min=1))
        loss = F.cross_entropy(logits, labels, weight=weights.to(logits.dtype), reduction="sum") / len(labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), (logits.argmax(-1) == labels).to(logits.dtype).mean()


class PrefixKept(Mistake):
    """Your names still begin with `aten::`, or you count events that are no operators. Keep those with the prefix, and
    cut it off."""

    exercise = "operator_calls"

    def operator_calls(call):
        with profile(activities=[ProfilerActivity.CPU]) as record:
            call()
        return {e.key: e.count for e in record.key_averages()}


class EventsNotCalls(Mistake):
    """You count kinds of operators, not how often they ran. `key_averages()` has a `count` for each."""

    exercise = "operator_calls"

    def operator_calls(call):
        with profile(activities=[ProfilerActivity.CPU]) as record:
            call()
        return {e.key.removeprefix("aten::"): 1 for e in record.key_averages() if e.key.startswith("aten::")}


class WarmedUp(Mistake):
    """You run the call more than once. A training step must be profiled once: each run changes the weights."""

    exercise = "operator_calls"

    def operator_calls(call):
        call()
        with profile(activities=[ProfilerActivity.CPU]) as record:
            call()
        return {e.key.removeprefix("aten::"): e.count for e in record.key_averages() if e.key.startswith("aten::")}


class ItemsCounted(Mistake):
    """You count `item`. A number is read in other ways too, all of which end in `_local_scalar_dense`."""

    exercise = "operator_calls"

    def reads(call):
        calls = operator_calls(call)
        return calls.get("item", 0) + calls.get("_local_scalar_dense", 0)


class ByEvents(Alternative):
    """A Counter of single events, and losses weighted by hand."""

    exercise = "operator_calls"

    def operator_calls(call):
        from collections import Counter

        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as p:
            call()
        return Counter(event.name[6:] for event in p.events() if event.name.startswith("aten::"))

    def reads(call):
        return dict(operator_calls(call)).get("_local_scalar_dense", 0)

    def fast_step(model, optimizer, x, labels):
        optimizer.zero_grad()
        mean, var = x.mean(0, keepdim=True), x.var(0, keepdim=True, correction=0)
        logits = model((x - mean) / (var.sqrt() + 1e-3))
        one_hot = (labels[:, None] == torch.arange(10, device=x.device)).to(logits.dtype)
        weights = len(labels) / (10 * one_hot.sum(0).clamp(min=1))
        loss = -(one_hot * weights * logits.log_softmax(-1)).sum() / len(labels)
        loss.backward()
        optimizer.step()
        right = torch.eq(logits.max(-1).indices, labels)
        return loss.detach(), right.sum().to(logits.dtype) / len(labels)


# --- 7 · checkpointed ------------------------------------------------------------------------------------------------


class LateBinding(Mistake):
    """The function that you hand to `checkpoint` reads a variable of your loop, which has another value by the time of
    `backward`. Hand the value over as an argument."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        n = len(blocks)
        segment = segment or max(1, math.ceil(math.sqrt(n)))
        for start in range(0, n, segment):

            def run(x):
                for block in blocks[start : start + segment]:  # noqa: B023 - the mistake
                    x = block(x)
                return x

            x = run(x) if start + segment >= n else checkpoint(run, x, use_reentrant=False)
        return x


class RandomStateLost(Mistake):
    """Your second run drops other elements than the first: the random state is not preserved. Leave
    `preserve_rng_state` on."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        n = len(blocks)
        segment = segment or max(1, math.ceil(math.sqrt(n)))
        for start in range(0, n, segment):
            part = nn.Sequential(*blocks[start : start + segment])
            if start + segment >= n:
                x = part(x)
            else:
                x = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False)
        return x


class LastOneToo(Mistake):
    """You checkpoint the last segment too. Its activations are needed at once, so running it twice saves nothing."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        n = len(blocks)
        segment = segment or max(1, math.ceil(math.sqrt(n)))
        for start in range(0, n, segment):
            x = checkpoint(nn.Sequential(*blocks[start : start + segment]), x, use_reentrant=False)
        return x


class NotCheckpointed(Mistake):
    """You run the blocks as they are, and keep everything. The segments must run under `checkpoint`."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        for block in blocks:
            x = block(x)
        return x


class Reentrant(Mistake):
    """You use the reentrant checkpoint, which gives no gradients where the input requires none. Use
    `use_reentrant=False`."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        n = len(blocks)
        segment = segment or max(1, math.ceil(math.sqrt(n)))
        for start in range(0, n, segment):
            part = nn.Sequential(*blocks[start : start + segment])
            x = part(x) if start + segment >= n else checkpoint(part, x, use_reentrant=True)
        return x


class BlockByBlock(Mistake):
    """You checkpoint each block by itself, whatever the segment. Every one's input is kept then."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        n = len(blocks)
        segment = segment or max(1, math.ceil(math.sqrt(n)))
        for i, block in enumerate(blocks):
            last = i // segment == (n - 1) // segment
            x = block(x) if last else checkpoint(block, x, use_reentrant=False)
        return x


class RestForgotten(Mistake):
    """You leave out the blocks that do not fill a segment. The last segment may be shorter."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        n = len(blocks)
        segment = min(n, segment or math.ceil(math.sqrt(n))) or 1
        for start in range(0, n - segment + 1, segment):
            part = nn.Sequential(*blocks[start : start + segment])
            x = part(x) if start + 2 * segment > n else checkpoint(part, x, use_reentrant=False)
        return x


class NumberOfSegments(Mistake):
    """You take `segment` for the number of segments. It is the number of blocks in each."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        n = len(blocks)
        size = max(1, math.ceil(n / (segment or max(1, math.ceil(math.sqrt(n))))))
        for start in range(0, n, size):
            part = nn.Sequential(*blocks[start : start + size])
            x = part(x) if start + size >= n else checkpoint(part, x, use_reentrant=False)
        return x


class RootRoundedDown(Mistake):
    """You round the root down. The default segment is the root rounded *up*."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        n = len(blocks)
        segment = segment or max(1, math.isqrt(n))
        for start in range(0, n, segment):
            part = nn.Sequential(*blocks[start : start + segment])
            x = part(x) if start + segment >= n else checkpoint(part, x, use_reentrant=False)
        return x


class BySequential(Alternative):
    """Segments as `nn.Sequential`, the last one apart."""

    exercise = "checkpointed"

    def checkpointed(blocks, x, segment=None):
        blocks = list(blocks)
        if segment is None:
            segment = next(s for s in range(1, len(blocks) + 2) if s * s >= len(blocks))
        while len(blocks) > segment:
            part, blocks = blocks[:segment], blocks[segment:]
            x = checkpoint(nn.Sequential(*part), x, use_reentrant=False, preserve_rng_state=True)
        for block in blocks:
            x = block(x)
        return x


# --- 8 · shard -------------------------------------------------------------------------------------------------------


class WholeOnly(Mistake):
    """You shard the model as one unit, which is gathered whole: nothing is saved at the peak. Shard the children
    first."""

    exercise = "shard"

    def shard(model):
        return fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),)))


class RootForgotten(Mistake):
    """You shard the children and forget the model itself: what is its own stays whole on every rank."""

    exercise = "shard"

    def shard(model):
        mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
        for child in model.children():
            fully_shard(child, mesh=mesh)
        return model


class WholeBatchEverywhere(Mistake):
    """Every rank computes on the whole batch. The result is the same, and so is the work: each takes its part of the
    rows."""

    exercise = "shard"

    def sharded_step(model, optimizer, x, y):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()


class OwnLoss(Mistake):
    """You return the loss of this rank's rows. The loss of the batch is the mean over the ranks: `all_reduce`, and
    divide."""

    exercise = "shard"

    def sharded_step(model, optimizer, x, y):
        rank, ranks = dist.get_rank(), dist.get_world_size()
        loss = (model(x.chunk(ranks)[rank]) - y.chunk(ranks)[rank]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()


class NotDivided(Mistake):
    """You add the ranks' losses up and do not divide. The mean over the ranks is the loss of the batch."""

    exercise = "shard"

    def sharded_step(model, optimizer, x, y):
        rank, ranks = dist.get_rank(), dist.get_world_size()
        loss = (model(x.chunk(ranks)[rank]) - y.chunk(ranks)[rank]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        return total.item()


class GradientsDividedAgain(Mistake):
    """You divide the loss by the number of ranks before `backward`. `fully_shard` takes the mean of the gradients over
    the ranks already."""

    exercise = "shard"

    def sharded_step(model, optimizer, x, y):
        rank, ranks = dist.get_rank(), dist.get_world_size()
        loss = (model(x.chunk(ranks)[rank]) - y.chunk(ranks)[rank]).square().mean() / ranks
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        return total.item()


class WholeCounted(Mistake):
    """You count whole parameters: a DTensor's `numel` is that of the whole. Ask for its local part."""

    exercise = "shard"

    def held_bytes(model):
        return sum(p.numel() * p.element_size() for p in model.parameters())


class LocalState(Mistake):
    """Your state holds this rank's parts. `full_tensor()` gathers the whole."""

    exercise = "shard"

    def whole_state(model):
        return {name: p.to_local().detach() for name, p in model.named_parameters()}


class OneRankGathers(Mistake):
    """Only rank 0 gathers, and it waits for the others for ever. A collective is called by all ranks."""

    exercise = "shard"

    def whole_state(model):
        if dist.get_rank() != 0:
            return {}
        return {name: p.full_tensor().detach() for name, p in model.named_parameters()}


class OldGradientsIn(Mistake):
    """You never clear the gradients, so each step repeats the former ones."""

    exercise = "shard"

    def sharded_step(model, optimizer, x, y):
        rank, ranks = dist.get_rank(), dist.get_world_size()
        loss = (model(x.chunk(ranks)[rank]) - y.chunk(ranks)[rank]).square().mean()
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        return total.item() / ranks


class BySlices(Alternative):
    """Rows by slices, losses by `all_gather`, whole values by redistribution."""

    exercise = "shard"

    def shard(model):
        mesh = dist.device_mesh.DeviceMesh("cpu", list(range(dist.get_world_size())))
        for _, child in model.named_children():
            fully_shard(child, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

    def held_bytes(model):
        return sum(p.to_local().numel() * p.to_local().element_size() for p in model.parameters())

    def sharded_step(model, optimizer, x, y):
        each = len(x) // dist.get_world_size()
        rows = slice(dist.get_rank() * each, (dist.get_rank() + 1) * each)
        model.zero_grad()
        loss = F.mse_loss(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        losses = [torch.empty(()) for _ in range(dist.get_world_size())]
        dist.all_gather(losses, loss.detach())
        return torch.stack(losses).mean().item()

    @torch.no_grad()
    def whole_state(model):
        from torch.distributed.tensor import Replicate

        return {n: p.redistribute(placements=[Replicate()]).to_local().clone() for n, p in model.named_parameters()}


# --- Side quest A · count_graphs -------------------------------------------------------------------------------------


class NoReset(Mistake):
    """What earlier compilations learnt about the function's shapes changes your count. Call `torch.compiler.reset()`
    first."""

    exercise = "count_graphs"

    def count_graphs(function, calls):
        graphs = []

        def backend(graph_module, example_inputs):
            graphs.append(graph_module)
            return graph_module.forward

        compiled = torch.compile(function, backend=backend)
        for arguments in calls:
            compiled(*arguments)
        return len(graphs)


class AfreshForEachCall(Mistake):
    """You start afresh for every call, so that each compiles again. Reset once, and compile once."""

    exercise = "count_graphs"

    def count_graphs(function, calls):
        graphs = []

        def backend(graph_module, example_inputs):
            graphs.append(graph_module)
            return graph_module.forward

        for arguments in calls:
            torch.compiler.reset()
            torch.compile(function, backend=backend)(*arguments)
        return len(graphs)


class FirstCallOnly(Mistake):
    """You compile for the first call only. Later calls may need graphs of their own."""

    exercise = "count_graphs"

    def count_graphs(function, calls):
        graphs = []

        def backend(graph_module, example_inputs):
            graphs.append(graph_module)
            return graph_module.forward

        torch.compiler.reset()
        torch.compile(function, backend=backend)(*calls[0])
        return len(graphs)


class StillAsking(Mistake):
    """Your function still asks for a number in an `if`, where the graph breaks. Say it as a formula."""

    exercise = "count_graphs"

    def rescale(x, limit):
        norm = x.norm()
        return x * (limit / norm) if norm > limit else x * 1.0


class AlwaysRescaled(Mistake):
    """You bring every `x` to the norm `limit`. What is shorter stays as it is."""

    exercise = "count_graphs"

    def rescale(x, limit):
        return x * (limit / x.norm().clamp(min=1e-12))


class ClampedElements(Mistake):
    """You limit each element. It is the norm of the whole that is limited."""

    exercise = "count_graphs"

    def rescale(x, limit):
        return x.clamp(-limit, limit)


class ByWhere(Alternative):
    """PyTorch's own counter, and `torch.where`."""

    exercise = "count_graphs"

    def count_graphs(function, calls):
        from torch._dynamo.testing import CompileCounter

        torch._dynamo.reset()
        counter = CompileCounter()
        compiled = torch.compile(function, backend=counter)
        [compiled(*arguments) for arguments in calls]
        return counter.frame_count

    def rescale(x, limit):
        norm = x.square().sum().sqrt()
        return torch.where(norm > limit, x * (limit / norm), x)


# --- Side quest B · layouts ------------------------------------------------------------------------------------------


class InputNotConverted(Mistake):
    """You convert the model and not its input. Converting a tensor gives a new one: use what `.to` returns."""

    exercise = "layouts"

    def layouts(model, x):
        found, handles = {}, []
        model.to(memory_format=torch.channels_last)
        x.to(memory_format=torch.channels_last)
        for name, module in model.named_modules():
            if not list(module.children()):

                def note(m, i, out, name=name):
                    if out.dim() == 4:
                        found[name] = out.is_contiguous(memory_format=torch.channels_last)

                handles.append(module.register_forward_hook(note))
        with torch.no_grad():
            model(x)
        for handle in handles:
            handle.remove()
        return found


class PlainContiguity(Mistake):
    """You ask whether outputs are contiguous in the ordinary way. Ask with `memory_format=torch.channels_last`."""

    exercise = "layouts"

    def layouts(model, x):
        found, handles = {}, []
        model.to(memory_format=torch.channels_last)
        for name, module in model.named_modules():
            if not list(module.children()):

                def note(m, i, out, name=name):
                    if out.dim() == 4:
                        found[name] = out.is_contiguous()

                handles.append(module.register_forward_hook(note))
        with torch.no_grad():
            model(x.to(memory_format=torch.channels_last))
        for handle in handles:
            handle.remove()
        return found


class HooksStay(Mistake):
    """Your hooks stay on the model. Remove them when you are done."""

    exercise = "layouts"

    def layouts(model, x):
        found = {}
        model.to(memory_format=torch.channels_last)
        for name, module in model.named_modules():
            if not list(module.children()):

                def note(m, i, out, name=name):
                    if out.dim() == 4:
                        found[name] = out.is_contiguous(memory_format=torch.channels_last)

                module.register_forward_hook(note)
        with torch.no_grad():
            model(x.to(memory_format=torch.channels_last))
        return found


class ByStrides(Alternative):
    """The order of strides, hooks removed by an exit stack."""

    exercise = "layouts"

    def layouts(model, x):
        from contextlib import ExitStack

        found = {}

        def hook_for(name):
            def note(module, inputs, output):
                if output.ndim == 4:
                    n, c, h, w = output.shape
                    found[name] = output.stride() == (h * w * c, 1, w * c, c)

            return note

        model = model.to(memory_format=torch.channels_last)
        with ExitStack() as stack, torch.no_grad():
            for name, module in model.named_modules():
                if next(module.children(), None) is None:
                    stack.callback(module.register_forward_hook(hook_for(name)).remove)
            model(x.contiguous(memory_format=torch.channels_last))
        return found


# --- Side quest C · matmul_work --------------------------------------------------------------------------------------


class MultiplicationsOnly(Mistake):
    """You count the multiplications. Each comes with an addition."""

    exercise = "matmul_work"

    def matmul_work(m, k, n, itemsize):
        return m * k * n, (m * k + k * n + m * n) * itemsize


class OutputNotWritten(Mistake):
    """You count what is read. The result is written, and crosses the memory too."""

    exercise = "matmul_work"

    def matmul_work(m, k, n, itemsize):
        return 2 * m * k * n, (m * k + k * n) * itemsize

    def add_work(count, itemsize):
        return count, 2 * count * itemsize


class HigherOfTheTwo(Mistake):
    """You take the higher of the two limits. Both hold, so the lower one is the roof."""

    exercise = "matmul_work"

    def attainable(intensity, peak, bandwidth):
        return max(peak, bandwidth * intensity)


class ByRidge(Alternative):
    """A ridge, and an `if` on either side of it."""

    exercise = "matmul_work"

    def matmul_work(m, k, n, itemsize):
        numbers = m * (k + n) + k * n
        return m * n * (k + k), numbers * itemsize

    def add_work(count, itemsize):
        return count, sum(count * itemsize for _ in range(3))

    def attainable(intensity, peak, bandwidth):
        ridge = peak / bandwidth
        return peak if intensity >= ridge else peak * intensity / ridge

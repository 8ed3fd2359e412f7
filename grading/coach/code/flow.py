"""A little data flow: where a name gets its value, and whether that is a tensor, a module, a loader or none of these.

Guesses are made only where people agree on names (`model`, `loader`, `loss_fn`); what is not known has no kind.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from grading.coach.code.syntax import (
    COMPREHENSIONS,
    Syntax,
    argument,
    dotted,
    is_constant,
    method,
    receiver,
    target_names,
)

TENSOR, MODULE, LOSS, LOADER, OPTIMIZER, NUMPY, OTHER = (
    "tensor", "module", "loss", "loader", "optimizer", "numpy", "other",
)  # fmt: skip
"""A `loss` is a module or function that makes a scalar of outputs and targets; `other` is known to be none of these."""

MODELS = re.compile(
    r"(\w+_)?(model|net|network|encoder|decoder|classifier|backbone|student|teacher|discriminator|critic|policy|cnn|mlp|rnn|"
    r"lstm|gru|resnet|transformer|autoencoder|vae|unet|clf)"
)
LOSSES = re.compile(r"criterion|loss_fn|loss_func|loss_function|loss_f")
LOADERS = re.compile(r"\w*loader|(\w+_)?(batches|dl)")
OPTIMIZERS = re.compile(r"(\w+_)?(optimizer|optimiser|optim|opt)(_\w)?")
TENSORS = re.compile(
    r"x|xb|inputs?|images?|logits|outputs?|preds?|predictions|loss|probs|probabilities|tokens|embeddings|hidden|"
    r"scores|features|q|k|v|query|key|value|targets?|labels?"
)
NO_TENSORS = {
    "manual_seed", "seed", "device", "Generator", "no_grad", "enable_grad", "inference_mode", "set_grad_enabled",
    "is_tensor", "is_grad_enabled", "load", "save", "compile", "get_rng_state", "set_rng_state", "Size", "dtype",
    "finfo", "iinfo", "numel", "is_floating_point", "allclose", "equal", "set_default_dtype", "get_default_dtype",
    "typename", "set_num_threads", "get_num_threads", "autocast", "split", "chunk", "unbind", "topk", "sort", "vmap",
    "meshgrid", "unique", "broadcast_tensors", "result_type", "promote_types", "are_deterministic_algorithms_enabled",
}  # fmt: skip
NO_TENSOR_METHODS = {
    "item", "tolist", "numpy", "size", "dim", "ndimension", "numel", "nelement", "element_size", "data_ptr", "stride",
    "is_contiguous", "backward", "split", "chunk", "unbind", "topk", "sort", "storage", "untyped_storage", "type",
    "register_hook", "is_floating_point", "get_device", "storage_offset", "equal", "allclose", "unique", "aminmax",
}  # fmt: skip
TENSOR_ATTRIBUTES = {"T", "mT", "H", "grad", "data", "real", "imag"}
CHUNKS = {"split", "chunk", "unbind", "tensor_split"}
TENSORS_ALONE = {
    "unsqueeze", "softmax", "log_softmax", "masked_fill", "permute", "detach", "requires_grad_", "backward", "matmul", "size",
    "view", "exp", "argmax", "flatten", "abs", "square", "sqrt", "relu", "sigmoid", "tanh", "new_zeros", "clamp",
}  # fmt: skip
"""Methods whose receiver is taken for a tensor, unless NumPy is about."""
FROM_NUMBERS = {
    "tensor", "as_tensor", "from_numpy", "zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "rand", "randn",
    "randint", "randperm", "eye", "cat", "stack", "concat", "hstack", "vstack",
}  # fmt: skip
"""Functions whose first argument is no tensor, or a list of them."""
WRAPPERS = {"tqdm", "track", "islice", "list", "reversed", "sorted", "iter"}
"""Iterating over one of these is iterating over its argument."""


@dataclass(frozen=True)
class Binding:
    """One place where a name gets a value: `value`, or what a loop over `looped` gives, `part` of it if it is unpacked."""

    name: cst.Name
    value: cst.BaseExpression | None = None
    looped: cst.BaseExpression | None = None
    part: int | None = None
    param: cst.Param | None = None


class Code(Syntax):
    """A module of code and what is known about its names."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._kinds: dict[cst.CSTNode, str | None] = {}
        self._bindings: dict[cst.CSTNode, dict[str, list[Binding]]] = {}

    # Names -------------------------------------------------------------------------------------------------------

    def bindings(self, scope: cst.FunctionDef | cst.Module) -> dict[str, list[Binding]]:
        """Every name that `scope` itself binds, with all places where it does, in order."""
        if scope not in self._bindings:
            found: dict[str, list[Binding]] = {}
            for binding in self._all_bindings(scope):
                found.setdefault(binding.name.value, []).append(binding)
            self._bindings[scope] = found
        return self._bindings[scope]

    def _all_bindings(self, scope: cst.FunctionDef | cst.Module) -> Iterator[Binding]:
        if isinstance(scope, cst.FunctionDef):
            yield from (Binding(param.name, param=param) for param in parameters(scope))
        for node in self.any_of((cst.Assign, cst.AnnAssign, cst.NamedExpr, cst.For, cst.CompFor, cst.WithItem), scope):
            if self.scope(node) is not scope or self.is_class_level(node):
                continue
            match node:
                case cst.Assign(targets=targets, value=value):
                    for target in targets:
                        yield from _bound(target.target, value=value)
                case cst.AnnAssign(target=target, value=value) | cst.NamedExpr(target=target, value=value):
                    yield from _bound(target, value=value)
                case cst.For(target=target, iter=iterated) | cst.CompFor(target=target, iter=iterated):
                    yield from _bound(target, looped=iterated)
                case cst.WithItem(item=item, asname=cst.AsName(name=name)):
                    yield from _bound(name, value=item)

    def binding(self, name: cst.Name) -> Binding | None:
        """The place that gave `name` its value where it is used: the last one before, or in a loop the last of all."""
        for scope in self.scopes(name):
            places = self.bindings(scope).get(name.value)
            if not places:
                continue
            if scope is not self.scope(name):
                return places[-1]
            earlier = [b for b in places if b.name is not name and self.before(b.name, name) and self._done(b, name)]
            return (earlier or places)[-1]
        return None

    def _done(self, binding: Binding, name: cst.Name) -> bool:
        """Whether the assignment is over where `name` stands: in `x = f(x)` it is not, in a loop's body it is."""
        if binding.value is None:
            return True
        return not self.holds(binding.value, name)

    def origins(self, node: cst.BaseExpression, depth: int = 6) -> list[cst.BaseExpression]:
        """The expressions that `node` may have its value from; itself if it is no name, or one from outside."""
        if depth == 0:
            return []
        if isinstance(node, cst.Name):
            binding = self.binding(node)
            if binding is None or binding.part is not None or binding.looped is not None:
                return [node]
            if binding.param is not None:
                given = self._arguments(binding.param)
                return [o for value in given for o in self.origins(value, depth - 1)] or [node]
            return self.origins(binding.value, depth - 1) if binding.value is not None else [node]
        if dotted(node).startswith("self.") and dotted(node).count(".") == 1:
            values = self.attributes(self.class_of(node)).get(node.attr.value, [])
            return [o for value in values for o in self.origins(value, depth - 1)] or [node]
        return [node]

    def _arguments(self, param: cst.Param) -> list[cst.BaseExpression]:
        """What visible callers hand in for `param`."""
        function = next(a for a in self.ancestors(param) if isinstance(a, cst.FunctionDef | cst.Lambda))
        if isinstance(function, cst.Lambda):
            return []
        names = [p.name.value for p in parameters(function)]
        position = names.index(param.name.value) - (names[:1] == ["self"])
        given = [argument(call, position, param.name.value) for call in self.callers(function)]
        return [value for value in given if value is not None]

    # Functions and classes ---------------------------------------------------------------------------------------

    @cached_property
    def functions(self) -> dict[str, list[cst.FunctionDef]]:
        """All functions and methods, by name."""
        found: dict[str, list[cst.FunctionDef]] = {}
        for function in self.all(cst.FunctionDef):
            found.setdefault(function.name.value, []).append(function)
        return found

    @cached_property
    def classes(self) -> dict[str, cst.ClassDef]:
        """All classes, by name; of several of one name the last."""
        return {node.name.value: node for node in self.all(cst.ClassDef)}

    @cached_property
    def _calls_by_name(self) -> dict[str, list[cst.Call]]:
        found: dict[str, list[cst.Call]] = {}
        for call in self.calls():
            found.setdefault(dotted(call.func) if isinstance(call.func, cst.Name) else method(call), []).append(call)
        return found

    def callers(self, function: cst.FunctionDef) -> list[cst.Call]:
        """The visible calls of `function` by its name; those of `forward` go by other names."""
        calls = self._calls_by_name.get(function.name.value, [])
        return [call for call in calls if isinstance(call.func, cst.Attribute) == self.is_method(function)]

    def called(self, call: cst.Call) -> list[cst.FunctionDef]:
        """The visible functions that `call` may run."""
        name = dotted(call.func)
        if not name or (name.count(".") and self.qualified(call.func).split(".")[0] in {"torch", "numpy", "random"}):
            return []
        functions = self.functions.get(name.split(".")[-1], [])
        return [f for f in functions if self.is_method(f) == ("." in name)]

    def is_method(self, function: cst.FunctionDef) -> bool:
        """Whether it stands in a class."""
        return self.is_class_level(function)

    def reaches(self, node: cst.CSTNode, has: Callable[[cst.CSTNode], bool], depth: int = 3) -> bool:
        """Whether `has` is true of `node` or of a visible function that is called in it."""
        if has(node):
            return True
        functions = {f for call in self.calls(node) for f in self.called(call)} if depth else set()
        return any(self.reaches(function, has, depth - 1) for function in functions if not self.holds(function, node))

    def bases(self, node: cst.ClassDef) -> list[str]:
        """The qualified names of its base classes."""
        return [self.qualified(base.value) for base in node.bases]

    def is_module(self, node: cst.ClassDef | None, depth: int = 5) -> bool:
        """Whether the class derives from `nn.Module`, as far as one can see."""
        if node is None or depth == 0:
            return False
        return any(
            base.startswith("torch.nn.")
            or (self.classes.get(base) is not node and self.is_module(self.classes.get(base), depth - 1))
            for base in self.bases(node)
        )

    def attributes(self, node: cst.ClassDef | None) -> dict[str, list[cst.BaseExpression]]:
        """What the methods of a class assign to attributes of `self`."""
        found: dict[str, list[cst.BaseExpression]] = {}
        for assign in self.all(cst.Assign, node) if node is not None else ():
            for target in assign.targets:
                for left, right in pairs(target.target, assign.value):
                    if dotted(left).startswith("self.") and dotted(left).count(".") == 1:
                        found.setdefault(left.attr.value, []).append(right)
        return found

    def method(self, node: cst.ClassDef | None, name: str) -> cst.FunctionDef | None:
        """The method of a class by name, not of its bases."""
        body = node.body.body if node is not None else ()
        return next((f for f in body if isinstance(f, cst.FunctionDef) and f.name.value == name), None)

    def is_stub(self, node: cst.CSTNode) -> bool:
        """Whether something in `node` is still to be written."""
        raised = (s.exc.func if isinstance(s.exc, cst.Call) else s.exc for s in self.all(cst.Raise, node))
        return any(dotted(error) == "NotImplementedError" for error in raised)

    @cached_property
    def stub_lines(self) -> set[int]:
        """The lines of functions that are still to be written."""
        functions = [f for f in self.all(cst.FunctionDef) if self.is_stub(f)]
        return {n for f in functions for n in range(self.line(f), self.last_line(f) + 1)}

    def is_tried(self, line: int) -> bool:
        """Whether a line stands in a `try`."""
        return any(self.line(node) < line <= self.last_line(node) for node in self.all(cst.Try))

    # Kinds -------------------------------------------------------------------------------------------------------

    def kind(self, node: cst.CSTNode | None) -> str | None:
        """What `node` gives: one of the kinds above, None if that is not known."""
        if node is None:
            return None
        if node not in self._kinds:
            self._kinds[node] = None  # while it is being found out: a loop may lead back here
            self._kinds[node] = self._kind(node)
        return self._kinds[node]

    def is_tensor(self, node: cst.CSTNode | None) -> bool:
        """Whether `node` is a tensor by more than its name: people call lists of tensors `outputs`, too."""
        if self.kind(node) != TENSOR:
            return False
        if isinstance(node, cst.Call) and self.kind(node.func) == MODULE:
            return False  # it may be a tuple of them
        if not isinstance(node, cst.Name):
            return True
        binding = self.binding(node)
        if binding is not None and (binding.value is not None or binding.looped is not None):
            return binding.part is not None or binding.looped is not None or self.is_tensor(binding.value)
        if binding is not None and binding.param.annotation is not None:
            return True
        scope = self.scope(node)
        if isinstance(scope, cst.FunctionDef) and scope.name.value == "forward":
            return True
        of = (
            a for a in self.all(cst.Attribute, scope) if isinstance(a.value, cst.Name) and a.value.value == node.value
        )
        if any(a.attr.value in {"shape", "size", "dim", "ndim", "device", "dtype", "sum", "mean", "view"} for a in of):
            return True
        return binding is not None and isinstance(scope, cst.FunctionDef) and self._used_as_tensor(scope, binding.param)

    def _kind(self, node: cst.CSTNode) -> str | None:
        match node:
            case cst.Name():
                return self._kind_of_name(node)
            case cst.Attribute():
                return self._kind_of_attribute(node)
            case cst.Call():
                return self._kind_of_call(node)
            case cst.BinaryOperation(left=a, right=b):
                kinds = {self.kind(a), self.kind(b)}
                return next((k for k in (TENSOR, NUMPY) if k in kinds), OTHER if kinds == {OTHER} else None)
            case cst.Comparison(left=a, comparisons=rest):
                plain = all(not isinstance(c.operator, cst.Is | cst.IsNot | cst.In | cst.NotIn) for c in rest)
                return (
                    TENSOR if plain and TENSOR in {self.kind(n) for n in (a, *(c.comparator for c in rest))} else OTHER
                )
            case cst.UnaryOperation(expression=a) | cst.Await(expression=a):
                return self.kind(a)
            case cst.Subscript(value=a):
                return self.kind(a) if self.kind(a) in {TENSOR, NUMPY} else self._kind_of_item(node)
            case cst.IfExp(body=a, orelse=b):
                return self.kind(a) if self.kind(a) == self.kind(b) else None
            case cst.Integer() | cst.Float() | cst.SimpleString() | cst.FormattedString() | cst.List() | cst.Dict():
                return OTHER
            case cst.Tuple() | cst.ListComp() | cst.GeneratorExp() | cst.Set() | cst.Lambda():
                return OTHER
        return None

    def _kind_of_name(self, node: cst.Name) -> str | None:
        binding = self.binding(node)
        if binding is None:
            return None if node.value in self.imports else conventional(node.value)
        if binding.param is not None:
            return self.kind_of_parameter(binding.param)
        if binding.looped is not None:
            return self._kind_of_looped(binding)
        if binding.part is not None:
            return self._kind_of_part(binding)
        found = self.kind(binding.value)
        return found or (conventional(node.value) if not isinstance(binding.value, cst.Name | cst.Tuple) else None)

    def kind_of_parameter(self, param: cst.Param) -> str | None:
        if param.annotation is not None:
            return annotated(self.text(param.annotation.annotation))
        function = next(a for a in self.ancestors(param) if isinstance(a, cst.FunctionDef | cst.Lambda))
        if isinstance(function, cst.FunctionDef):
            if self._used_by_numpy(function, param.name.value):
                return None
            if (
                param.default is None
                and conventional(param.name.value) is None
                and self._used_as_tensor(function, param)
            ):
                return TENSOR
            owner = self.class_of(function)
            if function.name.value == "forward" and self.is_module(owner) and param.default is None:
                return TENSOR if param.name.value != "self" else None
        if param.default is not None and not is_constant(param.default, "None"):
            return self.kind(param.default)
        return conventional(param.name.value)

    def _used_by_numpy(self, function: cst.FunctionDef, name: str) -> bool:
        return any(
            self.qualified(call.func).startswith("numpy.") and any(is_constant(a.value, name) for a in call.args)
            for call in self.calls(function)
        )

    def _used_as_tensor(self, function: cst.FunctionDef, param: cst.Param) -> bool:
        """Whether a function does with its parameter what only tensors can do, or hands it to PyTorch's own functions."""
        for call in self.calls(function):
            if is_constant(receiver(call), param.name.value) and method(call) in TENSORS_ALONE:
                return True
            name = self.qualified(call.func)
            computes = name.startswith("torch.nn.functional.") or _kind_of_torch(name) == TENSOR
            if computes and name.split(".")[-1] not in FROM_NUMBERS and call.args:
                if is_constant(call.args[0].value, param.name.value):
                    return True
        uses_torch = any(self.qualified(call.func).startswith("torch.") for call in self.calls(function))
        return uses_torch and any(
            is_constant(a.value, param.name.value) and a.attr.value in {"shape", "ndim", "device"}
            for a in self.all(cst.Attribute, function)
        )

    def _kind_of_looped(self, binding: Binding) -> str | None:
        iterated, part = binding.looped, binding.part
        while isinstance(iterated, cst.Call) and dotted(iterated.func).split(".")[-1] in {*WRAPPERS, "enumerate"}:
            if dotted(iterated.func) == "enumerate":
                if part == 0:
                    return OTHER
                part = None
            iterated = argument(iterated, 0) or cst.Name("None")
        match iterated:
            case cst.Call(func=cst.Name(value="range")):
                return OTHER
            case cst.Call(func=cst.Name(value="zip")):
                looped = argument(iterated, part) if part is not None else None
                return self._kind_of_looped(Binding(binding.name, looped=looped)) if looped is not None else None
            case cst.Call() if method(iterated) in {"parameters", "buffers"} | CHUNKS:
                return TENSOR
            case cst.Call() if method(iterated) in {"named_parameters", "named_buffers", "items"}:
                return TENSOR if part == 1 and method(iterated) != "items" else None
            case cst.Call() if method(iterated) in {"modules", "children"}:
                return MODULE
            case cst.Subscript() if "params" in self.text(iterated):
                return TENSOR
            case cst.List(elements=elements) | cst.Tuple(elements=elements):
                kinds = {self.kind(element.value) for element in elements}
                return kinds.pop() if len(kinds) == 1 else None
        kind = self.kind(iterated)
        if kind == LOADER:
            return TENSOR if part is not None or TENSORS.fullmatch(binding.name.value) else None
        return kind if kind in {TENSOR, NUMPY} and part is None else None

    def _kind_of_part(self, binding: Binding) -> str | None:
        """Of one of several names that are bound at once."""
        match binding.value:
            case cst.Tuple(elements=elements) if len(elements) > binding.part:
                return self.kind(elements[binding.part].value)
            case cst.Attribute(attr=cst.Name(value="shape")):
                return OTHER
            case cst.Call() if method(binding.value) in {"size", "item", "tolist", "numpy"}:
                return OTHER
            case cst.Call() if method(binding.value) in CHUNKS | {"max", "min", "sort", "topk"}:
                return self.kind(receiver(binding.value))
            case cst.Call(func=cst.Name(value="next")):
                return TENSOR
        return conventional(binding.name.value) if not isinstance(binding.value, cst.Tuple) else None

    def _kind_of_attribute(self, node: cst.Attribute) -> str | None:
        name = node.attr.value
        if name in {"shape", "dtype", "device", "ndim", "requires_grad", "is_leaf", "training", "dataset"}:
            return OTHER
        if dotted(node.value) == "self":
            values = self.attributes(self.class_of(node)).get(name, [])
            if values:
                kinds = {self.kind(value) for value in values}
                return kinds.pop() if len(kinds) == 1 else None
            return conventional(name) if conventional(name) in {MODULE, LOSS, LOADER, OPTIMIZER} else None
        if name in TENSOR_ATTRIBUTES and self.kind(node.value) == TENSOR:
            return TENSOR
        if name in {"weight", "bias"} and self.kind(node.value) in {MODULE, None}:
            return TENSOR
        return MODULE if self.kind(node.value) == MODULE else None

    def _kind_of_item(self, node: cst.Subscript) -> str | None:
        """Of an element of something that is no tensor: of a batch, or of a list that is named after what it holds."""
        if isinstance(node.value, cst.Name) and (binding := self.binding(node.value)) and binding.looped is not None:
            return TENSOR if self.kind(binding.looped) == LOADER else None
        return None

    def _kind_of_call(self, call: cst.Call) -> str | None:
        name = self.qualified(call.func)
        last = name.split(".")[-1]
        if name.startswith("torch.") and not name.startswith("torch.Tensor."):
            return _kind_of_torch(name)
        if name.startswith("numpy."):
            return NUMPY
        if name in self.classes:
            return MODULE if self.is_module(self.classes[name]) else OTHER
        if name in {"len", "int", "float", "str", "bool", "round", "range", "isinstance", "print"}:
            return OTHER
        if name in {"sum", "max", "min", "abs"} and call.args:
            return self._kind_of_reduced(call.args[0].value)
        if last in {"item", "tolist", "numpy"} and isinstance(call.func, cst.Attribute):
            return NUMPY if last == "numpy" else OTHER
        if isinstance(call.func, cst.Attribute):
            return self._kind_of_method(call)
        return self._kind_of_result(call, self.kind(call.func))

    def _kind_of_reduced(self, node: cst.BaseExpression) -> str | None:
        if isinstance(node, COMPREHENSIONS[:3]):
            return self.kind(node.elt) if self.kind(node.elt) == TENSOR else None
        return self.kind(node) if self.kind(node) == TENSOR else None

    def _kind_of_method(self, call: cst.Call) -> str | None:
        name, of = method(call), self.kind(receiver(call))
        if of == TENSOR:
            return (
                OTHER
                if name in NO_TENSOR_METHODS - CHUNKS - {"topk", "sort", "unique", "type"}
                else (TENSOR if name not in NO_TENSOR_METHODS else None)
            )
        if of == MODULE:
            return (
                MODULE
                if name in {"to", "eval", "train", "cuda", "cpu", "double", "float", "half"}
                else (
                    self._kind_of_result(call, self.kind(call.func)) if dotted(call.func).startswith("self.") else None
                )
            )
        if of == NUMPY:
            return NUMPY
        return self._kind_of_result(call, self.kind(call.func))

    def _kind_of_result(self, call: cst.Call, of: str | None) -> str | None:
        """Of calling what is of kind `of`."""
        if of in {MODULE, LOSS}:
            return TENSOR
        for function in self.called(call):
            if function.returns is not None:
                return annotated(self.text(function.returns.annotation))
            returned = {self.kind(r.value) for r in self.own(cst.Return, function) if r.value is not None}
            return returned.pop() if len(returned) == 1 else None
        return None


def _kind_of_torch(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "torch" or len(parts) == 1:
        return None
    last = parts[-1]
    if name.startswith("torch.nn.functional."):
        return TENSOR
    if name.startswith("torch.nn.") and last[0].isupper():
        return LOSS if last.endswith("Loss") else TENSOR if last in {"Parameter", "Buffer"} else MODULE
    if name.startswith("torch.optim.") and last[0].isupper():
        return OPTIMIZER if "lr_scheduler" not in name else OTHER
    if name == "torch.utils.data.DataLoader":
        return LOADER
    if len(parts) == 2:
        return (None if last in CHUNKS | {"topk", "sort", "unique"} else OTHER) if last in NO_TENSORS else TENSOR
    if parts[1] in {"linalg", "special", "fft"}:
        return TENSOR
    return None


def _bound(
    target: cst.CSTNode, value: cst.BaseExpression | None = None, looped: cst.BaseExpression | None = None
) -> Iterator[Binding]:
    if isinstance(target, cst.Name):
        yield Binding(target, value, looped)
    elif isinstance(target, cst.Tuple | cst.List):
        for i, element in enumerate(target.elements):
            for name in target_names(element.value):
                yield Binding(name, value, looped, part=i)


def pairs(target: cst.CSTNode, value: cst.BaseExpression) -> Iterator[tuple[cst.CSTNode, cst.BaseExpression]]:
    """What is assigned to what, `a, b = c, d` taken apart."""
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple) and len(target.elements) == len(value.elements):
        for left, right in zip(target.elements, value.elements, strict=True):
            yield from pairs(left.value, right.value)
    else:
        yield target, value


def parameters(function: cst.FunctionDef | cst.Lambda) -> list[cst.Param]:
    """All parameters of a function that have a name of their own, in order."""
    params = function.params
    return [*params.posonly_params, *params.params, *params.kwonly_params]


def annotated(text: str) -> str:
    """The kind that an annotation promises."""
    plain = text.strip("\"'").replace("torch.", "").replace(" | None", "")
    if plain in {"Tensor", "nn.Parameter", "Parameter", "Optional[Tensor]"}:
        return TENSOR
    if plain.startswith("nn.") or plain in {"Module"}:
        return MODULE
    if plain.startswith("DataLoader"):
        return LOADER
    if plain.endswith("Optimizer"):
        return OPTIMIZER
    if plain.startswith("Callable") and plain.endswith("Tensor]"):
        return LOSS
    return NUMPY if "ndarray" in plain else OTHER


def conventional(name: str) -> str | None:
    """What people mean by a name."""
    patterns = {MODULE: MODELS, LOSS: LOSSES, LOADER: LOADERS, OPTIMIZER: OPTIMIZERS, TENSOR: TENSORS}
    return next((kind for kind, pattern in patterns.items() if pattern.fullmatch(name.lower())), None)

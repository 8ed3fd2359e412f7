"""What a name or an expression gives: a tensor, a module, a loader, or none of these.

Guesses are made only where people agree on names (`model`, `loader`, `loss_fn`); what is not known has no kind.
"""

import re

import libcst as cst

from grading.coach.code.names import Binding, Names
from grading.coach.code.syntax import COMPREHENSIONS, argument, dotted, is_constant, method, receiver

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
    "unsqueeze", "softmax", "log_softmax", "masked_fill", "permute", "detach", "requires_grad_", "backward", "matmul",
    "size", "view", "exp", "argmax", "flatten", "abs", "square", "sqrt", "relu", "sigmoid", "tanh", "new_zeros",
    "clamp",
}  # fmt: skip
"""Methods whose receiver is taken for a tensor, unless NumPy is about."""
FROM_NUMBERS = {
    "tensor", "as_tensor", "from_numpy", "zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "rand",
    "randn", "randint", "randperm", "eye", "cat", "stack", "concat", "hstack", "vstack",
}  # fmt: skip
"""Functions whose first argument is no tensor, or a list of them."""
WRAPPERS = {"tqdm", "track", "islice", "list", "reversed", "sorted", "iter"}
"""Iterating over one of these is iterating over its argument."""


class Code(Names):
    """A module of code and what is known about it: all that a rule needs."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._kinds: dict[cst.CSTNode, str | None] = {}

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
        """What a parameter is: by its annotation, what is done with it, its default or its name."""
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
        """Whether a function does with its parameter what only tensors can do, or hands it to PyTorch's functions."""
        for call in self.calls(function):
            if is_constant(receiver(call), param.name.value) and method(call) in TENSORS_ALONE:
                return True
            name = self.qualified(call.func)
            computes = name.startswith("torch.nn.functional.") or _kind_of_torch(name) == TENSOR
            takes_tensor = computes and name.split(".")[-1] not in FROM_NUMBERS
            if takes_tensor and is_constant(argument(call, 0), param.name.value):
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

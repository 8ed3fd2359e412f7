"""Noticing tampering: what the checks rely on was replaced, or a submission looked where only graders look.

Both are signs, not walls: Python lets code in the same process do anything. The README names what stays possible.
"""

import sys
import sysconfig
from _thread import get_ident
from collections.abc import Callable, Mapping
from functools import cache
from types import FrameType, FunctionType, ModuleType
from typing import Any

from grading.units import LABKIT, PACKAGE

WATCHED = (
    "builtins", "math", "random", "inspect", "json", "operator", "functools", "contextlib",
    "torch", "torch._C._nn", "torch._VF", "torch._tensor", "torch.functional", "torch.nn.functional", "torch.linalg",
    "torch.special", "torch.autograd", "torch.autograd.grad_mode", "torch.testing", "torch.testing._comparison",
    "torch.overrides", "torch.random", "torch.utils._python_dispatch", "torch.utils._pytree", "numpy", "numpy.random",
)  # fmt: skip
"""Modules that checks call, beside every one of pytest's and our own."""
WATCHED_PACKAGES = ("grading", "pytest", "_pytest", "pluggy")
WATCHED_CLASSES = ("torch.Tensor", "torch.Generator", "torch._C.TensorBase", "torch.nn.Module", "torch.nn.Parameter")
REPLACEABLE = {
    # What Python and its libraries set themselves while they are used.
    "builtins._", "builtins.__", "builtins.___", "builtins.display", "builtins.get_ipython",
}  # fmt: skip
PRIVATE_EVENTS = {
    "gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._getframe", "sys._current_frames",
    "sys._current_exceptions", "sys.settrace", "sys.setprofile", "sys.addaudithook", "object.__setattr__",
    "object.__getattr__",
    "ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle", "ctypes.string_at", "ctypes.wstring_at", "ctypes.cdata",
    "ctypes.call_function", "ctypes.addressof", "ctypes.PyObj_FromPtr", "code.__new__",
}  # fmt: skip
FRAME_ATTRIBUTES = {"tb_frame", "gi_frame", "cr_frame", "ag_frame"}
TRANSPARENT = ("inspect", "traceback", "ctypes", "logging")
"""Modules that only do what they are asked to: who asked is behind them."""


def guard(tell: Callable[..., None], checkers: str) -> tuple[Callable[[], None], Callable[[], list[str]]]:
    """Begin to notice. Returns what starts the watch for peeking, and what lists replaced names and puts them back.

    Peeking is told the moment before it happens; nothing can take that back.
    """
    originals = snapshot()
    places = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    # Not the folder around them: it has the units, in whose place a submission runs.
    trusted = (*places, str(PACKAGE), str(LABKIT), checkers, "<frozen ")
    told: set[str] = set()
    busy: set[int] = set()
    get_frame, thread = sys._getframe, get_ident

    def hook(event: str, details: tuple, events: frozenset = frozenset(PRIVATE_EVENTS)) -> None:
        if event not in events or event in told or thread() in busy:
            return
        busy.add(thread())  # what happens in here is our own doing
        try:
            if _is_peeking(event, details, get_frame(1), trusted):
                told.add(event)
                tell("flag", f"its code used {event}")
        finally:
            busy.discard(thread())

    def watch() -> None:
        sys.addaudithook(hook)

    def replaced() -> list[str]:
        names = []
        for owner, now, name, value, code in originals:
            if now.get(name) is value and (code is None or value.__code__ is code):
                continue
            label = f"{owner.__name__}.{name}"
            if label in REPLACEABLE:
                continue
            names.append(label)
            if code is not None and value.__code__ is not code:
                value.__code__ = code
            if now.get(name) is not value:
                setattr(owner, name, value)
        return names

    return watch, replaced


def _is_peeking(event: str, details: tuple, frame: FrameType | None, trusted: tuple[str, ...]) -> bool:
    """Whether the submission's own code asks for what only graders and libraries need."""
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in TRANSPARENT:
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(trusted):
        return False
    match event:
        case "object.__setattr__":
            return _is_ours(details[0], trusted)
        case "object.__getattr__":
            return details[1] in FRAME_ATTRIBUTES
    return True


def _is_ours(function: Any, trusted: tuple[str, ...]) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(trusted)


@cache
def snapshot() -> list[tuple[ModuleType | type, Mapping, str, Any, Any]]:
    """What checks rely on, taken once: its owner, the owner's names, its name, value, and code if it is a function."""
    return [
        (owner, vars(owner), name, value, value.__code__ if isinstance(value, FunctionType) else None)
        for owner in _owners()
        for name, value in vars(owner).items()
        if callable(value) and not name.startswith("__")
    ]


def _owners() -> list[ModuleType | type]:
    modules = [sys.modules[name] for name in WATCHED if name in sys.modules]
    modules += [m for name, m in sys.modules.items() if name.partition(".")[0] in WATCHED_PACKAGES and m is not None]
    own_classes = [c for m in modules for c in vars(m).values() if isinstance(c, type) and _of(c, m)]
    torch = sys.modules.get("torch")
    classes = [_named(torch, path.split(".")[1:]) for path in WATCHED_CLASSES] if torch else []
    return [*modules, *dict.fromkeys([*own_classes, *classes])]


def _of(kind: type, module: ModuleType) -> bool:
    return kind.__module__ == module.__name__ and kind.__module__.partition(".")[0] in WATCHED_PACKAGES


def _named(root: Any, path: list[str]) -> Any:
    for name in path:
        root = getattr(root, name)
    return root

"""How two values differ, in the order a person asks: NaN, shape, dtype, device, values, and what relates them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._comparison import default_tolerances

from grading.report import Evidence


def pairs(actual: Any, expected: Any, label: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Take sequences and mappings apart, as `assert_close` does."""
    if isinstance(expected, dict) and isinstance(actual, dict) and expected.keys() == actual.keys():
        for key in expected:
            yield from pairs(actual[key], expected[key], f"{label}[{key!r}]")
    elif isinstance(expected, list | tuple) and isinstance(actual, list | tuple) and len(expected) == len(actual):
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            yield from pairs(a, e, f"{label}[{i}]")
    else:
        yield label, actual, expected


def compare(actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None) -> Evidence:
    """Say how `actual` differs from `expected`: NaN, shape, dtype, device, then values."""
    for label, a, e in pairs(actual, expected):
        evidence = _compare_pair(a, e, rtol, atol)
        if evidence is not None:
            where = {"where": f"in part {label}"} if label else {}
            return evidence.model_copy(update={"facts": where | evidence.facts})
    return Evidence(stage="values", message="the values differ")


def _compare_pair(a: Any, e: Any, rtol: float | None, atol: float | None) -> Evidence | None:
    a_tensor, e_tensor = as_tensor(a), as_tensor(e)
    if a_tensor is None or e_tensor is None:
        return None if a is e else Evidence(stage="unusable", message=f"expected {_describe(e)}, got {_describe(a)}")
    a, e = a_tensor.detach().cpu(), e_tensor.detach().cpu()
    bad = ~torch.isfinite(a)
    if a.shape == e.shape:
        bad = bad & torch.isfinite(e)
    elif not torch.isfinite(e).all():
        bad = torch.zeros_like(bad)
    if bad.any():
        names = "NaN" if a[bad].isnan().all() else "infinite" if a[bad].isinf().all() else "NaN or infinite"
        facts = {"first": f"at {_index(bad)}", "shape": _shape(a)}
        return Evidence(stage="nan", message=f"{_share(bad)} are {names}", facts=facts)
    if a.shape != e.shape:
        return Evidence(stage="shape", message=f"expected shape {_shape(e)}, got {_shape(a)}")
    if a.dtype != e.dtype:
        return Evidence(stage="dtype", message=f"expected dtype {_dtype(e)}, got {_dtype(a)}")
    if a_tensor.device != e_tensor.device:
        return Evidence(stage="device", message=f"expected it on {e_tensor.device}, got it on {a_tensor.device}")
    return _compare_values(a, e, rtol, atol)


def _compare_values(a: torch.Tensor, e: torch.Tensor, rtol: float | None, atol: float | None) -> Evidence | None:
    if rtol is None or atol is None:
        rtol, atol = default_tolerances(a, e)
    wrong = ~torch.isclose(a, e, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return None
    at = _worst(a, e, wrong)
    expected, got = _number(e[at]), _number(a[at])
    facts = {}
    if a.dim():
        facts["worst"] = f"at [{', '.join(map(str, at))}], expected {expected}, got {got}"
        facts["shape"] = _shape(a)
    if 1 < a.numel() <= 8:
        facts |= {"expected": _numbers(e), "got": _numbers(a)}
    message = f"{_share(wrong)} are wrong" if a.dim() else f"expected {expected}, got {got}"
    pattern = _pattern(a, e, rtol, atol)
    return Evidence(stage="values", message=f"{message}{f': {pattern}' if pattern else ''}", facts=facts)


def _worst(a: torch.Tensor, e: torch.Tensor, wrong: torch.Tensor) -> tuple[int, ...]:
    """The index of the largest error."""
    wide = torch.complex128 if a.is_complex() else torch.float64
    distance = torch.where(wrong, (a.to(wide) - e.to(wide)).abs(), 0.0).nan_to_num(torch.inf)
    return tuple(int(i) for i in torch.unravel_index(distance.argmax(), distance.shape))


def _pattern(a: torch.Tensor, e: torch.Tensor, rtol: float, atol: float) -> str | None:
    """A simple relation between what came and what was expected, where there is one."""
    if not a.is_floating_point() or a.numel() < 2:
        return None
    a, e = a.double(), e.double()

    def close(x: torch.Tensor, y: torch.Tensor) -> bool:
        return torch.allclose(x, y, rtol=max(10 * rtol, 1e-4), atol=max(10 * atol, 1e-6))

    if (a == 0).all():
        return "all are zero"
    if close(a, -e):
        return "the sign is turned round"
    if a.dim() >= 2 and a.shape[-1] == a.shape[-2] and close(a.mT, e):
        return "it is the transpose of what was expected"
    factor = ((a * e).sum() / (e * e).sum()).item()
    if close(a, factor * e):
        return f"all are {factor:.4g} × what was expected"
    shift = (a - e).mean().item()
    if close(a - shift, e):
        return f"all are off by {shift:+.4g}"
    return None


def as_tensor(value: Any) -> torch.Tensor | None:
    """`value` as a tensor, None if it is none and no number or array either."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, bool | int | float | complex):
        return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    return torch.as_tensor(value) if type(value).__module__ == "numpy" else None


def _describe(value: Any) -> str:
    tensor = as_tensor(value)
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {_shape(tensor)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _shape(t: torch.Tensor) -> str:
    return str(tuple(t.shape))


def _dtype(t: torch.Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")


def _share(mask: torch.Tensor) -> str:
    return f"{int(mask.sum())} of {mask.numel()} values"


def _index(mask: torch.Tensor) -> str:
    return str(mask.nonzero()[0].tolist())


def _number(t: torch.Tensor) -> str:
    value = t.item()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _numbers(t: torch.Tensor) -> str:
    def shown(nested: Any) -> str:
        return f"[{', '.join(map(shown, nested))}]" if isinstance(nested, list) else _number(torch.tensor(nested))

    return shown(t.tolist())

"""What ruff and TorchFix find, of the rules that are worth a learner's time. The words are ours."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ruff import find_ruff_bin


@dataclass(frozen=True)
class Advice:
    """What to say of one code of a linter."""

    rule: str
    why: str
    better: str
    brief: str | None = None


@dataclass(frozen=True)
class Remark:
    """A linter's code on a line of the text."""

    code: str
    line: int


RUFF = {
    "F401": Advice("unused-code", "Nobody uses this import.", "nothing"),
    "F841": Advice("unused-code", "This variable gets a value that nobody reads.", "nothing, or use it"),
    "B006": Advice(
        "mutable-default",
        "The default is made once, with the function: all calls share it, and what one adds the next one finds.",
        "None as the default, and the list or dict made in the body",
    ),
    "B015": Advice(
        "useless-statement", "This compares and throws the answer away.", "an assert, or an assignment with one `=`"
    ),
    "B018": Advice(
        "useless-statement",
        "This line computes a value and throws it away. A method is called only with its parentheses.",
        "the call, with `()`; or nothing",
    ),
    "E711": Advice(
        "compared-with-none", "`==` asks the object, and a tensor answers with a tensor.", "`is None`, `is not None`"
    ),
    "E712": Advice(
        "compared-with-bool", "A truth value is already what the comparison would give.", "`mask` or `~mask`; `if flag`"
    ),
    "F632": Advice(
        "is-literal", "`is` asks whether two objects are the same one; equal values need not be.", "`==` or `!=`"
    ),
    "F601": Advice("repeated-key", "The key is there twice, and only its last value stays.", "each key once"),
    "PLW0127": Advice("self-assignment", "A name is assigned to itself: that does nothing.", "nothing"),
}
TORCHFIX = {
    "TOR001": Advice(
        "removed-function", "PyTorch has no such function any more.", "its successor, usually in `torch.linalg`"
    ),
    "TOR002": Advice(
        "misspelt-requires-grad",
        "The attribute is called `requires_grad`. Another name is accepted too, and does nothing.",
        "requires_grad, with an s",
        "phase1/theory1",
    ),
    "TOR003": Advice(
        "checkpoint-reentrant",
        "Which of the two kinds of checkpoint is used should be said; the old one misses gradients in some uses.",
        "checkpoint(…, use_reentrant=False)",
        "phase1/theory5",
    ),
    "TOR004": Advice(
        "removed-function", "PyTorch has no such function any more.", "its successor, usually in `torch.linalg`"
    ),
    "TOR101": Advice(
        "deprecated-function",
        "PyTorch keeps this function for old code only.",
        "its successor: its documentation page names it (often one in `torch.linalg`)",
    ),
    "TOR103": Advice("deprecated-function", "PyTorch keeps this function for old code only.", "its successor"),
    "TOR104": Advice(
        "private-function", "Names with an underscore change without notice.", "the public function of that name"
    ),
    "TOR105": Advice(
        "private-function", "Names with an underscore change without notice.", "the public function of that name"
    ),
    "TOR106": Advice(
        "log1p", "1 + x rounds a small x away before the logarithm sees it.", "torch.log1p(x)", "phase1/theory1"
    ),
    "TOR107": Advice(
        "expm1",
        "For small x the difference of two numbers near 1 keeps few digits.",
        "torch.expm1(x)",
        "phase1/theory1",
    ),
    "TOR201": Advice(
        "deprecated-argument",
        "`pretrained=` is the old way, and is going away.",
        "weights=… with the class of the weights",
    ),
    "TOR202": Advice(
        "deprecated-function",
        "`v2.ToTensor()` is going away.",
        "v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])",
        "phase1/theory4",
    ),
}


def ruff(source: str) -> Iterator[Remark]:
    """What ruff says, without any configuration but the choice above."""
    command = [
        *(find_ruff_bin(), "check", "--isolated", "--no-cache", "--output-format", "json"),
        *("--select", ",".join(RUFF), "--stdin-filename", "review.py", "-"),
    ]
    done = subprocess.run(command, input=source, capture_output=True, text=True, encoding="utf-8", cwd=Path(sys.prefix))
    for found in json.loads(done.stdout or "[]"):
        if found["code"] in RUFF:
            yield Remark(found["code"], found["location"]["row"])


def torchfix(source: str) -> Iterator[Remark]:
    """What TorchFix says."""
    from torchfix.torchfix import TorchChecker

    for line, _, message, _ in TorchChecker(None, [source]).run():
        code = message.split(" ", 1)[0]
        if code in TORCHFIX:
            yield Remark(code, line)

"""What `doctor` runs in a process of its own, for a broken library can end it: load torch and its kin, try the GPU.

Prints one JSON object a line, as it goes. Imports nothing of ours.
"""

import importlib
import json
import warnings

LIBRARIES = ("torch", "torchvision", "torchaudio")


def main() -> None:
    """Report `{"library", "version" or "error"}` for each library, and `{"gpu", "error"}` if torch loads."""
    found = [_library(name) for name in LIBRARIES]
    if "version" in found[0]:
        print(json.dumps(_gpu()), flush=True)


def _library(name: str) -> dict[str, str]:
    try:
        told = {"library": name, "version": importlib.import_module(name).__version__}
    except Exception as error:
        told = {"library": name, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(told), flush=True)
    return told


def _gpu() -> dict[str, str | None]:
    """The GPU's name, None without one; and what stands in the way of using it."""
    import torch

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            torch.cuda.is_available()  # warns if the driver does not suit
            device = torch.accelerator.current_accelerator(check_available=True)
            if device is None:
                return {"gpu": None, "error": str(warned[0].message) if warned else None}
            torch.ones(1, device=device).sum().item()
            return {"gpu": torch.cuda.get_device_name() if device.type == "cuda" else device.type, "error": None}
        except Exception as error:
            return {"gpu": None, "error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()

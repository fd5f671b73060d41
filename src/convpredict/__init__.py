"""convpredict: learned, calibrated lead scores from histories of lead interactions.

Everything below loads on first use, so that importing the package costs nothing.

>>> import convpredict
>>> "load_project" in dir(convpredict)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import BundleError, ConfigError, ConvpredictError, DataError, NotEnoughDataError

_HOME = {
    "BundleError": "errors",
    "ConfigError": "errors",
    "ConvpredictError": "errors",
    "DataError": "errors",
    "NotEnoughDataError": "errors",
}

__all__ = [
    "BundleError",
    "ConfigError",
    "ConvpredictError",
    "DataError",
    "NotEnoughDataError",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("convpredict")
    if name not in _HOME:
        raise AttributeError(f"module 'convpredict' has no attribute '{name}'; it has: {', '.join(__all__)}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

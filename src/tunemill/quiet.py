"""Keep libraries from printing what nobody reads; what goes wrong still comes through as an exception."""

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Hide progress bars, retries and warnings of Hugging Face libraries, named as they are imported."""
    loggers = [importlib.import_module(f"{library}.utils.logging") for library in libraries]
    levels = [logger.get_verbosity() for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.set_verbosity_error()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.set_verbosity(level)

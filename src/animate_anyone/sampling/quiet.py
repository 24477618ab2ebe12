"""The model libraries' own bars and remarks turned off, in this process."""

from __future__ import annotations


def quiet_model_libraries() -> None:
    """Errors alone are said; the import of the libraries takes seconds."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()

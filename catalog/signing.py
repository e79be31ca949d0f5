"""Addresses of the Planetary Computer, signed at the moment a file is opened.

A signed address is good for less than an hour and is as good as a password, so it never becomes
part of a plan, a store or a message. The package keeps tokens, and asks for new ones in time.
"""

from __future__ import annotations

import importlib.util
import warnings

from rasterio.errors import RasterioError
from requests import RequestException

from catalog.errors import ArgumentError


def require_package() -> None:
    """Raise ArgumentError unless addresses can be signed on this machine."""
    if importlib.util.find_spec("planetary_computer") is None:
        raise ArgumentError(
            "provider planetary-computer signs the addresses of files with a package that is not "
            "installed: pip install 'tar-pipeline[planetary-computer]'",
            argument="provider",
        )


def signed(href: str) -> str:
    """The address with a token, where it leads to the Planetary Computer's storage; else as it is.

    Raises RasterioError, like any other failure to open a file, and ArgumentError without the
    package.
    """
    require_package()
    with warnings.catch_warnings():
        # The package is written for two versions of pydantic, and the newer one complains.
        warnings.simplefilter("ignore", DeprecationWarning)
        import planetary_computer
    try:
        return str(planetary_computer.sign_url(href))
    except Exception as error:  # of requests, pydantic or the package, by what its server answers
        # What pydantic says of an answer repeats it, and the answer holds a token.
        why = f": {error}" if isinstance(error, RequestException) else ""
        raise RasterioError(
            f"the Planetary Computer gives no token for it ({type(error).__name__}{why})"
        ) from None

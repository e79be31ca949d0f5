"""TAR: text-semantic-assisted registration of SAR to optical images. Arrays in, arrays out."""

from tar_engine.register import Registrar, Registration

__all__ = ["Registrar", "Registration"]

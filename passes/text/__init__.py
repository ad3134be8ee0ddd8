"""From pipeline text to typed options and back; a pass author needs none of it (``passes.base``, ``passes.checks``)."""

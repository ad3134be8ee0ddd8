"""The dump that parses back: a whole model as text, its large constants in one file beside it.

See ``docs/dump.md`` for the format; :func:`prunec.ir.dump.file.save_dump` writes it and
:func:`prunec.ir.dump.model.parse_dump` reads it.
"""

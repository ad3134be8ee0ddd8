"""The version, for files that say what wrote them; a layer need not ask the package's public face for it."""

VERSION = "0.1.0"

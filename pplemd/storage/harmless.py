"""Text of unknown origin, as a terminal may have it."""


def harmless(text: str) -> str:
    """The text with escapes, and whatever else is not printable, written out; lines and tabs stay.

    Names of arrays, files and errors may hold commands of terminals, which clear a screen or write over a line.
    """
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)

"""Why one of several ways came to nothing, while the others go on."""

from __future__ import annotations

from ffe.errors import sentence_of


def reason_of(error: Exception, less_memory: str) -> str:
    """Return the sentence for what stopped one way; an error of another kind, which should not happen, is raised again.

    ``less_memory`` is what helps where memory is short.
    """
    if (sentence := sentence_of(error, less_memory)) is not None:
        return sentence
    if not isinstance(error, OSError):
        raise error
    what = " ".join((error.strerror or str(error)).split())
    where = f" ('{error.filename}')" if error.filename else ""
    return f"the system refused: {what}{where}; mend that, and run the same command again"

"""Estimates token counts for servers without a tokenizer."""

import math

# English text has about four characters per token (OpenAI's rule of thumb); other languages and code have fewer.
# Three bytes per token rarely give a count that is too low.
BYTES_PER_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Returns an estimate of the text's tokens that is usually too high."""
    return math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN)

"""Estimates of token counts, for servers without a tokenizer."""

import math

# English prose has about four characters a token with the tokenizers in use (OpenAI's own rule of thumb), other
# languages and code fewer: three bytes a token errs on the side of too many.
BYTES_PER_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Returns an estimate that is usually too high: one token for three bytes of UTF-8."""
    return math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN)

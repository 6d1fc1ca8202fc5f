"""Names the options of OpenAI's completions that go to the server. A server may obey an option that nobody has counted.

An option is here if it cannot make the server write more than ``max_tokens`` and ``n`` allow, call another model, or
read what belongs to another space.
"""

from collections.abc import Iterable
from typing import Any

from shared.errors import ValidationFailedError

# fmt: off
_OPENAI = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
    "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier",
    "stop", "tool_choice", "tools", "top_logprobs", "verbosity",
})
# Sampling, grammars and templates of vLLM, llama.cpp, Ollama, Mistral, OpenRouter, Qwen and others.
_SERVERS = frozenset({
    "add_generation_prompt", "add_special_tokens", "allowed_token_ids", "bad_words", "cache_prompt", "cache_salt",
    "chat_template_kwargs", "continue_final_message", "documents", "dry_allowed_length", "dry_base",
    "dry_multiplier", "dry_penalty_last_n", "dry_sequence_breakers", "dynatemp_exponent", "dynatemp_range",
    "enable_thinking", "grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex", "ignore_eos",
    "include_reasoning", "include_stop_str_in_output", "json_schema", "length_penalty", "min_p", "min_tokens",
    "mirostat", "mirostat_eta", "mirostat_tau", "mm_processor_kwargs", "parse_tool_calls", "prompt_mode",
    "random_seed", "reasoning", "reasoning_budget", "reasoning_format", "repeat_last_n", "repeat_penalty",
    "repetition_penalty", "return_progress", "return_token_ids", "safe_prompt", "samplers", "skip_special_tokens",
    "spaces_between_special_tokens", "stop_token_ids", "structured_outputs", "tfs_z", "thinking", "thinking_budget",
    "thinking_token_budget", "timings_per_token", "top_a", "top_k", "top_n_sigma", "typical_p", "xtc_probability",
    "xtc_threshold",
})
# fmt: on
KNOWN = _OPENAI | _SERVERS


def check_options(given: dict[str, Any], fields: Iterable[str]) -> None:
    """Raises ValidationFailedError for an option that is not known, so that none is silently left out.

    ``fields`` are the names of this API's own fields, which may be meant.
    """
    unknown = next((name for name in given if name not in KNOWN), None)
    if unknown is None:
        return
    from difflib import get_close_matches  # few requests need it

    near = get_close_matches(unknown, {*KNOWN, *fields}, n=1)
    hint = f"did you mean {near[0]}?" if near else "leave it out"
    raise ValidationFailedError.of(f"body.{unknown}", f"is not an option that the API sends to a server: {hint}")

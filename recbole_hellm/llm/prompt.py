"""The text around the item slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recbole_hellm.errors import MissingModelError

ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n",
    "\n\n### Response:\n",
)
"""What stands before and after the slots; the template of Stanford Alpaca, which HeLLM uses."""


@dataclass(frozen=True)
class Prompt:
    """Token ids around the item slots.

    Attributes:
        before: Ids before the first slot; never empty where a decoder reads them, since it turns its first position
            into an attention sink that no slot should become.
        after: Ids after the last slot; empty if each slot predicts the next item.
    """

    before: tuple[int, ...]
    after: tuple[int, ...] = ()


def build_prompt(template: str, instruction: str, path: Callable[[], str], first_token: int) -> Prompt:
    """Return the prompt of a template.

    Args:
        template: ``"none"`` (the first token alone) or ``"alpaca"``.
        instruction: What the template asks for.
        path: Gives the folder or name of the tokenizer; only asked for by a template with text.
        first_token: Id the input starts with.

    Raises:
        MissingModelError: If the template has text and the model no tokenizer.
    """
    if template == "none":
        return Prompt(before=(first_token,))
    from transformers import AutoTokenizer

    where = path()
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise MissingModelError(
            f"setting 'prompt_template' = {template!r} needs a tokenizer, which {where} has not; put "
            "tokenizer.json there or set prompt_template=none"
        ) from error
    before, after = (
        tokenizer.encode(text.format(instruction=instruction), add_special_tokens=False) for text in ALPACA
    )
    return Prompt(before=(first_token, *before), after=tuple(after))

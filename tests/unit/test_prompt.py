import pytest

from recbole_hellm.errors import MissingModelError
from recbole_hellm.llm.prompt import ALPACA, Prompt, build_prompt


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A tokenizer of bytes, so that ids can be turned back into the exact text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_ = Tokenizer(models.BPE({"<s>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}}, []))
    bytes_.pre_tokenizer, bytes_.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bytes_.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=bytes_, bos_token="<s>")
    wrapped.save_pretrained(folder)
    return folder, wrapped


def alpaca(tokenizer, instruction="Do it."):
    prompt = build_prompt("alpaca", instruction, lambda: str(tokenizer[0]), 0)
    return prompt, *(tokenizer[1].decode(ids) for ids in (prompt.before[1:], prompt.after))


def test_the_template_is_that_of_alpaca(tokenizer):
    prompt, before, after = alpaca(tokenizer)
    assert before == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nDo it.\n\n### Input:\n"
    )
    assert after == "\n\n### Response:\n"
    assert prompt.before[0] == 0


def test_the_instruction_is_that_of_the_setting(tokenizer):
    _, before, _ = alpaca(tokenizer, "Predict {the} next item.")
    assert "### Instruction:\nPredict {the} next item.\n" in before


def test_no_special_token_stands_inside(tokenizer):
    prompt, _, _ = alpaca(tokenizer)
    assert 0 not in (*prompt.before[1:], *prompt.after)


def test_without_a_template_there_is_one_token_and_no_tokenizer_is_asked_for():
    assert build_prompt("none", "x", lambda: pytest.fail("asked"), 7) == Prompt((7,), ())


def test_a_model_without_tokenizer_says_what_to_do(llm):
    with pytest.raises(MissingModelError) as error:
        build_prompt("alpaca", "x", lambda: str(llm), 0)
    assert str(error.value) == (
        f"setting 'prompt_template' = 'alpaca' needs a tokenizer, which {llm} has not; put tokenizer.json there or set "
        "prompt_template=none"
    )


def test_the_template_has_one_place_for_the_instruction():
    assert ALPACA[0].count("{instruction}") == 1
    assert "{" not in ALPACA[1]

"""ProntoQA as its generator writes it; Logic-LM's form of it is one of `multiple_choice`."""

from collections.abc import Mapping
from typing import Any

from latent_gemma.data.values import list_of, text_of


def generated_rows(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rows in a file of the generator, {"example1": {"in_context_example0": .., "test_example": ..}, ..}.

    Args:
        data: the file.

    Returns:
        Name -> the example to be answered; None if it is another kind of file.
    """
    if not data or not all(isinstance(value, Mapping) and "test_example" in value for value in data.values()):
        return None
    return {name: value["test_example"] for name, value in data.items()}


def prontoqa_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Read an example: question (the facts), query "True or false: Max is red.", chain_of_thought, answer "True".

    Args:
        row: column name -> value.
        where: file and row, for messages.

    Returns:
        The row as question, steps and answer.

    Raises:
        DataError: naming the column that is missing or wrong; files of proofs alone have no answers.

    Source: Saparov and He 2023 (arXiv 2210.01240).
    """
    return {
        "question": f"{text_of(row, 'question', where)} {text_of(row, 'query', where)}",
        "steps": list_of(row, "chain_of_thought", where),
        "answer": text_of(row, "answer", where),
    }

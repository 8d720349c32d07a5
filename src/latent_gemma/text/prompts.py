"""Questions as prompt text, for models without a chat template."""

from latent_gemma.errors import ConfigError

#: Name -> what stands around the question.
TEMPLATES = {"plain": "{question}\n", "raw": "{question}"}


def render_question(question: str, template: str) -> str:
    """Write a question as a prompt.

    Args:
        question: the question, no template around it.
        template: "plain" puts it on a line of its own, "raw" leaves it as it is.

    Returns:
        The prompt.

    Raises:
        ConfigError: for an unknown template.
    """
    if template not in TEMPLATES:
        raise ConfigError(f"prompt template {template!r} is unknown", f"choose from {', '.join(TEMPLATES)}")
    # Not str.format on the question itself: its own braces must survive.
    return TEMPLATES[template].replace("{question}", question)

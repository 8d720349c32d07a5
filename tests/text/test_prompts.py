import pytest

from latent_gemma.errors import ConfigError
from latent_gemma.text.prompts import render_question


@pytest.mark.parametrize("question", ["Solve 24 + 15", "{question} {0}", ""])
def test_templates_leave_the_question_whole(question):
    assert render_question(question, "raw") == question
    assert render_question(question, "plain") == question + "\n"


def test_unknown_template_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"'chat' is unknown: choose from plain, raw"):
        render_question("Solve 1 + 1", "chat")

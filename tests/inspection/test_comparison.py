"""Several methods on the same questions: which to pick, and where they differ."""

from dataclasses import replace

import pytest

from latent_gemma.evaluation.items import Item
from latent_gemma.evaluation.results import Differences, ThoughtStep, ThoughtTrace
from latent_gemma.inspection.comparison import best_grid, choose, differing, spread, trace_item
from latent_gemma.inspection.html_report import render_html
from latent_gemma.inspection.tables import differences_grid, to_markdown


def item(label, number, correct, **changes):
    made = Item(
        label=label, k=0, p=None, control="none", index=number, question=f"q{number}", language="en", wanted="en",
        expected=(str(number),), answer=str(number) if correct else "x", reasoning="", extracted=None, marked=False,
        correct=correct, strict=correct, complete=None, tokens=1, latent_steps=0, finished=True, seconds=0.1,
        peak_mem_gib=None,
    )  # fmt: skip
    return replace(made, **changes)


def compared(row, total=100, **methods):
    """methods: name -> (right answers, from the first question on; tokens an answer)."""
    mains = {name: row(name, 0, right, total=total, tokens=cost) for name, (right, cost) in methods.items()}
    answers = {name: [item(name, i, i < right) for i in range(total)] for name, (right, _) in methods.items()}
    return choose(mains, answers)


@pytest.mark.parametrize(
    ("methods", "pick", "says"),
    [
        ({"words": (100, 9.0), "latent": (99, 3.0)}, "A tie: latent is the cheapest", "words (100.0 %, 9.0 passes)"),
        ({"words": (100, 9.0), "latent": (80, 3.0)}, "Pick words", "against 80.0 % for latent"),
        ({"words": (60, 9.0), "latent": (90, 3.0)}, "Pick latent", "no method is cheaper"),
        ({"a": (90, 9.0), "b": (90, 3.0), "c": (89, 5.0)}, "A tie: b is the cheapest", "of each is 1."),
        ({"a": (90, 3.0), "b": (90, 3.0), "c": (10, 1.0)}, "A tie: a and b are the cheapest", "takes 3.0 passes"),
    ],
)
def test_of_methods_that_tie_the_cheapest_is_named_and_else_the_best_is_picked(methods, pick, says, row):
    picked, reason = compared(row, **methods)
    assert picked == pick
    assert says in reason


def test_few_questions_do_not_make_a_much_worse_method_the_choice(row):
    pick, reason = compared(row, total=5, words=(5, 9.0), latent=(0, 1.0))
    assert pick == "Pick words"
    assert "could be chance" in reason, "five questions against none are p = 0.06"


def test_methods_are_held_against_the_best_and_corrected_for_their_number():
    answers = {
        name: [item(name, i, i < right) for i in range(100)] for name, right in (("a", 90), ("b", 100), ("c", 93))
    }
    (grid,) = best_grid(answers)
    # 10 and 7 items on which only b is right: 2 / 2**10 and 2 / 2**7, the smaller one doubled
    assert grid.rows == (
        ("a", "10", "0", "0.002", "0.0039", "worse"),
        ("c", "7", "0", "0.016", "0.016", "worse"),
    )
    assert grid.header[-1] == "against b"
    assert best_grid({"a": answers["a"]}) == ()
    assert best_grid({"a": answers["a"], "b": answers["b"][:50]}) == (), "other questions"


def test_a_single_method_is_not_recommended(row):
    assert compared(row, words=(5, 9.0))[0] == "words alone was measured"


def test_thoughts_that_are_not_used_are_said_with_the_choice(row):
    mains = {"a": row("a", 2, 3, total=4), "b": row("b", 0, 1, total=4)}
    answers = {name: [item(name, i, i < main.correct) for i in range(4)] for name, main in mains.items()}
    assert "not using its thoughts" not in choose(mains, answers, {"b"})[1]
    assert "not using its thoughts" in choose(mains, answers, {"a"})[1]


def test_differing_items_are_spread_over_the_questions():
    answers = {"a": [item("a", i, True) for i in range(95)], "b": [item("b", i, i % 2 == 0) for i in range(95)]}
    groups = differing(answers)
    assert [group[0].question for group in groups] == [f"q{i}" for i in range(1, 95, 2)]
    shown = spread(groups)
    assert len(shown) == 10
    assert shown[0] is groups[0]
    assert groups.index(shown[-1]) > 30


STEPS = tuple(ThoughtStep(k, (f" t{k}", "u", "v", "w"), (0.5, 0.2, 0.1, 0.1), 1.0, 0.5) for k in (1, 2))


def test_thoughts_are_shown_with_the_answer_they_led_to():
    logged = item("run/latent", 7, False, question="7", answer="8", reasoning="")
    read = ThoughtTrace("latent", "7", "7", "8", False, STEPS)
    trace = trace_item("latent", logged, {"7": read})
    assert (trace.label, trace.answer, trace.correct) == ("latent", "8", False)
    assert [step.tokens for step in trace.steps] == [(" t1", "u", "v"), (" t2", "u", "v")]
    assert trace_item("latent", logged, {"7": replace(read, answer="9")}).steps == ()
    assert trace_item("words", replace(logged, reasoning="1+1"), {}).reasoning == "1+1"


def test_differences_and_the_choice_are_on_the_page(bare):
    evil = "<script>alert(1)</script>"
    group = (
        ThoughtTrace("latent", evil, "7", "8", False, STEPS),
        ThoughtTrace("words", evil, "7", "7", True, (), f"because {evil}"),
    )
    report = replace(bare, choice="Pick words", reason="It is right.", differences=Differences((group,), 3, 50))
    page = render_html(report, figures=False)
    assert page.index("Pick words") < page.index("It is right.") < page.index(bare.verdict)
    assert "Where they differ" in page
    assert "3 of 50 questions" in page
    assert page.count('class="side"') == 2
    assert page.count('class="chip"') == 8
    assert "because &lt;script&gt;" in page
    assert evil not in page
    (grid,) = differences_grid(report)
    assert grid.rows == ((evil, "7", "✗ 8 [t1 → t2]", "✓ 7"),)
    assert "✗ 8 [t1 → t2]" in to_markdown(report)
    assert "**Pick words.** It is right." in to_markdown(report)
    assert "Where they differ" not in render_html(bare, figures=False)

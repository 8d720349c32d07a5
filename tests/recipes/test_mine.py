"""Right answers with false steps, out of what a run leaves behind."""

import json
from dataclasses import replace

import pytest

from latent_gemma.cli import main
from latent_gemma.data.local import read_file
from latent_gemma.evaluation.items import Item, TraceItem, to_line
from latent_gemma.training.reward_watch import SAMPLES
from latent_gemma.training.rewarding import Sample
from latent_gemma.training.run_log import append_lines
from latent_gemma.training.settings import RewardSettings

TRUE, FALSE = "16-3-4 = 9, 9*2 = 18", "16-3-4 = 8, 9*2 = 18"


def tagged(reasoning, answer="18"):
    return f"<reasoning>{reasoning}</reasoning><answer>{answer}</answer>"


@pytest.fixture
def sampled(tmp_path):
    """A run folder with these completions, scored as GRPO scores them."""

    def write(completions, folder="run", **settings):
        rewards = RewardSettings(**settings).build("words")
        path = tmp_path / folder / SAMPLES
        path.parent.mkdir(parents=True)
        for question, text in completions:
            scores = {reward.name: reward(question, text, ("18",)) for reward in rewards}
            append_lines(path, [{"step": 5, **vars(Sample(question, text, scores))}])
        return tmp_path / folder

    return write


def mined(run, tmp_path, *options):
    out = tmp_path / "mined.jsonl"
    assert main(["data", "mine", str(run), "--out", str(out), *options]) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


COMPLETIONS = [
    ("Q1", tagged(TRUE)),
    ("Q1", tagged(FALSE)),
    ("Q1", tagged(FALSE)),
    ("Q1", tagged(FALSE + ", 1+1 = 3")),
    ("Q1", tagged(FALSE, "17")),  # a wrong answer
    ("Q1", tagged("I guess.")),  # no equation
    ("Q1", tagged(TRUE).removesuffix("</answer>")),
    ("Q1", "18"),
    ("Q2", tagged(FALSE)),
    ("Q3", tagged(TRUE)),
    ("何？", tagged("９×２＝１７")),
    ("何？", tagged("９×２＝１８")),
]


def test_pairs_are_of_one_question_and_each_trace_is_rejected_once(sampled, tmp_path, capsys):
    assert mined(sampled(COMPLETIONS), tmp_path) == [
        {"prompt": "Q1", "chosen": tagged(TRUE), "rejected": tagged(FALSE)},
        {"prompt": "Q1", "chosen": tagged(TRUE), "rejected": tagged(FALSE + ", 1+1 = 3")},
        {"prompt": "何？", "chosen": tagged("９×２＝１８"), "rejected": tagged("９×２＝１７")},
    ]
    assert "wrote 3 rows" in (said := capsys.readouterr().out)
    assert "4 right answers with false steps, 1 of them" in said


def test_false_steps_alone_are_written_unpaired(sampled, tmp_path):
    rows = mined(sampled(COMPLETIONS), tmp_path, "--style", "unpaired_preference")
    assert [(row["prompt"], row["label"]) for row in rows] == [
        ("Q1", True), ("Q1", False), ("Q1", False), ("Q2", False), ("何？", True), ("何？", False)
    ]  # fmt: skip
    assert rows[3]["completion"] == tagged(FALSE)


def test_what_is_mined_can_be_learnt_from(sampled, tmp_path):
    mined(sampled(COMPLETIONS), tmp_path)
    examples = list(read_file(tmp_path / "mined.jsonl"))
    assert [example.answer for example in examples] == ["18"] * 3
    assert examples[0].steps == (TRUE,)


def test_the_folders_of_a_study_are_read_together(sampled, tmp_path):
    sampled([("Q", tagged(TRUE))], "study/beta-0")
    sampled([("Q", tagged(FALSE))], "study/beta-0.04")
    assert len(mined(tmp_path / "study", tmp_path)) == 1


def test_a_line_cut_off_by_a_kill_costs_only_itself(sampled, tmp_path):
    run = sampled(COMPLETIONS)
    with (run / SAMPLES).open("a") as file:
        file.write('{"step": 6, "quest')
    assert len(mined(run, tmp_path)) == 3


ITEM = Item(
    label="words", k=0, p=None, control="none", index=0, question="Q", language="en", wanted="en", expected=("18",),
    answer="18", reasoning=TRUE, extracted="18", marked=True, correct=True, strict=True, complete=True, tokens=9,
    latent_steps=0, finished=True, seconds=0.1, peak_mem_gib=None,
)  # fmt: skip
TRACE = TraceItem(
    answer="18", reasoning=FALSE, ballot="18", logprob=-0.5, temperature=1.0, correct=True, strict=True, complete=True,
    tokens=9, finished=True,
)  # fmt: skip


def test_the_answers_of_an_evaluation_are_mined_too(tmp_path):
    run = tmp_path / "run"
    (run / "gsm8k").mkdir(parents=True)
    wrong = replace(TRACE, strict=False, reasoning="1+1=3")
    items = [ITEM, replace(ITEM, index=1, label="vote", traces=(TRACE, wrong)), replace(ITEM, reasoning="", k=2)]
    (run / "gsm8k" / "items.jsonl").write_bytes(b"".join(map(to_line, items)))
    assert mined(run, tmp_path) == [{"prompt": "Q", "chosen": tagged(TRUE), "rejected": tagged(FALSE)}]


@pytest.mark.parametrize(
    ("completions", "settings", "message"),
    [
        ([("Q", tagged(TRUE)), ("Q", tagged("Guess."))], {}, "no right answer with a false step, and 1 whose steps"),
        ([("Q", tagged(TRUE)), ("R", tagged(FALSE))], {}, "1 right answers with false steps, but none with true ones"),
        ([("Q", tagged(TRUE))], {"correct_score": 0.0}, "line 1 does not say whether the answer is right: mine a run"),
    ],
)
def test_what_cannot_be_mined_is_told_in_one_line(sampled, tmp_path, capsys, completions, settings, message):
    run = sampled(completions, **settings)
    assert main(["data", "mine", str(run), "--out", str(tmp_path / "a.jsonl")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "a.jsonl").exists()


def test_folders_without_samples_and_files_that_are_there_are_refused(sampled, tmp_path, capsys):
    assert main(["data", "mine", str(tmp_path), "--out", str(tmp_path / "a.jsonl")]) == 2
    assert "holds neither samples.jsonl nor items.jsonl" in capsys.readouterr().err
    (tmp_path / "a.jsonl").write_text("mine")
    assert main(["data", "mine", str(sampled(COMPLETIONS)), "--out", str(tmp_path / "a.jsonl")]) == 2
    assert "a.jsonl exists: give another name" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / SAMPLES).write_text('{"step": 1}\n')
    assert main(["data", "mine", str(tmp_path / "other"), "--out", str(tmp_path / "b.jsonl")]) == 2
    assert "line 1 is no sample of a GRPO run" in capsys.readouterr().err

"""Our models in lm-evaluation-harness: the same answers as our own engine, and scores as plainly computed."""

import json
import os
from dataclasses import replace
from functools import partialmethod
from itertools import pairwise
from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval")
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from latent_gemma.cli import main
from latent_gemma.errors import ConfigError
from latent_gemma.evaluation.answering import answer_batch
from latent_gemma.evaluation.lm_eval import LatentGemmaLM
from latent_gemma.generation.score import score_continuations
from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Frame
from latent_gemma.model.tiny import build_tiny, build_tokenizer
from tests.conftest import hesitant
from tests.saving import save_tiny

DATA = Path(os.environ.get("LATENT_GEMMA_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
TASK = """
task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: [], max_gen_toks: 12}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
CHAT = (
    "{{ bos_token }}{% for turn in messages %}<start_of_turn>{{ turn.role }}\n{{ turn.content }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
WAYS = {
    "latent": {"num_thoughts": 3},
    "sequence": {"num_thoughts": 2, "recurrence": "sequence"},
    "markers": {"num_thoughts": 0},
    "tags": {"num_thoughts": 0, "words_format": "tags"},
}


@pytest.fixture(scope="module", params=WAYS)
def lm(request, tmp_path_factory):
    folder = save_tiny(tmp_path_factory.mktemp(request.param), latent=LatentConfig(**WAYS[request.param]), **SIZES)
    return LatentGemmaLM(str(folder), batch_size=3, max_gen_toks=24)


def asked(kind, *args):
    return [Instance(kind, {}, arg, i) for i, arg in enumerate(args)]


def by_engine(lm, questions, tokens):
    return answer_batch(lm.model, lm.frame, questions, lm.mode, lm.num_thoughts, lm.p, max_new_tokens=tokens).answers


@pytest.fixture
def local_tasks_alone(monkeypatch):
    """The harness reads the thousands of tasks it brings at every start, which takes longer than our tests."""
    monkeypatch.setattr(TaskManager, "__init__", partialmethod(TaskManager.__init__, include_defaults=False))


@pytest.mark.parametrize("k", [0, 3])
def test_harness_and_engine_agree_item_by_item(k, tmp_path, local_tasks_alone):
    model = save_tiny(tmp_path / "model", latent=LatentConfig(num_thoughts=2), **SIZES)
    questions = [f"{'9' * i}+{i}=" for i in range(7)]
    if (DATA / "gsm8k").exists():
        lines = (DATA / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:5]
        questions += [json.loads(line)["question"] for line in lines]
    lm = LatentGemmaLM(str(model), num_thoughts=k, p=0.3)
    engine = [by_engine(lm, [question], 12)[0].graded for question in questions]
    # every other item expects what the engine says, so a right and a wrong answer are both seen
    expected = [answer if i % 2 else "another" for i, answer in enumerate(engine)]
    rows = tmp_path / "rows.jsonl"
    pairs = zip(questions, expected, strict=True)
    rows.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs))
    (tmp_path / "ours.yaml").write_text(TASK.format(rows=rows))
    options = ["--model_args", f"pretrained={model},num_thoughts={k},p=0.3", "--tasks", "ours", "--batch_size", "4"]
    paths = ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out"), "--log_samples"]
    assert main(["harness", *options, *paths]) == 0
    (log,) = (tmp_path / "out").rglob("samples_ours*.jsonl")
    samples = sorted((json.loads(line) for line in log.read_text().splitlines()), key=lambda s: s["doc_id"])
    assert [sample["resps"][0][0] for sample in samples] == engine
    assert [sample["exact_match"] for sample in samples] == [i % 2 for i in range(len(questions))]


def test_answers_in_a_batch_are_the_engines(lm):
    questions = ["1+2=", "a much longer question, so that rows are padded", "2", "3+4+5="]
    answers = lm.generate_until(asked("generate_until", *((q, {"until": [], "max_gen_toks": 9}) for q in questions)))
    assert answers == [by_engine(lm, [question], 9)[0].graded for question in questions]


def test_a_learnt_number_is_chosen_greedily_and_then_scored(tmp_path):
    latent = LatentConfig(num_thoughts=2, learned_k=True, max_thoughts=5, trained_for="latent")
    hesitant(build_tiny(latent=latent, **SIZES)).save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    lm = LatentGemmaLM(str(tmp_path), batch_size=2, num_thoughts="auto")
    assert LatentGemmaLM(str(tmp_path)).num_thoughts == "auto"
    questions = ["1+2=", "a much longer question, so that rows are padded", "2", "3+4+5="]
    answers = lm.generate_until(asked("generate_until", *((q, {"until": [], "max_gen_toks": 9}) for q in questions)))
    batch = answer_batch(lm.model, lm.frame, questions, "latent", "auto", max_new_tokens=9)
    assert len(set(batch.num_thoughts)) > 1
    assert answers == [written.graded for written in batch.answers]
    scores = lm.loglikelihood(asked("loglikelihood", *((question, "12") for question in questions)))
    prompts = [lm.frame.prompt(q, "latent", k) for q, k in zip(questions, batch.num_thoughts, strict=True)]
    expected = score_continuations(lm.model, prompts, [lm.frame.text_ids("12")] * 4, lm.frame.pad_id)
    assert [score for score, _ in scores] == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_a_stop_string_ends_an_answer_and_spares_its_neighbours(lm):
    if lm.frame.latent.words_format == "markers" and lm.mode == "words":
        pytest.skip("random weights do not close their reasoning")
    questions = ["1+2=", "7*8=", "5"]

    def answers(until):
        return lm.generate_until(
            asked("generate_until", *((q, {"until": until, "max_gen_toks": 16}) for q in questions))
        )

    full = answers([])
    stop = full[0][2:4]
    cut = answers([stop, ""])
    assert len(cut[0]) < len(full[0])
    assert cut == [text.split(stop)[0] for text in full]


def test_stop_strings_leave_the_reasoning_alone(lm, monkeypatch):
    if lm.mode == "latent":
        pytest.skip("thoughts hold no strings")
    eot = [lm.frame.latent.eot_id]
    ids = lm.frame.text_ids
    tags = lm.frame.latent.words_format == "tags"
    written = ids("<reasoning>1\n2</reasoning><answer>3\n4") if tags else [*ids("1\n2"), *eot, *ids("3\n4")]

    def generate(prompt, stopping_criteria, **settings):
        ended = [bool(stopping_criteria(torch.tensor([[0, *written[:n]]]), None)) for n in range(1, len(written) + 1)]
        assert ended.index(True) == len(written) - 2, "the line break of the answer, not that of the reasoning"
        return torch.cat([prompt, torch.tensor([written])], dim=1)

    monkeypatch.setattr(lm.model, "generate", generate)
    monkeypatch.setattr(lm, "_prompt", lambda context: [0])
    (answer,) = lm.generate_until(asked("generate_until", ("q", {"until": ["\n"]})))
    assert answer == ("<reasoning>1\n2</reasoning><answer>3" if tags else "3")


def test_sampling_draws_and_greedy_does_not(lm):
    request = asked("generate_until", *[("1+2=", {"until": [], "max_gen_toks": 24, "temperature": 1.0})] * 4)
    greedy = asked("generate_until", *[("1+2=", {"until": [], "max_gen_toks": 24, "temperature": 0.0})] * 4)
    assert len(set(lm.generate_until(greedy))) == 1
    if not (lm.mode == "words" and lm.frame.latent.words_format == "markers"):  # its answers are mostly empty
        assert len(set(lm.generate_until(request))) > 1


def plainly(lm, ids, length):
    """Log-probability of the last `length` ids, token by token, and whether each is the most probable."""
    total, greedy = 0.0, True
    for end in range(len(ids) - length, len(ids)):
        with torch.no_grad():
            scores = lm.model(torch.tensor([ids[:end]])).logits[0, -1].log_softmax(-1)
        total += scores[ids[end]].item()
        scores[lm.frame.latent.thought_id] = float("-inf")
        greedy &= int(scores.argmax()) == ids[end]
    return total, greedy


def test_loglikelihood_equals_a_plain_computation(lm):
    pairs = [("1+2=", " 3"), ("1+2=", " thirty"), ("a longer context than the others", "7"), ("1+2=", "12")]
    frame, prompts = lm.frame, {}
    for context in {context for context, _ in pairs}:
        prompt = frame.prompt(context, lm.mode, lm.num_thoughts)
        if lm.mode == "words":
            tags = frame.latent.words_format == "tags"
            end = {} if tags else {"eos_token_id": [frame.end_id, frame.latent.eot_id]}
            out = lm.model.generate(torch.tensor([prompt]), max_new_tokens=lm.max_gen_toks, do_sample=False, **end)
            own = [i for i in out[0, len(prompt) :].tolist() if i not in (frame.end_id, frame.latent.eot_id)]
            text = lm.tokenizer.decode(own, skip_special_tokens=True)
            prompt += frame.text_ids(text + "<answer>") if tags else [*own, frame.latent.eot_id]
        prompts[context] = prompt
    found = lm.loglikelihood(asked("loglikelihood", *pairs))
    for (context, text), (score, greedy) in zip(pairs, found, strict=True):
        continuation = frame.text_ids(text.lstrip())
        expected = plainly(lm, [*prompts[context], *continuation], len(continuation))
        assert score == pytest.approx(expected[0], abs=1e-3)
        assert greedy == expected[1]


def test_what_greedy_decoding_writes_is_called_greedy(lm):
    if lm.mode == "words":
        pytest.skip("the reasoning comes first")
    prompt = lm.frame.prompt("1+2=", lm.mode, lm.num_thoughts)
    own = lm.model.generate(torch.tensor([prompt]), max_new_tokens=5, do_sample=False)[0, len(prompt) :].tolist()
    other = [own[0], (own[1] + 1) % 200 + 12]
    scores = score_continuations(lm.model, [prompt] * 3, [own, other, own[:2]], lm.frame.pad_id)
    assert [greedy for _, greedy in scores] == [True, False, True]


def test_rolling_scores_every_token_once_and_reads_no_thoughts(lm, monkeypatch):
    monkeypatch.setattr(lm, "limit", 8)
    text = "0123456789abcdefghi"
    ids = [lm.tokenizer.bos_token_id, *lm.frame.text_ids(text)]
    expected = plainly(lm, ids[:9], 8)[0]
    for start, end in pairwise((8, 16, len(ids) - 1)):
        window = ids[max(0, end - 8) : end + 1]
        expected += plainly(lm, window, end - start)[0]
    assert lm.loglikelihood_rolling(asked("loglikelihood_rolling", (text,))) == [pytest.approx(expected, abs=1e-3)]


def test_a_chat_context_gets_its_thoughts_behind_the_turns(lm, monkeypatch):
    monkeypatch.setattr(lm.tokenizer, "chat_template", CHAT)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+2="}]
    context = lm.apply_chat_template(turns)
    own = Frame(lm.tokenizer, replace(lm.frame.latent, system="Be brief."))
    assert lm._prompt(context) == own.prompt("1+2=", lm.mode, lm.num_thoughts)
    prefilled = lm.apply_chat_template([*turns, {"role": "model", "content": "It is"}], add_generation_prompt=False)
    assert prefilled.endswith("It is")


@pytest.mark.parametrize(
    "given", [{"colour": "red"}, {"mode": "loud"}, {"num_thoughts": -1}, {"p": 2}, {"batch_size": "auto"}]
)
def test_bad_arguments_are_told(given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        LatentGemmaLM("tiny", **given)


def test_what_cannot_be_run_is_told_in_one_line(capsys, local_tasks_alone):
    assert main(["harness"]) == 2
    assert "nothing to evaluate" in capsys.readouterr().err
    assert main(["harness", "--model_args", "pretrained=tiny", "--tasks", "nope"]) == 2
    assert "Tasks not found: nope" in capsys.readouterr().err.splitlines()[-1]

import itertools
import random
import re

import pytest

from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.local import read_file
from latent_gemma.data.prosqa import CONCEPTS, NAMES, ProsqaConfig, draw_graph, prosqa_examples
from latent_gemma.errors import ConfigError

ASKED = re.compile(r"Is (\w+) a (\w+) or (\w+)\?$")


def told(question):
    """The edges a question states: (lower, upper) symbols, from the text alone."""
    return re.findall(r"(?:Every )?(\w+) is a (\w+)\.", question)


def edge(sentence):
    (found,) = told(sentence)
    return found


def distances(edges, root):
    """Breadth first, written apart from the generator's own."""
    seen, queue = {root: 0}, [root]
    for node in queue:
        for lower, upper in edges:
            if lower == node and upper not in seen:
                seen[upper] = seen[node] + 1
                queue.append(upper)
    return seen


def check(example, low, high):
    """What makes a row of ProsQA right; whether the right option is named first."""
    edges = told(example.question)
    name, first, second = ASKED.search(example.question).groups()
    path = [edge(step) for step in example.steps]
    reached = distances(edges, name)
    answer = path[-1][1]
    (other,) = {first, second} - {answer}
    assert example.answer == f"{name} is a {answer}."
    assert set(path) <= set(edges)
    assert path[0][0] == name
    assert all(before[1] == after[0] for before, after in itertools.pairwise(path))
    assert len(path) == reached[answer]
    assert low <= len(path) <= high
    assert other not in reached
    assert len(set(edges)) == len(edges)
    return first == answer


@pytest.fixture(scope="module")
def rows():
    return list(itertools.islice(prosqa_examples(ProsqaConfig(), "train", 0), 2000))


def test_rows_are_right_and_the_options_balanced(rows):
    first = [check(example, 3, 6) for example in rows]
    assert 920 <= sum(first) <= 1080  # 3.6 standard deviations around 1,000
    assert {len(example.steps) for example in rows} == {3, 4, 5, 6}


def test_distance_does_not_give_the_answer_away(rows):
    """The wrong concept is as often the farther one from its own name as the right one is."""
    farther = nearer = 0
    for example in rows[:500]:
        edges = told(example.question)
        answer = edge(example.steps[-1])[1]
        (other,) = set(ASKED.search(example.question).groups()[1:]) - {answer}
        from_names = [distances(edges, name) for name in {lower for lower, _ in edges} & set(NAMES)]
        depth, wrong = (min(d[node] for d in from_names if node in d) for node in (answer, other))
        farther += depth > wrong
        nearer += depth < wrong
    assert abs(farther - nearer) <= 3.6 * (farther + nearer) ** 0.5


def test_sentences_stand_in_no_order(rows):
    """The first sentence of the path stands before the last one in half of the questions."""
    before = sum(e.question.index(e.steps[0]) < e.question.index(e.steps[-1]) for e in rows)
    assert 920 <= before <= 1080


def test_indices_say_nothing():
    rng = random.Random(0)
    graphs = [draw_graph(rng, ProsqaConfig()) for _ in range(300)]
    edges = [edge for graph in graphs for edge in graph.edges]
    assert 0.48 <= sum(lower < upper for lower, upper in edges) / len(edges) <= 0.52
    assert 110 <= sum(graph.target < graph.other for graph in graphs) <= 190
    for graph in graphs:
        assert sum(symbol in CONCEPTS for symbol in graph.symbols) == 20
        assert len(set(graph.symbols)) == len(graph.symbols)
        assert {symbol in NAMES for symbol in graph.symbols} == {True, False}


@pytest.mark.parametrize(("settings", "low", "high"), [("hops=1", 1, 1), ("hops=2-3;concepts=12", 2, 3), ("", 3, 6)])
def test_settings_arrive(settings, low, high):
    for example in load_examples(DataSpec(f"prosqa:{settings}", limit=40)):
        check(example, low, high)


def test_splits_and_seeds(rows):
    test = load_examples(DataSpec("prosqa", "test", limit=300))
    assert not {example.question for example in rows} & {example.question for example in test}
    assert rows[:50] == load_examples(DataSpec("prosqa", limit=50))
    assert rows[:50] != load_examples(DataSpec("prosqa", limit=50, seed=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("hops=0", "0 to 0 hops: give hops=3 or hops=3-6"),
        ("hops=6-3", "6 to 3 hops"),
        ("hops=three", "hops=three is no range: write hops=3 or hops=3-6"),
        ("hops=3-", "is no range"),
        ("concepts=39", "at most 38"),
        ("concepts=5;hops=3", "give at least two concepts a hop"),
        ("labels=rising", "unknown setting 'labels': known are hops, concepts"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError) as caught:
        load_examples(DataSpec(f"prosqa:{settings}", limit=1))
    assert message in str(caught.value)


def test_graphs_without_such_a_question_are_refused(monkeypatch):
    monkeypatch.setattr("latent_gemma.data.prosqa._PATIENCE", 3)
    with pytest.raises(ConfigError, match="no graph of 38 concepts has two paths of 19 to 19 hops: ask for fewer"):
        load_examples(DataSpec("prosqa:concepts=38;hops=19", limit=1))


def test_no_generated_question_is_a_published_one(published, rows):
    validation = list(read_file(published("prosqa/valid.json")))
    assert len(validation) == 300
    graphs = {frozenset(told(example.question)) for example in validation}
    generated = rows + load_examples(DataSpec("prosqa", "test", limit=300, seed=1))
    assert not graphs & {frozenset(told(example.question)) for example in generated}


def test_generated_graphs_are_like_the_published_ones(published, rows):
    def means(examples):
        count = len(examples)
        graphs = [told(example.question) for example in examples]
        nodes = sum(len({symbol for edge in graph for symbol in edge}) for graph in graphs)
        return nodes / count, sum(map(len, graphs)) / count, sum(len(example.steps) for example in examples) / count

    validation = list(read_file(published("prosqa/valid.json")))
    assert means(rows) == pytest.approx(means(validation), rel=0.05)


def test_published_rows_pass_the_same_checks(published):
    validation = list(read_file(published("prosqa/valid.json")))
    first = [check(example, 3, 6) for example in validation]
    assert sum(first) == 144
    symbols = {symbol for example in validation for edge in told(example.question) for symbol in edge}
    assert symbols == {*NAMES, *CONCEPTS}

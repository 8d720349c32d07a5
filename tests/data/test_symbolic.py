"""Graphs in letters, against networkx, which reads nothing but the text of the questions."""

import itertools
import random
import re

import networkx as nx
import pytest
import torch

from latent_gemma.data.example import Example
from latent_gemma.data.load import DataSpec, load_examples
from latent_gemma.data.symbolic import SymbolicConfig, symbolic_examples
from latent_gemma.errors import ConfigError
from latent_gemma.model import LatentConfig
from latent_gemma.model.prompt import Frame
from latent_gemma.model.tiny import build_tokenizer

TOLD = re.compile(r"((?:[a-z]{2}\|)*[a-z]{2})\[Q\]([a-z])([a-z])\[R\]([a-z])")
SMALL = SymbolicConfig(12, 12, 2, 3)


def read(question):
    """The graph a question tells of, its two options and its root."""
    edges, *asked = TOLD.fullmatch(question).groups()
    pairs = [tuple(edge) for edge in edges.split("|")]
    graph = nx.DiGraph(pairs)
    assert graph.number_of_edges() == len(pairs), "an edge stands there twice"
    return graph, asked[:2], asked[2]


def drawn(config, count, split="train", seed=0):
    return list(itertools.islice(symbolic_examples(config, split, seed), count))


@pytest.fixture(scope="module")
def small():
    return drawn(SMALL, 800)


PATHS = SymbolicConfig(10, 14, 3, 6, branches=False)


@pytest.mark.parametrize("config", [SMALL, SymbolicConfig(), SymbolicConfig(8, 10, 1, 2, "rising"), PATHS])
def test_the_answer_is_reached_in_as_many_hops_as_there_are_steps_and_the_other_is_not(config):
    rng, edges, nodes = random.Random(0), 0, 0
    for example in drawn(config, 60):
        for told in (example, example.told_anew(rng)):
            graph, options, root = read(told.question)
            assert nx.is_directed_acyclic_graph(graph)
            assert config.min_nodes <= len(graph) <= config.max_nodes
            assert len(told.steps) == nx.shortest_path_length(graph, root, told.answer)
            assert config.min_hops <= len(told.steps) <= config.max_hops
            assert nx.is_path(graph, [root, *told.steps])
            assert told.steps[-1] == told.answer
            (other,) = {*options} - {told.answer}
            assert not nx.has_path(graph, root, other)
            from_own_root = {nx.shortest_path_length(graph, node, other) for node in nx.ancestors(graph, other)}
            assert from_own_root & {*range(config.min_hops, config.max_hops + 1)}
        edges, nodes = edges + graph.number_of_edges(), nodes + len(graph)
    if config == SymbolicConfig():
        assert edges / nodes == pytest.approx(36.1 / 22.7, rel=0.08), "as the published graphs"


@pytest.mark.parametrize("labels", ["random", "rising"])
def test_without_branches_there_is_one_way_to_go_and_nothing_else_tells_the_answer(labels):
    config, last, deeper, lengths = SymbolicConfig(10, 14, 3, 6, labels, branches=False), 0, 0, set()
    for example in drawn(config, 400):
        graph, options, _ = read(example.question)
        assert max(degree for _, degree in graph.out_degree()) == 1
        (other,) = {*options} - {example.answer}
        above = [nx.ancestors(graph, end) | {end} for end in (example.answer, other)]
        hops = [nx.dag_longest_path_length(graph.subgraph(nodes)) for nodes in above]
        deeper += (hops[0] > hops[1]) + 0.5 * (hops[0] == hops[1])
        last += example.answer > other
        lengths.add(len(example.steps))
    assert lengths == {3, 4, 5, 6}
    assert deeper / 400 == pytest.approx(0.5, abs=0.09)  # 3.6 standard deviations
    assert last / 400 == pytest.approx(0.5, abs=0.09)


def marked(told):
    """A graph whose nodes say what the question asks of them."""
    graph, options, root = read(told.question)
    nx.set_node_attributes(
        graph, {node: (node == root, node in options, node == told.answer) for node in graph}, "asked"
    )
    return graph


@pytest.mark.parametrize("labels", ["random", "rising"])
def test_a_question_told_anew_asks_the_same_in_other_words(labels):
    for example in drawn(SymbolicConfig(12, 12, 2, 3, labels), 20):
        again = example.told_anew(random.Random(1))
        assert again == example.told_anew(random.Random(1)), "drawn from nothing but the generator"
        assert again.question != example.question
        same = nx.is_isomorphic(
            marked(again), marked(example), node_match=lambda one, other: one["asked"] == other["asked"]
        )
        assert same
        edges = [{*read(told.question)[0].edges} for told in (example, again)]
        assert (edges[0] == edges[1]) == (labels == "rising")
        if labels == "rising":
            assert all(lower < upper for lower, upper in edges[0])
    plain = Example("a", (), "b")
    assert plain.told_anew(random.Random(0)) is plain


def test_letters_and_places_say_nothing(small):
    first = rising = 0
    for example in small:
        graph, options, _ = read(example.question)
        first += options[0] == example.answer
        rising += sum(lower < upper for lower, upper in graph.edges) / graph.number_of_edges()
    assert first / len(small) == pytest.approx(0.5, abs=0.065)  # 3.6 standard deviations
    assert rising / len(small) == pytest.approx(0.5, abs=0.03)


def features(example):
    """What can be seen of the first option less that of the second, without following two edges in a row."""
    graph, options, root = read(example.question)
    place = {node: example.question.index(node) for node in graph}
    roots = [
        [
            graph.in_degree(node), graph.out_degree(node), place[node], ord(node), place[node] < place[root],
            node < root, len({*graph.successors(root)} & {*graph.predecessors(node)}),
            sum(graph.in_degree(parent) for parent in graph.predecessors(node)),
            sum(graph.out_degree(parent) for parent in graph.predecessors(node)),
        ]
        for node in options
    ]  # fmt: skip
    return [float(a - b) for a, b in zip(*roots, strict=True)], options[0] == example.answer


@pytest.mark.parametrize("labels", ["random", "rising"])
def test_options_look_alike_to_who_does_not_follow_edges(labels):
    """A logistic regression on half of the graphs stays at chance on the others."""
    rows = [features(example) for example in drawn(SymbolicConfig(16, 16, 3, 3, labels), 300)]
    x, y = torch.tensor([row for row, _ in rows]), torch.tensor([float(first) for _, first in rows])
    x = x / x.std(0).clamp(min=1e-6)
    weight = torch.zeros(x.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100)

    def loss():
        optimizer.zero_grad()
        value = (
            torch.nn.functional.binary_cross_entropy_with_logits(x[::2] @ weight, y[::2]) + 0.01 * weight.square().sum()
        )
        value.backward()
        return value

    optimizer.step(loss)
    right = ((x[1::2] @ weight > 0) == y[1::2].bool()).float().mean()
    assert right == pytest.approx(0.5, abs=0.15)  # 3.7 standard deviations


@pytest.mark.filterwarnings("ignore:The hashes produced for directed graphs changed")
def test_no_graph_is_in_two_splits_however_its_nodes_are_named():
    """Of graphs so small that they come up again and again; the shapes are networkx's."""
    family = SymbolicConfig(4, 6, 1, 2)
    shapes = {
        split: {
            nx.weisfeiler_lehman_graph_hash(marked(told), node_attr="asked", iterations=6)
            for told in drawn(family, 120, split, seed)
        }
        for split, seed in (("train", 0), ("validation", 1), ("test", 2))
    }
    assert all(len(found) < 120 for found in shapes.values()), "none came up twice"
    for one, other in itertools.combinations(shapes.values(), 2):
        assert not one & other


def test_a_node_is_a_token():
    frame = Frame(build_tokenizer(["[Q]", "[R]"]), LatentConfig(step_separator=""))
    for example in drawn(SymbolicConfig(26, 26, 3, 3), 5):
        edges = read(example.question)[0].number_of_edges()
        assert len(frame.question_ids(example.question)) == len("<") + 3 * edges - 1 + len("QxyRz") + len("\n")
        assert [len(frame.text_ids(step)) for step in example.steps] == [1, 1, 1]


def test_settings_arrive_and_what_cannot_be_is_refused():
    (example,) = load_examples(DataSpec("prosqa:nodes=8-9;hops=1-2;labels=rising", "validation", limit=1))
    graph, _, _ = read(example.question)
    assert len(graph) in (8, 9)
    assert all(lower < upper for lower, upper in graph.edges)
    for settings, said in {
        "nodes=7;hops=3": "7 to 7 nodes and 3 hops", "nodes=27": "at most 26", "nodes=12;hops=3-2": "3 to 2 hops",
        "nodes=12;labels=old": "give labels=random or labels=rising",
        "nodes=12;concepts=4": "unknown setting 'concepts': known are nodes, hops, labels, branches",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=re.escape(said)):
            load_examples(DataSpec(f"prosqa:{settings}", limit=1))

"""ProsQA in symbols, one letter a node: which of two nodes a root reaches, told anew in every pass over the data."""

import hashlib
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from latent_gemma.data.example import Example
from latent_gemma.data.prosqa import Graph, grow_question
from latent_gemma.data.splits import Split, only_split
from latent_gemma.errors import ConfigError

Labels = Literal["random", "rising"]
#: In one case: answers are compared without regard to it.
LETTERS = string.ascii_lowercase
#: Rounds in which nodes hear of their neighbours' neighbours: more of them tell more graphs apart.
_ROUNDS = 3


@dataclass(frozen=True)
class SymbolicConfig:
    """A family of questions.

    Args:
        min_nodes: fewest nodes of a graph.
        max_nodes: most nodes of it, at most 26; the published graphs have 22.7.
        min_hops: fewest edges on the shortest path from the root to its node.
        max_hops: most edges on it.
        labels: letters drawn at random in each telling, or "rising" along every edge, the same in all of them: as
            published, and a shortcut.
        branches: False has at most one edge leave a node, so that looking edges up is all that a question takes: long
            paths to warm up on.
    """

    min_nodes: int = 23
    max_nodes: int = 23
    min_hops: int = 3
    max_hops: int = 4
    labels: Labels = "random"
    branches: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.min_hops <= self.max_hops:
            raise ConfigError(f"prosqa with {self.min_hops} to {self.max_hops} hops", "give hops=3 or hops=3-4")
        if not 2 * (self.min_hops + 1) <= self.min_nodes <= self.max_nodes <= len(LETTERS):
            raise ConfigError(
                f"prosqa with {self.min_nodes} to {self.max_nodes} nodes and {self.min_hops} hops",
                f"give two paths' nodes at least, at most {len(LETTERS)}",
            )
        if self.labels not in ("random", "rising"):
            raise ConfigError(f"prosqa with labels={self.labels}", "give labels=random or labels=rising")


@dataclass(frozen=True, kw_only=True)
class SymbolicExample(Example):
    """A question that each pass over the data tells anew.

    Args:
        graph: what it asks about; nodes are numbered in the order in which they grew.
        letters: those it may use.
        labels: see `SymbolicConfig`.
    """

    graph: Graph
    letters: str
    labels: Labels

    def told_anew(self, rng: random.Random) -> "SymbolicExample":
        """The same question with its edges, its options, its path among the shortest and its letters drawn again."""
        return _tell(rng, self.graph, self.letters, self.labels)


def _tell(rng: random.Random, graph: Graph, letters: str, labels: Labels) -> SymbolicExample:
    named = rng.sample(letters, len(letters)) if labels == "random" else letters
    edges, options = list(graph.edges), [graph.target, graph.other]
    rng.shuffle(edges)
    rng.shuffle(options)
    told = "|".join(named[lower] + named[upper] for lower, upper in edges)
    asked = "".join(named[option] for option in options)
    steps = tuple(named[upper] for _, upper in graph.path(rng))
    return SymbolicExample(
        f"{told}[Q]{asked}[R]{named[graph.root]}", steps, named[graph.target], graph=graph, letters=letters,
        labels=labels,
    )  # fmt: skip


def _grow_paths(rng: random.Random, config: SymbolicConfig, nodes: int) -> Graph:
    """Two paths from roots of their own, joined on the way by what nodes are left; numbered as others are."""
    most = min(config.max_hops, nodes - config.min_hops - 2)
    one = rng.randint(config.min_hops, most)
    two = rng.randint(config.min_hops, min(most, nodes - one - 2))
    # Upwards from the ends, and turned round below: parents come before children.
    paths = [(one, 0), (one + two + 1, one + 1)]
    edges = [(node, node - 1) for root, end in paths for node in range(end + 1, root + 1)]
    joined = [node for node in range(one + two + 2) if node not in (one, one + two + 1)]
    for node in range(one + two + 2, nodes):
        edges.append((node, rng.choice(joined)))
        joined.append(node)
    (root, target), (_, other) = rng.sample(paths, 2)
    root, target, other = (nodes - 1 - node for node in (root, target, other))
    return Graph(nodes, tuple((nodes - 1 - lower, nodes - 1 - upper) for lower, upper in edges), root, target, other)


def _shape(example: SymbolicExample) -> str:
    """The same for questions that differ by how their nodes are numbered alone (and for a few others)."""
    graph, asked = example.graph, (example.graph.root, example.graph.target, example.graph.other)
    colours = [str(node in asked and asked.index(node)) for node in range(graph.nodes)]
    above, below = ([list[int]() for _ in colours] for _ in range(2))
    for lower, upper in graph.edges:
        above[lower].append(upper)
        below[upper].append(lower)
    for _ in range(_ROUNDS):
        heard = [
            f"{colours[node]} {sorted(colours[upper] for upper in above[node])} "
            f"{sorted(colours[lower] for lower in below[node])}"
            for node in range(graph.nodes)
        ]
        colours = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in heard]
    return " ".join(sorted(colours))


def symbolic_examples(config: SymbolicConfig, split: Split, seed: int) -> Iterator[SymbolicExample]:
    """Questions such as "ab|bc|..[Q]cf[R]a": edges, two nodes, and the root that reaches one of them.

    Args:
        config: the family.
        split: "train", "validation" or "test"; no two share a graph, however its nodes are numbered.
        seed: of the generator.

    Returns:
        Examples without end; the steps are the nodes of a shortest path behind the root, the answer is its last.

    Source: Zhu et al. 2025 (Reasoning by Superposition, arXiv 2505.12514), section 5, a part of ProsQA in symbols. It
    differs: letters are drawn at random unless `labels` says otherwise; the wrong node is as deep under its own root
    as the right one (theirs is nearer, and has a third more edges that end in it); sizes are drawn evenly.
    """
    rng = random.Random(seed)

    def draw() -> SymbolicExample:
        nodes = rng.randint(config.min_nodes, config.max_nodes)
        if config.branches:
            graph = grow_question(rng, config.min_hops, config.max_hops, nodes=nodes)
        else:
            graph = _grow_paths(rng, config, nodes)
        return _tell(rng, graph, LETTERS[: config.max_nodes], config.labels)

    return only_split(iter(draw, None), split, _shape)

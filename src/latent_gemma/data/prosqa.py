"""ProsQA: which of two concepts a named one is, told by a graph of "every A is a B"."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from latent_gemma.data.example import Example
from latent_gemma.data.splits import Split, only_split
from latent_gemma.errors import ConfigError

_PEOPLE = "Alex Bob Carol Davis Eva Fae Gabriel Jack Max Oliver Polly Rex Sally Sam Stella Tom Wren"
_CREATURES = """
bompus boompus brimpus chorpus dumpus felpus fompus gerpus gorpus grimpus gwompus hilpus impus jelpus jompus kerpus
lempus lorpus numpus quimpus rempus rompus rorpus scrompus shumpus sterpus storpus terpus timpus tumpus vumpus worpus
wumpus yerpus yimpus yumpus zhorpus zumpus
"""
NAMES = tuple(_PEOPLE.split())
CONCEPTS = tuple(_CREATURES.split())
#: How often a concept is drawn under none, one, .. others: with what is then kept, close to the published numbers.
_PARENTS = (2, 38, 33, 19, 8)
#: Graphs drawn without a question in them after which a family counts as impossible.
_PATIENCE = 100_000


@dataclass(frozen=True)
class ProsqaConfig:
    """A family of questions.

    Args:
        concepts: concepts in a graph, at most 38; the published graphs have about 20.
        min_hops: fewest sentences on the shortest path from the name to its concept.
        max_hops: most sentences on it. Long paths are rare in small graphs: 6 hops alone take half a second a row.
    """

    concepts: int = 20
    min_hops: int = 3
    max_hops: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.min_hops <= self.max_hops:
            raise ConfigError(f"prosqa with {self.min_hops} to {self.max_hops} hops", "give hops=3 or hops=3-6")
        if not 2 * self.min_hops <= self.concepts <= len(CONCEPTS):
            raise ConfigError(
                f"prosqa with {self.concepts} concepts and {self.min_hops} hops",
                f"give at least two concepts a hop, at most {len(CONCEPTS)}",
            )


@dataclass(frozen=True)
class Graph:
    """A graph and the question about it.

    Args:
        nodes: how many it has.
        edges: pairs of node indices, "the first is a the second".
        root: the node that is asked about.
        target: the concept it is.
        other: the concept it is not, though another name is.
    """

    nodes: int
    edges: tuple[tuple[int, int], ...]
    root: int
    target: int
    other: int

    def path(self, rng: random.Random) -> tuple[tuple[int, int], ...]:
        """One of the shortest paths from root to target, as edges in order."""
        edges = list(self.edges)
        rng.shuffle(edges)
        came_by, frontier = {self.root: (self.root, self.root)}, [self.root]
        while self.target not in came_by:
            found = {upper: (lower, upper) for lower, upper in edges if lower in frontier and upper not in came_by}
            came_by |= found
            frontier = list(found)
        path, node = list[tuple[int, int]](), self.target
        while node != self.root:
            path.append(came_by[node])
            node = came_by[node][0]
        return tuple(reversed(path))


@dataclass(frozen=True)
class NamedGraph(Graph):
    """A graph in words; no index says anything about a node's place.

    Args:
        symbols: name or concept of each node.
    """

    symbols: tuple[str, ...]

    def sentence(self, edge: tuple[int, int]) -> str:
        """An edge in words: "Tom is a terpus." or "Every terpus is a brimpus."."""
        lower, upper = (self.symbols[node] for node in edge)
        return f"{lower} is a {upper}." if lower in NAMES else f"Every {lower} is a {upper}."


def _parents(rng: random.Random, depths: list[dict[int, int]]) -> list[int]:
    """The nodes a new one stands under: deep ones rather than shallow ones, seldom of both sides."""
    side = rng.choices((0, 1, None), (42, 42, 16))[0]
    candidates = [node for node, depth in enumerate(depths) if side is None or side not in depth]
    count = rng.choices(range(len(_PARENTS)), _PARENTS)[0]
    # The largest of these powers are a weighted sample without repetition (Efraimidis and Spirakis 2006).
    luck = {node: rng.random() ** (1 / (1 + min(depths[node].values(), default=0) ** 3)) for node in candidates}
    return sorted(candidates, key=lambda node: luck[node])[len(candidates) - min(count, len(candidates)) :]


def _grow(
    rng: random.Random, concepts: int | None, nodes: int | None
) -> tuple[list[tuple[int, int]], list[dict[int, int]]]:
    """A graph that grows node by node; for each node the distance from each of the two roots that reach it."""
    edges, depths, grown = list[tuple[int, int]](), [{0: 0}, {1: 0}], 0
    while grown != concepts and len(depths) != nodes:
        parents = _parents(rng, depths)
        reached = dict[int, int]()
        for parent in parents:
            edges.append((parent, len(depths)))
            for root, depth in depths[parent].items():
                reached[root] = min(depth + 1, reached.get(root, depth + 1))
        grown += bool(parents)
        depths.append(reached)
    return edges, depths


def grow_question(
    rng: random.Random, min_hops: int, max_hops: int, concepts: int | None = None, nodes: int | None = None
) -> Graph:
    """Draw a graph and a question.

    Args:
        rng: the generator.
        min_hops: fewest edges on the shortest path to either concept from its own root.
        max_hops: most edges on it.
        concepts: size of the graph in nodes that stand under others; or else
        nodes: its size in all nodes, each of them on an edge, with as many parentless ones as words have names.

    Returns:
        The graph. Both concepts stand at the end of their paths, each within the hops from its own root and out of the
        other root's reach: only the edges tell them apart. Nodes are numbered as they grew, parents before children.

    Raises:
        ConfigError: if graphs of this family hold no such question.
    """
    for _ in range(_PATIENCE):
        edges, depths = _grow(rng, concepts, nodes)
        lower = {edge[0] for edge in edges}
        # Concepts at the end of a path, by the one root that reaches them.
        ends: tuple[list[int], list[int]] = ([], [])
        for node, reached in enumerate(depths):
            if node not in lower and len(reached) == 1:
                root, depth = next(iter(reached.items()))
                if min_hops <= depth <= max_hops:
                    ends[root].append(node)
        alone = set(range(len(depths))) - {node for edge in edges for node in edge}
        named = set(range(len(depths))) - {upper for _, upper in edges}
        if all(ends) and len(named) <= len(NAMES) and not (nodes and alone):
            break
    else:
        size = f"{nodes} nodes" if nodes else f"{concepts} concepts"
        raise ConfigError(
            f"no graph of {size} has two paths of {min_hops} to {max_hops} hops", "ask for fewer hops or more of them"
        )
    root = rng.randrange(2)
    target, other = rng.choice(ends[root]), rng.choice(ends[1 - root])
    return Graph(len(depths), tuple(edges), root, target, other)


def draw_graph(rng: random.Random, config: ProsqaConfig) -> NamedGraph:
    """Draw a graph and a question, see `grow_question`, with nodes numbered and named at random."""
    grown = grow_question(rng, config.min_hops, config.max_hops, concepts=config.concepts)
    named = set(range(grown.nodes)) - {upper for _, upper in grown.edges}
    names, concepts = iter(rng.sample(NAMES, len(named))), iter(rng.sample(CONCEPTS, config.concepts))
    number = rng.sample(range(grown.nodes), grown.nodes)
    symbols = [""] * grown.nodes
    for node, index in enumerate(number):
        symbols[index] = next(names) if node in named else next(concepts)
    edges = list(grown.edges)
    rng.shuffle(edges)
    numbered = tuple((number[lower], number[upper]) for lower, upper in edges)
    root, target, other = number[grown.root], number[grown.target], number[grown.other]
    return NamedGraph(grown.nodes, numbered, root, target, other, tuple(symbols))


def _draw(rng: random.Random, config: ProsqaConfig) -> Example:
    graph = draw_graph(rng, config)
    name, answer, other = (graph.symbols[node] for node in (graph.root, graph.target, graph.other))
    first, second = (answer, other) if rng.random() < 0.5 else (other, answer)
    told = " ".join(graph.sentence(edge) for edge in graph.edges)
    steps = tuple(graph.sentence(edge) for edge in graph.path(rng))
    return Example(f"{told} Is {name} a {first} or {second}?", steps, f"{name} is a {answer}.")


def prosqa_examples(config: ProsqaConfig, split: Split, seed: int) -> Iterator[Example]:
    """Questions in the published wording, "Tom is a terpus. Every terpus is a .. Is Tom a lempus or scrompus?".

    Args:
        config: the family.
        split: "train" or "test"; the two never share a question.
        seed: of the generator.

    Returns:
        Examples without end; the steps are a shortest path, the right answer is named first in half of them.

    Source: Hao et al. 2024, COCONUT (arXiv 2412.06769), appendix on ProsQA. Differs: the odds by which a graph grows
    are fitted to the published validation file; node numbers are shuffled (theirs rise along every edge); the wrong
    concept is as far from its own name as the right one from its (theirs is often nearer), so that distance gives
    nothing away.
    """
    rng = random.Random(seed)
    return only_split(iter(lambda: _draw(rng, config), None), split)

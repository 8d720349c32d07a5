"""Times that can be compared: every method in turns, what warms up not counted."""

import pytest

from latent_gemma.evaluation import timing
from latent_gemma.evaluation.results import EvalRow
from latent_gemma.evaluation.timing import LEAST, MOST, Timing, sample_size, time_in_turns, with_times
from tests.inspection.conftest import make_row


class Machine:
    """Answers take what a list says, the first after each loading ten times as long; everything is noted."""

    def __init__(self):
        self.log = []

    def method(self, name, seconds):
        def load():
            self.log.append(f"load {name}")
            asked = [0]

            def ask():
                asked[0] += 1
                self.log.append(name)
                return 10 * seconds[0] if asked[0] == 1 else seconds.pop(0)

            return ask

        return load


def test_methods_take_turns_and_the_first_asking_is_not_counted():
    machine = Machine()
    methods = {"a": machine.method("a", [1.0, 3.0, 2.0]), "b": machine.method("b", [5.0, 5.0, 9.0])}
    assert time_in_turns(methods, took_s=0.0) == {"a": Timing(2.0, 1.0, 3.0), "b": Timing(5.0, 5.0, 9.0)}
    assert machine.log == ["load a", "a", "a", "load b", "b", "b"] * LEAST


def test_a_single_method_stays_loaded():
    machine = Machine()
    assert time_in_turns({"a": machine.method("a", [4.0, 1.0, 2.0])}, 0.0) == {"a": Timing(2.0, 1.0, 4.0)}
    assert machine.log == ["load a", *["a"] * (LEAST + 1)]


@pytest.mark.parametrize(("took_s", "turns"), [(0.0, LEAST), (18.0, 4), (1000.0, MOST)])
def test_more_turns_where_they_cost_little_beside_the_measuring(took_s, turns, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])

    def load():
        def ask():
            now[0] += 1.0
            return 1.0

        return ask

    time_in_turns({"a": load}, took_s)
    assert now[0] == turns + 1, "18 s allow 4.5, and three turns with the warming up have taken 4"


def test_few_questions_are_asked_again():
    assert [sample_size(n, 64) for n in (1, 15, 160, 500, 10_000)] == [1, 1, 10, 31, 64]


def test_only_the_main_setting_is_timed():
    rows = [make_row("a", 2, 5, p=0.0), make_row("a", 2, 5, p=0.0, control="zero"), make_row("b", 0, 5)]
    main, control, other = with_times(rows, {"a": Timing(2.0, 1.0, 3.0)})
    assert (main.seconds_per_answer, main.seconds_range) == (2.0, (1.0, 3.0))
    assert (control, other) == (rows[1], rows[2])


def test_seconds_of_an_older_version_are_not_believed():
    data = {**make_row("a", 0, 5).__dict__, "seconds_per_answer": 0.1, "accuracy": 0.1}
    assert EvalRow.from_dict(data).seconds_per_answer is None
    assert EvalRow.from_dict(data | {"seconds_range": [0.05, 0.2]}).seconds_range == (0.05, 0.2)

"""The search for the fewest linears that have to stay in float, of a made-up model."""

import pytest

from toolkit.sensitivity import Goal, Score, search

# a made-up model: each linear that is in int costs its harm in F1, and as much in percent of the answers
HARM = {"a": 0.5, "b": 0.02, "c": 0.3, "d": 0.01, "e": 0.06}
WORK = {"a": 0.1, "b": 0.1, "c": 0.4, "d": 0.2, "e": 0.2}


def found(goal, harm=HARM, floor=0.0):
    calls = []

    def evaluate(names):
        calls.append(tuple(names))
        drop = floor + sum(cost for name, cost in harm.items() if name not in names)
        return Score(80 - drop, drop, 100 - drop, round(10 * drop))

    result = search(WORK, HARM, evaluate, goal)
    assert len(set(calls)) == len(calls) and [names for names, _ in result.tried] == calls
    return result


@pytest.mark.parametrize(
    "goal, names",
    [
        (Goal(1.0), ()),
        (Goal(0.4), ("a",)),
        (Goal(0.1), ("a", "c")),
        (Goal(0.05), ("a", "c", "e")),
        (Goal(1.0, min_equal=99.5), ("a",)),
        (Goal(0.0), ("a", "b", "c", "d", "e")),
    ],
    ids=["none", "one", "two", "three", "equal", "all"],
)
def test_the_fewest_that_reach_the_goal(goal, names):
    result = found(goal)
    assert result.names == names and result.reached and goal.missed_by(result.score) == 0


def test_what_turns_out_harmless_goes_back():
    """By its error "a" comes first, but it changes nothing."""
    assert found(Goal(0.1), harm={**HARM, "a": 0.0}).names == ("c",)


def test_a_goal_out_of_reach():
    result = found(Goal(0.1, min_equal=99.95), floor=0.2)
    assert not result.reached and result.names == ("a", "b", "c", "d", "e")
    assert [len(names) for names, _ in result.tried] == [0, 5, 2, 3, 4]

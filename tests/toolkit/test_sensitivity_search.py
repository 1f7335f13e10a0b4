"""The search for the fewest linears that have to stay in float, of a made-up model."""

import pytest

from toolkit.sensitivity import Found, Goal, Score, confirmed, search

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


@pytest.mark.parametrize(
    "more, names, tried",
    [
        ({}, ("a",), 1),  # all hold
        ({("a",): 0.3}, ("a", "b"), 2),  # the least does not
        ({("a",): 0.9, ("a", "b"): 0.5, ("a", "c"): 0.4}, ("a", "c"), 3),  # none does
    ],
    ids=["the least work", "the next", "the best of none"],
)
def test_a_recipe_is_measured_by_itself_before_it_is_written(more, names, tried):
    """more: what calibration by itself costs a set besides."""
    goal = Goal(0.4)
    scores = {(): 0.89, ("a",): 0.39, ("a", "b"): 0.37, ("a", "c"): 0.09, ("a", "b", "c"): 0.07}
    tried_before = tuple((key, Score(80, drop, 99, 4)) for key, drop in scores.items())
    found, calls = Found(("a",), tried_before[1][1], True, tried_before), []

    def evaluate(kept):
        calls.append(kept)
        return Score(80, scores[kept] + more.get(kept, 0), 99, 4)

    result = confirmed(found, WORK, evaluate, goal)
    assert result.names == names and len(calls) == tried
    assert result.reached == (goal.missed_by(result.score) == 0) == (tried < 3)
    assert result.score == Score(80, scores[names] + more.get(names, 0), 99, 4) and result.tried == found.tried


def test_what_was_not_reached_is_measured_by_itself_too():
    found = Found(("a",), Score(80, 0.6, 99, 6), False, ((("a",), Score(80, 0.6, 99, 6)),))
    result = confirmed(found, WORK, lambda names: Score(80, 0.2, 99, 2), Goal(0.4))
    assert result.names == ("a",) and result.reached and result.score.drop == 0.2

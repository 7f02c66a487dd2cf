"""Replays where there is no card: a stand-in does again what a graph would, and refuses what a graph could not."""

import pytest
import torch
from helpers import StandIn

from mlworkbench.network.replay import WARM, Replayed


def test_a_replay_sees_the_tensors_of_its_own_call_and_what_it_told_stays():
    kept, stand_in = torch.zeros(2), StandIn()
    replay = Replayed(lambda x, by: kept.add_(x * by), stand_in)
    told = []
    for number in range(1, 9):
        given = torch.full((2,), float(number))
        told.append(replay(given, torch.tensor(2.0)))
        given.zero_()
    assert [each[0].item() for each in told[WARM:]] == [2.0 * sum(range(n + 1)) for n in range(WARM + 1, 9)]
    assert stand_in.calls == {"once": WARM, "record": 1, "replay": 8 - WARM}


def test_each_length_is_recorded_once():
    stand_in = StandIn()
    replay = Replayed(lambda x: x.sum(), stand_in)
    for _ in range(WARM + 2):
        for size in (3, 2):
            assert replay(torch.ones(size)).item() == size
    assert stand_in.calls == {"once": 2 * WARM, "record": 2, "replay": 4}


def test_the_stand_in_refuses_what_a_graph_cannot_hold():
    replay = Replayed(lambda x: x if x.sum() > 0 else -x, StandIn())
    with pytest.raises(AssertionError, match="waits for the device"):
        for _ in range(WARM + 1):
            replay(torch.ones(2))

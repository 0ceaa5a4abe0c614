"""The time of a service that goes on, while the machine's clock is set."""

import pytest

from bot.clock import AGREE, LASTS, STEP, Clock

START = 1_774_000_000.0
YEAR = 365 * 86_400.0


class Machine:
    """A machine's clock, and how long it has been up."""

    def __init__(self) -> None:
        self.wall, self.up = START, 1000.0
        self.told: list[float] = []
        self.clock = self.started()

    def started(self, offset: float | None = None) -> Clock:
        made = Clock(offset, lambda: self.wall, lambda: self.up)
        made.told = self.told.append
        return made

    def go(self, seconds: float) -> float:
        """Let time pass; what the clock says then."""
        self.wall += seconds
        self.up += seconds
        return self.clock()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_it_goes_as_time_does(machine: Machine) -> None:
    assert machine.go(10) == START + 10
    machine.wall += STEP
    assert machine.go(10) == START + 20 + STEP, 'a small correction is followed'
    assert machine.told == []


@pytest.mark.parametrize('jump', [YEAR, -YEAR, 5 * 3600.0, -STEP - 1])
def test_a_jump_is_not_believed_at_first(machine: Machine, jump: float) -> None:
    machine.wall += jump
    assert machine.go(10) == START + 10
    assert machine.go(LASTS / 2) == START + 10 + LASTS / 2
    assert machine.told == [jump], 'it is said once'
    machine.wall -= jump
    assert machine.go(10) == START + 20 + LASTS / 2


@pytest.mark.parametrize('jump', [YEAR, -YEAR])
def test_a_jump_that_lasts_is_believed(machine: Machine, jump: float) -> None:
    machine.wall += jump
    machine.go(1)
    assert machine.go(LASTS) == START + jump + LASTS + 1


def test_a_witness_confirms_a_jump_or_speaks_against_it(machine: Machine) -> None:
    machine.wall += YEAR
    machine.go(1)
    for _ in range(5):
        machine.clock.heard(machine.up - 1000 + START)
        assert machine.go(LASTS - 1) < START + YEAR
    machine.clock.heard(machine.wall - AGREE / 2)
    assert machine.go(1) == machine.wall


def test_a_witness_who_spoke_long_ago_says_nothing(machine: Machine) -> None:
    machine.clock.heard(START - YEAR)
    machine.clock.heard(None)
    assert machine.go(1) == START + 1


def test_it_does_not_begin_before_what_has_been(machine: Machine) -> None:
    machine.wall = 0.0  # a machine without a battery
    clock = machine.started()
    clock.not_before(START)
    assert clock() == START
    machine.wall = START + 300  # and then it hears the time
    machine.up += 10
    assert clock() == START + 10
    clock.heard(START + 299)
    assert clock() == START + 300


def test_another_process_has_the_same_time(machine: Machine) -> None:
    machine.wall += YEAR
    assert machine.started(machine.clock.offset)() == machine.clock() == START

"""Which of the processes that failed began it."""

from dataclasses import dataclass

import pytest

from recbole_hellm.distributed.launch import _told
from recbole_hellm.errors import HellmError


@dataclass
class Failure:
    exitcode: int
    local_rank: int = 0
    pid: int = 7


@pytest.mark.parametrize(
    ("codes", "code"),
    [((2, -15), 2), ((-15, 2), 2), ((69, 75), 75), ((1, 69), 1), ((69, 69), 69)],
)
def test_who_began_it_gives_the_exit_code(codes, code):
    assert _told([Failure(found, place) for place, found in enumerate(codes)]) == code


@pytest.mark.parametrize("codes", [(-9, 69), (69, -9), (-15, -9), (-9, -15)])
def test_a_process_that_was_killed_is_named(codes):
    place = codes.index(-9)
    with pytest.raises(HellmError, match=rf"process {place} \(pid 7\) of this run was ended by SIGKILL, often because"):
        _told([Failure(found, number) for number, found in enumerate(codes)])


def test_one_that_was_ended_from_outside_is_named():
    with pytest.raises(HellmError, match="ended by SIGTERM"):
        _told([Failure(-15), Failure(-15)])

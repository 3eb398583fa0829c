"""Where a scan ends inside the head, and where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ct_ich_series import CtIchHead
from head_shapes import shape_head

from ich_node.infer.say import skull
from ich_node.infer.see.crop import crop

HEAD = shape_head(50, 96)


def covered(keep):
    hu = HEAD.hu[keep]
    volume = CtIchHead("", hu, hu.any(axis=(1, 2)), HEAD.spacing_mm).volume()
    return skull.coverage(volume, skull.inside(volume, crop(volume)))


def test_a_whole_head_is_covered_at_both_ends():
    found = covered(slice(0, 50))
    assert found.whole and found.mm == 250


@pytest.mark.parametrize(
    ("keep", "vertex", "base"),
    [
        (slice(0, 38), False, True),
        (slice(0, 25), False, True),
        (slice(14, 50), True, False),
        (slice(25, 50), True, False),
        (slice(15, 35), False, False),
    ],
)
def test_a_scan_that_ends_inside_the_head_is_noticed_at_that_end(keep, vertex, base):
    found = covered(keep)
    assert (found.vertex, found.base) == (vertex, base)


def test_without_a_skull_nothing_is_known_to_be_covered():
    hu = HEAD.hu.clip(-1024, 60)
    volume = CtIchHead("", hu, hu.any(axis=(1, 2)), HEAD.spacing_mm).volume()
    space = skull.inside(volume, crop(volume))
    assert not skull.coverage(volume, replace(space, mask=space.mask & False)).whole

"""The picture of what is missed shows the worst slice of each study, with the lesion outlined."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
from ich_node.training.evaluate.misses import GREEN, SHOWN, TILE, Slice, sheet, worst

pytestmark = pytest.mark.train
HU = np.full((64, 64), 40, np.int16)


def made(logit, bleeding):
    mask = np.zeros(HU.shape, np.bool_)
    mask[20:30, 20:30] = bleeding
    return Slice(HU, mask, logit)


def test_the_least_of_the_ill_and_the_most_of_the_well():
    missed, alarm = worst([made(2, True), made(-1, True), made(-3, False), made(1, False)])
    assert (missed.logit, alarm.logit) == (-1, 1)
    assert worst([made(0, False)])[0] is None


def test_only_a_lesion_is_outlined_and_a_short_line_ends_black():
    line = sheet([made(0, True), made(0, False)])
    assert line.shape == (TILE, SHOWN * TILE, 3)
    green = (line == GREEN).all(axis=2)
    assert green[:, :TILE].any()
    assert not green[:, TILE:].any()
    assert line[:, TILE : 2 * TILE].min() > 100
    assert line[:, 2 * TILE :].max() == 0

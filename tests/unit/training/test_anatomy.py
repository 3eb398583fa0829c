"""Heads are held against anatomy: a source at the wrong scale, or not in HU, is not trained on."""

import numpy as np
import pytest

from ich_node.infer.see.crop import crop_stack
from ich_node.phantom.head import phantom
from ich_node.training.data import anatomy


@pytest.fixture(scope="module")
def head():
    return phantom(None, seed=2, rows=256, columns=256)


def figures(hu, spacing_mm):
    return anatomy.table([anatomy.measure(crop_stack(hu, spacing_mm))])


def test_a_phantom_has_the_size_and_the_hu_of_a_person(head):
    found = figures(head.hu, head.spacing_mm)
    anatomy.require_human("phantoms", found)
    assert found["share_at_limit"] == 0


def test_a_pixel_that_is_a_quarter_too_large_is_found_by_the_length_and_the_limit_of_the_box(head):
    step, row, column = head.spacing_mm
    found = figures(head.hu, (step, row * 1.3, column * 1.3))
    with pytest.raises(anatomy.NotHumanError, match=r"length_mm.*share_at_limit"):
        anatomy.require_human("phantoms", found)


def test_heads_that_are_too_small_are_refused(head):
    step, row, column = head.spacing_mm
    with pytest.raises(anatomy.NotHumanError, match="width_mm"):
        anatomy.require_human("phantoms", figures(head.hu, (step, row * 0.75, column * 0.75)))


def test_stored_values_that_were_not_rescaled_are_no_heads(head):
    with pytest.raises(anatomy.NotHumanError):
        anatomy.require_human("phantoms", figures(np.clip(head.hu + 1024, 0, 4095).astype(np.int16), head.spacing_mm))

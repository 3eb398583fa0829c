"""Real heads as DICOM: written, judged by their headers, read back as HU, judged by their pixels."""

from __future__ import annotations

import ct_ich_series
import numpy as np
import pytest

from ich_node.dicom import eligibility
from ich_node.infer.see import gates, pixels
from ich_node.infer.see.volume import read_volume

POSITIVE, NEGATIVE = "CTICH-052", "CTICH-102"


@pytest.mark.parametrize("patient", [POSITIVE, NEGATIVE])
def test_a_real_head_goes_in_and_comes_back_as_hu(shared_data, tmp_path, patient):
    paths = ct_ich_series.write_patient(shared_data, patient, tmp_path, instance_numbers="shuffled")
    headers = [pixels.open_image(path).header for path in paths]
    assert eligibility.verdict(headers) == eligibility.Eligible()
    volume = read_volume(paths[::-1])
    real = ct_ich_series.head(shared_data, patient)
    assert np.array_equal(volume.hu, real.hu)
    assert volume.warnings == () and gates.check(volume) == ()
    assert real.labels.any() == (patient == POSITIVE)

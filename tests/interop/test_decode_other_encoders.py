"""Series that other software compressed or converted read back as the same HU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from head_shapes import shape_head

from ich_node.dicom import eligibility
from ich_node.infer.see.volume import read_volume
from ich_node.phantom.series import write_series

pytestmark = pytest.mark.interop
HEAD = shape_head(24, 96)
CONVERTERS = {
    "JPEG lossless SV1 by DCMTK": ("dcmcjpeg", "+e1"),
    "JPEG lossless by DCMTK": ("dcmcjpeg", "+el"),
    "JPEG-LS by DCMTK": ("dcmcjpls", "+el"),
    "RLE by DCMTK": ("dcmcrle",),
    "deflated by DCMTK": ("dcmconv", "+td"),
    "big endian by DCMTK": ("dcmconv", "+tb"),
    "implicit by DCMTK": ("dcmconv", "+ti"),
    "JPEG 2000 by GDCM": ("gdcmconv", "--j2k"),
    "JPEG-LS by GDCM": ("gdcmconv", "--jpegls"),
    "JPEG lossless by GDCM": ("gdcmconv", "--jpeg"),
    "RLE by GDCM": ("gdcmconv", "--rle"),
}


@pytest.mark.parametrize("stored", [{}, {"signed": True, "intercept": 0}], ids=["unsigned", "signed"])
@pytest.mark.parametrize("converter", CONVERTERS)
def test_a_converted_series_has_the_same_hu(tmp_path, converter, stored):
    program, *options = CONVERTERS[converter]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    paths = []
    for path in write_series(tmp_path, HEAD, seed=3, **stored):
        paths.append(path.with_suffix(".out"))
        subprocess.run([program, *options, path, paths[-1]], check=True, timeout=60, capture_output=True)
    volume = read_volume(paths)
    assert np.array_equal(volume.hu, HEAD.hu) and volume.warnings == ()


def test_a_legacy_converted_enhanced_ct_has_the_same_hu(tmp_path: Path):
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    changes = {"instance_numbers": "shuffled", "attributes": {"PatientName": "Phantom^Head"}}
    classic = [pydicom.dcmread(path) for path in write_series(tmp_path / "classic", HEAD, **changes)]
    made = LegacyConvertedEnhancedCTImage(
        legacy_datasets=classic,
        series_instance_uid="2.25.1",
        series_number=3,
        sop_instance_uid="2.25.2",
        instance_number=1,
    )
    made.save_as(tmp_path / "legacy.dcm")
    header = pydicom.dcmread(tmp_path / "legacy.dcm", stop_before_pixels=True)
    assert isinstance(eligibility.verdict([header]), eligibility.Eligible)
    volume = read_volume([tmp_path / "legacy.dcm"])
    assert np.array_equal(volume.hu, HEAD.hu)
    assert volume.frame_numbers is not None and sorted(volume.frame_numbers) == list(range(1, 25))

"""The XML beside the GRD files of `grd`, formed like Sentinel-1's: product, calibration, noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.grd import LINE_S, SPACING_M, Radar

Floats = NDArray[np.float64]
LIGHT_M_PER_S = 299_792_458.0


def write_annotation(path: Path, radar: Radar, noise_removed: bool = False) -> Path:
    """A product annotation in the form of Sentinel-1's: orbit, ranges and geolocation grid.

    Its lines and pixels count from the centre of the first one: corner coordinates less a half.
    """
    points = radar.control_points
    heights = np.array([point.z for point in points])
    pixel, line = np.array([[p.col, p.row] for p in points]).T
    longitude, latitude = radar.ground(pixel + 0.5, line + 0.5, heights)
    _, slant_range = radar.look(longitude, latitude, heights)
    grid = "".join(
        f"<geolocationGridPoint><azimuthTime>{_moment(of[0] * LINE_S)}</azimuthTime>"
        f"<slantRangeTime>{2 * of[2] / LIGHT_M_PER_S:.15e}</slantRangeTime>"
        f"<line>{of[0]:.0f}</line><pixel>{of[1]:.0f}</pixel>"
        f"<latitude>{of[3]:.15e}</latitude><longitude>{of[4]:.15e}</longitude>"
        f"<height>{of[5]:.15e}</height></geolocationGridPoint>"
        for of in zip(line, pixel, slant_range, latitude, longitude, heights, strict=True)
    )
    every_s = np.arange(-12.0, radar.shape[0] * LINE_S + 12.0, 1.0)
    states = "".join(
        f"<orbit><time>{_moment(seconds)}</time><frame>Earth Fixed</frame>"
        f"<position>{_xyz(position)}</position><velocity>{_xyz(velocity)}</velocity></orbit>"
        for seconds, position, velocity in zip(every_s, *radar.states(every_s), strict=True)
    )
    conversions = "".join(
        f"<coordinateConversion><azimuthTime>{_moment(seconds)}</azimuthTime>"
        f"<gr0>0.0</gr0><grsrCoefficients>{radar.ground_to_slant}</grsrCoefficients>"
        "</coordinateConversion>"
        for seconds in every_s
    )
    removed = str(noise_removed).lower()
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<product>'
        f"<generalAnnotation><orbitList>{states}</orbitList></generalAnnotation>"
        "<imageAnnotation><imageInformation>"
        f"<productFirstLineUtcTime>{_moment(0)}</productFirstLineUtcTime>"
        f"<rangePixelSpacing>{SPACING_M}</rangePixelSpacing>"
        f"<azimuthTimeInterval>{LINE_S}</azimuthTimeInterval>"
        f"<numberOfSamples>{radar.shape[1]}</numberOfSamples>"
        f"<numberOfLines>{radar.shape[0]}</numberOfLines></imageInformation>"
        f"<processingInformation><thermalNoiseCorrectionPerformed>{removed}"
        "</thermalNoiseCorrectionPerformed></processingInformation></imageAnnotation>"
        f"<coordinateConversion><coordinateConversionList>{conversions}"
        "</coordinateConversionList></coordinateConversion><geolocationGrid>"
        f'<geolocationGridPointList count="{len(points)}">{grid}</geolocationGridPointList>'
        "</geolocationGrid></product>"
    )
    return path


def _moment(seconds: float) -> str:
    first = np.datetime64("2024-06-14T05:34:20", "ns")
    return str(first + np.timedelta64(round(seconds * 1e9), "ns"))


def _xyz(vector: Floats) -> str:
    return "".join(f"<{axis}>{v:.15e}</{axis}>" for axis, v in zip("xyz", vector, strict=True))


def sigma_nought(lines: Floats, pixels: Floats) -> Floats:
    """The calibration constant of the made products: smooth along both axes, (h, w)."""
    return 480.0 + 6e-3 * pixels[None, :] + 30 * np.sin(lines / 4_000)[:, None]


def write_calibration(path: Path, radar: Radar, every: tuple[int, int] = (660, 40)) -> Path:
    """A calibration annotation in the form of Sentinel-1's."""
    lines, pixels = (
        np.unique(np.append(np.arange(0, size, step), size - 1)).astype(np.float64)
        for size, step in zip(radar.shape, every, strict=True)
    )
    names = " ".join(f"{pixel:.0f}" for pixel in pixels)
    vectors = "".join(
        "<calibrationVector><azimuthTime>2024-06-14T05:34:20.000000</azimuthTime>"
        f'<line>{line:.0f}</line><pixel count="{len(pixels)}">{names}</pixel>'
        f'<sigmaNought count="{len(pixels)}">{" ".join(f"{v:.6e}" for v in values)}</sigmaNought>'
        "</calibrationVector>"
        for line, values in zip(lines, sigma_nought(lines, pixels), strict=True)
    )
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<calibration>'
        f'<calibrationVectorList count="{len(lines)}">{vectors}</calibrationVectorList>'
        "</calibration>"
    )
    return path


def noise_power(lines: Floats, pixels: Floats, swath_px: int) -> Floats:
    """Thermal noise of the made products, squares of digital numbers: (h, w).

    Along range it falls in every sub-swath; along azimuth it scallops, in each in a phase of its
    own.
    """
    along_range = 900 - 300 * (pixels % swath_px) / swath_px + 80 * (pixels // swath_px)
    return along_range[None, :] * noise_scallop(lines[:, None], pixels[None, :], swath_px)


def noise_scallop(lines: Floats, pixels: Floats, swath_px: int) -> Floats:
    """The factor of that along azimuth: 1 to 1.5."""
    return 1.25 + 0.25 * np.cos(2 * np.pi * lines / 140 + pixels // swath_px)


def write_noise(path: Path, radar: Radar, older: bool = False) -> Path:
    """A noise annotation in the form of Sentinel-1's: the older one does not scallop."""
    height, width = radar.shape
    swath_px = -(-width // 3)
    lines = np.unique(np.append(np.arange(0, height, 667), height - 1)).astype(np.float64)
    starts = np.arange(0, width, swath_px)
    edges = np.concatenate([starts, starts[1:] - 1, [width - 1]])
    pixels = np.unique(np.concatenate([np.arange(0, width, 40), edges])).astype(np.float64)
    kind, lut = ("", "noiseLut") if older else ("Range", "noiseRangeLut")
    first = np.zeros(1)
    level = (noise_power(first, pixels, swath_px) / noise_scallop(first, pixels, swath_px))[0]
    vectors = "".join(
        f"<noise{kind}Vector><line>{line:.0f}</line><pixel>{_numbers(pixels)}</pixel>"
        f"<{lut}>{_numbers(level)}</{lut}></noise{kind}Vector>"
        for line in lines
    )
    every = np.unique(np.append(np.arange(0, height, 5), height - 1)).astype(np.float64)
    blocks = "".join(
        "<noiseAzimuthVector><firstAzimuthLine>0</firstAzimuthLine>"
        f"<lastAzimuthLine>{height - 1}</lastAzimuthLine>"
        f"<firstRangeSample>{start}</firstRangeSample>"
        f"<lastRangeSample>{min(start + swath_px, width) - 1}</lastRangeSample>"
        f"<line>{_numbers(every)}</line><noiseAzimuthLut>"
        f"{_numbers(noise_scallop(every, np.array(start), swath_px))}"
        "</noiseAzimuthLut></noiseAzimuthVector>"
        for start in starts
    )
    azimuth = "" if older else f"<noiseAzimuthVectorList>{blocks}</noiseAzimuthVectorList>"
    path.write_text(
        f"<noise><noise{kind}VectorList>{vectors}</noise{kind}VectorList>{azimuth}</noise>"
    )
    return path


def _numbers(values: Floats) -> str:
    return " ".join(f"{value:.6e}" if value % 1 else f"{value:.0f}" for value in values)

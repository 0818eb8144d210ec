"""What file names say: the words of roles, the bands of sensors, what is no image. Plain data.

To teach ``init`` another name, add it here and a layout to tests/test_scout_layouts.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "ANATOMY",
    "BIDS_CONTRASTS",
    "BIDS_NONE",
    "COLOUR_LETTERS",
    "DETAIL",
    "HALVES",
    "IMAGES",
    "LAST_LETTERS",
    "MEDICAL",
    "NUMBERS",
    "PLACED",
    "PROCESSING",
    "PRODUCTS",
    "QUALITY",
    "ROLES",
    "SENSORS",
    "SIGNAL",
    "TIMES",
    "TISSUES",
    "VOLUMES",
    "VOLUME_ANATOMY",
    "VOLUME_ORDER",
    "VOLUME_QUALITY",
    "VOLUME_ROLES",
    "Meaning",
    "Numbers",
]

IMAGES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".bmp")
"""Endings that are looked at."""
VOLUMES = (".nii", ".nii.gz")
"""Endings of NIfTI volumes."""
HALVES = (".img", ".img.gz")
"""Endings of what may be the voxels of a NIfTI volume whose header lies beside it, or a raster."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a word or a band's number says of a file."""

    role: str
    """thermal, optical, …"""
    colour: str = ""
    """red, green or blue where the file is a third of a colour source."""
    rank: int = 0
    """Among files of one role the lower is taken."""


SIGNAL = ("thermal", "infrared", "swir", "nir", "sar", "pet", "spect", "ct", "fluorescence")
"""Roles that bring what the eye doesn't see, the most wanted first."""
DETAIL = ("optical", "visible", "pan", "multispectral", "phase", "ndvi")
"""Roles that show shapes, or the colours one knows."""
ANATOMY = ("mri",)
"""As DETAIL, but its partner's colours are the ones to keep."""

MEDICAL = (*ANATOMY, "pet", "ct", "spect")
"""Roles of images of people."""

ROLES: Mapping[str, Meaning] = {
    # as written in file and folder names, upper and lower case alike
    **dict.fromkeys(
        (
            *("thermal", "thermal-ir", "thermal_ir", "thermography", "thermogram", "therm", "tir", "lwir"),
            *(
                "lwir11",
                "lwir12",
                "lst",
                "ecostress",
                "temperature",
                "celsius",
                "kelvin",
                "previewdata",
                "bt",
            ),
        ),
        Meaning("thermal"),
    ),
    **dict.fromkeys(("infrared", "ir", "irs", "inf", "imgr"), Meaning("infrared")),
    **dict.fromkeys(("visible", "visual", "vis", "vi", "viz", "visible-light"), Meaning("visible")),
    **dict.fromkeys(
        (
            *("optical", "opt", "rgb", "rgb-image", "rgb_image", "rgbn", "rgbi", "rgbnir", "ps-rgb"),
            *("ps-rgbnir", "rgb-pansharpen", "color", "colour", "ortho", "orthophoto", "wide", "s2"),
            *("sentinel2", "sentinel-2", "naip", "aerial"),
        ),
        Meaning("optical"),
    ),
    **dict.fromkeys(("pan", "panchromatic"), Meaning("pan")),
    **dict.fromkeys(
        (
            *("multispectral", "ms", "mul", "ps-ms", "mul-pansharpen", "analytic", "analyticms"),
            *("3b_analyticms", "3b_analyticms_sr", "analyticms_sr", "analyticms_8b", "analyticms_sr_8b"),
            *("3b_analyticms_8b", "3b_analyticms_sr_8b"),
        ),
        Meaning("multispectral"),
    ),
    **dict.fromkeys(("3b_visual",), Meaning("optical")),
    **dict.fromkeys(("nir", "nir08", "nir09"), Meaning("nir")),
    **dict.fromkeys(("swir", "swir22"), Meaning("swir")),
    "swir16": Meaning("swir", rank=1),
    "red": Meaning("optical", "red"),
    **dict.fromkeys(("green", "gre"), Meaning("optical", "green")),
    **dict.fromkeys(("blue", "blu"), Meaning("optical", "blue")),
    **dict.fromkeys(
        ("sar", "sar-intensity", "vv", "sigma0", "gamma0", "s1", "sentinel1", "sentinel-1"), Meaning("sar")
    ),
    "vh": Meaning("sar", rank=1),
    **dict.fromkeys(("mri", "mr"), Meaning("mri")),
    "pet": Meaning("pet"),
    "ct": Meaning("ct"),
    "spect": Meaning("spect"),
    "gfp": Meaning("fluorescence"),
    "pc": Meaning("phase"),
    **dict.fromkeys(("ndvi", "evi", "savi"), Meaning("ndvi")),
    # as Pix4D calls what it makes of a flight
    **dict.fromkeys(("index_thermal_ir", "index_thermal"), Meaning("thermal")),
    **dict.fromkeys(
        ("transparent_mosaic_group1", "transparent_mosaic_rgb", "transparent_mosaic", "mosaic_group1"),
        Meaning("optical"),
    ),
    "transparent_mosaic_nir": Meaning("nir"),
    "transparent_mosaic_red": Meaning("optical", "red"),
    "transparent_mosaic_green": Meaning("optical", "green"),
    "transparent_mosaic_blue": Meaning("optical", "blue"),
    "index_ndvi": Meaning("ndvi"),
}
"""What words mean wherever they stand in a name between other signs.

The contrasts of MRI are none of them: T1 and T2 are parts of times and of Sentinel-2's tiles
(20230701T101500, T18TQM), and NIfTI volumes have words of their own.
"""

PRODUCTS = ("ortho", "orthophoto")
"""Words that count where no other does: thermal/odm_orthophoto.tif is thermal."""

LAST_LETTERS: Mapping[str, Meaning] = {
    "T": Meaning("thermal"),
    "R": Meaning("thermal", rank=1),
    "W": Meaning("optical"),
    "V": Meaning("optical"),
    "Z": Meaning("optical", rank=1),
}
"""Capitals at the end of a name, after _: thermal, radiometric, wide, visible, zoom (DJI, FLIR, ASTER)."""

COLOUR_LETTERS: Mapping[str, Meaning] = {
    "R": Meaning("optical", "red"),
    "G": Meaning("optical", "green"),
    "B": Meaning("optical", "blue"),
}
"""The same where a G is among them."""

PLACED = ("infrared", "visible", "thermal", "optical")
"""Words so clear that they count inside others, too: cropinfrared."""

QUALITY = (
    *("qa", "qa_pixel", "qa_radsat", "sr_qa_aerosol", "qa_aerosol", "st_qa", "pixel_qa", "radsat_qa", "bqa"),
    *("qc", "mtl", "ang", "vaa", "vza", "saa", "sza", "scl", "cld", "snw", "aot", "wvp", "pvi", "fmask"),
    *("udm", "udm2", "dn_udm", "cloud", "clouds", "water", "cloudmask", "cloud_mask", "mask", "masks"),
    *("st_atran", "st_cdist", "st_drad", "st_emis", "st_emsd", "st_trad", "st_urad", "emis", "emiswb"),
    *("lst_err", "view_zenith", "height", "label", "labels", "annotation", "annotations", "gt"),
    *("groundtruth", "ground_truth", "segmentation", "seg", "msk", "thumb", "thumbnail", "thumb_large"),
    *("thumb_small", "browse", "quicklook", "preview", "overview", "saturation", "fused", "fusion"),
    *("result", "results", "dem", "dsm", "dtm", "elevation"),
)
"""Words of quality bands, masks, labels, previews, terrain and results: never taken for a modality."""

VOLUME_ORDER = (
    *(
        "pet",
        "spect",
        "statmap",
        "cbf",
        "adc",
        "dwi",
        "bold",
        "epi",
        "ct",
        "flair",
        "t2",
        "pd",
        "swi",
        "t1ce",
    ),
    *("csf", "wm", "gm", "", "mri", "t1"),
)
"""Roles of volumes, what brings function or contrast first, what shows shapes last; "" is an unknown one."""
VOLUME_ANATOMY = ("t1", "mri", "t1ce", "t2", "flair", "pd", "swi", "ct")
"""What a volume is most sensibly fused with, the best first; PET and SPECT with the CT of their scanner."""
TISSUES = ("gm", "wm", "csf")
"""Made from another image of the scene, and taken only where there is nothing else."""

VOLUME_ROLES: Mapping[str, Meaning] = {
    # words of NIfTI files: BIDS, BraTS, HECKTOR, autoPET, SPM, FSL, and what people write
    **dict.fromkeys(("suv", "suvbw"), Meaning("pet")),
    **dict.fromkeys(("pet", "pt", "fdg", "fdg-pet", "fdg_pet", "fdgpet"), Meaning("pet", rank=1)),
    **dict.fromkeys(("spect", "hmpao", "datscan"), Meaning("spect")),
    **dict.fromkeys(("ct", "cbct", "ctac", "ldct", "ncct"), Meaning("ct")),
    **dict.fromkeys(("ctres", "cta"), Meaning("ct", rank=1)),
    **dict.fromkeys(("t1", "t1w", "t1n", "unit1", "mprage", "mpr", "spgr", "bravo"), Meaning("t1")),
    "inplanet1": Meaning("t1", rank=1),
    **dict.fromkeys(("t1ce", "t1c", "t1gd", "t1post", "t1-gd", "t1_gd"), Meaning("t1ce")),
    **dict.fromkeys(("t2", "t2w", "t2tse"), Meaning("t2")),
    "inplanet2": Meaning("t2", rank=1),
    **dict.fromkeys(("flair", "t2f", "t2flair", "t2-flair", "t2_flair"), Meaning("flair")),
    **dict.fromkeys(("pd", "pdw"), Meaning("pd")),
    **dict.fromkeys(("swi", "t2star", "t2starw"), Meaning("swi")),
    "adc": Meaning("adc"),
    **dict.fromkeys(("dwi", "dti"), Meaning("dwi")),
    "cbf": Meaning("cbf"),
    **dict.fromkeys(("zmap", "zstat", "tmap", "tstat", "statmap", "spmt"), Meaning("statmap")),
    **dict.fromkeys(("bold", "func", "functional", "fmri"), Meaning("bold")),
    "epi": Meaning("epi"),
    **dict.fromkeys(("mri", "mr", "anat", "anatomical", "struct", "structural"), Meaning("mri")),
    **{tissue: Meaning(tissue) for tissue in TISSUES},
}
"""What words mean in the names of volumes; where several stand in one, the last counts."""

BIDS_CONTRASTS = ("mpm", "mts")
"""Suffixes of series of several contrasts, in which ``acq-`` says which one it is: acq-PDw_…_MPM."""
BIDS_NONE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "epi",
            "fieldmap",
            "phasediff",
            "phase1",
            "phase2",
            "phase",
            "magnitude",
            "magnitude1",
            "magnitude2",
        ),
        "a field map",
    ),
    **dict.fromkeys(
        ("tb1map", "tb1afi", "tb1dam", "tb1epi", "tb1tfl", "tb1rfm", "tb1srge", "rb1map", "rb1cor", "m0map"),
        "a map of the scanner's field",
    ),
    "asl": "control and label images in turn, no perfusion: make a cbf of them first",
    "m0scan": "a calibration of perfusion",
}
"""Suffixes of BIDS that are no modality, and what they are."""

VOLUME_QUALITY = (
    *("seg", "dseg", "probseg", "segmentation", "mask", "masks", "brainmask", "label", "labels", "labelstr"),
    *("labelsts", "roi", "rois", "lesion", "lesions", "tumor", "gt", "groundtruth", "ground_truth", "aseg"),
    *("aparc", "aparc+aseg", "parc", "parcellation", "atlas", "contour", "contours", "rtstruct", "warp"),
    *("warpfield", "xfm", "fused", "fusion", "result", "results", "sbref", "fieldmap", "phasediff"),
    *("magnitude1", "magnitude2", "fmap", "b0map", "topup"),
)
"""Words of label maps, masks, transforms and results: never taken for a modality."""

PROCESSING = frozenset(
    (
        *("w", "r", "m", "wr", "sw", "swr", "mw", "rw", "brain", "head", "bet", "stripped", "skullstripped"),
        *("reg", "registered", "coreg", "coregistered", "aligned", "resampled", "resliced", "norm", "bias"),
        *("normalised", "normalized", "n4", "corrected", "corr", "preproc", "denoised", "smooth", "smoothed"),
        *("to", "in", "on", "space", "native", "mni", "image", "images", "img", "imgs", "scan", "scans"),
        *("volume", "volumes", "vol", "data", "nifti", "avg", "mean", "sum", "static", "raw", "orig", "ac"),
        *("axial", "sagittal", "coronal", "ax", "sag", "cor", "post", "pre", "contrast", "2d", "3d", "and"),
    )
)
"""Words in the names of medical images that say what was done to them, never whose they are."""

TIMES: tuple[Mapping[str, str], ...] = (
    {
        word: month
        for month in (
            *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
            *("october", "november", "december"),
        )
        for word in (month, month[:3])
    },
    {
        **{season: season for season in ("spring", "summer", "autumn", "winter")},
        "fall": "autumn",
    },
    {
        **dict.fromkeys(("day", "daytime", "noon", "midday"), "day"),
        **dict.fromkeys(("night", "nighttime", "midnight"), "night"),
        **{word: word for word in ("morning", "afternoon", "evening", "dawn", "dusk", "am", "pm")},
    },
    {
        **dict.fromkeys(("before", "prefire", "preflood", "preevent"), "before"),
        **dict.fromkeys(("after", "postfire", "postflood", "postevent"), "after"),
    },
    # the way an EPI is distorted
    {word: word for word in ("ap", "pa", "lr", "rl")},
    {**dict.fromkeys(("baseline", "bl"), "baseline"), **dict.fromkeys(("followup", "fu"), "followup")},
)
"""Words that say when, or how, an image was taken; two of one group are two images of one kind."""

SENSORS: Mapping[str, Mapping[str, Meaning]] = {
    "Landsat 4, 5 or 7": {
        "1": Meaning("optical", "blue"),
        "2": Meaning("optical", "green"),
        "3": Meaning("optical", "red"),
        "4": Meaning("nir"),
        "5": Meaning("swir", rank=1),
        "6": Meaning("thermal"),
        "6_VCID_1": Meaning("thermal"),
        "6_VCID_2": Meaning("thermal", rank=1),
        "7": Meaning("swir"),
        "8": Meaning("pan"),
    },
    "Landsat 8 or 9": {
        "2": Meaning("optical", "blue"),
        "3": Meaning("optical", "green"),
        "4": Meaning("optical", "red"),
        "5": Meaning("nir"),
        "6": Meaning("swir", rank=1),
        "7": Meaning("swir"),
        "8": Meaning("pan"),
        "10": Meaning("thermal"),
        "11": Meaning("thermal", rank=1),
    },
    "Sentinel-2": {
        "2": Meaning("optical", "blue"),
        "3": Meaning("optical", "green"),
        "4": Meaning("optical", "red"),
        "8": Meaning("nir"),
        # three bands of 20 m that see through smoke and haze, as a colour source of their own
        "8A": Meaning("swir", "blue"),
        "11": Meaning("swir", "green"),
        "12": Meaning("swir", "red"),
        "TCI": Meaning("optical", rank=1),
    },
    "MicaSense": {
        "1": Meaning("optical", "blue"),
        "2": Meaning("optical", "green"),
        "3": Meaning("optical", "red"),
        "4": Meaning("nir"),
        "6": Meaning("thermal"),
    },
}
"""What the bands of a sensor are; the others (coastal, cirrus, red edge, …) are left out."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """How the file values of a product are meant, where its files don't say so."""

    scale: float | None
    """Physical value = file value * scale + offset."""
    offset: float | None
    """See ``scale``."""
    nodata: float
    """The file value outside of the image."""
    meaning: str
    """What the physical value is."""
    optional_offset: float | None = None
    """An offset that only some of the products have: written as a comment."""


NUMBERS: Mapping[str, Numbers] = {
    "Landsat ST": Numbers(0.00341802, 149.0, 0, "Surface temperature in kelvin, as USGS says"),
    "Landsat SR": Numbers(2.75e-05, -0.2, 0, "Surface reflectance, as USGS says"),
    "Landsat sr_band": Numbers(0.0001, None, -9999, "Surface reflectance, as USGS says"),
    "Landsat bt_band": Numbers(0.1, None, -9999, "Brightness temperature in kelvin, as USGS says"),
    "Landsat B": Numbers(None, None, 0, ""),
    "Sentinel-2": Numbers(0.0001, None, 0, "Reflectance, as ESA says", optional_offset=-0.1),
    "Sentinel-2 from 04.00": Numbers(0.0001, -0.1, 0, "Reflectance, as ESA says from baseline 04.00 on"),
}
"""By the kind of file that ``marks.py`` tells."""

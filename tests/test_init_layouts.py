"""How people lay out and name their images, and what ``init`` makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

import batchfuse
from batchfuse.scout.sketch import Sketch, sketch

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
GRID = Affine(10, 0, 500_000, 0, -10, 5_600_000)
L8 = "LC08_L2SP_195028_20240623_20240705_02_T1"
L9 = "LC09_L2SP_195028_20240615_20240616_02_T1"
L1 = "LC08_L1TP_195025_20130707_20170503_01_T1"
L5 = "LT05_L1TP_195025_19950707_20170503_01_T1"
L7 = "LE07_L1TP_195025_20010707_20170503_01_T1"
OLD5, OLD8 = "LT52240631988227CUB02", "LC80130312015295LGN00"
SAFE = "S2A_MSIL2A_20240623T101031_N0510_R022_T32TPT_20240623T150000.SAFE"
SAFE2 = "S2B_MSIL2A_20240628T101029_N0510_R022_T32TPT_20240628T150000.SAFE"
IMG = "GRANULE/L2A_T32TPT_A046900_20240623T101500/IMG_DATA"
S2 = "T32TPT_20240623T101031"
S2B = "T32TPT_20240628T101029"
ECO = "ECOv002_L2T_LSTE_35698_014_32TPT_20240623T113354_0713_01"
ECO2 = "ECOv002_L2T_LSTE_35702_003_32TPT_20240628T093354_0713_01"


@dataclass(frozen=True)
class Layout:
    """Some files, and the recipe that they should give."""

    name: str
    files: str
    """Their paths."""
    expected: dict[str, str | list[str]]
    """The paths of each role."""
    scenes: int = 1
    bands: dict[str, int] = field(default_factory=dict)
    """Bands of files whose paths contain a word; else one."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Edge in pixels of files whose paths contain a word."""
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    """Keys that a role should have beside its path."""


def each(template: str, *values: str) -> str:
    return " ".join(template.replace("@", value) for value in values)


LAYOUTS = [
    Layout(
        "Landsat Collection 2 level 2, all files in one folder",
        each(
            "@_ST_B10.TIF @_SR_B4.TIF @_SR_B3.TIF @_SR_B2.TIF @_SR_B5.TIF @_QA_PIXEL.TIF @_ST_QA.TIF", L8, L9
        )
        + f" {L8}_MTL.xml {L8}_SR_stac.json {L9}_ST_B10.TIF.aux.xml",
        {"thermal": "{scene}_ST_B10.TIF", "optical": [f"{{scene}}_SR_B{b}.TIF" for b in (4, 3, 2)]},
        scenes=2,
        settings={
            "thermal": {"scale": 0.00341802, "offset": 149.0, "nodata": 0},
            "optical": {"scale": 2.75e-05},
        },
    ),
    Layout(
        "Landsat, a folder a scene",
        each("@/@_ST_B10.TIF @/@_SR_B4.TIF @/@_SR_B3.TIF @/@_SR_B2.TIF @/@_QA_PIXEL.TIF", L8, L9),
        {
            "thermal": "{scene}/{scene}_ST_B10.TIF",
            "optical": [f"{{scene}}/{{scene}}_SR_B{b}.TIF" for b in (4, 3, 2)],
        },
        scenes=2,
    ),
    Layout(
        "Landsat, some in folders and some not",
        each("@_ST_B10.TIF @_SR_B4.TIF @_SR_B3.TIF @_SR_B2.TIF", L8)
        + each(" x/@_ST_B10.TIF x/@_SR_B4.TIF x/@_SR_B3.TIF x/@_SR_B2.TIF", L9),
        {"thermal": "**/{scene}_ST_B10.TIF", "optical": [f"**/{{scene}}_SR_B{b}.TIF" for b in (4, 3, 2)]},
        scenes=2,
    ),
    Layout(
        "Landsat assets named by STAC, a folder an item",
        each("@/lwir11.tif @/red.tif @/green.tif @/blue.tif @/nir08.tif @/qa_pixel.tif @/swir16.tif", L8, L9),
        {
            "thermal": "{scene}/lwir11.tif",
            "optical": [f"{{scene}}/{c}.tif" for c in ("red", "green", "blue")],
        },
        scenes=2,
    ),
    Layout(
        "Landsat Collection 1 level 1",
        each(
            "@_B1.TIF @_B2.TIF @_B3.TIF @_B4.TIF @_B5.TIF @_B6.TIF @_B8.TIF @_B10.TIF @_B11.TIF @_BQA.TIF", L1
        ),
        {"thermal": "{scene}_B10.TIF", "optical": [f"{{scene}}_B{b}.TIF" for b in (4, 3, 2)]},
        settings={"thermal": {"nodata": 0}},
    ),
    Layout(
        "Landsat level 1 and 2 of one scene",
        each("@_B10.TIF @_B4.TIF @_B3.TIF @_B2.TIF", L8.replace("L2SP", "L1TP"))
        + each(" @_ST_B10.TIF @_SR_B4.TIF @_SR_B3.TIF @_SR_B2.TIF", L8),
        {"thermal": "{scene}_ST_B10.TIF", "optical": [f"{{scene}}_SR_B{b}.TIF" for b in (4, 3, 2)]},
    ),
    Layout(
        "pictures beside rasters of the same names",
        each("@_ir.png @_vis.png @_ir.tif @_vis.tif", "a", "b"),
        {"infrared": "{scene}_ir.tif", "visible": "{scene}_vis.tif"},
        scenes=2,
    ),
    Layout(
        "Sentinel-2 level 1C SAFE, of one date",
        " ".join(f"{SAFE.replace('2A_2', '1C_2')}/{IMG}/{S2}_{b}.jp2" for b in ("B02", "B03", "B04", "B12")),
        {
            "swir": "*/GRANULE/*/IMG_DATA/{scene}_B12.jp2",
            "optical": [f"*/GRANULE/*/IMG_DATA/{{scene}}_B{b}.jp2" for b in ("04", "03", "02")],
        },
        sizes={"B12": 16},
    ),
    Layout(
        "Landsat 5 by its new id",
        each("@_B1.TIF @_B2.TIF @_B3.TIF @_B4.TIF @_B5.TIF @_B6.TIF @_B7.TIF", L5),
        {"thermal": "{scene}_B6.TIF", "optical": [f"{{scene}}_B{b}.TIF" for b in (3, 2, 1)]},
    ),
    Layout(
        "Landsat 7 with two gains of its thermal band",
        each("@_B1.TIF @_B2.TIF @_B3.TIF @_B6_VCID_1.TIF @_B6_VCID_2.TIF @_B8.TIF", L7),
        {"thermal": "{scene}_B6_VCID_1.TIF", "optical": [f"{{scene}}_B{b}.TIF" for b in (3, 2, 1)]},
    ),
    Layout(
        "Landsat 5 and 8 by their old ids, of which there are more",
        each("@_B6.TIF @_B3.TIF @_B2.TIF @_B1.TIF", OLD5)
        + each(" @_B10.TIF @_B4.TIF @_B3.TIF @_B2.TIF", OLD8, "LC80130312015311LGN00"),
        {"thermal": "{scene}_B10.TIF", "optical": [f"{{scene}}_B{b}.TIF" for b in (4, 3, 2)]},
        scenes=2,
    ),
    Layout(
        "Landsat with a word behind the band, and no blue",
        each("@_B10_toa.tif @_B3_toa.tif @_B4_toa.tif", OLD8),
        {"thermal": "{scene}_B10_toa.tif", "optical": "{scene}_B4_toa.tif"},
    ),
    Layout(
        "Landsat by ESPA",
        each(
            "@_bt_band10.tif @_sr_band4.tif @_sr_band3.tif @_sr_band2.tif @_pixel_qa.tif @_sr_aerosol.tif", L1
        ),
        {"thermal": "{scene}_bt_band10.tif", "optical": [f"{{scene}}_sr_band{b}.tif" for b in (4, 3, 2)]},
    ),
    Layout(
        "Landsat without a thermal band",
        each("@_SR_B2.TIF @_SR_B3.TIF @_SR_B4.TIF @_SR_B5.TIF", L8, L9),
        {"nir": "{scene}_SR_B5.TIF", "optical": [f"{{scene}}_SR_B{b}.TIF" for b in (4, 3, 2)]},
        scenes=2,
    ),
    Layout(
        "Landsat with one product that has no temperature",
        each("@_ST_B10.TIF @_SR_B4.TIF @_SR_B3.TIF @_SR_B2.TIF @_SR_B5.TIF", L8)
        + each(" @_SR_B4.TIF @_SR_B3.TIF @_SR_B2.TIF @_SR_B5.TIF", L9),
        {"thermal": "{scene}_ST_B10.TIF", "optical": [f"{{scene}}_SR_B{b}.TIF" for b in (4, 3, 2)]},
    ),
    Layout(
        "Sentinel-2 SAFE",
        " ".join(
            f"{safe}/{IMG}/R{r}m/{tile}_{b}_{r}m.jp2"
            for safe, tile in ((SAFE, S2), (SAFE2, S2B))
            for r, bands in ((10, "B02 B03 B04 B08"), (20, "B02 B03 B04 B8A B11 B12 SCL"))
            for b in bands.split()
        )
        + f" {SAFE}/GRANULE/x/QI_DATA/MSK_CLASSI_B00.jp2",
        {
            "swir": [f"*/GRANULE/*/IMG_DATA/R20m/{{scene}}_{b}_20m.jp2" for b in ("B12", "B11", "B8A")],
            "optical": [f"*/GRANULE/*/IMG_DATA/R10m/{{scene}}_{b}_10m.jp2" for b in ("B04", "B03", "B02")],
        },
        scenes=2,
        sizes={"R20m": 16},
        settings={"optical": {"scale": 0.0001, "offset": -0.1, "nodata": 0}},
    ),
    Layout(
        "Sentinel-2 GeoTIFFs by tile and date",
        each("@_B02.tif @_B03.tif @_B04.tif @_B08.tif @_SCL.tif @_TCI.tif", S2, S2B),
        {"nir": "{scene}_B08.tif", "optical": [f"{{scene}}_B{b}.tif" for b in ("04", "03", "02")]},
        scenes=2,
        bands={"TCI": 3},
        settings={"optical": {"scale": 0.0001}},
    ),
    Layout(
        "Sentinel-2 bands in a folder a date",
        each(
            "@/B02.tif @/B03.tif @/B04.tif @/B8A.tif @/B11.tif @/B12.tif @/SCL.tif",
            "2024-06-01",
            "2024-07-01",
        ),
        {
            "swir": [f"{{scene}}/{b}.tif" for b in ("B12", "B11", "B8A")],
            "optical": [f"{{scene}}/{b}.tif" for b in ("B04", "B03", "B02")],
        },
        scenes=2,
    ),
    Layout(
        "Sentinel-2 with true colours and one shortwave band",
        each("@_TCI_10m.tif @_B12_20m.tif @_SCL_20m.tif", S2),
        {"swir": "{scene}_B12_20m.tif", "optical": "{scene}_TCI_10m.tif"},
        bands={"TCI": 3},
        sizes={"20m": 16},
    ),
    Layout(
        "HLS",
        each("@.B02.tif @.B03.tif @.B04.tif @.B10.tif @.Fmask.tif", "HLS.L30.T32TPT.2024175T101010.v2.0"),
        {"thermal": "{scene}.B10.tif", "optical": [f"{{scene}}.B{b}.tif" for b in ("04", "03", "02")]},
    ),
    Layout(
        "DJI: thermal and wide",
        each(
            "DJI_20240601120000_@_T.tif DJI_20240601120000_@_W.tif DJI_20240601120000_@_Z.tif", "0001", "0002"
        ),
        {"thermal": "{scene}_T.tif", "optical": "{scene}_W.tif"},
        scenes=2,
        bands={"_W": 3, "_Z": 3},
    ),
    Layout(
        "DJI whose clocks differ by a second",
        "DJI_20240601120000_0001_T.JPG DJI_20240601120001_0001_V.JPG "
        "DJI_20240601120010_0002_T.JPG DJI_20240601120011_0002_V.JPG",
        {"thermal": "DJI_*_{scene}_T.JPG", "optical": "DJI_*_{scene}_V.JPG"},
        scenes=2,
    ),
    Layout(
        "orthomosaics in a folder a site, with alpha",
        each("@/odm_orthophoto_rgb.tif @/odm_thermal.tif @/dsm.tif", "north", "south"),
        {"thermal": "{scene}/odm_thermal.tif", "optical": "{scene}/odm_orthophoto_rgb.tif"},
        scenes=2,
        bands={"rgb": 4},
        sizes={"thermal": 20},
    ),
    Layout(
        "LLVIP",
        each("infrared/train/@.jpg visible/train/@.jpg", "010001", "010002")
        + " infrared/test/190001.jpg visible/test/190001.jpg",
        {"infrared": "infrared/{folder}/{scene}.jpg", "visible": "visible/{folder}/{scene}.jpg"},
        scenes=3,
    ),
    Layout(
        "MSRS",
        each("train/ir/@.png train/vi/@.png train/Segmentation_labels/@.png", "00001D", "00002N"),
        {"infrared": "train/ir/{scene}.png", "visible": "train/vi/{scene}.png"},
        scenes=2,
        bands={"/vi/": 3},
    ),
    Layout(
        "M3FD",
        each("Ir/@.png Vis/@.png", "00000", "00001"),
        {"infrared": "Ir/{scene}.png", "visible": "Vis/{scene}.png"},
        scenes=2,
    ),
    Layout(
        "RoadScene",
        each("cropinfrared/@.jpg crop_LR_visible/@.jpg", "FLIR_00006", "FLIR_00018", "FLIR_00020"),
        {"infrared": "cropinfrared/{scene}.jpg", "visible": "crop_LR_visible/{scene}.jpg"},
        scenes=3,
    ),
    Layout(
        "KAIST",
        each("set00/@/lwir/I01216.jpg set00/@/visible/I01216.jpg", "V000", "V001")
        + " set01/V000/lwir/I00001.jpg set01/V000/visible/I00001.jpg",
        {
            "thermal": "{subfolder}/{folder}/lwir/{scene}.jpg",
            "visible": "{subfolder}/{folder}/visible/{scene}.jpg",
        },
        scenes=3,
    ),
    Layout(
        "FLIR ADK",
        each("train/thermal_8_bit/FLIR_@.jpeg train/RGB/FLIR_@.jpg", "00001", "00002"),
        {"thermal": "train/thermal_8_bit/{scene}.jpeg", "optical": "train/RGB/{scene}.jpg"},
        scenes=2,
        bands={"RGB": 3},
    ),
    Layout(
        "FLIR aligned",
        each("FLIR_@_RGB.jpg FLIR_@_PreviewData.jpeg", "00001", "00002"),
        {"thermal": "{scene}_PreviewData.jpeg", "optical": "{scene}_RGB.jpg"},
        scenes=2,
    ),
    Layout(
        "DroneVehicle",
        each("train/trainimg/@.jpg train/trainimgr/@.jpg", "00001", "00002"),
        {"source1": "train/trainimg/{scene}.jpg", "source2": "train/trainimgr/{scene}.jpg"},
        scenes=2,
    ),
    Layout(
        "VEDAI",
        each("@_co.png @_ir.png", "00000000", "00000001"),
        {"infrared": "{scene}_ir.png", "source2": "{scene}_co.png"},
        scenes=2,
    ),
    Layout(
        "EPFL",
        each("country/@_nir.tiff country/@_rgb.tiff", "0000", "0001")
        + " urban/0000_nir.tiff urban/0000_rgb.tiff",
        {"nir": "{folder}/{scene}_nir.tiff", "optical": "{folder}/{scene}_rgb.tiff"},
        scenes=3,
        bands={"rgb": 3},
    ),
    Layout(
        "CDDFuse's medical folders",
        each("MRI_CT/MRI/@.png MRI_CT/CT/@.png", "13", "16"),
        {"mri": "MRI_CT/MRI/{scene}.png", "ct": "MRI_CT/CT/{scene}.png"},
        scenes=2,
    ),
    Layout(
        "Harvard's slices in one folder, with three kinds of partner",
        each("petmri_@_pet.png petmri_@_mri.png ctmri_@_ct.png ctmri_@_mri.png", "19")
        + each(" spectmri_@_spect.png spectmri_@_mri.png", "21", "30"),
        {"mri": "{kind}mri_{scene}_mri.png", "other": "{kind}mri_{scene}_{kind}.png"},
        scenes=4,
        bands={"spect.": 3},
    ),
    Layout(
        "CDDFuse's folders of three kinds of partner",
        each("MRI_@/MRI/13.png MRI_@/@/13.png MRI_@/MRI/4.png MRI_@/@/4.png", "CT", "PET", "SPECT"),
        {"mri": "MRI_{kind}/MRI/{scene}.png", "other": "MRI_{kind}/{kind}/{scene}.png"},
        scenes=6,
    ),
    Layout(
        "MRI with PET and CT of the same slices",
        each("@_mri.png @_pet.png", "1", "2") + " 1_ct.png",
        {"mri": "{scene}_mri.png", "pet": "{scene}_pet.png"},
        scenes=2,
    ),
    Layout(
        "ECOSTRESS with Sentinel-2, by their dates",
        each("eco/@_LST.tif eco/@_LST_err.tif eco/@_QC.tif eco/@_cloud.tif", ECO, ECO2)
        + each(" s2/@_B02.tif s2/@_B03.tif s2/@_B04.tif", S2, S2B),
        {
            "thermal": "eco/ECOv002_L2T_LSTE_*_*_32TPT_{date}T*_0713_01_LST.tif",
            "optical": [f"s2/T32TPT_{{date}}T*_B{b}.tif" for b in ("04", "03", "02")],
        },
        scenes=2,
    ),
    Layout(
        "Landsat's temperature with PlanetScope, by their dates",
        each("@_ST_B10.TIF", L8, L9)
        + each(" @_3B_AnalyticMS_SR.tif @_3B_udm2.tif", "20240623_101010_1005", "20240615_101112_1003"),
        {
            "thermal": "LC*_L2SP_195028_{date}_*_02_T1_ST_B10.TIF",
            "multispectral": "{date}_*_*_3B_AnalyticMS_SR.tif",
        },
        scenes=2,
        bands={"Analytic": 4},
        settings={"multispectral": {"bands": [3, 2, 1]}},
    ),
    Layout(
        "SpaceNet 2",
        each(
            "@/PAN/PAN_@_img1.tif @/PAN/PAN_@_img2.tif @/RGB-PanSharpen/RGB-PanSharpen_@_img1.tif"
            " @/RGB-PanSharpen/RGB-PanSharpen_@_img2.tif @/MUL/MUL_@_img1.tif @/MUL/MUL_@_img2.tif",
            "AOI_2_Vegas",
        ),
        {
            "pan": "AOI_2_Vegas/PAN/PAN_{scene}.tif",
            "optical": "AOI_2_Vegas/RGB-PanSharpen/RGB-PanSharpen_{scene}.tif",
        },
        scenes=2,
        bands={"RGB": 3, "MUL": 8},
    ),
    Layout(
        "SpaceNet 6",
        each(
            "PAN/SN6_Train_AOI_11_Rotterdam_PAN_2019_tile_@.tif"
            " PS-RGB/SN6_Train_AOI_11_Rotterdam_PS-RGB_2019_tile_@.tif"
            " SAR-Intensity/SN6_Train_AOI_11_Rotterdam_SAR-Intensity_2019_tile_@.tif",
            "8679",
            "8680",
        ),
        {
            "sar": "SAR-Intensity/SN6_Train_AOI_11_Rotterdam_SAR-Intensity_{scene}.tif",
            "optical": "PS-RGB/SN6_Train_AOI_11_Rotterdam_PS-RGB_{scene}.tif",
        },
        scenes=2,
        bands={"RGB": 3, "SAR": 4},
        settings={"sar": {"bands": [1]}},
    ),
    Layout(
        "mosaics of two flights as Pix4D calls them",
        each("@_index_thermal_ir.tif @_transparent_mosaic_group1.tif @_dsm.tif", "north", "south"),
        {"thermal": "{scene}_index_thermal_ir.tif", "optical": "{scene}_transparent_mosaic_group1.tif"},
        2,
        bands={"mosaic": 3},
    ),
    Layout(
        "times of the day, which are no contrasts of MRI",
        each("LST_@.tif NDVI_@.tif", "20220401T111500", "20220401T231500", "20220402T015000"),
        {"thermal": "LST_{scene}.tif", "ndvi": "NDVI_{scene}.tif"},
        3,
    ),
    Layout(
        "tiles whose numbers begin with 1 and 2",
        each("ECOSTRESS_T@_spring.tif S2_T@_spring.tif", "17RLP", "21HUB"),
        {"thermal": "ECOSTRESS_{scene}.tif", "optical": "S2_{scene}.tif"},
        2,
    ),
    Layout(
        "OpenDroneMap's folders, whose files are called alike",
        each("@/thermal/odm_orthophoto/odm_orthophoto.tif @/rgb/odm_orthophoto/odm_orthophoto.tif", "a", "b"),
        {
            "thermal": "{scene}/thermal/odm_orthophoto/odm_orthophoto.tif",
            "optical": "{scene}/rgb/odm_orthophoto/odm_orthophoto.tif",
        },
        2,
    ),
    Layout(
        "PlanetScope, whose satellites are numbers of sixteen digits",
        each(
            "@_3B_AnalyticMS_SR_8b_clip.tif @_3B_udm2_clip.tif",
            "20220401_101512_24_2486",
            "20220409_095801_12_24a4",
            "20220417_100102_75_106b",
        )
        + each(" thermal/@.tif", "20220401", "20220409", "20220417"),
        {
            "thermal": "thermal/{date}.tif",
            "multispectral": "{date}_*_*_*_3B_AnalyticMS_SR_8b_clip.tif",
        },
        3,
        bands={"Analytic": 8},
        settings={"multispectral": {"bands": [6, 4, 2]}},
    ),
    Layout(
        "downloads of the Copernicus Browser, by their dates",
        "|".join(
            f"{day}-00_00_{day}-23_59_{band}_(Raw).tiff"
            for day in ("2022-04-01", "2022-04-09")
            for band in (*(f"Sentinel-2_L2A_B0{b}" for b in (2, 3, 4)), "Landsat_8-9_L2_B10")
        ),
        {
            "thermal": "{date}-00_00_*-23_59_Landsat_8-9_L2_B10_(Raw).tiff",
            "optical": [f"{{date}}-00_00_*-23_59_Sentinel-2_L2A_B0{b}_(Raw).tiff" for b in (4, 3, 2)],
        },
        2,
    ),
    Layout(
        "humps",
        each("@Thermal.tif @RGB.tif", "north", "south"),
        {"thermal": "{scene}Thermal.tif", "optical": "{scene}RGB.tif"},
        2,
    ),
    Layout(
        "dates that differ by a day",
        "east_RGB_20240601.tif east_TIR_20240602.tif west_RGB_20240605.tif west_TIR_20240605.tif",
        {"thermal": "{scene}_TIR_*.tif", "optical": "{scene}_RGB_*.tif"},
        2,
    ),
    Layout(
        "exports of Earth Engine",
        each("S2_@.tif LST_@.tif", "20240601", "20240705"),
        {"thermal": "LST_{scene}.tif", "optical": "S2_{scene}.tif"},
        2,
        bands={"S2": 12},
        settings={"optical": {"bands": [4, 3, 2]}},
    ),
    Layout(
        "DJI, radiometric with plain",
        each("DJI_@_R.JPG DJI_@.JPG", "0001", "0003"),
        {"thermal": "{scene}_R.JPG", "source2": "{scene}.JPG"},
        2,
    ),
    Layout(
        "Sequoia",
        each("IMG_@_RED.TIF IMG_@_GRE.TIF IMG_@_NIR.TIF IMG_@_REG.TIF", "0001", "0002"),
        {"nir": "{scene}_NIR.TIF", "optical": "{scene}_RED.TIF"},
        2,
    ),
    Layout(
        "MicaSense Altum",
        each("IMG_@_1.tif IMG_@_2.tif IMG_@_3.tif IMG_@_4.tif IMG_@_5.tif IMG_@_6.tif", "0000", "0001"),
        {"thermal": "{scene}_6.tif", "optical": ["{scene}_3.tif", "{scene}_2.tif", "{scene}_1.tif"]},
        2,
    ),
    Layout(
        "a composite of a Landsat product",
        each("@_thermal.tif @_rgb.tif", L8, L9),
        {"thermal": "{scene}_thermal.tif", "optical": "{scene}_rgb.tif"},
        2,
    ),
    Layout(
        "one letter a colour",
        each("@_R.tif @_G.tif @_B.tif @_NIR.tif", "p", "q"),
        {"nir": "{scene}_NIR.tif", "optical": ["{scene}_R.tif", "{scene}_G.tif", "{scene}_B.tif"]},
        2,
    ),
    Layout(
        "words at the end",
        each("@_ir.tif @_vis.tif", "a", "b"),
        {"infrared": "{scene}_ir.tif", "visible": "{scene}_vis.tif"},
        2,
    ),
    Layout(
        "words at the beginning",
        each("thermal_@.tif rgb_@.tif", "a", "b"),
        {"thermal": "thermal_{scene}.tif", "optical": "rgb_{scene}.tif"},
        2,
    ),
    Layout(
        "words as names",
        each("@/thermal.tif @/rgb.tif", "a"),
        {"thermal": "{scene}/thermal.tif", "optical": "{scene}/rgb.tif"},
    ),
    Layout(
        "two files and nothing else", "thermal.tif rgb.tif", {"thermal": "thermal.tif", "optical": "rgb.tif"}
    ),
    Layout(
        "two files whose names mean nothing",
        "huey.tif dewey.tif",
        {"source1": "dewey.tif", "source2": "huey.tif"},
    ),
    Layout(
        "a word in one name only",
        each("@.tif @_thermal.tif", "a", "b"),
        {"thermal": "{scene}_thermal.tif", "source2": "{scene}.tif"},
        2,
    ),
    Layout(
        "a word in one folder only",
        each("images/@.tif thermal/@.tif", "a", "b"),
        {"thermal": "thermal/{scene}.tif", "source2": "images/{scene}.tif"},
        2,
    ),
    Layout(
        "different endings",
        each("thermal/@.tif rgb/@.TIFF", "a", "b"),
        {"thermal": "thermal/{scene}.tif", "optical": "rgb/{scene}.TIFF"},
        2,
    ),
    Layout(
        "letters",
        each("@_a.tif @_b.tif", "x", "y"),
        {"source1": "{scene}_a.tif", "source2": "{scene}_b.tif"},
        2,
    ),
    Layout(
        "folders whose names mean nothing",
        each("cam0/@.tif cam1/@.tif", "1", "2"),
        {"source1": "cam0/{scene}.tif", "source2": "cam1/{scene}.tif"},
        2,
    ),
    Layout(
        "one image for all",
        each("flight_@_thermal.tif", "1", "2", "3") + " ortho_rgb.tif",
        {"thermal": "{scene}_thermal.tif", "optical": "ortho_rgb.tif"},
        3,
    ),
    Layout(
        "braces, spaces and other scripts",
        "a {1}_thermal.tif|a {1}_rgb.tif|été #2_thermal.tif|été #2_rgb.tif",
        {"thermal": "{scene}_thermal.tif", "optical": "{scene}_rgb.tif"},
        2,
    ),
    Layout(
        "braces in a folder",
        "x{1}/a_thermal.tif x{1}/a_rgb.tif",
        {"thermal": "x{{1}}/{scene}_thermal.tif", "optical": "x{{1}}/{scene}_rgb.tif"},
    ),
    Layout(
        "results of an earlier run beside",
        each("@_ir.tif @_vis.tif out/@.quicklook.png out/@.tif", "a", "b")
        + " out/report.json fused/a.zarr/0.png .hidden_ir.tif a_ir.tif.msk a_ir.tif.ovr",
        {"infrared": "{scene}_ir.tif", "visible": "{scene}_vis.tif"},
        2,
    ),
]


def make(folder: Path, layout: Layout) -> None:
    """Write the files; rasters are georeferenced unless they are pictures."""
    for number, name in enumerate(layout.files.split("|" if "|" in layout.files else None)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bands = next((n for word, n in layout.bands.items() if word in name), 1)
        size = next((n for word, n in layout.sizes.items() if word in name), 32)
        write_image(path, bands, size, number)


def write_image(path: Path, bands: int = 1, size: int = 32, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff", ".jp2"):
        driver = "GTiff" if suffix != ".jp2" else "JP2OpenJPEG"
        pixels = rng.integers(1, 9000, (bands, size, size)).astype(np.uint16)
        with rasterio.open(
            path,
            "w",
            driver=driver,
            count=bands,
            height=size,
            width=size,
            dtype="uint16",
            crs="EPSG:32632",
            transform=GRID @ Affine.scale(32 / size),
        ) as dataset:
            dataset.write(pixels)
            if bands == 12:
                dataset.descriptions = [f"B{number}" for number in range(1, 13)]
    elif suffix in (".png", ".jpg", ".jpeg"):
        shape = (size, size) if bands == 1 else (size, size, 3)
        Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(
            path, format="PNG" if suffix == ".png" else "JPEG"
        )
    elif suffix in (".msk", ".ovr"):  # what GDAL keeps beside a file
        write_image(path.with_suffix(".beside.tif"), 1, size, seed)
        path.with_suffix(".beside.tif").rename(path)
    else:
        path.write_text("{}")


def sketched(folder: Path) -> Sketch:
    return sketch([folder], folder, "batchfuse init .", "recipe.yaml")


def paths_of(recipe: batchfuse.Recipe) -> dict[str, str | list[str]]:
    return {role: paths[0] if len(paths) == 1 else list(paths) for role, paths in recipe.patterns.items()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_gives_the_recipe_one_would_write(tmp_path: Path, layout: Layout) -> None:
    make(tmp_path, layout)
    (tmp_path / "recipe.yaml").write_text(sketched(tmp_path).text, encoding="utf-8")
    recipe = batchfuse.Recipe.load(tmp_path / "recipe.yaml")
    assert paths_of(recipe) == layout.expected
    plan = batchfuse.make_plan(recipe)
    assert (len(plan.jobs), plan.failures) == (layout.scenes, ())
    for role, keys in layout.settings.items():
        for key, value in keys.items():
            found = getattr(recipe.inputs[role], key)
            assert (list(found) if key == "bands" else found) == value

"""Options of GDAL that move or change pixels: fixed, whatever the environment or a gdalrc file says.

One image, read by two people, has to have the same pixels in the same places. Each value is GDAL's own
default. Options that only decide how fast bytes are read are not here; nor are those of PROJ and its data:
what they do to a warp is in a store's record, which has the operation between the two CRSs.
"""

from __future__ import annotations

__all__ = ["PINNED"]

PINNED = {
    # where pixels lie: half a pixel, or upside down
    "GTIFF_POINT_GEO_IGNORE": "FALSE",
    "GTIFF_HONOUR_NEGATIVE_SCALEY": "FALSE",
    "GTIFF_LINEAR_UNITS": "DEFAULT",
    "GTIFF_READ_ANGULAR_PARAMS_IN_DEGREE": "NO",
    "GDAL_GCPS_TO_GEOTRANSFORM_APPROX_OK": "NO",
    "GDAL_JP2K_ALT_OFFSETVECTOR_ORDER": "FALSE",
    "GDAL_GEOREF_SOURCES": "PAM,INTERNAL,TABFILE,WORLDFILE,XML",
    "GDAL_IGNORE_AXIS_ORIENTATION": "FALSE",
    "GDAL_USE_GEOJP2": "TRUE",
    "GDAL_USE_GMLJP2": "TRUE",
    # in which CRS they lie, and by which datum shift
    "GTIFF_SRS_SOURCE": "",
    "GTIFF_IMPORT_FROM_EPSG": "YES",
    "GTIFF_ESRI_CITATION": "YES",
    "OSR_ADD_TOWGS84_ON_EXPORT_TO_WKT1": "NO",
    "OSR_ADD_TOWGS84_ON_IMPORT_FROM_EPSG": "NO",
    "OSR_DEFAULT_AXIS_MAPPING_STRATEGY": "AUTHORITY_COMPLIANT",
    "OSR_STRIP_TOWGS84": "YES",
    "OSR_USE_NON_DEPRECATED": "YES",
    "OSR_WKT_FORMAT": "DEFAULT",
    # whether an .aux.xml counts, with its nodata, scale, offset and georeference, and where it lies
    "GDAL_PAM_ENABLED": "YES",
    "GDAL_PAM_MODE": "PAM",
    "GDAL_PAM_PROXY_DIR": "",
    # what values and masks are decoded to
    "CONVERT_YCBCR_TO_RGB": "YES",
    "GDAL_JPEG_TO_RGB": "YES",
    "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": "YES",
    "JP2OPENJPEG_PROMOTE_1BIT_ALPHA_AS_8BIT": "YES",
    "JPEG_MASK_BIT_ORDER": "AUTO",
    "JPEG_READ_MASK": "YES",
    # a block that can't be decoded is an error, and not zeros
    "GTIFF_IGNORE_READ_ERRORS": "FALSE",
    # ways around the decoder, which know less of damaged files
    "GTIFF_DIRECT_IO": "NO",
    "GTIFF_VIRTUAL_MEM_IO": "NO",
}
"""Configuration options while a header or pixels are read, each with the value that GDAL has by itself."""

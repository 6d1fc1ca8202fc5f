"""Delimiters and encodings that all readers of customers' text files accept."""

import codecs

DELIMITERS = (",", ";", "\t", "|")
BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# Text that is not UTF-8 mostly comes from Excel on Windows; Latin-1 decodes all bytes that cp1252 lacks.
WESTERN = ("cp1252", "latin-1")

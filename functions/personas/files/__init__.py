"""Reads the personas of CSV, JSON, JSON Lines and XLSX files row by row, and refuses hostile files.

A file that can't be read raises UnreadableFileError; a row that can't be used is a RefusedRow that says why. Nothing in
a file is ever executed: a cell that begins with ``=``, ``+``, ``-`` or ``@`` is plain text, kept as it is.
"""

"""Reads personas from CSV, JSON, JSON Lines and XLSX files row by row, and refuses hostile files.

A file that cannot be read raises UnreadableFileError. A row that cannot be used becomes a RefusedRow with the reason.
Formulas are never executed: a cell that begins with ``=``, ``+``, ``-`` or ``@`` is plain text.
"""

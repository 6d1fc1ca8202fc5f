"""The one list of texts that mean a missing value: for scans, trainings, evaluations and predictions."""

from string import ascii_letters

# In every column. Text is compared without blanks around it.
MISSING = frozenset(
    {"", "NA", "na", "N/A", "n/a", "#N/A", "NULL", "Null", "null", "NaN", "nan", "NAN", "NaT", "<NA>", "\\N"}
    # Excel's, in English and German. Its errors, such as #DIV/0!, are no missing values: a number is lost.
    | {"#N/A N/A", "#NA", "#NV"}
)
# Also in columns of numbers, dates and truth values. In a column of text they are values: `none` and `confirmed` are
# two classes.
MISSING_WORDS = frozenset(
    {"None", "none", "NONE", "nil", "Nil", "NIL", "-", "--", "?", "."}
    # Of SAS and Stata.
    | {"._", *(f".{letter}" for letter in ascii_letters)}
)

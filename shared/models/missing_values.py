"""The one list of texts that mean a missing value: for scans, trainings, evaluations and predictions."""

# In every column. Text is compared without blanks around it.
MISSING = frozenset(
    {"", "NA", "na", "N/A", "n/a", "#N/A", "NULL", "Null", "null", "NaN", "nan", "NAN", "NaT", "<NA>", "\\N"}
)
# Also in columns of numbers, dates and truth values. In a column of text they are values: `none` and `confirmed` are
# two classes.
MISSING_WORDS = frozenset({"None", "none", "NONE", "nil", "Nil", "NIL", "-", "--", "?", "."})

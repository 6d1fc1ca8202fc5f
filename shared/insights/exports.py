"""Names of the files and columns of exported reactions."""

FOLDER = "reactions/"
TARGET = "reaction_accepted"
ACTION_COLUMN = "reaction_action_id"
